//! A product whose weight is spread over the ranks, by columns or by rows.

use std::sync::Arc;

use candle_core::Result;
use candle_core::Tensor;
use nccl::ProcessGroup;
use nccl::ReduceOp;

use crate::AllReduce;

/// `x * w` with this rank's columns of `w`; gives this rank's columns of the result.
#[derive(Debug)]
pub struct ColumnParallel {
    weight: Tensor,
}

impl ColumnParallel {
    /// Takes this rank's part of a whole weight of inputs times outputs.
    ///
    /// # Errors
    /// Those of candle; the ranks must divide the outputs.
    pub fn new(group: &ProcessGroup, whole: &Tensor) -> Result<Self> {
        Ok(Self { weight: part(group, whole, 1)? })
    }

    /// Multiplies.
    ///
    /// # Errors
    /// Those of candle.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)
    }
}

/// `x * w` with this rank's columns of `x` and rows of `w`; gives the whole result on every rank.
#[derive(Debug)]
pub struct RowParallel {
    weight: Tensor,
    sum: AllReduce,
}

impl RowParallel {
    /// Takes this rank's part of a whole weight of inputs times outputs.
    ///
    /// # Errors
    /// Those of candle; the ranks must divide the inputs.
    pub fn new(group: &Arc<ProcessGroup>, whole: &Tensor) -> Result<Self> {
        let weight = part(group, whole, 0)?;
        Ok(Self { weight, sum: AllReduce::new(group, ReduceOp::Sum) })
    }

    /// Multiplies, and adds up the products of all ranks.
    ///
    /// # Errors
    /// Those of candle and of the group.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)?.apply_op1_no_bwd(&self.sum)
    }
}

/// This rank's part of a tensor along `dim`.
fn part(group: &ProcessGroup, whole: &Tensor, dim: usize) -> Result<Tensor> {
    let (all, n) = (whole.dim(dim)?, group.world_size());
    if !all.is_multiple_of(n) {
        candle_core::bail!("{n} ranks cannot divide dimension {dim} of {all} evenly");
    }
    whole.narrow(dim, group.rank() * (all / n), all / n)?.contiguous()
}
