//! Runs the schedules of all ranks against each other in memory, and finds what is wrong with
//! them: a send without its receive, unequal counts, a deadlock, ranges that overlap, a fold of
//! something that is no input, a rank that has not heard from all.
//!
//! An element is a number that says where it comes from: [`leaf`] for an input, a hash over the
//! inputs in their order for the result of a fold. So a wrong order, a fold twice or a fold of
//! a fold shows as a wrong element.

use std::collections::VecDeque;

use super::Action;
use super::Buf;
use super::Schedule;
use super::Slice;

/// An element that nobody has written.
pub(super) const POISON: u64 = u64::MAX;
/// Set in the result of a fold.
const FOLDED: u64 = 1 << 63;
/// Below it is an input's index, above it its rank.
const INDEX_BITS: u32 = 40;

/// Element `index` of the input of `rank`.
pub(super) fn leaf(rank: usize, index: usize) -> u64 {
    (rank as u64) << INDEX_BITS | index as u64
}

/// The left fold of inputs, as an operation that neither commutes nor associates would give it.
pub(super) fn fold(values: impl IntoIterator<Item = u64>) -> u64 {
    let mix = |a: u64, b: u64| (a.rotate_left(7) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    FOLDED | values.into_iter().fold(0x5eed, mix)
}

/// Small numbers from a seed: the order in which things happen.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x1234_5677))
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// When a send ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// At once: the links hold as much as is sent.
    Buffered,
    /// When it was received; its bytes are read only then.
    Rendezvous,
}

/// The memory of one rank: send, recv, scratch.
pub(super) type Memory = [Vec<u64>; 3];

/// Which ranks a rank has heard from, itself included.
type Heard = u128;

/// What is there at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The memory of each rank.
    pub(super) memory: Vec<Memory>,
    heard: Vec<Heard>,
}

impl Outcome {
    /// A rank that has not heard from all, with the set it has heard from.
    pub(super) fn unaware(&self) -> Option<(usize, Heard)> {
        let size = self.heard.len();
        let all = if size == 128 { Heard::MAX } else { (1 << size) - 1 };
        self.heard.iter().copied().enumerate().find(|(_, heard)| *heard != all)
    }
}

struct Message {
    from: Slice,
    /// The content, where sends are buffered.
    content: Option<Vec<u64>>,
    heard: Heard,
}

/// One receive of the current step; folds have several.
struct Pending {
    from: usize,
    into: Slice,
    /// Index of the fold in the step's list and place of the part in it.
    fold: Option<(usize, usize)>,
}

struct Folding {
    into: Slice,
    own: Slice,
    ranks: Vec<usize>,
    parts: Vec<Vec<u64>>,
    missing: usize,
}

#[derive(Default)]
struct Rank {
    step: usize,
    begun: bool,
    heard: Heard,
    /// Sends of this step that were not received yet, in rendezvous.
    unsent: usize,
    pending: Vec<Pending>,
    folds: Vec<Folding>,
}

/// All ranks at once.
pub(super) struct World<'a> {
    schedules: &'a [Schedule],
    memory: Vec<Memory>,
    ranks: Vec<Rank>,
    /// Messages under way, `from * world_size + to`.
    links: Vec<VecDeque<Message>>,
    sending: Sending,
    /// Whether an input must come straight from its rank.
    straight: bool,
}

impl<'a> World<'a> {
    /// Schedules with the memory they start from; the scratch is made here.
    pub(super) fn new(
        schedules: &'a [Schedule],
        mut memory: Vec<Memory>,
        sending: Sending,
        straight: bool,
    ) -> Self {
        let size = schedules.len();
        assert!(size <= 128, "the set of heard ranks has 128 bits");
        for (schedule, memory) in schedules.iter().zip(&mut memory) {
            memory[Buf::Scratch as usize] = vec![POISON; schedule.scratch];
        }
        let rank = |rank: usize| Rank { heard: 1 << rank, ..Rank::default() };
        Self {
            schedules,
            memory,
            ranks: (0..size).map(rank).collect(),
            links: (0..size * size).map(|_| VecDeque::new()).collect(),
            sending,
            straight,
        }
    }

    /// Runs to the end, in an order that the dice choose.
    pub(super) fn run(mut self, dice: &mut Dice) -> Result<Outcome, String> {
        let size = self.schedules.len();
        loop {
            let (start, mut moved, mut over) = (dice.below(size), false, true);
            // An odd stride would not reach all ranks of every size; the direction is enough.
            let backwards = dice.below(2) == 1;
            for offset in 0..size {
                let offset = if backwards { size - 1 - offset } else { offset };
                let rank = (start + offset) % size;
                if self.ranks[rank].step < self.schedules[rank].steps.len() {
                    over = false;
                    moved |= self.advance(rank, dice)?;
                }
            }
            if over {
                break;
            }
            if !moved {
                return Err(self.deadlock());
            }
        }
        if let Some(at) = self.links.iter().position(|link| !link.is_empty()) {
            return Err(format!("a message from {} to {} is left over", at / size, at % size));
        }
        let heard = self.ranks.iter().map(|rank| rank.heard).collect();
        Ok(Outcome { memory: self.memory, heard })
    }

    /// Lets one rank do some of what it can.
    fn advance(&mut self, rank: usize, dice: &mut Dice) -> Result<bool, String> {
        let mut moved = false;
        if !self.ranks[rank].begun {
            self.begin(rank)?;
            moved = true;
        }
        // As many receives as the dice say, at least one; first those that come first by chance.
        let mut left = 1 + dice.below(2 * self.ranks[rank].pending.len() + 1);
        let mut at = dice.below(self.ranks[rank].pending.len());
        let mut looked = 0;
        while looked < self.ranks[rank].pending.len() && left > 0 {
            let count = self.ranks[rank].pending.len();
            if self.receive(rank, at % count)? {
                moved = true;
                left -= 1;
                looked = 0;
            } else {
                looked += 1;
                at += 1;
            }
        }
        let state = &mut self.ranks[rank];
        if state.pending.is_empty() && state.unsent == 0 {
            state.step += 1;
            state.begun = false;
            state.folds.clear();
            moved = true;
        }
        Ok(moved)
    }

    /// The local actions of a step; then its sends are on their way and its receives are open.
    fn begin(&mut self, rank: usize) -> Result<(), String> {
        let size = self.schedules.len();
        let step = &self.schedules[rank].steps[self.ranks[rank].step];
        self.ranks[rank].begun = true;
        for action in &step.actions {
            match action {
                Action::Copy { from, into } => {
                    let content = self.read(rank, *from)?;
                    self.write(rank, *into, &content)?;
                }
                Action::FoldLocal { into, parts } => {
                    if self.straight && size > 1 {
                        return Err(format!("{rank} folds inputs that came by detours"));
                    }
                    let parts: Vec<_> = parts
                        .iter()
                        .map(|part| self.read(rank, *part))
                        .collect::<Result<_, _>>()?;
                    let folded = self.folded(rank, into.count, &parts, None)?;
                    self.write(rank, *into, &folded)?;
                }
                _ => {}
            }
        }
        for action in &step.actions {
            match action {
                Action::Send { to, from } => self.send(rank, *to, *from)?,
                Action::Recv { from, into } => {
                    let pending = Pending { from: *from, into: *into, fold: None };
                    self.ranks[rank].pending.push(pending);
                }
                Action::Fold { into, own, from } => self.open_fold(rank, *into, *own, from)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, rank: usize, to: usize, from: Slice) -> Result<(), String> {
        let size = self.schedules.len();
        if to >= size || to == rank {
            return Err(format!("{rank} sends to {to}"));
        }
        let content = self.read(rank, from)?;
        let buffered = self.sending == Sending::Buffered;
        self.ranks[rank].unsent += usize::from(!buffered);
        let heard = self.ranks[rank].heard;
        let message = Message { from, content: buffered.then_some(content), heard };
        self.links[rank * size + to].push_back(message);
        Ok(())
    }

    fn open_fold(
        &mut self,
        rank: usize,
        into: Slice,
        own: Slice,
        from: &[usize],
    ) -> Result<(), String> {
        let sorted = from.is_sorted_by(|a, b| a < b) && !from.contains(&rank);
        if !sorted || own.count != into.count {
            return Err(format!("{rank} has a bad fold"));
        }
        let mut ranks = from.to_vec();
        ranks.push(rank);
        ranks.sort_unstable();
        let state = &mut self.ranks[rank];
        for (place, &from) in ranks.iter().enumerate().filter(|(_, from)| **from != rank) {
            let fold = Some((state.folds.len(), place));
            state.pending.push(Pending { from, into, fold });
        }
        let parts = vec![Vec::new(); ranks.len()];
        state.folds.push(Folding { into, own, missing: from.len(), ranks, parts });
        Ok(())
    }

    /// Receives for the first open receive from the same rank as number `at`, if there is a
    /// message.
    fn receive(&mut self, rank: usize, at: usize) -> Result<bool, String> {
        let size = self.schedules.len();
        let from = self.ranks[rank].pending[at].from;
        let Some(message) = self.links[from * size + rank].pop_front() else {
            return Ok(false);
        };
        let state = &mut self.ranks[rank];
        let first = state.pending.iter().position(|pending| pending.from == from).unwrap_or(at);
        let pending = state.pending.remove(first);
        state.heard |= message.heard;
        let content = match message.content {
            Some(content) => content,
            None => {
                self.ranks[from].unsent -= 1;
                self.read(from, message.from)?
            }
        };
        if content.len() != pending.into.count {
            let (sent, expected) = (content.len(), pending.into.count);
            return Err(format!("{from} sends {sent} to {rank}, which expects {expected}"));
        }
        let Some((fold, place)) = pending.fold else {
            self.write(rank, pending.into, &content)?;
            return Ok(true);
        };
        let folding = &mut self.ranks[rank].folds[fold];
        folding.parts[place] = content;
        folding.missing -= 1;
        if folding.missing == 0 {
            let (into, own) = (folding.into, folding.own);
            let ranks = std::mem::take(&mut folding.ranks);
            let mut parts = std::mem::take(&mut folding.parts);
            let mine = ranks.iter().position(|one| *one == rank).unwrap();
            parts[mine] = self.read(rank, own)?;
            let folded = self.folded(rank, into.count, &parts, Some(&ranks))?;
            self.write(rank, into, &folded)?;
        }
        Ok(true)
    }

    /// Folds parts element by element; each must be an input, and of its rank if that matters.
    fn folded(
        &self,
        rank: usize,
        count: usize,
        parts: &[Vec<u64>],
        ranks: Option<&[usize]>,
    ) -> Result<Vec<u64>, String> {
        if parts.iter().any(|part| part.len() != count) {
            return Err(format!("{rank} folds parts of unequal length"));
        }
        if parts.iter().flatten().any(|value| value & FOLDED != 0) {
            return Err(format!("{rank} folds what is no input"));
        }
        if let Some(ranks) = ranks.filter(|_| self.straight) {
            for (from, part) in ranks.iter().zip(parts) {
                if part.iter().any(|value| value >> INDEX_BITS != *from as u64) {
                    return Err(format!("{rank} folds an input that {from} relayed"));
                }
            }
        }
        Ok((0..count).map(|at| fold(parts.iter().map(|part| part[at]))).collect())
    }

    fn read(&self, rank: usize, slice: Slice) -> Result<Vec<u64>, String> {
        if slice.count == 0 {
            return Ok(Vec::new());
        }
        let memory = &self.memory[rank][slice.buf as usize];
        let content = memory.get(slice.at..slice.at + slice.count);
        content.map(<[u64]>::to_vec).ok_or_else(|| format!("{rank} reads {slice:?}"))
    }

    fn write(&mut self, rank: usize, slice: Slice, content: &[u64]) -> Result<(), String> {
        if slice.count != content.len() || slice.buf == Buf::Send {
            return Err(format!("{rank} writes {} elements to {slice:?}", content.len()));
        }
        if slice.count == 0 {
            return Ok(());
        }
        let memory = &mut self.memory[rank][slice.buf as usize];
        let place = memory.get_mut(slice.at..slice.at + slice.count);
        place.ok_or_else(|| format!("{rank} writes {slice:?}"))?.copy_from_slice(content);
        Ok(())
    }

    fn deadlock(&self) -> String {
        let waits = self.ranks.iter().enumerate().filter(|(_, state)| state.begun);
        let waits: Vec<String> = waits
            .map(|(rank, state)| {
                let from: Vec<usize> = state.pending.iter().map(|pending| pending.from).collect();
                format!("{rank} in step {} for {from:?}, {} unsent", state.step, state.unsent)
            })
            .collect();
        format!("deadlock: {}", waits.join("; "))
    }
}

/// Checks that within each step nothing that is sent, folded or written is written by another.
pub(super) fn check_overlaps(schedule: &Schedule) -> Result<(), String> {
    for (number, step) in schedule.steps.iter().enumerate() {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for action in &step.actions {
            match action {
                Action::Send { from, .. } => reads.push(*from),
                Action::Recv { into, .. } => writes.push(*into),
                Action::Fold { into, own, .. } => {
                    writes.push(*into);
                    if own != into {
                        reads.push(*own);
                    }
                }
                Action::Copy { from, into } => distinct(number, &[*from], &[*into])?,
                Action::FoldLocal { into, parts } if parts.len() == 1 && parts[0] == *into => {}
                Action::FoldLocal { into, parts } => distinct(number, parts, &[*into])?,
            }
        }
        distinct(number, &reads, &writes)?;
    }
    Ok(())
}

fn distinct(step: usize, reads: &[Slice], writes: &[Slice]) -> Result<(), String> {
    let key = |slice: &Slice| (slice.buf as usize, slice.at);
    let sorted = |slices: &[Slice]| {
        let mut slices: Vec<Slice> =
            slices.iter().filter(|slice| slice.count > 0).copied().collect();
        slices.sort_unstable_by_key(key);
        slices
    };
    let writes = sorted(writes);
    let meet =
        |a: &Slice, b: &Slice| a.buf == b.buf && a.at < b.at + b.count && b.at < a.at + a.count;
    if let Some(pair) = writes.windows(2).find(|pair| meet(&pair[0], &pair[1])) {
        return Err(format!("step {step} writes twice: {pair:?}"));
    }
    let mut reads = sorted(reads);
    reads.dedup();
    for read in reads {
        // Writes are disjoint, so only the last one that begins before the read's end can meet it
        // from the left, and it is the nearest to its end.
        let end =
            writes.partition_point(|write| key(write) < (read.buf as usize, read.at + read.count));
        if let Some(write) = end.checked_sub(1).map(|at| writes[at]).filter(|w| meet(w, &read)) {
            return Err(format!("step {step} writes {write:?} while {read:?} is read"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn schedule(steps: Vec<Vec<Action>>) -> Schedule {
        let steps = steps.into_iter().map(|actions| Step { actions }).collect();
        Schedule { steps, scratch: 0, algorithm: "test" }
    }

    fn send(to: usize, at: usize, count: usize) -> Action {
        Action::Send { to, from: Slice::new(Buf::Send, at, count) }
    }

    fn recv(from: usize, at: usize, count: usize) -> Action {
        Action::Recv { from, into: Slice::new(Buf::Recv, at, count) }
    }

    fn run(schedules: &[Schedule], sending: Sending) -> Result<Outcome, String> {
        let memory = (0..schedules.len())
            .map(|rank| [vec![leaf(rank, 0), leaf(rank, 1)], vec![POISON; 2], vec![]])
            .collect();
        World::new(schedules, memory, sending, false).run(&mut Dice::new(1))
    }

    #[test]
    fn an_exchange_in_one_step_works_and_in_two_steps_needs_buffers() {
        let together = |peer| schedule(vec![vec![send(peer, 0, 2), recv(peer, 0, 2)]]);
        let apart = |peer| schedule(vec![vec![send(peer, 0, 2)], vec![recv(peer, 0, 2)]]);
        for sending in [Sending::Buffered, Sending::Rendezvous] {
            let memory = run(&[together(1), together(0)], sending).unwrap().memory;
            assert_eq!(memory[0][1], [leaf(1, 0), leaf(1, 1)]);
            assert_eq!(memory[1][1], [leaf(0, 0), leaf(0, 1)]);
        }
        assert!(run(&[apart(1), apart(0)], Sending::Buffered).is_ok());
        let error = run(&[apart(1), apart(0)], Sending::Rendezvous).unwrap_err();
        assert!(error.starts_with("deadlock: 0 in step 0 for [], 1 unsent"), "{error}");
    }

    #[test]
    fn unequal_counts_left_overs_and_missing_messages_are_found() {
        let none = schedule(vec![]);
        let one = schedule(vec![vec![send(1, 0, 1)]]);
        let two = schedule(vec![vec![recv(0, 0, 2)]]);
        let error = run(&[one.clone(), two.clone()], Sending::Buffered).unwrap_err();
        assert_eq!(error, "0 sends 1 to 1, which expects 2");
        let error = run(&[one, none.clone()], Sending::Buffered).unwrap_err();
        assert_eq!(error, "a message from 0 to 1 is left over");
        let error = run(&[none, two], Sending::Buffered).unwrap_err();
        assert!(error.starts_with("deadlock: 1 in step 0 for [0]"), "{error}");
    }

    #[test]
    fn a_fold_of_something_that_is_no_input_is_found() {
        let whole = |buf| Slice::new(buf, 0, 2);
        let wrong = Action::FoldLocal { into: whole(Buf::Recv), parts: vec![whole(Buf::Recv)] };
        let error = run(&[schedule(vec![vec![wrong]])], Sending::Buffered).unwrap_err();
        assert_eq!(error, "0 folds what is no input");
        assert_ne!(fold([1, 2, 3]), fold([1, 3, 2]));
        assert_ne!(fold([1]), 1);
    }

    #[test]
    fn overlapping_ranges_are_found() {
        let clean = schedule(vec![vec![send(1, 0, 2), recv(1, 0, 1), recv(1, 1, 1)]]);
        assert_eq!(check_overlaps(&clean), Ok(()));
        let twice = schedule(vec![vec![recv(1, 0, 2), recv(2, 1, 1)]]);
        assert!(check_overlaps(&twice).unwrap_err().starts_with("step 0 writes twice"));
        let from = Slice::new(Buf::Recv, 1, 4);
        for at in [0, 1, 4] {
            let race = schedule(vec![vec![Action::Send { to: 1, from }, recv(1, at, 2)]]);
            assert!(check_overlaps(&race).unwrap_err().contains("while"), "{at}");
        }
        let beside = schedule(vec![vec![Action::Send { to: 1, from }, recv(1, 5, 2)]]);
        assert_eq!(check_overlaps(&beside), Ok(()));
    }

    #[test]
    fn agreement_is_found_missing() {
        let gather = [
            schedule(vec![vec![recv(1, 0, 0), recv(2, 0, 0)]]),
            schedule(vec![vec![send(0, 0, 0)]]),
            schedule(vec![vec![send(0, 0, 0)]]),
        ];
        let unaware = |schedules| run(schedules, Sending::Rendezvous).unwrap().unaware();
        assert_eq!(unaware(&gather), Some((1, 0b010)));
        // A message that leaves in the step in which another arrives knows nothing of it.
        let chain = [
            schedule(vec![vec![send(1, 0, 0), recv(1, 0, 0)]]),
            schedule(vec![vec![send(0, 0, 0), recv(0, 0, 0), recv(2, 0, 0), send(2, 0, 0)]]),
            schedule(vec![vec![send(1, 0, 0), recv(1, 0, 0)]]),
        ];
        assert_eq!(unaware(&chain), Some((0, 0b011)));
    }
}
