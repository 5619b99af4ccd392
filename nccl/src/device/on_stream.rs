//! Collectives in which every rank has the same part, on device memory.
#![expect(unsafe_code, reason = "hands leased addresses and a stream's handle to the backend")]

use core::fmt;
use std::time::Duration;

use super::batch::StreamBatch;
use super::call::DeviceBackend;
use super::call::DeviceCall;
use super::front::Draft;
use super::front::Front;
use super::front::Made;
use crate::count;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceStream;
use crate::cuda::StreamRef;
use crate::desc::Kind;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::rank::Member;

/// The operations of a group on buffers of a GPU, in the order of one stream.
///
/// The methods have the names and the shapes of those on host slices, and take every
/// [`DeviceBuf`]: [`DeviceVec`](crate::cuda::DeviceVec) and its slices,
/// [`RawDeviceSlice`](crate::cuda::RawDeviceSlice), and with the feature `cudarc` its slices and
/// views.
///
/// **Order.** An operation comes after everything that was enqueued on the stream before, and
/// before everything that is enqueued on it afterwards. A method returns once its operation is
/// enqueued; the buffers hold the result when the stream is that far. The group's timeout bounds
/// the enqueueing, not the work. A backend that stages the data through host memory (the CPU
/// backend) waits for the data and for the other ranks before it returns; only the last copy back
/// is still under way then.
///
/// **Checks.** Lengths, types, devices, roots, reductions and overlaps are checked before anything
/// is enqueued; such an error leaves the group good. An input may lie in the output's memory
/// exactly where it does for the form in place; any other overlap is an error that names both
/// ranges.
///
/// **Graphs.** With NCCL, operations can be captured into a graph. The CPU backend cannot be
/// captured: its methods return an error then, and the capture stays valid.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
///
/// use nccl::ProcessGroup;
/// use nccl::ReduceOp;
/// use nccl::cuda::DeviceVec;
/// use nccl::cuda::Driver;
/// use nccl::cuda::Stream;
///
/// let group = ProcessGroup::from_env()?;
/// let gpu = Driver::get()?.device(group.local_rank())?;
/// let stream = Stream::new(&gpu)?;
/// let timeout = Duration::from_secs(10);
/// let mut buf = DeviceVec::from_slice(&stream, &[1.0_f32; 1024], timeout)?;
/// group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
/// assert_eq!(buf.to_vec(&stream, timeout)?[0], group.world_size() as f32);
/// # Ok::<(), nccl::Error>(())
/// ```
///
/// On a stream of its own an operation overlaps the computation; events order the two streams, in
/// both directions:
/// ```no_run
/// # use nccl::cuda::{DeviceVec, Event, Stream};
/// # fn overlapped(group: &nccl::ProcessGroup, compute: &Stream, comm: &Stream,
/// #               gradients: &mut DeviceVec<f32>) -> nccl::Result<()> {
/// let (ready, reduced) = (Event::new(compute.device())?, Event::new(compute.device())?);
/// ready.record(compute)?;
/// comm.as_ref().wait_event(&ready)?;
/// group.on(comm).all_reduce_in_place(gradients, nccl::ReduceOp::Avg)?;
/// reduced.record(comm)?;
/// // compute something else here, that does not use the gradients
/// compute.as_ref().wait_event(&reduced)?;
/// # Ok(())
/// # }
/// ```
pub struct OnStream<'a, S: DeviceStream + ?Sized> {
    backend: Result<&'a dyn DeviceBackend>,
    member: Member,
    timeout: Duration,
    stream: &'a S,
}

impl<S: DeviceStream + ?Sized> Clone for OnStream<'_, S> {
    fn clone(&self) -> Self {
        Self { backend: self.backend.clone(), ..*self }
    }
}

impl<S: DeviceStream + ?Sized> fmt::Debug for OnStream<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStream")
            .field("backend", &self.backend.as_ref().map(|backend| backend.name()))
            .field("member", &self.member)
            .field("device", &self.stream.device_ordinal())
            .finish_non_exhaustive()
    }
}

impl<'a, S: DeviceStream + ?Sized> OnStream<'a, S> {
    /// The operations of `backend` for one of its ranks.
    pub(crate) fn new(
        backend: &'a dyn DeviceBackend,
        member: Member,
        timeout: Duration,
        stream: &'a S,
    ) -> Self {
        Self { backend: Ok(backend), member, timeout, stream }
    }

    /// Where there is no backend: every operation returns why.
    pub(crate) fn failed(why: Error, member: Member, stream: &'a S) -> Self {
        Self { backend: Err(why), member, timeout: Duration::ZERO, stream }
    }

    /// Begins a list of operations that are enqueued as one unit.
    ///
    /// # Examples
    /// ```no_run
    /// # use nccl::cuda::{DeviceVec, Stream};
    /// # fn ring(group: &nccl::ProcessGroup, stream: &Stream, mine: &DeviceVec<f32>,
    /// #         got: &mut DeviceVec<f32>) -> nccl::Result<()> {
    /// let (rank, size) = (group.rank(), group.world_size());
    /// let (right, left) = ((rank + 1) % size, (rank + size - 1) % size);
    /// group.on(stream).batch().send(mine, right)?.recv(got, left)?.run()
    /// # }
    /// ```
    ///
    /// # Source
    /// `ncclGroupStart` and `ncclGroupEnd` of nccl.h; `_coalescing_manager` and
    /// `batch_isend_irecv` of c10d.
    pub fn batch(&self) -> StreamBatch<'a, S> {
        StreamBatch::new(self.clone())
    }

    /// Reduces `send` over all ranks, element by element, into `recv` on every rank.
    ///
    /// **Shape:** `send` and `recv` hold the same count, equal on all ranks.
    ///
    /// # Errors
    /// Misuse ([`Count`](Error::Count), [`Op`](Error::Op), [`Usage`](Error::Usage)) before anything
    /// is enqueued; errors of the group and of the library.
    ///
    /// # Source
    /// `ncclAllReduce` of nccl.h; `all_reduce` of c10d.
    pub fn all_reduce(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
        op: ReduceOp,
    ) -> Result<()> {
        self.run(self.front()?.all_reduce(send, recv, op)?)
    }

    /// As [`OnStream::all_reduce`], with input and output in one buffer.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    pub fn all_reduce_in_place(&self, buf: &mut impl DeviceBufMut<S>, op: ReduceOp) -> Result<()> {
        self.run(self.front()?.all_reduce_in_place(buf, op)?)
    }

    /// Gathers `send` of every rank into `recv` on every rank, in rank order.
    ///
    /// **Shape:** `recv` holds `world_size * count` elements, rank `r`'s at `r * count`.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    ///
    /// # Source
    /// `ncclAllGather` of nccl.h; `all_gather_into_tensor` of c10d.
    pub fn all_gather(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
    ) -> Result<()> {
        self.run(self.front()?.all_gather(send, recv)?)
    }

    /// As [`OnStream::all_gather`]; this rank's part lies at `rank * count` of `buf` already.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    pub fn all_gather_in_place(&self, buf: &mut impl DeviceBufMut<S>) -> Result<()> {
        self.run(self.front()?.all_gather_in_place(buf)?)
    }

    /// Reduces `send` over all ranks and leaves part `rank` of the result in `recv`.
    ///
    /// **Shape:** `send` holds `world_size * count` elements, `recv` `count`.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    ///
    /// # Source
    /// `ncclReduceScatter` of nccl.h; `reduce_scatter_tensor` of c10d.
    pub fn reduce_scatter(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
        op: ReduceOp,
    ) -> Result<()> {
        self.run(self.front()?.reduce_scatter(send, recv, op)?)
    }

    /// As [`OnStream::reduce_scatter`]; the result lies at `rank * count` of `buf`, the rest of
    /// `buf` is unspecified afterwards.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    pub fn reduce_scatter_in_place(
        &self,
        buf: &mut impl DeviceBufMut<S>,
        op: ReduceOp,
    ) -> Result<()> {
        self.run(self.front()?.reduce_scatter_in_place(buf, op)?)
    }

    /// Sends part `r` of `send` to rank `r`, and receives its part `rank` into part `r` of `recv`.
    ///
    /// **Shape:** both hold `world_size * count` elements.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    ///
    /// # Source
    /// `ncclAlltoAll` of nccl.h (2.28); `all_to_all_single` of c10d.
    pub fn all_to_all(
        &self,
        send: &impl DeviceBuf<S>,
        recv: &mut impl DeviceBufMut<S>,
    ) -> Result<()> {
        self.run(self.front()?.all_to_all(send, recv)?)
    }

    /// As [`OnStream::all_to_all`], with input and output in one buffer.
    ///
    /// # Errors
    /// As [`OnStream::all_reduce`].
    pub fn all_to_all_in_place(&self, buf: &mut impl DeviceBufMut<S>) -> Result<()> {
        self.run(self.front()?.all_to_all_in_place(buf)?)
    }

    /// What arguments are checked against; fails without a backend for the stream's device.
    pub(super) fn front(&self) -> Result<Front<'a, S>> {
        let device = self.backend.clone()?.device().ordinal();
        let stream = self.stream.device_ordinal();
        if device != stream {
            let problem = format!(
                "the group works on device {device} and the stream is on device {stream}; make a \
                 group of its own for each device"
            );
            return Err(Error::Usage { op: "on", problem });
        }
        Ok(Front { member: self.member, stream: self.stream })
    }

    /// Enqueues one call; its buffers are leased until it is.
    pub(super) fn run<L>(&self, made: Made<'_, L>) -> Result<()> {
        let outcome = self.enqueue(core::slice::from_ref(&made.call));
        drop(made.lease);
        outcome
    }

    /// Enqueues checked calls, whose buffers the caller keeps leased until this returns.
    pub(super) fn enqueue(&self, calls: &[DeviceCall<'_>]) -> Result<()> {
        let backend = self.backend.clone()?;
        // SAFETY: `DeviceStream` vouches that the handle is of a stream of the primary context of
        // its device for as long as the stream is borrowed, which `self` does; that this is the
        // backend's device was checked in `front`, which made the calls.
        let stream = unsafe { StreamRef::from_raw(self.stream.as_raw(), backend.device()) };
        // SAFETY: `front` made the calls, so that their lengths fit their kinds (`count`), their
        // buffers are on this device and no range that is written is used twice; the leases live
        // until this returns, and `DeviceBuf` vouches that the memory does until the work is done.
        unsafe { backend.enqueue(calls, stream, self.timeout) }
    }
}

impl<'a, S: DeviceStream + ?Sized> Front<'a, S> {
    pub(super) fn all_reduce<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
        op: ReduceOp,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let count = count::all_reduce(send.count(), recv.count())?;
        self.two(Draft::new(Kind::AllReduce, count).reducing(op), Some(send), Some(recv))
    }

    pub(super) fn all_reduce_in_place<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
        op: ReduceOp,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let count = count::all_reduce_in_place(buf.count())?;
        self.in_place(Draft::new(Kind::AllReduce, count).reducing(op), buf)
    }

    pub(super) fn all_gather<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let count = count::all_gather(send.count(), recv.count(), self.member.world_size)?;
        self.two(Draft::new(Kind::AllGather, count), Some(send), Some(recv))
    }

    pub(super) fn all_gather_in_place<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let count = count::all_gather_in_place(buf.count(), self.member.world_size)?;
        self.in_place(Draft::new(Kind::AllGather, count), buf)
    }

    pub(super) fn reduce_scatter<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
        op: ReduceOp,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let count = count::reduce_scatter(send.count(), recv.count(), self.member.world_size)?;
        self.two(Draft::new(Kind::ReduceScatter, count).reducing(op), Some(send), Some(recv))
    }

    pub(super) fn reduce_scatter_in_place<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
        op: ReduceOp,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let count = count::reduce_scatter_in_place(buf.count(), self.member.world_size)?;
        self.in_place(Draft::new(Kind::ReduceScatter, count).reducing(op), buf)
    }

    pub(super) fn all_to_all<A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        self,
        send: &'a A,
        recv: &'a mut B,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>> {
        let count = count::all_to_all(send.count(), recv.count(), self.member.world_size)?;
        self.two(Draft::new(Kind::AllToAll, count), Some(send), Some(recv))
    }

    pub(super) fn all_to_all_in_place<B: DeviceBufMut<S>>(
        self,
        buf: &'a mut B,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let count = count::all_to_all_in_place(buf.count(), self.member.world_size)?;
        self.in_place(Draft::new(Kind::AllToAll, count), buf)
    }
}
