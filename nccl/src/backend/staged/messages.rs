//! Messages of a unit, in rounds.
//!
//! A message of more than a step is cut into messages of a step. All messages to one peer make one
//! sequence, and so do those from one peer; a round has the next one of each sequence. So the k-th
//! message between two ranks is in round k on both of them, however they divide their messages
//! into units, and the rank with the lowest round is never waited for by one it waits for.

use super::plan;
use super::round::Message;
use super::round::Piece;
use super::round::Round;
use crate::desc::Kind;
use crate::device::DeviceCall;

/// Messages begin at whole cache lines.
const ALIGN: usize = 64;
/// The smallest step, however many ranks there are.
const STEP_MIN_BYTES: usize = 4096;

/// The messages that are not yet under way.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    calls: &'a [DeviceCall<'a>],
    stage_bytes: usize,
    world_size: usize,
    lists: &'a mut Lists,
}

/// Kept from unit to unit.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Of each call: elements under way, or `None` once all are.
    at: Vec<Option<usize>>,
    /// Of each peer and direction: whether its sequence has its place in the round; or how many
    /// rounds it takes.
    marks: Vec<usize>,
}

impl<'a> Messages<'a> {
    /// The messages among `calls`.
    pub(super) fn new(
        calls: &'a [DeviceCall<'a>],
        stage_bytes: usize,
        world_size: usize,
        lists: &'a mut Lists,
    ) -> Self {
        let first = |call: &DeviceCall<'_>| is_message(call).then_some(0);
        lists.at.clear();
        lists.at.extend(calls.iter().map(first));
        Self { calls, stage_bytes, world_size, lists }
    }

    /// How many rounds they take from the first on.
    pub(super) fn rounds(&self) -> usize {
        // Quadratic, but without memory: a unit has few messages, most often one or two.
        let messages = || self.calls.iter().filter(|call| is_message(call));
        let of_sequence = |call: &DeviceCall<'_>| {
            let same = |other: &&DeviceCall<'_>| (other.kind, other.root) == (call.kind, call.root);
            let rounds = |call: &DeviceCall<'_>| call.count.div_ceil(self.step(call)).max(1);
            messages().filter(same).fold(0_usize, |sum, call| sum.saturating_add(rounds(call)))
        };
        messages().map(of_sequence).max().unwrap_or(0)
    }

    /// Fills in the next round; `false` if nothing is left.
    pub(super) fn fill(&mut self, round: &mut Round) -> bool {
        if self.lists.at.iter().all(Option::is_none) {
            return false;
        }
        round.clear();
        self.lists.marks.clear();
        self.lists.marks.resize(self.world_size.saturating_mul(2), 0);
        for (index, call) in self.calls.iter().enumerate() {
            let Some(Some(at)) = self.lists.at.get(index).copied() else { continue };
            let is_send = call.kind == Kind::Send;
            let sequence = call.root.saturating_mul(2).saturating_add(usize::from(is_send));
            match self.lists.marks.get_mut(sequence) {
                Some(mark) if *mark == 0 => *mark = 1,
                _ => continue,
            }
            let step = self.step(call);
            let left = call.count.saturating_sub(at);
            let count = left.min(step);
            let whole = (call.count > step).then_some(call.count);
            let size = call.dtype.size_bytes();
            let bytes = count.saturating_mul(size);
            // Inside of a buffer whose bytes were checked, so nothing saturates.
            let offset = at.saturating_mul(size) as u64;
            let (base, pieces, used) = if is_send {
                (call.send, &mut round.fetch, &mut round.send_bytes)
            } else {
                (call.recv, &mut round.deliver, &mut round.recv_bytes)
            };
            let host = *used;
            *used = host.saturating_add(bytes).next_multiple_of(ALIGN);
            Piece { host, device: base.saturating_add(offset), bytes }.add(pieces);
            let (peer, dtype) = (call.root, call.dtype);
            round.messages.push(Message { is_send, peer, dtype, count, whole, host });
            if let Some(slot) = self.lists.at.get_mut(index) {
                *slot = (left > count).then_some(at.saturating_add(count));
            }
        }
        !round.messages.is_empty()
    }

    /// Elements of a step: a message for every peer must fit into a buffer.
    fn step(&self, call: &DeviceCall<'_>) -> usize {
        let bytes = (self.stage_bytes / self.world_size.max(1)).max(STEP_MIN_BYTES);
        plan::step(bytes, 1, call.dtype.size_bytes())
    }
}

/// Whether a call is a message between two ranks.
pub(super) fn is_message(call: &DeviceCall<'_>) -> bool {
    matches!(call.kind, Kind::Send | Kind::Recv)
}
