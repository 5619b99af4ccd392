//! Two layers of a network whose weights are spread over the ranks, compared with one rank's.
//!
//! `cargo build --release` in `examples/candle`, then
//! `nccl run -n 2 target/release/example-candle`; it prints
//!
//! ```text
//! [rank 0] 2 ranks, cpu backend, Cpu: equal to one rank's result: true
//! ```

use std::sync::Arc;

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use example_candle::ColumnParallel;
use example_candle::RowParallel;
use nccl::ProcessGroup;

const INPUTS: usize = 8;
const HIDDEN: usize = 24;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Arc::new(ProcessGroup::from_env()?);
    // A GPU if candle was built for it and there is one.
    let device = Device::cuda_if_available(group.local_rank())?;
    let entries = |rows: usize, columns: usize| {
        let all: Vec<f32> = (0..rows * columns).map(|at| (at * 31 % 7) as f32 - 3.0).collect();
        Tensor::from_vec(all, (rows, columns), &device)
    };
    let (x, first, second) =
        (entries(4, INPUTS)?, entries(INPUTS, HIDDEN)?, entries(HIDDEN, INPUTS)?);

    let layers = (ColumnParallel::new(&group, &first)?, RowParallel::new(&group, &second)?);
    let spread = layers.1.forward(&layers.0.forward(&x)?.relu()?)?;
    let alone = x.matmul(&first)?.relu()?.matmul(&second)?;
    let differ = spread.ne(&alone)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;

    let mut all = [f64::from(differ)];
    group.all_reduce_in_place(&mut all, nccl::ReduceOp::Sum)?;
    if group.rank() == 0 {
        let (n, name) = (group.world_size(), group.backend_name());
        println!(
            "{n} ranks, {name} backend, {device:?}: equal to one rank's result: {}",
            all[0] == 0.0
        );
    }
    Ok(())
}
