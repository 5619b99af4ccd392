//! Several operations issued as one.

use core::marker::PhantomData;
use std::fmt;

use super::ProcessGroup;
use crate::backend::Call;
use crate::backend::P2p;
use crate::count;
use crate::desc::Kind;
use crate::dtype::Element;
use crate::error::Result;
use crate::op::ReduceOp;

/// Messages between pairs that are all under way at once; made by [`ProcessGroup::batch`].
#[must_use = "nothing is sent before `run`"]
pub struct Batch<'a> {
    group: &'a ProcessGroup,
    ops: Vec<P2p>,
    buffers: PhantomData<&'a mut ()>,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("ops", &self.ops.len()).finish_non_exhaustive()
    }
}

impl ProcessGroup {
    /// Begins a batch of sends and receives, which cannot wait for one another.
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(3, |group| {
    /// let (right, left) = ((group.rank() + 1) % 3, (group.rank() + 2) % 3);
    /// let (mine, mut got) = ([group.rank() as u32], [0]);
    /// group.batch().send(&mine, right)?.recv(&mut got, left)?.run()?;
    /// assert_eq!(got, [left as u32]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `batch_isend_irecv` of c10d; `ncclGroupStart` of nccl.h.
    pub fn batch(&self) -> Batch<'_> {
        Batch { group: self, ops: Vec::new(), buffers: PhantomData }
    }

    /// Begins a list of collectives that run one after the other without anything in between.
    ///
    /// # Source
    /// `_coalescing_manager` of c10d; `ncclGroupStart` of nccl.h.
    pub fn coalesce(&self) -> Coalesced<'_> {
        Coalesced { group: self, calls: Vec::new(), buffers: PhantomData }
    }
}

impl<'a> Batch<'a> {
    /// Adds a [`send`](ProcessGroup::send).
    ///
    /// # Errors
    /// [`Rank`](crate::Error::Rank).
    pub fn send<T: Element>(mut self, buf: &'a [T], peer: usize) -> Result<Self> {
        self.ops.push(self.group.sending(buf, peer, 0)?);
        Ok(self)
    }

    /// Adds a [`recv`](ProcessGroup::recv).
    ///
    /// # Errors
    /// [`Rank`](crate::Error::Rank).
    pub fn recv<T: Element>(mut self, buf: &'a mut [T], peer: usize) -> Result<Self> {
        self.ops.push(self.group.receiving(buf, Some(peer), 0)?);
        Ok(self)
    }

    /// Runs all of them; returns once all are done.
    ///
    /// # Errors
    /// Those of the group.
    pub fn run(self) -> Result<()> {
        self.group.messages(&self.ops).map(|_| ())
    }
}

/// Collectives that run one after the other; made by [`ProcessGroup::coalesce`].
#[must_use = "nothing runs before `run`"]
pub struct Coalesced<'a> {
    group: &'a ProcessGroup,
    calls: Vec<Call<'static>>,
    buffers: PhantomData<&'a mut ()>,
}

impl fmt::Debug for Coalesced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesced").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

impl<'a> Coalesced<'a> {
    /// Adds an [`all_reduce_in_place`](ProcessGroup::all_reduce_in_place).
    ///
    /// # Errors
    /// Misuse.
    pub fn all_reduce<T: Element>(mut self, buf: &'a mut [T], op: ReduceOp) -> Result<Self> {
        count::check_op("all_reduce", op, T::DTYPE)?;
        let call = self.group.call::<T>(Kind::AllReduce, buf.len()).reducing(op);
        self.calls.push(call.in_place(buf));
        Ok(self)
    }

    /// Adds a [`broadcast`](ProcessGroup::broadcast).
    ///
    /// # Errors
    /// Misuse.
    pub fn broadcast<T: Element>(mut self, buf: &'a mut [T], root: usize) -> Result<Self> {
        let count = count::broadcast(buf.len(), root, self.group.world_size())?;
        let call = self.group.call::<T>(Kind::Broadcast, count).rooted(root);
        self.calls.push(call.in_place(buf));
        Ok(self)
    }

    /// Adds an [`all_gather`](ProcessGroup::all_gather).
    ///
    /// # Errors
    /// Misuse.
    pub fn all_gather<T: Element>(mut self, send: &'a [T], recv: &'a mut [T]) -> Result<Self> {
        let count = count::all_gather(send.len(), recv.len(), self.group.world_size())?;
        self.calls.push(self.group.call::<T>(Kind::AllGather, count).buffers(send, recv));
        Ok(self)
    }

    /// Adds a [`reduce_scatter`](ProcessGroup::reduce_scatter).
    ///
    /// # Errors
    /// Misuse.
    pub fn reduce_scatter<T: Element>(
        mut self,
        send: &'a [T],
        recv: &'a mut [T],
        op: ReduceOp,
    ) -> Result<Self> {
        let count = count::reduce_scatter(send.len(), recv.len(), self.group.world_size())?;
        count::check_op("reduce_scatter", op, T::DTYPE)?;
        let call = self.group.call::<T>(Kind::ReduceScatter, count).reducing(op);
        self.calls.push(call.buffers(send, recv));
        Ok(self)
    }

    /// Runs all of them, in the order they were added.
    ///
    /// # Errors
    /// The first error of the group; the rest does not run then.
    pub fn run(self) -> Result<()> {
        self.calls.iter().try_for_each(|call| self.group.blocking(call))
    }
}
