//! Tensor parallelism: two matrix products whose weights are spread over the ranks.
//!
//! The first weight is split by columns, the second by rows, so that between the two nothing has to
//! be exchanged; one all-reduce at the end adds up the parts. The result is compared with what one
//! rank alone computes. All numbers are small integers, so that it must be equal exactly.
//!
//! Run `nccl run -n 4 --example tensor_parallel`; it prints
//!
//! ```text
//! [rank 0] rank 0: hidden units 0..6 of 24, equal to the product on one rank: true
//! [rank 0] rank 1: hidden units 6..12 of 24, equal to the product on one rank: true
//! [rank 0] rank 2: hidden units 12..18 of 24, equal to the product on one rank: true
//! [rank 0] rank 3: hidden units 18..24 of 24, equal to the product on one rank: true
//! [rank 0] first row: [-582.0, -14.0, 344.0, -124.0, 416.0]
//! ```

use core::ops::Range;

use examples::part;
use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

const ROWS: usize = 4;
const INPUTS: usize = 8;
const HIDDEN: usize = 24;
const OUTPUTS: usize = 5;

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    let units = part(&group, HIDDEN);

    let mut output = layers(units.clone());
    group.all_reduce_in_place(&mut output, ReduceOp::Sum)?;

    let equal = output == layers(0..HIDDEN);
    let rank = group.rank();
    let line = format!(
        "rank {rank}: hidden units {units:?} of {HIDDEN}, equal to the product on one rank: {equal}"
    );
    print_in_rank_order(&group, &line)?;
    if rank == 0 {
        println!("first row: {:?}", &output[..OUTPUTS]);
    }
    group.finalize()
}

/// `relu(input * first) * second`, with only these columns of `first` and rows of `second`.
fn layers(units: Range<usize>) -> Vec<f32> {
    let mut output = vec![0.0; ROWS * OUTPUTS];
    for row in 0..ROWS {
        for unit in units.clone() {
            let product = |input| entry(row, input, 1) * entry(input, unit, 2);
            let hidden = (0..INPUTS).map(product).sum::<f32>().max(0.0);
            for column in 0..OUTPUTS {
                output[row * OUTPUTS + column] += hidden * entry(unit, column, 3);
            }
        }
    }
    output
}

/// An integer from -3 to 3 that depends on the place and on the matrix.
fn entry(row: usize, column: usize, matrix: usize) -> f32 {
    ((row * 31 + column * 17 + row * column * matrix) % 7) as f32 - 3.0
}
