//! Tensors in the host's memory.

use candle_core::CpuStorage;
use candle_core::Error;
use candle_core::Layout;
use candle_core::Result;
use candle_core::Shape;
use nccl::ProcessGroup;
use nccl::ReduceOp;

use crate::contiguous;
use crate::part;

/// The types that both candle and the groups have.
macro_rules! by_type {
    ($storage:expr, $all:ident => $body:expr) => {
        match $storage {
            CpuStorage::U8($all) => $body,
            CpuStorage::U32($all) => $body,
            CpuStorage::I32($all) => $body,
            CpuStorage::I64($all) => $body,
            CpuStorage::BF16($all) => $body,
            CpuStorage::F16($all) => $body,
            CpuStorage::F32($all) => $body,
            CpuStorage::F64($all) => $body,
            _ => Err(Error::msg("all_reduce: no group reduces elements of this type")),
        }
    };
}

pub(crate) fn all_reduce(
    group: &ProcessGroup,
    op: ReduceOp,
    storage: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let range = contiguous(layout)?;
    let reduced = by_type!(storage, all => {
        let send = part(all, range)?;
        // Its values do not matter.
        let mut recv = send.to_vec();
        group.all_reduce(send, &mut recv, op).map_err(Error::wrap)?;
        Ok(candle_core::WithDType::to_cpu_storage_owned(recv))
    })?;
    Ok((reduced, layout.shape().clone()))
}

pub(crate) fn all_reduce_in_place(
    group: &ProcessGroup,
    op: ReduceOp,
    storage: &mut CpuStorage,
    layout: &Layout,
) -> Result<()> {
    let range = contiguous(layout)?;
    by_type!(storage, all => {
        let buf = all.get_mut(range).ok_or_else(|| Error::msg("all_reduce: not of this storage"))?;
        group.all_reduce_in_place(buf, op).map_err(Error::wrap)
    })
}
