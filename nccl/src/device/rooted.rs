//! Collectives with a root, on device memory.

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
    /// Copies `buf` of `root` into `buf` of every rank.
    ///
    /// **Shape:** the same count on all ranks.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`], and [`Rank`](crate::Error::Rank).
    ///
    /// # Source
    /// `ncclBroadcast` of nccl.h; `broadcast` of c10d.
    pub fn broadcast(&self, buf: &mut impl DeviceBufMut<S>, root: usize) -> Result<()> {
        self.run(self.front()?.broadcast(buf, root)?)
    }

    /// Reduces `send` over all ranks into `recv` of `root`.
    ///
    /// **Shape:** `send` has the same count on all ranks, and so has `recv` on the root; on the
    /// others `recv` is `None` or empty.
    ///
    /// # Errors
    /// As [`OnStream::broadcast`].
    ///
    /// # Examples
    /// ```no_run
    /// # use nccl::cuda::{DeviceVec, Stream};
    /// # fn example(group: &nccl::ProcessGroup, stream: &Stream, send: &DeviceVec<f32>,
    /// #            sum: &mut DeviceVec<f32>) -> nccl::Result<()> {
    /// let root = 0;
    /// let recv = (group.rank() == root).then_some(sum);
    /// group.on(stream).reduce(send, recv, nccl::ReduceOp::Sum, root)
    /// # }
    /// ```
    ///
    /// # Source
    /// `ncclReduce` of nccl.h; `reduce` of c10d.
    pub fn reduce<B: DeviceBufMut<S>>(
        &self,
        send: &impl DeviceBuf<S>,
        recv: Option<&mut B>,
        op: ReduceOp,
        root: usize,
    ) -> Result<()> {
        self.run(self.front()?.reduce(send, recv, op, root)?)
    }

    /// As [`OnStream::reduce`], with the result in `buf` of the root; `buf` of the others is
    /// unspecified afterwards.
    ///
    /// # Errors
    /// As [`OnStream::broadcast`].
    pub fn reduce_in_place(
        &self,
        buf: &mut impl DeviceBufMut<S>,
        op: ReduceOp,
        root: usize,
    ) -> Result<()> {
        self.run(self.front()?.reduce_in_place(buf, op, root)?)
    }

    /// Gathers `send` of every rank into `recv` of `root`, in rank order.
    ///
    /// **Shape:** `recv` holds `world_size * count` elements on the root, and is `None` or empty
    /// elsewhere.
    ///
    /// # Errors
    /// As [`OnStream::broadcast`].
    ///
    /// # Source
    /// `ncclGather` of nccl.h (2.28); `gather` of c10d.
    pub fn gather<B: DeviceBufMut<S>>(
        &self,
        send: &impl DeviceBuf<S>,
        recv: Option<&mut B>,
        root: usize,
    ) -> Result<()> {
        self.run(self.front()?.gather(send, recv, root)?)
    }

    /// Sends part `r` of `send` of `root` into `recv` of rank `r`.
    ///
    /// **Shape:** `send` holds `world_size * count` elements on the root, and is `None` or empty
    /// elsewhere.
    ///
    /// # Errors
    /// As [`OnStream::broadcast`].
    ///
    /// # Source
    /// `ncclScatter` of nccl.h (2.28); `scatter` of c10d.
    pub fn scatter<A: DeviceBuf<S>>(
        &self,
        send: Option<&A>,
        recv: &mut impl DeviceBufMut<S>,
        root: usize,
    ) -> Result<()> {
        self.run(self.front()?.scatter(send, recv, root)?)
    }
}

impl<'a, S: DeviceStream + ?Sized> Front<'a, S> {
    pub(super) fn broadcast<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
        root: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let count = count::broadcast(buf.count(), root, self.member.world_size)?;
        self.in_place(Draft::new(Kind::Broadcast, count).rooted(root), buf)
    }

    pub(super) fn reduce<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: Option<&'a mut B>,
        op: ReduceOp,
        root: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let received = recv.as_deref().map_or(0, |recv| recv.count());
        let count = count::reduce(send.count(), received, root, self.member)?;
        let draft = Draft::new(Kind::Reduce, count).reducing(op).rooted(root);
        self.two(draft, Some(send), recv)
    }

    pub(super) fn reduce_in_place<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
        op: ReduceOp,
        root: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let count = count::reduce_in_place(buf.count(), root, self.member.world_size)?;
        self.in_place(Draft::new(Kind::Reduce, count).reducing(op).rooted(root), buf)
    }

    pub(super) fn gather<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: Option<&'a mut B>,
        root: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let received = recv.as_deref().map_or(0, |recv| recv.count());
        let count = count::gather(send.count(), received, root, self.member)?;
        self.two(Draft::new(Kind::Gather, count).rooted(root), Some(send), recv)
    }

    pub(super) fn scatter<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: Option<&'a A>,
        recv: &'a mut B,
        root: usize,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let sent = send.map_or(0, |send| send.count());
        let count = count::scatter(sent, recv.count(), root, self.member)?;
        self.two(Draft::new(Kind::Scatter, count).rooted(root), send, Some(recv))
    }
}
