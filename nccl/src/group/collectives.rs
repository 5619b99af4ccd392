//! Collectives in which every rank has the same part.

#![expect(unsafe_code, reason = "hands the addresses of slices to the backend")]

use super::ProcessGroup;
use crate::backend::Call;
use crate::count;
use crate::desc::Kind;
use crate::dtype::DataType;
use crate::dtype::Element;
use crate::error::Result;
use crate::op::ReduceOp;

impl ProcessGroup {
    /// Reduces `send` over all ranks, element by element, into `recv` on every rank.
    ///
    /// **Shape:** `send` and `recv` hold the same count, equal on all ranks. **Cost:** a large one
    /// sends `2 (n - 1) / n` of the buffer from each rank; docs/algorithms.md has the rest. The
    /// result is the left fold in rank order, see [`ReduceOp`].
    ///
    /// # Errors
    /// Misuse ([`Count`](crate::Error::Count), [`Op`](crate::Error::Op)) before anything is sent;
    /// errors of the group poison it, see [`Error::poisons_group`](crate::Error::poisons_group).
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(3, |group| {
    /// let mut sum = [0_i32; 2];
    /// group.all_reduce(&[1, group.rank() as i32], &mut sum, nccl::ReduceOp::Sum)?;
    /// assert_eq!(sum, [3, 3]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `ncclAllReduce` of nccl.h; `all_reduce` of c10d.
    pub fn all_reduce<T: Element>(&self, send: &[T], recv: &mut [T], op: ReduceOp) -> Result<()> {
        let count = count::all_reduce(send.len(), recv.len())?;
        count::check_op("all_reduce", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::AllReduce, count).reducing(op).buffers(send, recv);
        self.blocking(&call)
    }

    /// As [`ProcessGroup::all_reduce`], with input and output in one buffer.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    pub fn all_reduce_in_place<T: Element>(&self, buf: &mut [T], op: ReduceOp) -> Result<()> {
        let count = count::all_reduce_in_place(buf.len())?;
        count::check_op("all_reduce", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::AllReduce, count).reducing(op).in_place(buf);
        self.blocking(&call)
    }

    /// Gathers `send` of every rank into `recv` on every rank, in rank order.
    ///
    /// **Shape:** `recv` holds `world_size * count` elements, rank `r`'s at `r * count`.
    /// **Cost:** each rank sends `(n - 1) * count` elements.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(3, |group| {
    /// let mut all = [0_u64; 3];
    /// group.all_gather(&[10 * group.rank() as u64], &mut all)?;
    /// assert_eq!(all, [0, 10, 20]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `ncclAllGather` of nccl.h; `all_gather_into_tensor` of c10d.
    pub fn all_gather<T: Element>(&self, send: &[T], recv: &mut [T]) -> Result<()> {
        let count = count::all_gather(send.len(), recv.len(), self.world_size())?;
        let call = self.call::<T>(Kind::AllGather, count).buffers(send, recv);
        self.blocking(&call)
    }

    /// As [`ProcessGroup::all_gather`]; this rank's part lies at `rank * count` of `buf` already.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_gather`].
    pub fn all_gather_in_place<T: Element>(&self, buf: &mut [T]) -> Result<()> {
        let count = count::all_gather_in_place(buf.len(), self.world_size())?;
        let call = self.call::<T>(Kind::AllGather, count).in_place(buf);
        self.blocking(&call)
    }

    /// Reduces `send` over all ranks and leaves part `rank` of the result in `recv`.
    ///
    /// **Shape:** `send` holds `world_size * count` elements, `recv` `count`. **Cost:** each rank
    /// sends `(n - 1) * count` elements.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    ///
    /// # Source
    /// `ncclReduceScatter` of nccl.h; `reduce_scatter_tensor` of c10d.
    pub fn reduce_scatter<T: Element>(
        &self,
        send: &[T],
        recv: &mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        let count = count::reduce_scatter(send.len(), recv.len(), self.world_size())?;
        count::check_op("reduce_scatter", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::ReduceScatter, count).reducing(op).buffers(send, recv);
        self.blocking(&call)
    }

    /// As [`ProcessGroup::reduce_scatter`]; the result lies at `rank * count` of `buf`, the rest of
    /// `buf` is unspecified afterwards.
    ///
    /// # Errors
    /// As [`ProcessGroup::reduce_scatter`].
    pub fn reduce_scatter_in_place<T: Element>(&self, buf: &mut [T], op: ReduceOp) -> Result<()> {
        let count = count::reduce_scatter_in_place(buf.len(), self.world_size())?;
        count::check_op("reduce_scatter", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::ReduceScatter, count).reducing(op).in_place(buf);
        self.blocking(&call)
    }

    /// Sends part `r` of `send` to rank `r`, and receives its part `rank` into part `r` of `recv`.
    ///
    /// **Shape:** both hold `world_size * count` elements. **Cost:** each rank sends
    /// `(n - 1) * count` elements.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    ///
    /// # Source
    /// `ncclAlltoAll` of nccl.h (2.28); `all_to_all_single` of c10d.
    pub fn all_to_all<T: Element>(&self, send: &[T], recv: &mut [T]) -> Result<()> {
        let count = count::all_to_all(send.len(), recv.len(), self.world_size())?;
        let call = self.call::<T>(Kind::AllToAll, count).buffers(send, recv);
        self.blocking(&call)
    }

    /// As [`ProcessGroup::all_to_all`], with input and output in one buffer.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_to_all`].
    pub fn all_to_all_in_place<T: Element>(&self, buf: &mut [T]) -> Result<()> {
        let count = count::all_to_all_in_place(buf.len(), self.world_size())?;
        let call = self.call::<T>(Kind::AllToAll, count).in_place(buf);
        self.blocking(&call)
    }

    /// Returns once every rank has called it.
    ///
    /// # Errors
    /// Errors of the group, among them the timeout that names who did not come.
    ///
    /// # Source
    /// `barrier` and `monitored_barrier` of c10d.
    pub fn barrier(&self) -> Result<()> {
        self.blocking(&self.call::<u8>(Kind::Barrier, 0))
    }

    /// A call without buffers.
    pub(super) fn call<T: Element>(&self, kind: Kind, count: usize) -> Call<'static> {
        Call::new(kind, T::DTYPE, count)
    }

    /// Runs a call whose buffers are borrowed until this returns.
    pub(super) fn blocking(&self, call: &Call<'_>) -> Result<()> {
        self.usable(call.kind.name())?;
        if self.inner.queue.is_busy() {
            return self.behind_the_queue(call);
        }
        // SAFETY: the methods of this type make calls of slices whose lengths they have checked
        // with `count`, borrowed shared (input) or exclusively (output) until this returns.
        unsafe { self.inner.backend.collective(call, self.timeout) }
    }
}

impl<'a> Call<'a> {
    fn new(kind: Kind, dtype: DataType, count: usize) -> Self {
        let empty = core::ptr::NonNull::<u64>::dangling().as_ptr().cast::<u8>();
        Self {
            kind,
            dtype,
            op: None,
            root: None,
            count,
            send: empty,
            recv: empty,
            in_place: false,
            send_counts: &[],
            recv_counts: &[],
            whole: None,
        }
    }

    /// With a reduction.
    pub(super) fn reducing(self, op: ReduceOp) -> Self {
        Self { op: Some(op), ..self }
    }

    /// With a root.
    pub(super) fn rooted(self, root: usize) -> Self {
        Self { root: Some(root), ..self }
    }

    /// With counts that differ by rank.
    pub(super) fn counts<'b>(self, send: &'b [usize], recv: &'b [usize]) -> Call<'b>
    where
        'a: 'b,
    {
        Call { send_counts: send, recv_counts: recv, ..self }
    }

    /// With an input and an output.
    pub(super) fn buffers<T: Element>(self, send: &[T], recv: &mut [T]) -> Self {
        let (send, recv) = (send.as_ptr().cast(), recv.as_mut_ptr().cast());
        Self { send, recv, in_place: false, ..self }
    }

    /// With one buffer for both.
    pub(super) fn in_place<T: Element>(self, buf: &mut [T]) -> Self {
        self.in_place_at(buf.as_mut_ptr().cast())
    }

    /// With one buffer for both, by its address.
    pub(super) fn in_place_at(self, buf: *mut u8) -> Self {
        Self { send: buf, recv: buf, in_place: true, ..self }
    }
}
