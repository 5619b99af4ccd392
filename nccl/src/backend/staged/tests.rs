//! Rounds as they are planned, for all ranks at once, without a device.

use super::messages::Lists;
use super::messages::Messages;
use super::plan::Cuts;
use super::plan::Rounds;
use super::round::Piece;
use super::round::Round;
use crate::desc::Kind;
use crate::device::DeviceCall;
use crate::dtype::DataType;
use crate::op::ReduceOp;
use crate::rank::Member;

const SEND: u64 = 1 << 20;
const RECV: u64 = 1 << 30;
const STAGE_BYTES: usize = 256;

const KINDS: [Kind; 11] = [
    Kind::AllReduce,
    Kind::Broadcast,
    Kind::Reduce,
    Kind::AllGather,
    Kind::AllGatherV,
    Kind::ReduceScatter,
    Kind::ReduceScatterV,
    Kind::AllToAll,
    Kind::AllToAllV,
    Kind::Gather,
    Kind::Scatter,
];

/// What rank `from` has for rank `to` where counts differ.
fn uneven(count: usize, from: usize, to: usize) -> usize {
    if (from + to) % 3 == 1 { 0 } else { count * (1 + (2 * from + to) % 4) / 2 }
}

fn lists(kind: Kind, count: usize, member: Member) -> (Vec<usize>, Vec<usize>) {
    let Member { rank, world_size: n } = member;
    match kind {
        Kind::AllGatherV => (Vec::new(), (0..n).map(|from| uneven(count, from, 0)).collect()),
        Kind::ReduceScatterV => {
            let counts: Vec<usize> = (0..n).map(|to| uneven(count, to, 0)).collect();
            (counts.clone(), counts)
        }
        Kind::AllToAllV => (
            (0..n).map(|to| uneven(count, rank, to)).collect(),
            (0..n).map(|from| uneven(count, from, rank)).collect(),
        ),
        _ => (Vec::new(), Vec::new()),
    }
}

fn call<'a>(kind: Kind, count: usize, lists: &'a (Vec<usize>, Vec<usize>)) -> DeviceCall<'a> {
    let (send_counts, recv_counts) = (&*lists.0, &*lists.1);
    let reduces =
        matches!(kind, Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter | Kind::ReduceScatterV);
    let (dtype, op, root) = (DataType::F32, reduces.then_some(ReduceOp::Sum), 0);
    let (send, recv, in_place) = (SEND, RECV, false);
    DeviceCall { kind, dtype, op, root, count, send, recv, in_place, send_counts, recv_counts }
}

/// Elements of this rank's input and output.
fn elements(kind: Kind, count: usize, member: Member) -> (usize, usize) {
    let Member { rank, world_size: n } = member;
    let at_root = |count| if rank == 0 { count } else { 0 };
    let (sends, receives) = lists(kind, count, member);
    let own = || receives[rank];
    match kind {
        Kind::AllReduce => (count, count),
        Kind::Broadcast => (at_root(count), count - at_root(count)),
        Kind::Reduce => (count, at_root(count)),
        Kind::AllGather => (count, n * count),
        Kind::Gather => (count, at_root(n * count)),
        Kind::AllGatherV => (own(), receives.iter().sum()),
        Kind::ReduceScatter => (n * count, count),
        Kind::Scatter => (at_root(n * count), count),
        Kind::ReduceScatterV => (sends.iter().sum(), own()),
        Kind::AllToAll => (n * count, n * count),
        _ => (sends.iter().sum(), receives.iter().sum()),
    }
}

fn rounds(mut rounds: Rounds<'_>) -> Vec<Round> {
    let mut all = Vec::new();
    let expected = rounds.count();
    loop {
        let mut round = Round::default();
        if !rounds.fill(&mut round) {
            assert_eq!(all.len(), expected);
            return all;
        }
        all.push(round);
    }
}

/// Whether pieces cover `elements` of 4 bytes from `base` on, each once.
fn cover<'a>(pieces: impl Iterator<Item = &'a Piece>, base: u64, elements: usize) -> bool {
    let mut seen = vec![0; elements];
    for piece in pieces {
        let begin = usize::try_from(piece.device - base).unwrap();
        assert!(begin.is_multiple_of(4) && piece.bytes.is_multiple_of(4) && piece.bytes > 0);
        for element in begin / 4..(begin + piece.bytes) / 4 {
            seen[element] += 1;
        }
    }
    seen.iter().all(|count| *count == 1)
}

#[test]
fn every_element_is_fetched_once_and_delivered_once_in_rounds_that_fit() {
    for kind in KINDS {
        for world_size in 1..6 {
            for count in [0, 1, 3, 64, 65, 200] {
                let mut all = Vec::new();
                for rank in 0..world_size {
                    let member = Member { rank, world_size };
                    let lists = lists(kind, count, member);
                    let calls = [call(kind, count, &lists)];
                    let pairs = (0..world_size)
                        .flat_map(|from| (0..world_size).map(move |to| uneven(count, from, to)));
                    let longest = [pairs.max().unwrap()];
                    let (stage_bytes, next) = (STAGE_BYTES, (0, 0));
                    let cuts = Cuts { calls: &calls, member, stage_bytes, longest: &longest, next };
                    let own = rounds(Rounds::Collectives(cuts));
                    let (input, output) = elements(kind, count, member);
                    let what = format!("{kind} of {count}, rank {rank} of {world_size}");
                    let fetched = own.iter().flat_map(|round| &round.fetch);
                    assert!(cover(fetched, SEND, input), "{what}");
                    let delivered = own.iter().flat_map(|round| &round.deliver);
                    assert!(cover(delivered, RECV, output), "{what}");
                    for round in &own {
                        assert!(round.send_bytes.max(round.recv_bytes) <= STAGE_BYTES, "{what}");
                        let area =
                            if round.is_in_place() { round.recv_bytes } else { round.send_bytes };
                        assert!(round.fetch.iter().all(|piece| piece.host + piece.bytes <= area));
                        let ends = round.deliver.iter().map(|piece| piece.host + piece.bytes);
                        assert!(ends.max().unwrap_or(0) <= round.recv_bytes, "{what}");
                    }
                    all.push(own);
                }
                let compared = |round: &Round| {
                    round.part.map(|part| (part.kind, part.dtype, part.root, part.whole))
                };
                for own in &all {
                    assert_eq!(own.len(), all[0].len(), "{kind} of {count}, {world_size} ranks");
                    let pairs = own.iter().zip(&all[0]);
                    assert!(pairs.into_iter().all(|(one, two)| compared(one) == compared(two)));
                }
            }
        }
    }
}

#[test]
fn what_one_rank_sends_another_expects_in_every_round_of_an_all_to_all_v() {
    let (world_size, count) = (4, 77);
    let of = |rank| {
        let member = Member { rank, world_size };
        let lists = lists(Kind::AllToAllV, count, member);
        let calls = [call(Kind::AllToAllV, 0, &lists)];
        let (longest, stage_bytes, next) = ([2 * count], STAGE_BYTES, (0, 0));
        rounds(Rounds::Collectives(Cuts {
            calls: &calls,
            member,
            stage_bytes,
            longest: &longest,
            next,
        }))
    };
    let all: Vec<Vec<Round>> = (0..world_size).map(of).collect();
    assert!(all[0].len() > 5, "{}", all[0].len());
    for (from, sender) in all.iter().enumerate() {
        for (to, receiver) in all.iter().enumerate() {
            for (sent, received) in sender.iter().zip(receiver) {
                assert_eq!(sent.send_counts[to], received.recv_counts[from]);
            }
        }
    }
}

#[test]
fn messages_of_a_pair_are_in_the_same_rounds_on_both_ranks_however_they_are_divided() {
    let empty = (Vec::new(), Vec::new());
    let message = |kind, root, count| DeviceCall { root, ..call(kind, count, &empty) };
    let counts = [5000, 0, 1, 1024, 2049];
    let sends = counts.map(|count| message(Kind::Send, 1, count));
    let mut lists = Lists::default();
    let mut in_rounds = |calls: &[DeviceCall<'_>]| {
        rounds(Rounds::Messages(Messages::new(calls, 8192, 2, &mut lists)))
    };
    let sent = in_rounds(&sends);
    // The receiver takes them one by one, among messages of others.
    let mut received = Vec::new();
    for count in counts {
        let others = [message(Kind::Recv, 0, count), message(Kind::Send, 1, 1)];
        received.extend(in_rounds(&others).into_iter().map(|round| round.messages[0]));
    }
    let sent: Vec<_> = sent.iter().map(|round| round.messages.as_slice()).collect();
    assert!(sent.iter().all(|messages| messages.len() == 1));
    let counts = |(one, two): (&&[super::round::Message], &super::round::Message)| {
        (one[0].count, one[0].whole) == (two.count, two.whole)
    };
    assert_eq!(sent.len(), received.len());
    assert!(sent.iter().zip(&received).all(counts));
    // 1024 elements are a step: 5, 1, 1, 1 and 3 of them.
    assert_eq!(sent.len(), 11);
    assert_eq!((sent[0][0].whole, sent[5][0].whole), (Some(5000), None));
}

#[test]
fn pieces_that_follow_one_another_become_one() {
    let piece = |host, device, bytes| Piece { host, device, bytes };
    let mut list = Vec::new();
    for next in [piece(0, 100, 8), piece(8, 108, 8), piece(16, 116, 0), piece(16, 117, 8)] {
        next.add(&mut list);
    }
    piece(25, 125, 1).add(&mut list);
    assert_eq!(list, [piece(0, 100, 16), piece(16, 117, 8), piece(25, 125, 1)]);
}
