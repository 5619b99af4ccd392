//! Collectives whose counts differ by rank.

use super::ProcessGroup;
use crate::count;
use crate::desc::Kind;
use crate::dtype::Element;
use crate::error::Result;
use crate::op::ReduceOp;

impl ProcessGroup {
    /// Gathers `send` of every rank into `recv` on every rank; rank `r` gives `recv_counts[r]`.
    ///
    /// **Shape:** `send` holds `recv_counts[rank]` elements, `recv` the sum of `recv_counts`, in
    /// rank order without gaps. `recv_counts` is the same on all ranks.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_gather`].
    ///
    /// # Source
    /// `all_gather` of uneven tensors in c10d; `MPI_Allgatherv`.
    pub fn all_gather_v<T: Element>(
        &self,
        send: &[T],
        recv: &mut [T],
        recv_counts: &[usize],
    ) -> Result<()> {
        count::all_gather_v(send.len(), recv.len(), recv_counts, self.member())?;
        let call = self.call::<T>(Kind::AllGatherV, send.len()).counts(&[], recv_counts);
        self.blocking(&call.buffers(send, recv))
    }

    /// Reduces `send` over all ranks and leaves part `rank`, of `recv_counts[rank]` elements, in
    /// `recv`.
    ///
    /// **Shape:** `send` holds the sum of `recv_counts`, which is the same on all ranks.
    ///
    /// # Errors
    /// As [`ProcessGroup::reduce_scatter`].
    ///
    /// # Source
    /// `reduce_scatter` of uneven tensors in c10d; `MPI_Reduce_scatter`.
    pub fn reduce_scatter_v<T: Element>(
        &self,
        send: &[T],
        recv: &mut [T],
        recv_counts: &[usize],
        op: ReduceOp,
    ) -> Result<()> {
        count::reduce_scatter_v(send.len(), recv.len(), recv_counts, self.member())?;
        count::check_op("reduce_scatter_v", op, T::DTYPE)?;
        let call = self.call::<T>(Kind::ReduceScatterV, recv.len()).reducing(op);
        self.blocking(&call.counts(recv_counts, recv_counts).buffers(send, recv))
    }

    /// Sends `send_counts[r]` elements to rank `r` and receives `recv_counts[r]` from it.
    ///
    /// **Shape:** parts follow one another in rank order without gaps; rank `a`'s
    /// `send_counts[b]` equals rank `b`'s `recv_counts[a]`.
    ///
    /// The counts are compared first: that costs an all-gather of `16 * world_size` bytes.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_to_all`]. Counts that do not match between two ranks are a
    /// [`Usage`](crate::Error::Usage) error on every rank that names the two and both numbers; no
    /// data has moved, and the group stays good.
    ///
    /// # Source
    /// `all_to_all_single` with split sizes of c10d; `MPI_Alltoallv`.
    pub fn all_to_all_v<T: Element>(
        &self,
        send: &[T],
        recv: &mut [T],
        send_counts: &[usize],
        recv_counts: &[usize],
    ) -> Result<()> {
        let member = self.member();
        count::all_to_all_v(send.len(), recv.len(), send_counts, recv_counts, member)?;
        self.compare_counts(send_counts, recv_counts)?;
        let call = self.call::<T>(Kind::AllToAllV, 0).counts(send_counts, recv_counts);
        self.blocking(&call.buffers(send, recv))
    }

    /// Fails on every rank alike if what one rank sends to another is not what that one expects.
    fn compare_counts(&self, send_counts: &[usize], recv_counts: &[usize]) -> Result<()> {
        let ranks = self.world_size();
        if ranks == 1 {
            return Ok(());
        }
        let own: Vec<u64> =
            send_counts.iter().chain(recv_counts).map(|count| *count as u64).collect();
        let mut all = vec![0; own.len() * ranks];
        self.all_gather(&own, &mut all)?;
        count::match_pairs("all_to_all_v", self.name(), ranks, &all)
    }
}
