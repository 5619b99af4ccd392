//! Tensors on a GPU: enqueued on candle's stream.

use candle_core::CudaStorage;
use candle_core::DType;
use candle_core::Error;
use candle_core::Layout;
use candle_core::Result;
use candle_core::Shape;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use cudarc::driver::DeviceRepr;
use half::bf16;
use half::f16;
use nccl::Element;
use nccl::ProcessGroup;
use nccl::ReduceOp;

use crate::contiguous;
use crate::slices;

/// The types that both candle and the groups have.
macro_rules! by_type {
    ($dtype:expr, $type:ident => $body:expr) => {
        by_type!(@ $dtype, $type, $body, U8 u8, U32 u32, I32 i32, I64 i64, BF16 bf16, F16 f16,
                 F32 f32, F64 f64)
    };
    (@ $dtype:expr, $type:ident, $body:expr, $($name:ident $element:ident),*) => {
        match $dtype {
            $(DType::$name => {
                type $type = $element;
                $body
            })*
            other => Err(Error::msg(format!("all_reduce: no group reduces {other:?}"))),
        }
    };
}

pub(crate) fn all_reduce(
    group: &ProcessGroup,
    op: ReduceOp,
    storage: &CudaStorage,
    layout: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let reduced = by_type!(storage.dtype(), T => reduced::<T>(group, op, storage, layout))?;
    Ok((reduced, layout.shape().clone()))
}

fn reduced<T: Element + CudaDType + DeviceRepr>(
    group: &ProcessGroup,
    op: ReduceOp,
    storage: &CudaStorage,
    layout: &Layout,
) -> Result<CudaStorage> {
    let range = contiguous(layout)?;
    let device = storage.device.clone();
    let all = storage.as_cuda_slice::<T>()?;
    let send = all.try_slice(range.clone()).ok_or_else(|| Error::msg("not of this storage"))?;
    // SAFETY: the reduction sets every element, in the order of the same stream; if it fails, the
    // elements are dropped unread.
    let mut recv = unsafe { device.alloc::<T>(range.len()) }?;
    slices::all_reduce(group, &device.cuda_stream(), &send, &mut recv, op).map_err(Error::wrap)?;
    Ok(CudaStorage::wrap_cuda_slice(recv, device))
}

pub(crate) fn all_reduce_in_place(
    group: &ProcessGroup,
    op: ReduceOp,
    storage: &mut CudaStorage,
    layout: &Layout,
) -> Result<()> {
    let range = contiguous(layout)?;
    let stream = storage.device.cuda_stream();
    by_type!(storage.dtype(), T => {
        let all = storage.as_cuda_slice_mut::<T>()?;
        slices::all_reduce_in_place(group, &stream, all, range, op).map_err(Error::wrap)
    })
}
