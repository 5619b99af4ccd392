//! Sums one small vector over all ranks, in place; then takes the average of another.
//!
//! Run `nccl run -n 4 --example all_reduce`; it prints
//!
//! ```text
//! [rank 0] rank 0: sum [6.0, 10.0], average 2.5
//! [rank 0] rank 1: sum [6.0, 10.0], average 2.5
//! [rank 0] rank 2: sum [6.0, 10.0], average 2.5
//! [rank 0] rank 3: sum [6.0, 10.0], average 2.5
//! ```

use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    let rank = group.rank() as f32;

    let mut sum = [rank, rank + 1.0];
    group.all_reduce_in_place(&mut sum, ReduceOp::Sum)?;

    let mut average = [0.0_f64];
    group.all_reduce(&[f64::from(rank) + 1.0], &mut average, ReduceOp::Avg)?;

    let line = format!("rank {}: sum {sum:?}, average {}", group.rank(), average[0]);
    print_in_rank_order(&group, &line)?;
    group.finalize()
}
