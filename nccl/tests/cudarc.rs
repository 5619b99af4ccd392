//! cudarc's types as arguments. Without a GPU nothing can be allocated, so what this shows is that
//! they fit, the way engines hold them; that it compiles is the test.

#![cfg(feature = "cudarc")]

use std::sync::Arc;

use cudarc::driver::CudaSlice;
use cudarc::driver::CudaStream;
use cudarc::driver::CudaView;
use cudarc::driver::CudaViewMut;
use nccl::DataType;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::bf16;
use nccl::cuda::DeviceBuf;
use nccl::cuda::DeviceBufMut;
use nccl::cuda::DeviceStream;
use nccl::cuda::DeviceVec;
use nccl::cuda::RawDeviceSlice;
use nccl::cuda::StreamRef;

/// What a collective's front does: the types, the addresses, and guards until the end.
fn front<S, A, B>(stream: &S, send: &A, recv: &mut B) -> (DataType, u64, u64, usize)
where
    S: DeviceStream,
    A: DeviceBuf<S>,
    B: DeviceBufMut<S>,
{
    let (dtype, device) = (recv.dtype(), stream.device_ordinal());
    let (send, recv) = (send.lease(stream), recv.lease_mut(stream));
    (dtype, send.as_raw(), recv.as_raw(), device)
}

/// candle: whole slices of bf16 and the shared stream of its device.
fn as_candle(stream: &Arc<CudaStream>, send: &CudaSlice<bf16>, recv: &mut CudaSlice<bf16>) {
    front(stream, send, recv);
}

/// An engine with workspaces: views, in place or not, and a stream by reference.
fn as_engine(stream: &CudaStream, send: &CudaView<'_, f32>, recv: &mut CudaViewMut<'_, f32>) {
    front(stream, send, recv);
    front(stream, &send.slice(..4), &mut recv.slice_mut(4..8));
}

/// Buffers of ours on cudarc's streams, and memory by address.
fn mixed(stream: &CudaStream, send: &RawDeviceSlice<'_>, recv: &mut DeviceVec<u8>) {
    front(stream, send, recv);
}

/// What another crate of cudarc's version holds, by handle and address.
fn by_address(stream: StreamRef<'_>, mut buf: RawDeviceSlice<'_>) -> u64 {
    let send = buf;
    front(&stream, &send, &mut buf).1
}

/// candle's tensors in a group's collectives, on the shared stream of its device.
fn group_as_candle(
    group: &ProcessGroup,
    stream: &Arc<CudaStream>,
    send: &CudaSlice<f32>,
    recv: &mut CudaSlice<f32>,
) -> Result<()> {
    group.on(stream).all_reduce(send, recv, ReduceOp::Sum)?;
    group.on(stream).all_reduce_in_place(recv, ReduceOp::Max)?;
    group.on(stream).reduce(send, (group.rank() == 0).then_some(recv), ReduceOp::Sum, 0)
}

/// Views of an engine's workspaces, alone and in a batch whose guards last until it is enqueued.
fn group_as_engine(
    group: &ProcessGroup,
    stream: &CudaStream,
    send: &CudaView<'_, f32>,
    recv: &mut CudaViewMut<'_, f32>,
) -> Result<()> {
    group.on(stream).all_gather(&send.slice(..4), recv)?;
    group.on(stream).broadcast(&mut recv.slice_mut(4..8), 0)?;
    let (mut left, mut right) = recv.split_at_mut(4);
    let on = group.on(stream);
    on.batch().send(send, 0)?.recv(&mut left, 0)?.all_reduce(send, &mut right, ReduceOp::Avg)?.run()
}

/// The rank's stream on its thread, with buffers of ours and by address.
fn group_mixed(
    group: &ProcessGroup,
    stream: &CudaStream,
    send: &RawDeviceSlice<'_>,
    recv: &mut DeviceVec<u8>,
) -> Result<()> {
    group.on(stream).reduce_scatter(send, recv, ReduceOp::Sum)
}

#[test]
fn collectives_of_a_group_take_what_engines_hold() {
    type Of<S, A, B> = fn(&ProcessGroup, &S, &A, &mut B) -> Result<()>;
    let _: Of<Arc<CudaStream>, CudaSlice<f32>, CudaSlice<f32>> = group_as_candle;
    let _: Of<CudaStream, CudaView<'_, f32>, CudaViewMut<'_, f32>> = group_as_engine;
    let _: Of<CudaStream, RawDeviceSlice<'_>, DeviceVec<u8>> = group_mixed;
}

#[test]
fn the_types_that_engines_hold_are_arguments() {
    // Coerced to their types, so that nothing of it can be left out.
    let _: fn(&Arc<CudaStream>, &CudaSlice<bf16>, &mut CudaSlice<bf16>) = as_candle;
    let _: fn(&CudaStream, &CudaView<'_, f32>, &mut CudaViewMut<'_, f32>) = as_engine;
    let _: fn(&CudaStream, &RawDeviceSlice<'_>, &mut DeviceVec<u8>) = mixed;
    let _: fn(StreamRef<'_>, RawDeviceSlice<'_>) -> u64 = by_address;
}
