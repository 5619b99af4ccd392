//! The same on cudarc's types alone, which compiles where there is no CUDA: what `cuda.rs` does
//! with the slice inside of a tensor.

use std::sync::Arc;

use cudarc::driver::CudaSlice;
use cudarc::driver::CudaStream;
use cudarc::driver::CudaView;
use nccl::Element;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

/// Enqueues the reduction of `send` over all ranks into `recv`, on candle's stream.
///
/// # Errors
/// Those of the group.
pub fn all_reduce<T: Element>(
    group: &ProcessGroup,
    stream: &Arc<CudaStream>,
    send: &CudaView<'_, T>,
    recv: &mut CudaSlice<T>,
    op: ReduceOp,
) -> Result<()> {
    group.on(stream).all_reduce(send, recv, op)
}

/// Enqueues the reduction of a part of `all` over all ranks in place, on candle's stream.
///
/// # Errors
/// Those of the group.
pub fn all_reduce_in_place<T: Element>(
    group: &ProcessGroup,
    stream: &Arc<CudaStream>,
    all: &mut CudaSlice<T>,
    range: core::ops::Range<usize>,
    op: ReduceOp,
) -> Result<()> {
    group.on(stream).all_reduce_in_place(&mut all.slice_mut(range), op)
}
