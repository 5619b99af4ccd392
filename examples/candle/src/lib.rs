//! Tensor parallelism in candle over process groups: what candle's own `llama_multiprocess` does,
//! with a group in place of an NCCL communicator, so that it runs on CPUs as well.
//!
//! [`AllReduce`] and [`AllReduceInPlace`] are operations of candle: `tensor.apply_op1_no_bwd(&op)`
//! and `tensor.inplace_op1(&op)`. On CUDA tensors they are enqueued on candle's own stream, and the
//! host does not wait; on CPU tensors they block until all ranks have come.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod linear;
#[cfg(feature = "cudarc")]
pub mod slices;

use std::sync::Arc;

use candle_core::CpuStorage;
use candle_core::CustomOp1;
use candle_core::Error;
use candle_core::InplaceOp1;
use candle_core::Layout;
use candle_core::Result;
use candle_core::Shape;
use nccl::ProcessGroup;
use nccl::ReduceOp;

pub use linear::ColumnParallel;
pub use linear::RowParallel;

/// Reduces a tensor over all ranks of a group into a new one. Call it on all ranks, in the same
/// order.
#[derive(Clone, Debug)]
pub struct AllReduce {
    group: Arc<ProcessGroup>,
    op: ReduceOp,
}

/// As [`AllReduce`], into the tensor itself.
#[derive(Clone, Debug)]
pub struct AllReduceInPlace {
    group: Arc<ProcessGroup>,
    op: ReduceOp,
}

impl AllReduce {
    /// Makes the operation for a group.
    #[must_use]
    pub fn new(group: &Arc<ProcessGroup>, op: ReduceOp) -> Self {
        Self { group: group.clone(), op }
    }
}

impl AllReduceInPlace {
    /// Makes the operation for a group.
    #[must_use]
    pub fn new(group: &Arc<ProcessGroup>, op: ReduceOp) -> Self {
        Self { group: group.clone(), op }
    }
}

impl CustomOp1 for AllReduce {
    fn name(&self) -> &'static str {
        "all_reduce"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cpu::all_reduce(&self.group, self.op, storage, layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::all_reduce(&self.group, self.op, storage, layout)
    }
}

impl InplaceOp1 for AllReduceInPlace {
    fn name(&self) -> &'static str {
        "all_reduce_in_place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        cpu::all_reduce_in_place(&self.group, self.op, storage, layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> Result<()> {
        cuda::all_reduce_in_place(&self.group, self.op, storage, layout)
    }
}

/// The elements of a tensor in its storage, which must lie one behind the other.
fn contiguous(layout: &Layout) -> Result<core::ops::Range<usize>> {
    let (begin, end) = layout.contiguous_offsets().ok_or_else(|| {
        Error::msg("all_reduce: the tensor is not contiguous; call `contiguous()` on it first")
    })?;
    Ok(begin..end)
}

/// A range that the storage must have.
fn part<T>(all: &[T], range: core::ops::Range<usize>) -> Result<&[T]> {
    all.get(range).ok_or_else(|| Error::msg("all_reduce: the layout is not of this storage"))
}
