//! How bytes get from one rank to another.
//!
//! A [`Link`] joins two ranks of one group for one channel. It carries messages in order, both
//! ways at once, and never blocks: callers push and pull until everything has moved and decide
//! themselves how to wait.

#![expect(unsafe_code, reason = "links move bytes between raw buffers of several ranks")]

pub(crate) mod memory;

use core::fmt;

use crate::desc::OpDesc;

pub(crate) mod tcp;

/// What precedes the bytes of every message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Head {
    /// The operation the sender is in.
    pub(crate) desc: OpDesc,
    /// The sender's factor of a pre-multiplied sum; 1 otherwise.
    pub(crate) factor: f64,
    /// Bytes that follow.
    pub(crate) bytes: u64,
}

/// A message on its way out. The owner keeps the memory valid until [`Outgoing::is_done`], or
/// until [`Link::cancel`] has returned.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What precedes the bytes.
    pub(crate) head: Head,
    /// The first byte; unused if `head.bytes` is 0.
    pub(crate) data: *const u8,
    /// How many bytes the link has taken over so far (copied, sent, or offered).
    pub(crate) moved: usize,
    /// Where in its protocol the link is with this message; 0 before the first push.
    pub(crate) phase: u64,
    /// Set by the link once it needs the memory no longer.
    pub(crate) done: bool,
}

impl Outgoing {
    /// A message of `head.bytes` bytes at `data`.
    pub(crate) fn new(head: Head, data: *const u8) -> Self {
        Self { head, data, moved: 0, phase: 0, done: false }
    }

    /// Whether the link needs the memory no longer.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }
}

/// Why a link is of no use any more.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// The other side is gone, or the way to it: the text says how it showed.
    Lost(String),
    /// The other side sent what it must not.
    Protocol(&'static str),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => f.write_str(why),
            Self::Protocol(what) => f.write_str(what),
        }
    }
}

/// One two-way connection to one peer. No call blocks.
///
/// Messages are pushed one after the other: a second [`Outgoing`] only once the first is done.
/// On the other side, [`Link::head`] tells of the next message, and its bytes are pulled before
/// the next head is asked for.
pub(crate) trait Link: Send + fmt::Debug {
    /// In NCCL's words: `SHM/direct`, `P2P/CMA`, `P2P/direct pointer`, `NET/Socket/0`.
    fn name(&self) -> &'static str;

    /// Moves as much of `out` as fits now; says whether anything moved (head, bytes or `done`).
    ///
    /// # Safety
    /// `out.data` is valid for `out.head.bytes` bytes, and nobody writes them, until `out.done`
    /// or until [`Link::cancel`] has returned.
    unsafe fn push(&mut self, out: &mut Outgoing) -> Result<bool, LinkError>;

    /// The head of the message being received, if its first frame is here. The same head until
    /// all its bytes were pulled; a message of 0 bytes is over once [`Link::skip_empty`] was called.
    fn head(&mut self) -> Result<Option<Head>, LinkError>;

    /// Ends a message of 0 bytes, after [`Link::head`] has told of it.
    fn skip_empty(&mut self);

    /// Hands at most `limit` of the current message's bytes to `sink`, in one or more pieces;
    /// returns how many, 0 if none are here. `limit` is a multiple of 16 or the rest of the
    /// message, and so is the sum of the pieces; every piece but the message's last is a multiple
    /// of 16 bytes long.
    fn pull(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> Result<usize, LinkError>;

    /// As [`Link::pull`], straight into memory and without the rule on multiples.
    ///
    /// # Safety
    /// `into` is valid for writes of `limit` bytes, and nobody else reads or writes them now.
    unsafe fn pull_into(&mut self, into: *mut u8, limit: usize) -> Result<usize, LinkError>;

    /// Gives up: afterwards nobody reads memory of an unfinished [`Outgoing`] any more, or will
    /// know that what it read does not count. The link is of no use afterwards.
    fn cancel(&mut self);

    /// A descriptor that becomes readable when there is something to pull (and writable when
    /// something can be pushed again), for links on sockets; none for links in memory.
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}
