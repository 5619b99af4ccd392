//! Collectives whose counts differ by rank, on device memory.

use super::front::Draft;
use super::front::Front;
use super::front::Made;
use super::on_stream::OnStream;
use crate::count;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceStream;
use crate::desc::Kind;
use crate::error::Result;
use crate::op::ReduceOp;

impl<S: DeviceStream + ?Sized> OnStream<'_, S> {
    /// Gathers `send` of every rank into `recv` on every rank; rank `r` gives `recv_counts[r]`.
    ///
    /// **Shape:** `send` holds `recv_counts[rank]` elements, `recv` the sum of `recv_counts`, in
    /// rank order without gaps. `recv_counts` is the same on all ranks.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    ///
    /// # Source
    /// `all_gather` of uneven tensors in c10d; `MPI_Allgatherv`.
    pub fn all_gather_v(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
        recv_counts: &[usize],
    ) -> Result<()> {
        self.run(self.front()?.all_gather_v(send, recv, recv_counts)?)
    }

    /// Reduces `send` over all ranks and leaves part `rank`, of `recv_counts[rank]` elements, in
    /// `recv`.
    ///
    /// **Shape:** `send` holds the sum of `recv_counts`, which is the same on all ranks.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    ///
    /// # Source
    /// `reduce_scatter` of uneven tensors in c10d; `MPI_Reduce_scatter`.
    pub fn reduce_scatter_v(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
        recv_counts: &[usize],
        op: ReduceOp,
    ) -> Result<()> {
        self.run(self.front()?.reduce_scatter_v(send, recv, recv_counts, op)?)
    }

    /// Sends `send_counts[r]` elements to rank `r` and receives `recv_counts[r]` from it.
    ///
    /// **Shape:** parts follow one another in rank order without gaps; rank `a`'s
    /// `send_counts[b]` equals rank `b`'s `recv_counts[a]`.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`]. The CPU backend compares the counts of all ranks first: those
    /// that do not match are a [`Usage`](crate::Error::Usage) error on every rank, and the group
    /// stays good. NCCL compares nothing.
    ///
    /// # Source
    /// `all_to_all_single` with split sizes of c10d; `MPI_Alltoallv`.
    pub fn all_to_all_v(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
        send_counts: &[usize],
        recv_counts: &[usize],
    ) -> Result<()> {
        self.run(self.front()?.all_to_all_v(send, recv, send_counts, recv_counts)?)
    }
}

impl<'a, S: DeviceStream + ?Sized> Front<'a, S> {
    pub(super) fn all_gather_v<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
        recv_counts: &'a [usize],
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let count = send.count();
        count::all_gather_v(count, recv.count(), recv_counts, self.member)?;
        let draft = Draft::new(Kind::AllGatherV, count).counts(&[], recv_counts);
        self.two(draft, Some(send), Some(recv))
    }

    pub(super) fn reduce_scatter_v<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
        recv_counts: &'a [usize],
        op: ReduceOp,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let count = recv.count();
        count::reduce_scatter_v(send.count(), count, recv_counts, self.member)?;
        let draft = Draft::new(Kind::ReduceScatterV, count).reducing(op);
        self.two(draft.counts(recv_counts, recv_counts), Some(send), Some(recv))
    }

    pub(super) fn all_to_all_v<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
        send_counts: &'a [usize],
        recv_counts: &'a [usize],
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let (sent, received) = (send.count(), recv.count());
        count::all_to_all_v(sent, received, send_counts, recv_counts, self.member)?;
        let draft = Draft::new(Kind::AllToAllV, 0).counts(send_counts, recv_counts);
        self.two(draft, Some(send), Some(recv))
    }
}
