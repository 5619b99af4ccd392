//! How an operation is cut into rounds. Pure: all ranks come to the same rounds, as these follow
//! from what is equal on all of them.

use super::messages;
use super::messages::Messages;
use super::round::Part;
use super::round::Piece;
use super::round::Round;
use crate::backend::digest;
use crate::desc::Kind;
use crate::device::DeviceCall;
use crate::rank::Member;

/// One side of a collective: the blocks of a buffer, one after the other.
#[derive(Clone, Copy, Debug)]
enum Side<'a> {
    /// So many blocks of equal count; none if this rank has no such buffer.
    Even { blocks: usize, count: usize },
    /// Blocks of these counts.
    Uneven(&'a [usize]),
}

impl Side<'_> {
    const NONE: Self = Self::Even { blocks: 0, count: 0 };

    fn one(count: usize) -> Self {
        Self::Even { blocks: 1, count }
    }

    /// For each block, its number, where it begins, and its count.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let (blocks, even, uneven) = match *self {
            Self::Even { blocks, count } => (blocks, count, None),
            Self::Uneven(counts) => (counts.len(), 0, Some(counts)),
        };
        let mut begin = 0_usize;
        (0..blocks).map(move |block| {
            let count = uneven.and_then(|counts| counts.get(block).copied()).unwrap_or(even);
            let at = begin;
            begin = begin.saturating_add(count);
            (block, at, count)
        })
    }
}

/// A collective in rounds: round `k` has the elements `k * step..` of every block.
#[derive(Clone, Copy, Debug)]
struct Cut<'a> {
    call: &'a DeviceCall<'a>,
    member: Member,
    step: usize,
    /// How many rounds, at least one.
    rounds: usize,
}

impl<'a> Cut<'a> {
    /// Cuts a call for buffers of `stage_bytes`; `longest` is the largest part that any rank sends
    /// to another one in an `all_to_all_v`.
    fn new(call: &'a DeviceCall<'a>, member: Member, stage_bytes: usize, longest: usize) -> Self {
        let blocks = match call.kind {
            Kind::AllReduce | Kind::Reduce | Kind::Broadcast => 1,
            _ => member.world_size,
        };
        let step = step(stage_bytes, blocks, call.dtype.size_bytes());
        let longest = match call.kind {
            Kind::AllToAllV => longest,
            Kind::AllGatherV | Kind::ReduceScatterV => {
                call.recv_counts.iter().copied().max().unwrap_or(0)
            }
            _ => call.count,
        };
        Self { call, member, step, rounds: longest.div_ceil(step).max(1) }
    }

    /// Fills in round `at`.
    fn fill(&self, at: usize, round: &mut Round) {
        let (call, rank) = (self.call, self.member.rank);
        let (input, output) = self.sides();
        let begin = at.saturating_mul(self.step);
        round.clear();
        let part = |count: usize| count.saturating_sub(begin).min(self.step);
        let size = call.dtype.size_bytes();
        // The addresses are inside of buffers whose bytes were checked, so nothing saturates.
        let address =
            |base: u64, element: usize| base.saturating_add(element.saturating_mul(size) as u64);
        let mut host = 0_usize;
        for (_, offset, count) in input.blocks() {
            let count = part(count);
            let bytes = count.saturating_mul(size);
            let device = address(call.send, offset.saturating_add(begin));
            Piece { host, device, bytes }.add(&mut round.fetch);
            round.send_counts.push(count);
            host = host.saturating_add(bytes);
        }
        round.send_bytes = host;
        let own = call.in_place && matches!(call.kind, Kind::AllGather | Kind::Gather);
        host = 0;
        for (block, offset, count) in output.blocks() {
            let count = part(count);
            let bytes = count.saturating_mul(size);
            // This rank's own part is there already.
            if !(own && block == rank) {
                let device = address(self.result(), offset.saturating_add(begin));
                Piece { host, device, bytes }.add(&mut round.deliver);
            }
            round.recv_counts.push(count);
            host = host.saturating_add(bytes);
        }
        round.recv_bytes = host;
        self.describe(part(call.count), round);
    }

    /// What the host runs in a round of `count` elements.
    fn describe(&self, count: usize, round: &mut Round) {
        let call = self.call;
        match call.kind {
            Kind::AllGatherV => round.send_counts.clear(),
            Kind::ReduceScatterV => round.recv_counts.clone_from(&round.send_counts),
            Kind::AllToAllV => {}
            _ => {
                round.send_counts.clear();
                round.recv_counts.clear();
            }
        }
        if call.kind == Kind::Broadcast {
            round.recv_bytes = round.recv_bytes.max(round.send_bytes);
            round.send_bytes = 0;
        }
        let root =
            matches!(call.kind, Kind::Broadcast | Kind::Reduce | Kind::Gather | Kind::Scatter);
        let whole = match call.kind {
            _ if self.rounds == 1 => None,
            Kind::AllGatherV | Kind::ReduceScatterV => Some(digest(call.recv_counts)),
            Kind::AllToAllV => None,
            _ => Some(call.count as u64),
        };
        round.part = Some(Part {
            kind: call.kind,
            dtype: call.dtype,
            op: call.op,
            root: root.then_some(call.root),
            count,
            whole,
        });
    }

    /// The blocks that this rank gives, and those that it gets.
    fn sides(&self) -> (Side<'a>, Side<'a>) {
        let DeviceCall { kind, count, root, send_counts, recv_counts, .. } = *self.call;
        let Member { rank, world_size } = self.member;
        let (one, all) = (Side::one(count), Side::Even { blocks: world_size, count });
        let at_root = |side| if rank == root { side } else { Side::NONE };
        let own = || Side::one(recv_counts.get(rank).copied().unwrap_or(0));
        match kind {
            Kind::AllReduce => (one, one),
            Kind::Reduce => (one, at_root(one)),
            Kind::Broadcast if rank == root => (one, Side::NONE),
            Kind::Broadcast => (Side::NONE, one),
            Kind::AllGather => (one, all),
            Kind::AllGatherV => (own(), Side::Uneven(recv_counts)),
            Kind::ReduceScatter => (all, one),
            Kind::ReduceScatterV => (Side::Uneven(recv_counts), own()),
            Kind::AllToAll => (all, all),
            Kind::AllToAllV => (Side::Uneven(send_counts), Side::Uneven(recv_counts)),
            Kind::Gather => (one, at_root(all)),
            Kind::Scatter => (at_root(all), one),
            Kind::Barrier | Kind::Send | Kind::Recv => (Side::NONE, Side::NONE),
        }
    }

    /// Where the result begins.
    fn result(&self) -> u64 {
        let DeviceCall { kind, count, recv, in_place, dtype, .. } = *self.call;
        if in_place && matches!(kind, Kind::ReduceScatter | Kind::Scatter) {
            let part = count.saturating_mul(dtype.size_bytes()).saturating_mul(self.member.rank);
            return recv.saturating_add(part as u64);
        }
        recv
    }
}

/// Elements of each of `blocks` blocks that fit into a buffer, at least one.
pub(super) fn step(stage_bytes: usize, blocks: usize, elem_bytes: usize) -> usize {
    (stage_bytes / blocks.max(1) / elem_bytes).max(1)
}

/// The rounds of a unit: of its messages, or of its collectives.
#[derive(Debug)]
pub(super) enum Rounds<'a> {
    /// Those of its messages.
    Messages(Messages<'a>),
    /// Those of its collectives, in their order.
    Collectives(Cuts<'a>),
}

impl Rounds<'_> {
    /// How many there are, counted before the first.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.rounds(),
            Self::Collectives(cuts) => cuts.rounds(),
        }
    }

    /// Fills in the next one, if there is one.
    pub(super) fn fill(&mut self, round: &mut Round) -> bool {
        match self {
            Self::Messages(messages) => messages.fill(round),
            Self::Collectives(cuts) => cuts.fill(round),
        }
    }
}

/// The collectives of a unit.
#[derive(Debug)]
pub(super) struct Cuts<'a> {
    pub(super) calls: &'a [DeviceCall<'a>],
    pub(super) member: Member,
    pub(super) stage_bytes: usize,
    /// Of each call, see [`Cut::new`].
    pub(super) longest: &'a [usize],
    /// The call and its round that come next.
    pub(super) next: (usize, usize),
}

impl<'a> Cuts<'a> {
    /// The cut of call `at`; none if it is a message, or behind the last.
    fn cut(&self, at: usize) -> Option<Cut<'a>> {
        let call = self.calls.get(at).filter(|call| !messages::is_message(call))?;
        let longest = self.longest.get(at).copied().unwrap_or(0);
        Some(Cut::new(call, self.member, self.stage_bytes, longest))
    }

    fn rounds(&self) -> usize {
        let rounds = |at| self.cut(at).map_or(0, |cut| cut.rounds);
        (0..self.calls.len()).map(rounds).fold(0, usize::saturating_add)
    }

    fn fill(&mut self, round: &mut Round) -> bool {
        while self.next.0 < self.calls.len() {
            let (call, at) = self.next;
            if let Some(cut) = self.cut(call)
                && at < cut.rounds
            {
                cut.fill(at, round);
                self.next = (call, at + 1);
                return true;
            }
            self.next = (call + 1, 0);
        }
        false
    }
}
