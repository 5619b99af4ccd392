//! One round of an operation: what fits into the pinned buffers at once.

use crate::desc::Kind;
use crate::dtype::DataType;
use crate::op::ReduceOp;

/// A copy between a pinned buffer and device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where in the pinned buffer, in bytes.
    pub(super) host: usize,
    /// The address on the device.
    pub(super) device: u64,
    /// How many bytes.
    pub(super) bytes: usize,
}

impl Piece {
    /// Adds a piece to a list; one that goes on where the last one ends makes that longer.
    pub(super) fn add(self, list: &mut Vec<Self>) {
        match list.last_mut() {
            _ if self.bytes == 0 => {}
            Some(last) if last.is_followed_by(&self) => last.bytes += self.bytes,
            _ => list.push(self),
        }
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        self.host.checked_add(self.bytes) == Some(next.host)
            && self.device.checked_add(self.bytes as u64) == Some(next.device)
            && self.bytes.checked_add(next.bytes).is_some()
    }
}

/// The part of a collective that one round runs on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) dtype: DataType,
    pub(super) op: Option<ReduceOp>,
    pub(super) root: Option<usize>,
    /// Elements, as `schedule::Shape` counts them.
    pub(super) count: usize,
    /// Of the whole operation, what the ranks compare, if this is not all of it.
    pub(super) whole: Option<u64>,
}

/// A message, or the part of it that one round moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) is_send: bool,
    pub(super) peer: usize,
    pub(super) dtype: DataType,
    pub(super) count: usize,
    /// The elements of the whole message, if this is not all of it.
    pub(super) whole: Option<usize>,
    /// Where in the pinned buffer, in bytes.
    pub(super) host: usize,
}

/// What a round does: copies to the host, then either a part of a collective or messages, then
/// copies to the device. The lists are kept from round to round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// From the device, into the buffer of inputs; of a broadcast into that of outputs.
    pub(super) fetch: Vec<Piece>,
    /// To the device, from the buffer of outputs.
    pub(super) deliver: Vec<Piece>,
    /// Bytes that the buffer of inputs must have.
    pub(super) send_bytes: usize,
    /// Bytes that the buffer of outputs must have.
    pub(super) recv_bytes: usize,
    /// A part of a collective; without one, the messages.
    pub(super) part: Option<Part>,
    pub(super) send_counts: Vec<usize>,
    pub(super) recv_counts: Vec<usize>,
    pub(super) messages: Vec<Message>,
}

impl Round {
    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.fetch.clear();
        self.deliver.clear();
        (self.send_bytes, self.recv_bytes, self.part) = (0, 0, None);
        self.send_counts.clear();
        self.recv_counts.clear();
        self.messages.clear();
    }

    /// Whether input and output share the buffer of outputs.
    pub(super) fn is_in_place(&self) -> bool {
        self.part.is_some_and(|part| part.kind == Kind::Broadcast)
    }
}
