//! What a schedule costs: steps, messages and bytes, and how long it takes in a simple model.
//!
//! The model has three numbers: the time on the way (alpha), the time a rank needs per message
//! it sends or receives, and the time per byte (beta), spent by the sender's port and then by
//! the receiver's, one message after the other. Links hold any number of messages. It ignores
//! what folding and copying cost and that ranks share a host, so it ranks algorithms; it does
//! not predict times.

use core::fmt::Write;
use std::collections::HashMap;
use std::collections::VecDeque;

use super::Action;
use super::Algorithm;
use super::Schedule;
use super::Shape;
use super::Tuning;
use super::plan;
use crate::desc::Kind;
use crate::rank::Member;

/// What one rank does in one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Cost {
    /// Steps in which messages move.
    pub(crate) rounds: usize,
    /// Messages sent, empty ones included.
    pub(crate) messages: usize,
    /// Messages sent that hold nothing.
    pub(crate) empty_messages: usize,
    /// Elements sent.
    pub(crate) sent: usize,
    /// Elements received.
    pub(crate) received: usize,
    /// Elements copied within the rank.
    pub(crate) copied: usize,
    /// Elements of results that this rank folds.
    pub(crate) folded: usize,
}

impl Cost {
    /// The cost of one rank's schedule.
    pub(crate) fn of(schedule: &Schedule) -> Self {
        let mut cost = Self::default();
        for step in &schedule.steps {
            let mut moves = false;
            for action in &step.actions {
                match action {
                    Action::Send { from, .. } => {
                        moves = true;
                        cost.messages += 1;
                        cost.empty_messages += usize::from(from.count == 0);
                        cost.sent += from.count;
                    }
                    Action::Recv { into, .. } => {
                        moves = true;
                        cost.received += into.count;
                    }
                    Action::Fold { into, from, .. } => {
                        moves = true;
                        cost.received += into.count * from.len();
                        cost.folded += into.count;
                    }
                    Action::FoldLocal { into, .. } => cost.folded += into.count,
                    Action::Copy { into, .. } => cost.copied += into.count,
                }
            }
            cost.rounds += usize::from(moves);
        }
        cost
    }
}

/// The three numbers of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Network {
    /// How long a message is on its way.
    pub(crate) alpha_us: f64,
    /// What each message costs the rank that sends it, and the one that receives it.
    pub(crate) message_us: f64,
    /// What each byte costs on either side.
    pub(crate) byte_us: f64,
}

impl Network {
    /// Ranks of one host, over shared memory.
    pub(crate) const SHARED_MEMORY: Self =
        Self { alpha_us: 0.2, message_us: 0.05, byte_us: 1.0 / 8_000.0 };
    /// Ranks on hosts of their own, over TCP and 10 Gbit/s.
    pub(crate) const TCP: Self = Self { alpha_us: 15.0, message_us: 3.0, byte_us: 1.0 / 1_250.0 };
}

/// One rank in the model.
struct Clock {
    schedule: Schedule,
    step: usize,
    now_us: f64,
    /// Whether the messages of the current step have left, and when the port was free again.
    sent_until_us: Option<f64>,
}

/// When the last of all ranks is done, in microseconds. `None` if the schedules wait for each
/// other for ever.
pub(crate) fn simulate(
    shape_of: impl Fn(usize) -> Shape,
    tuning: &Tuning,
    network: &Network,
) -> Option<f64> {
    let first = shape_of(0);
    let (ranks, elem_bytes) = (first.member.world_size, first.elem_bytes);
    let mut clocks: Vec<Clock> = (0..ranks)
        .map(|rank| Clock {
            schedule: plan(&shape_of(rank), tuning),
            step: 0,
            now_us: 0.0,
            sent_until_us: None,
        })
        .collect();
    let mut links: HashMap<(usize, usize), VecDeque<f64>> = HashMap::new();
    let mut queue: VecDeque<usize> = (0..ranks).collect();
    let mut idle = 0;
    // A rank that waits goes to the end of the queue; when a whole turn moves nothing, none can.
    while let Some(rank) = queue.pop_front() {
        let clock = &mut clocks[rank];
        if clock.step >= clock.schedule.steps.len() {
            continue;
        }
        let moved = advance(rank, clock, &mut links, elem_bytes, network);
        idle = if moved { 0 } else { idle + 1 };
        if idle > queue.len() {
            return None;
        }
        queue.push_back(rank);
    }
    Some(clocks.iter().map(|clock| clock.now_us).fold(0.0, f64::max))
}

/// Lets a rank send what its step sends and, if everything is under way to it, end the step.
fn advance(
    rank: usize,
    clock: &mut Clock,
    links: &mut HashMap<(usize, usize), VecDeque<f64>>,
    elem_bytes: usize,
    network: &Network,
) -> bool {
    let Some(step) = clock.schedule.steps.get(clock.step) else {
        return false;
    };
    let bytes_us = |count: usize| to_f64(count.saturating_mul(elem_bytes)) * network.byte_us;
    let mut moved = false;
    let sent_until_us = clock.sent_until_us.unwrap_or_else(|| {
        moved = true;
        let mut free_us = clock.now_us;
        for action in &step.actions {
            if let Action::Send { to, from } = action {
                free_us += network.message_us + bytes_us(from.count);
                links.entry((rank, *to)).or_default().push_back(free_us + network.alpha_us);
            }
        }
        free_us
    });
    clock.sent_until_us = Some(sent_until_us);

    // Two receives from one rank in a step need two messages of it.
    let mut wanted: HashMap<usize, Vec<usize>> = HashMap::new();
    for action in &step.actions {
        match action {
            Action::Recv { from, into } => wanted.entry(*from).or_default().push(into.count),
            Action::Fold { into, from, .. } => {
                for from in from {
                    wanted.entry(*from).or_default().push(into.count);
                }
            }
            _ => {}
        }
    }
    let here = |(from, counts): (&usize, &Vec<usize>)| {
        links.get(&(*from, rank)).is_some_and(|link| link.len() >= counts.len())
    };
    if !wanted.iter().all(here) {
        return moved;
    }
    let mut arrivals: Vec<(f64, usize)> = Vec::new();
    for (from, counts) in wanted {
        let link = links.entry((from, rank)).or_default();
        arrivals.extend(counts.into_iter().filter_map(|count| Some((link.pop_front()?, count))));
    }
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut free_us = clock.now_us;
    for (arrival_us, count) in arrivals {
        // The bytes came in while the sender sent them; the port is busy for as long.
        let begun_us = (arrival_us - bytes_us(count)).max(free_us);
        free_us = begun_us + bytes_us(count) + network.message_us;
    }
    clock.now_us = free_us.max(sent_until_us);
    clock.step += 1;
    clock.sent_until_us = None;
    true
}

#[expect(clippy::cast_precision_loss, reason = "counts of bytes far below 2^52, for an estimate")]
fn to_f64(value: usize) -> f64 {
    value as f64
}

/// The shape of one rank for a table: root 0, out of place, elements of 4 bytes.
pub(crate) fn example(kind: Kind, member: Member, count: usize) -> Shape {
    let each = |wanted: bool| if wanted { vec![count; member.world_size] } else { Vec::new() };
    Shape {
        kind,
        member,
        count,
        root: 0,
        elem_bytes: 4,
        in_place: false,
        send_counts: each(matches!(kind, Kind::ReduceScatterV | Kind::AllToAllV)),
        recv_counts: each(matches!(kind, Kind::AllGatherV | Kind::AllToAllV)),
        factor_per_rank: false,
        reduces: matches!(
            kind,
            Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter | Kind::ReduceScatterV
        ),
    }
}

/// A table of one operation: for each group size and count, what is chosen, what it costs the
/// rank that sends most, and how long the model says it and each forced algorithm take. A group
/// that would need more than `most_messages` in one operation is not simulated.
pub(crate) fn table(
    kind: Kind,
    sizes: &[usize],
    counts: &[usize],
    network: &Network,
    most_messages: usize,
) -> String {
    let mut text = format!(
        "{kind}\n{:>6} {:>10} {:>14} {:>6} {:>8} {:>12} {:>11}",
        "ranks", "count", "chosen", "rounds", "messages", "sent", "chosen us"
    );
    for algorithm in Algorithm::ALL {
        let _ = write!(text, " {:>11}", algorithm.name());
    }
    text.push('\n');
    for &world_size in sizes {
        for &count in counts {
            row(&mut text, kind, world_size, count, network, most_messages);
        }
    }
    text
}

fn row(
    text: &mut String,
    kind: Kind,
    world_size: usize,
    count: usize,
    network: &Network,
    most_messages: usize,
) {
    let shape_of = |rank| example(kind, Member { rank, world_size }, count);
    let costs = |tuning: &Tuning| {
        // Rank 0 is the root; the others of a rooted operation are alike but for the tree.
        let of = |rank| Cost::of(&plan(&shape_of(rank), tuning));
        [of(0), of(world_size - 1)]
    };
    let time = |tuning: &Tuning| {
        let messages = costs(tuning).iter().map(|cost| cost.messages).max().unwrap_or(0);
        if messages.saturating_mul(world_size) > most_messages {
            return "-".to_owned();
        }
        simulate(shape_of, tuning, network).map_or_else(|| "never".into(), |us| format!("{us:.1}"))
    };
    let plain = Tuning::default();
    let most = costs(&plain).into_iter().max_by_key(|cost| (cost.sent, cost.messages));
    let most = most.unwrap_or_default();
    let chosen = plan(&shape_of(0), &plain).algorithm;
    let _ = write!(
        text,
        "{world_size:>6} {count:>10} {chosen:>14} {:>6} {:>8} {:>12}",
        most.rounds, most.messages, most.sent
    );
    let _ = write!(text, " {:>11}", time(&plain));
    for algorithm in Algorithm::ALL {
        let forced = Tuning { algorithm: Some(algorithm), ..Tuning::default() };
        let _ = write!(text, " {:>11}", time(&forced));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Network = Network { alpha_us: 100.0, message_us: 0.0, byte_us: 1.0 };

    fn cost(kind: Kind, rank: usize, world_size: usize, count: usize, forced: Algorithm) -> Cost {
        let tuning = Tuning { algorithm: Some(forced), ..Tuning::default() };
        Cost::of(&plan(&example(kind, Member { rank, world_size }, count), &tuning))
    }

    fn log2_up(n: usize) -> usize {
        n.next_power_of_two().ilog2() as usize
    }

    #[test]
    fn large_all_reduce_sends_two_n_minus_one_nths_in_two_rounds() {
        for n in [2, 3, 4, 5, 8, 16, 31, 64] {
            let count = n * 1000;
            for rank in [0, n - 1] {
                let direct = cost(Kind::AllReduce, rank, n, count, Algorithm::Direct);
                assert_eq!((direct.rounds, direct.messages), (2, 2 * (n - 1)));
                assert_eq!(direct.sent, 2 * (n - 1) * count / n);
                assert_eq!(direct.received, direct.sent);
                assert_eq!((direct.folded, direct.copied), (count / n, 0));
                let ring = cost(Kind::AllReduce, rank, n, count, Algorithm::Ring);
                assert_eq!((ring.rounds, ring.sent), (n, direct.sent));
            }
        }
    }

    #[test]
    fn bruck_takes_log2_n_rounds_of_one_message_and_sends_each_block_once() {
        for n in [2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 64, 1000] {
            for kind in [Kind::AllGather, Kind::AllGatherV, Kind::AllReduce] {
                let bruck = cost(kind, n / 2, n, 10, Algorithm::Bruck);
                assert_eq!((bruck.rounds, bruck.messages), (log2_up(n), log2_up(n)), "{kind} {n}");
                assert_eq!(bruck.sent, (n - 1) * 10);
            }
            // A block for the rank at distance i is sent once for each bit of i.
            let bits: usize = (0..n).map(|i| i.count_ones() as usize).sum();
            for kind in [Kind::AllToAll, Kind::ReduceScatter] {
                let bruck = cost(kind, 0, n, 10, Algorithm::Bruck);
                assert_eq!((bruck.rounds, bruck.messages), (log2_up(n), log2_up(n)), "{kind} {n}");
                assert_eq!(bruck.sent, bits * 10);
            }
        }
    }

    #[test]
    fn rings_and_flat_exchanges_send_each_block_n_minus_one_times() {
        for n in [2, 3, 8, 17, 64] {
            let ring = cost(Kind::AllGather, 1, n, 10, Algorithm::Ring);
            assert_eq!((ring.rounds, ring.messages, ring.sent), (n - 1, n - 1, (n - 1) * 10));
            for kind in [Kind::AllGather, Kind::ReduceScatter, Kind::AllToAll, Kind::AllReduce] {
                let flat = cost(kind, 1, n, 10, Algorithm::Flat);
                assert_eq!((flat.rounds, flat.messages, flat.sent), (1, n - 1, (n - 1) * 10));
            }
        }
    }

    #[test]
    fn broadcast_costs_what_its_algorithm_says() {
        for n in [2, 3, 5, 8, 17, 64] {
            let count = (n - 1) * 1000;
            let flat = cost(Kind::Broadcast, 0, n, count, Algorithm::Flat);
            assert_eq!((flat.rounds, flat.sent), (1, (n - 1) * count));
            let tree = cost(Kind::Broadcast, 0, n, count, Algorithm::Tree);
            assert_eq!((tree.rounds, tree.sent), (log2_up(n), log2_up(n) * count));
            assert_eq!(tree.empty_messages, 0);
            let root = cost(Kind::Broadcast, 0, n, count, Algorithm::Direct);
            assert_eq!((root.rounds, root.sent, root.messages), (1, count, n - 1));
            let other = cost(Kind::Broadcast, 1, n, count, Algorithm::Direct);
            assert_eq!(other.sent, (n - 2) * count / (n - 1));
            assert_eq!((other.received, other.messages), (count, n - 1));
            // Every element reaches every other rank exactly once.
            let received = |rank| cost(Kind::Broadcast, rank, n, count, Algorithm::Tree).received;
            assert!((1..n).all(|rank| received(rank) == count));
        }
    }

    #[test]
    fn reduce_and_agreement_cost_what_their_algorithm_says() {
        for n in [2, 3, 8, 17, 64] {
            let count = n * 1000;
            let root = cost(Kind::Reduce, 0, n, count, Algorithm::Flat);
            assert_eq!((root.rounds, root.received, root.folded), (1, (n - 1) * count, count));
            assert_eq!((root.messages, root.empty_messages), (n - 1, n - 1));
            let direct = cost(Kind::Reduce, 1, n, count, Algorithm::Direct);
            assert_eq!((direct.rounds, direct.sent), (2, count));
            let barrier = cost(Kind::Barrier, 0, n, 0, Algorithm::Tree);
            assert_eq!((barrier.rounds, barrier.messages), (log2_up(n), log2_up(n)));
            let gather = cost(Kind::Gather, 1, n, 10, Algorithm::Tree);
            assert_eq!((gather.rounds, gather.sent), (log2_up(n), 10));
            // With two ranks the message of data is the one of agreement.
            let shared = usize::from(n == 2);
            assert_eq!(gather.messages, log2_up(n) + 1 - shared);
        }
    }

    #[test]
    fn the_model_gives_the_times_that_one_computes_by_hand() {
        let time = |kind, n, count, forced| {
            let tuning = Tuning { algorithm: Some(forced), ..Tuning::default() };
            let shape = |rank| example(kind, Member { rank, world_size: n }, count);
            simulate(shape, &tuning, &UNIT).unwrap()
        };
        // Two ranks, 10 elements of 4 bytes: 40 on the wire, 100 on the way.
        assert_eq!(time(Kind::AllGather, 2, 10, Algorithm::Flat), 140.0);
        assert_eq!(time(Kind::AllGather, 5, 10, Algorithm::Ring), 4.0 * 140.0);
        assert_eq!(time(Kind::AllGather, 8, 10, Algorithm::Bruck), 3.0 * 100.0 + 7.0 * 40.0);
        assert_eq!(time(Kind::Barrier, 64, 0, Algorithm::Tree), 600.0);
        assert_eq!(time(Kind::Broadcast, 8, 10, Algorithm::Tree), 3.0 * 140.0);
    }

    #[test]
    fn a_thousand_ranks_are_simulated_and_the_choice_is_near_the_best() {
        let n = 1024;
        for (kind, count) in [(Kind::AllReduce, 16), (Kind::AllGather, 4), (Kind::Broadcast, 256)] {
            let time = |tuning: &Tuning| {
                let shape = |rank| example(kind, Member { rank, world_size: n }, count);
                simulate(shape, tuning, &Network::TCP).unwrap()
            };
            let chosen = time(&Tuning::default());
            for forced in [Algorithm::Tree, Algorithm::Bruck] {
                let best = time(&Tuning { algorithm: Some(forced), ..Tuning::default() });
                assert!(chosen <= 1.1 * best, "{kind}: chosen {chosen}, {forced} {best}");
            }
        }
    }

    #[test]
    fn a_table_has_a_row_per_size_and_leaves_out_what_is_too_large() {
        let text = table(Kind::AllGather, &[2, 4], &[1, 1000], &Network::SHARED_MEMORY, 8);
        assert_eq!(text.lines().count(), 2 + 4, "{text}");
        assert!(!text.contains("never"), "{text}");
        assert!(text.lines().last().unwrap().contains('-'), "{text}");
    }

    #[test]
    #[ignore = "prints the tables by which thresholds were compared; takes seconds"]
    fn print_tables() {
        for network in [Network::SHARED_MEMORY, Network::TCP] {
            println!("{network:?}");
            for kind in [Kind::AllReduce, Kind::Broadcast, Kind::AllToAll, Kind::ReduceScatter] {
                let counts = [1, 256, 4096, 65536, 1 << 20];
                println!(
                    "{}",
                    table(kind, &[2, 4, 8, 12, 16, 32, 64, 256], &counts, &network, 1 << 20)
                );
            }
        }
    }
}
