//! Ways to run collectives.

#![expect(unsafe_code, reason = "operations name their buffers by address")]

use core::fmt;
use std::time::Duration;
use std::time::Instant;

use crate::desc::Kind;
use crate::dtype::DataType;
use crate::error::Result;
use crate::op::ReduceOp;

pub(crate) mod cpu;
pub(crate) mod nccl;
pub(crate) mod staged;

/// One collective as a rank calls it. Lengths, roots and types have been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Which one.
    pub(crate) kind: Kind,
    /// The type of the elements; `U8` for a barrier.
    pub(crate) dtype: DataType,
    /// The reduction, for those that reduce.
    pub(crate) op: Option<ReduceOp>,
    /// The root, for those that have one.
    pub(crate) root: Option<usize>,
    /// Elements, as `schedule::Shape` counts them.
    pub(crate) count: usize,
    /// The input.
    pub(crate) send: *const u8,
    /// The output; also the input if `in_place`.
    pub(crate) recv: *mut u8,
    /// Whether the input lies in the output's memory.
    pub(crate) in_place: bool,
    /// Counts by rank, for the forms that have them.
    pub(crate) send_counts: &'a [usize],
    /// Counts by rank, for the forms that have them.
    pub(crate) recv_counts: &'a [usize],
    /// Of a call that is one part of a larger one: what the ranks compare instead of its count.
    pub(crate) whole: Option<u64>,
}

// SAFETY: a call is numbers and addresses; whoever dereferences them vouches for the memory.
unsafe impl Send for Call<'_> {}

/// One side of a message between two ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct P2p {
    /// Whether it is sent or received.
    pub(crate) kind: P2pKind,
    /// The type of the elements.
    pub(crate) dtype: DataType,
    /// Elements.
    pub(crate) count: usize,
    /// The tag, equal on both sides.
    pub(crate) tag: u32,
    /// Of a part of a larger message: the elements of all, which the ranks compare instead.
    pub(crate) whole: Option<usize>,
}

/// Where a message goes or comes from, and its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum P2pKind {
    /// To `peer`.
    Send { peer: usize, data: *const u8 },
    /// From `peer`, or from whoever is first.
    Recv { peer: Option<usize>, data: *mut u8 },
}

// SAFETY: as for `Call`.
unsafe impl Send for P2p {}

/// A way to run collectives among the ranks of one group.
///
/// Calls on one group are ordered by the caller; a backend runs them one after the other. An error
/// that poisons the group leaves the buffers of the call unspecified, and untouched from then on.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// `cpu` or `nccl`.
    fn name(&self) -> &'static str;

    /// How bytes get to `peer`, in NCCL's words, once there is a connection.
    fn transport(&self, peer: usize) -> Option<&'static str>;

    /// The algorithm of the last collective.
    fn algorithm(&self) -> &'static str;

    /// Runs `call` to its end.
    ///
    /// # Safety
    /// `call.send` and `call.recv` are valid for the elements that the kind and the counts imply;
    /// nobody writes the input, and nobody else uses the output, until this returns.
    unsafe fn collective(&self, call: &Call<'_>, timeout: Duration) -> Result<()>;

    /// Posts messages between pairs, all at once; returns their tickets, in order.
    ///
    /// # Safety
    /// The memory of each stays valid, and untouched, until its ticket is done or
    /// [`Backend::p2p_forget`] has returned.
    unsafe fn p2p_post(&self, ops: &[P2p]) -> Result<Vec<u64>>;

    /// Moves messages until `ticket` is done, at most for `timeout`: true with the peer's rank
    /// once done, `None` when the time is over and nothing has failed. Any error poisons.
    fn p2p_wait(&self, ticket: u64, timeout: Duration) -> Result<Option<usize>>;

    /// Moves what can be moved now; gives the peer's rank if `ticket` is done.
    fn p2p_test(&self, ticket: u64) -> Result<Option<usize>>;

    /// The time of `ticket` is over: fails the group, and says who did not answer.
    fn p2p_expire(&self, ticket: u64, waited: Duration) -> crate::error::Error;

    /// Gives up on messages: afterwards nobody touches their memory any more.
    fn p2p_forget(&self, tickets: &[u64]);

    /// Ends all work, here and on the peers. Never blocks; may be called twice.
    fn abort(&self, reason: &str);
}

/// Posts messages and waits for all; returns the peer of each.
///
/// # Safety
/// The memory of each is valid, and untouched by others, until this returns.
pub(crate) unsafe fn exchange(
    backend: &dyn Backend,
    ops: &[P2p],
    timeout: Duration,
) -> Result<Vec<usize>> {
    // SAFETY: the caller keeps the memory until this returns, and `Posted` takes back what is not
    // done by then, whichever way this ends.
    let mut tickets = unsafe { backend.p2p_post(ops) }?;
    tickets.reverse(); // so that the next one is at the end
    let mut posted = Posted { backend, tickets };
    let mut peers = Vec::with_capacity(ops.len());
    let mut begun = None;
    while let Some(ticket) = posted.tickets.last().copied() {
        let left = begun.map_or(timeout, |begun: Instant| timeout.saturating_sub(begun.elapsed()));
        match backend.p2p_wait(ticket, left)? {
            Some(peer) => peers.push(peer),
            None => return Err(backend.p2p_expire(ticket, timeout)),
        }
        posted.tickets.pop();
        if !posted.tickets.is_empty() {
            begun.get_or_insert_with(Instant::now);
        }
    }
    Ok(peers)
}

/// Messages that are taken back when this goes.
struct Posted<'a> {
    backend: &'a dyn Backend,
    tickets: Vec<u64>,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        if !self.tickets.is_empty() {
            self.backend.p2p_forget(&self.tickets);
        }
    }
}

/// Equal for equal lists of counts (FNV-1a).
pub(crate) fn digest(counts: &[usize]) -> u64 {
    counts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, count| {
        (hash ^ *count as u64).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5)
    })
}
