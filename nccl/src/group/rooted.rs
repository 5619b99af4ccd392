//! Collectives with a root.

use super::ProcessGroup;
use crate::count;
use crate::desc::Kind;
use crate::dtype::Element;
use crate::error::Result;
use crate::op::ReduceOp;

impl ProcessGroup {
    /// Copies `buf` of `root` into `buf` of every rank.
    ///
    /// **Shape:** the same count on all ranks. Returns once this rank's buffer is final and it is
    /// known that all ranks called the same.
    ///
    /// # Errors
    /// Misuse ([`Rank`](crate::Error::Rank)) before anything is sent; errors of the group poison it.
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(3, |group| {
    /// let mut seed = [if group.rank() == 1 { 42_u64 } else { 0 }];
    /// group.broadcast(&mut seed, 1)?;
    /// assert_eq!(seed, [42]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `ncclBroadcast` of nccl.h; `broadcast` of c10d.
    pub fn broadcast<T: Element>(&self, buf: &mut [T], root: usize) -> Result<()> {
        let count = count::broadcast(buf.len(), root, self.world_size())?;
        let call = self.call::<T>(Kind::Broadcast, count).rooted(root).in_place(buf);
        self.blocking(&call)
    }

    /// Reduces `send` over all ranks into `recv` of `root`.
    ///
    /// **Shape:** `send` has the same count on all ranks, and so has `recv` on the root; on the
    /// others `recv` is empty.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    ///
    /// # Source
    /// `ncclReduce` of nccl.h; `reduce` of c10d.
    pub fn reduce<T: Element>(
        &self,
        send: &[T],
        recv: &mut [T],
        op: ReduceOp,
        root: usize,
    ) -> Result<()> {
        let count = count::reduce(send.len(), recv.len(), root, self.member())?;
        count::check_op("reduce", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::Reduce, count).reducing(op).rooted(root);
        self.blocking(&call.buffers(send, recv))
    }

    /// As [`ProcessGroup::reduce`], with the result in `buf` of the root; `buf` of the others is
    /// unspecified afterwards.
    ///
    /// # Errors
    /// As [`ProcessGroup::reduce`].
    pub fn reduce_in_place<T: Element>(
        &self,
        buf: &mut [T],
        op: ReduceOp,
        root: usize,
    ) -> Result<()> {
        let count = count::reduce_in_place(buf.len(), root, self.world_size())?;
        count::check_op("reduce", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::Reduce, count).reducing(op).rooted(root);
        self.blocking(&call.in_place(buf))
    }

    /// Gathers `send` of every rank into `recv` of `root`, in rank order.
    ///
    /// **Shape:** `recv` holds `world_size * count` elements on the root and is empty elsewhere.
    ///
    /// # Errors
    /// As [`ProcessGroup::broadcast`], and [`Count`](crate::Error::Count).
    ///
    /// # Source
    /// `ncclGather` of nccl.h (2.28); `gather` of c10d.
    pub fn gather<T: Element>(&self, send: &[T], recv: &mut [T], root: usize) -> Result<()> {
        let count = count::gather(send.len(), recv.len(), root, self.member())?;
        let call = self.call::<T>(Kind::Gather, count).rooted(root);
        self.blocking(&call.buffers(send, recv))
    }

    /// Sends part `r` of `send` of `root` into `recv` of rank `r`.
    ///
    /// **Shape:** `send` holds `world_size * count` elements on the root and is empty elsewhere.
    ///
    /// # Errors
    /// As [`ProcessGroup::gather`].
    ///
    /// # Source
    /// `ncclScatter` of nccl.h (2.28); `scatter` of c10d.
    pub fn scatter<T: Element>(&self, send: &[T], recv: &mut [T], root: usize) -> Result<()> {
        let count = count::scatter(send.len(), recv.len(), root, self.member())?;
        let call = self.call::<T>(Kind::Scatter, count).rooted(root);
        self.blocking(&call.buffers(send, recv))
    }
}
