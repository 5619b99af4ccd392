//! Every operation, on every group size, count, root and algorithm: run in memory, and compared
//! with what the operation's definition says.

use super::Action;
use super::Algorithm;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Tuning;
use super::interpret::Dice;
use super::interpret::Memory;
use super::interpret::POISON;
use super::interpret::Sending;
use super::interpret::World;
use super::interpret::check_overlaps;
use super::interpret::fold;
use super::interpret::leaf;
use super::plan;
use crate::desc::Kind;
use crate::rank::Member;

/// One operation as all ranks call it.
#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    ranks: usize,
    count: usize,
    root: usize,
    /// For each rank.
    in_place: Vec<bool>,
    factor_per_rank: bool,
    elem_bytes: usize,
}

impl Case {
    fn new(kind: Kind, ranks: usize, count: usize, root: usize) -> Self {
        let in_place = vec![false; ranks];
        Self { kind, ranks, count, root, in_place, factor_per_rank: false, elem_bytes: 4 }
    }

    /// What `from` sends to `to` in the forms with counts: uneven, some 0.
    fn pair(&self, from: usize, to: usize) -> usize {
        match self.kind {
            Kind::AllToAllV => self.count * ((from + 2 * to) % 3),
            Kind::AllGatherV => self.count * (from % 3),
            Kind::ReduceScatterV => self.count * ((to + 1) % 3),
            _ => self.count,
        }
    }

    fn has_root(&self) -> bool {
        matches!(self.kind, Kind::Broadcast | Kind::Reduce | Kind::Gather | Kind::Scatter)
    }

    fn reduces(&self) -> bool {
        matches!(
            self.kind,
            Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter | Kind::ReduceScatterV
        )
    }

    fn shape(&self, rank: usize) -> Shape {
        let from_me = || (0..self.ranks).map(|to| self.pair(rank, to)).collect();
        let to_me = || (0..self.ranks).map(|from| self.pair(from, rank)).collect();
        let sends = matches!(self.kind, Kind::ReduceScatterV | Kind::AllToAllV);
        let receives = matches!(self.kind, Kind::AllGatherV | Kind::AllToAllV);
        let listed = sends || receives;
        Shape {
            kind: self.kind,
            member: Member { rank, world_size: self.ranks },
            count: if listed { 0 } else { self.count },
            root: self.root,
            elem_bytes: self.elem_bytes,
            in_place: self.in_place[rank],
            send_counts: if sends { from_me() } else { vec![] },
            recv_counts: if receives { to_me() } else { vec![] },
            factor_per_rank: self.factor_per_rank,
            reduces: self.reduces(),
        }
    }

    /// Where block `index` of the sender's (`out`) or receiver's buffer begins.
    fn start(&self, rank: usize, index: usize, out: bool) -> usize {
        (0..index).map(|peer| if out { self.pair(rank, peer) } else { self.pair(peer, rank) }).sum()
    }

    /// Elements of this rank's input.
    fn input(&self, rank: usize) -> usize {
        match self.kind {
            Kind::Barrier | Kind::Send | Kind::Recv => 0,
            Kind::Broadcast if rank != self.root => 0,
            Kind::AllReduce | Kind::Broadcast | Kind::Reduce | Kind::AllGather | Kind::Gather => {
                self.count
            }
            Kind::AllGatherV => self.pair(rank, 0),
            Kind::Scatter if rank != self.root => 0,
            Kind::Scatter => self.count * self.ranks,
            Kind::ReduceScatter | Kind::ReduceScatterV | Kind::AllToAll | Kind::AllToAllV => {
                self.start(rank, self.ranks, true)
            }
        }
    }

    /// Where the input lies in `Recv`, if in place.
    fn input_at(&self, rank: usize) -> usize {
        match self.kind {
            Kind::AllGather | Kind::AllGatherV => self.start(rank, rank, false),
            Kind::Gather if rank == self.root => self.count * rank,
            _ => 0,
        }
    }

    /// The result by the definition, and where in `Recv` it lies.
    fn result(&self, rank: usize) -> (usize, Vec<u64>) {
        let folded = |at: usize| fold((0..self.ranks).map(|from| leaf(from, at)));
        let at_root = rank == self.root;
        match self.kind {
            Kind::AllReduce => (0, (0..self.count).map(folded).collect()),
            Kind::Reduce if at_root => (0, (0..self.count).map(folded).collect()),
            Kind::Broadcast => (0, (0..self.count).map(|at| leaf(self.root, at)).collect()),
            Kind::ReduceScatter | Kind::ReduceScatterV => {
                let first = self.start(rank, rank, true);
                let result = (first..first + self.pair(rank, rank)).map(folded).collect();
                (if self.in_place[rank] { first } else { 0 }, result)
            }
            Kind::Scatter => {
                let first = self.count * rank;
                let result = (first..first + self.count).map(|at| leaf(self.root, at)).collect();
                (if self.in_place[rank] && at_root { first } else { 0 }, result)
            }
            Kind::AllGather | Kind::AllGatherV => (0, self.blocks(rank, |_| 0)),
            Kind::Gather if at_root => (0, self.blocks(rank, |_| 0)),
            Kind::AllToAll | Kind::AllToAllV => {
                (0, self.blocks(rank, |from| self.start(from, rank, true)))
            }
            Kind::Reduce | Kind::Gather | Kind::Barrier | Kind::Send | Kind::Recv => (0, vec![]),
        }
    }

    /// One block from each rank, which begins in that rank's input at `first`.
    fn blocks(&self, rank: usize, first: impl Fn(usize) -> usize) -> Vec<u64> {
        let block = |from: usize| {
            let first = first(from);
            (0..self.pair(from, rank)).map(move |at| leaf(from, first + at))
        };
        (0..self.ranks).flat_map(block).collect()
    }

    fn memory(&self, rank: usize) -> Memory {
        let input: Vec<u64> = (0..self.input(rank)).map(|at| leaf(rank, at)).collect();
        let (at, result) = self.result(rank);
        let mut recv = vec![POISON; at + result.len()];
        if !self.in_place[rank] {
            return [input, recv, vec![]];
        }
        let first = self.input_at(rank);
        recv.resize(recv.len().max(first + input.len()), POISON);
        recv[first..first + input.len()].copy_from_slice(&input);
        [vec![], recv, vec![]]
    }

    /// Plans and runs on all ranks; panics with the case if anything is wrong.
    fn check(&self, tuning: &Tuning, dice: &mut Dice) {
        let schedules: Vec<Schedule> =
            (0..self.ranks).map(|rank| plan(&self.shape(rank), tuning)).collect();
        let agreement = tuning.agreement || !self.has_root();
        if let Err(problem) = self.problem(&schedules, agreement, dice) {
            let forced = tuning.algorithm;
            panic!("{problem}\n{} {forced:?} {self:?}", schedules[0].algorithm);
        }
    }

    /// What is wrong; with `agreement`, also that a rank has not heard from all.
    fn problem(
        &self,
        schedules: &[Schedule],
        agreement: bool,
        dice: &mut Dice,
    ) -> Result<(), String> {
        schedules.iter().try_for_each(check_overlaps)?;
        let start: Vec<Memory> = (0..self.ranks).map(|rank| self.memory(rank)).collect();
        let sending = [Sending::Buffered, Sending::Rendezvous][dice.below(2)];
        let outcome =
            World::new(schedules, start.clone(), sending, self.factor_per_rank).run(dice)?;
        if let Some((rank, heard)) = outcome.unaware().filter(|_| agreement) {
            return Err(format!("{rank} has heard only from {heard:b}"));
        }
        for (rank, (before, after)) in start.iter().zip(&outcome.memory).enumerate() {
            let (at, expected) = self.result(rank);
            let recv = &after[Buf::Recv as usize];
            if let Some(wrong) = (0..expected.len()).find(|i| recv[at + i] != expected[*i]) {
                let (got, expected) = (recv[at + wrong], expected[wrong]);
                return Err(format!("{rank}: [{wrong}] is {got:x}, expected {expected:x}"));
            }
            // Nothing but the result is written; who gets none keeps its input.
            let before = &before[Buf::Recv as usize];
            let outside = |i: &usize| !(at..at + expected.len()).contains(i);
            if let Some(lost) = (0..recv.len()).filter(outside).find(|i| recv[*i] != before[*i]) {
                return Err(format!("{rank} has lost [{lost}], which is not in its result"));
            }
        }
        Ok(())
    }
}

/// All kinds that a whole group calls.
fn collectives() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Send | Kind::Recv))
}

fn roots(kind: Kind, ranks: usize) -> Vec<usize> {
    let rooted = matches!(kind, Kind::Broadcast | Kind::Reduce | Kind::Gather | Kind::Scatter);
    match ranks {
        _ if !rooted => vec![0],
        ..=5 => (0..ranks).collect(),
        _ => vec![0, ranks / 2, ranks - 1],
    }
}

/// The default choice, and each algorithm forced.
fn tunings() -> Vec<Tuning> {
    let forced = |algorithm| Tuning { algorithm: Some(algorithm), ..Tuning::default() };
    let single_copy = Tuning { single_copy: true, ..Tuning::default() };
    let mut tunings = vec![Tuning::default(), single_copy];
    tunings.extend(Algorithm::ALL.map(forced));
    let hasty = tunings.iter().map(|tuning| Tuning { agreement: false, ..tuning.clone() });
    let hasty: Vec<Tuning> = hasty.collect();
    tunings.extend(hasty);
    tunings
}

/// Elements up to 1 MiB make the choice meet every threshold with few elements to move.
const ELEM_BYTES: [usize; 7] = [1, 2, 4, 8, 512, 1 << 14, 1 << 20];

/// Runs every kind, root and tuning; out of place, in place, and mixed (of these `places`);
/// straight or not.
fn sweep(ranks: usize, counts: &[usize], places: core::ops::Range<usize>, seed: u64) {
    let mut dice = Dice::new(seed + ranks as u64);
    let tunings = tunings();
    for kind in collectives() {
        let counts = if kind == Kind::Barrier { &[0] } else { counts };
        for &count in counts {
            for root in roots(kind, ranks) {
                let mut case = Case::new(kind, ranks, count, root);
                for (number, tuning) in tunings.iter().enumerate() {
                    for place in places.clone() {
                        let mut in_place = || [false, true, dice.below(2) == 1][place];
                        case.in_place = (0..ranks).map(|_| in_place()).collect();
                        case.factor_per_rank = case.reduces() && (number + place) % 2 == 1;
                        case.elem_bytes = ELEM_BYTES[dice.below(ELEM_BYTES.len())];
                        case.check(tuning, &mut dice);
                    }
                }
            }
        }
    }
}

#[test]
fn all_schedules_of_up_to_nine_ranks_do_what_the_operation_says() {
    for ranks in 1..=9 {
        sweep(ranks, &[0, 1, 2, 3, 7, 64], 0..3, 1);
        sweep(ranks, &[1000], 2..3, 1);
    }
}

#[test]
fn all_schedules_of_large_buffers_do_what_the_operation_says() {
    sweep(2, &[65537], 0..3, 2);
    sweep(3, &[65537], 2..3, 2);
}

#[test]
fn all_schedules_of_up_to_33_ranks_do_what_the_operation_says() {
    for ranks in [12, 16, 17, 31, 32, 33] {
        sweep(ranks, &[0, 1, 7, 64], 0..3, 3);
    }
}

#[test]
fn all_schedules_of_64_ranks_do_what_the_operation_says() {
    sweep(64, &[0, 3, 65], 2..3, 4);
}

#[test]
fn a_result_that_is_off_by_one_element_is_noticed() {
    let case = Case::new(Kind::AllReduce, 2, 3, 0);
    let mut schedules: Vec<Schedule> =
        (0..2).map(|rank| plan(&case.shape(rank), &Tuning::default())).collect();
    assert_eq!(case.problem(&schedules, true, &mut Dice::new(1)), Ok(()));
    for schedule in &mut schedules {
        for action in schedule.steps.iter_mut().flat_map(|step| &mut step.actions) {
            match action {
                Action::Send { from, .. } => from.count -= 1,
                Action::Fold { into, own, .. } => {
                    into.count -= 1;
                    own.count -= 1;
                }
                _ => {}
            }
        }
    }
    let problem = case.problem(&schedules, true, &mut Dice::new(1)).unwrap_err();
    assert!(problem.starts_with("0: [2] is ffffffffffffffff"), "{problem}");
}

#[test]
fn two_ranks_need_one_exchange_for_everything_small() {
    for kind in collectives() {
        for rank in 0..2 {
            let schedule = plan(&Case::new(kind, 2, 16, 0).shape(rank), &Tuning::default());
            assert_eq!(schedule.steps.len(), 1, "{kind}: {schedule:?}");
            let sends = |action: &&Action| matches!(action, Action::Send { .. });
            assert_eq!(schedule.steps[0].actions.iter().filter(sends).count(), 1, "{kind}");
        }
    }
}

#[test]
fn without_agreement_a_root_that_only_sends_waits_for_nobody() {
    let hasty = Tuning { agreement: false, ..Tuning::default() };
    for ranks in [2, 5, 8, 9, 33] {
        // Who only sends: the root of the first two, any other rank of the others.
        for (kind, rank) in
            [(Kind::Broadcast, 1), (Kind::Scatter, 1), (Kind::Gather, 0), (Kind::Reduce, 0)]
        {
            // A large reduction is folded by all.
            for count in if kind == Kind::Reduce { vec![1] } else { vec![1, 100_000] } {
                let case = Case::new(kind, ranks, count, 1);
                let schedule = plan(&case.shape(rank), &hasty);
                let waits =
                    |action: &Action| matches!(action, Action::Recv { .. } | Action::Fold { .. });
                let mut actions = schedule.steps.iter().flat_map(|step| &step.actions);
                assert!(!actions.any(waits), "{kind} of {ranks}: {schedule:?}");
                // With nothing to send all still hear from all.
                let nothing = Case::new(kind, ranks, 0, 1).shape(0);
                assert_eq!(plan(&nothing, &hasty), plan(&nothing, &Tuning::default()));
            }
        }
    }
}

#[test]
fn a_pair_sends_and_receives_one_message() {
    let mut case = Case::new(Kind::Send, 3, 5, 2);
    let sent = &plan(&case.shape(0), &Tuning::default()).steps[0].actions[0];
    assert!(matches!(sent, Action::Send { to: 2, from } if from.count == 5));
    case.kind = Kind::Recv;
    let received = &plan(&case.shape(0), &Tuning::default()).steps[0].actions[0];
    assert!(matches!(received, Action::Recv { from: 2, into } if into.count == 5));
}

#[test]
#[ignore = "prints how long planning takes"]
fn print_planning_times() {
    for ranks in [2, 4, 8, 64] {
        for kind in [Kind::AllReduce, Kind::Broadcast, Kind::AllGather] {
            let shape = Case::new(kind, ranks, 16, 0).shape(1);
            let begun = std::time::Instant::now();
            for _ in 0..100_000 {
                std::hint::black_box(plan(std::hint::black_box(&shape), &Tuning::default()));
            }
            println!("{kind} of {ranks}: {:?}", begun.elapsed() / 100_000);
        }
    }
}
