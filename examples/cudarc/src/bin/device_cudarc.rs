//! A sum over all ranks in the memory of GPUs, with cudarc's context, stream and slices: the form
//! for an engine that has them already.
//!
//! Run `cargo build --release -p examples-cudarc`, then
//! `nccl run -n 2 target/release/device_cudarc`; where there is no CUDA driver it prints
//!
//! ```text
//! [rank 0] rank 0: no CUDA driver on every rank, so nothing was run
//! [rank 0] rank 1: no CUDA driver on every rank, so nothing was run
//! ```

use cudarc::driver::CudaContext;
use examples::print_in_rank_order;
use examples_cudarc::Failed;
use nccl::ProcessGroup;
use nccl::ReduceOp;

const COUNT: usize = 1024;

fn main() -> Result<(), Failed> {
    let group = ProcessGroup::from_env()?;
    let line = match examples_cudarc::device(&group)? {
        Some(device) => sum(&group, device)?,
        None => "no CUDA driver on every rank, so nothing was run".to_owned(),
    };
    print_in_rank_order(&group, &format!("rank {}: {line}", group.rank()))?;
    Ok(group.finalize()?)
}

/// Sums on the GPUs; what to print.
fn sum(group: &ProcessGroup, device: usize) -> Result<String, Failed> {
    let context = CudaContext::new(device)?;
    let stream = context.new_stream()?;

    let mine: Vec<f32> = (0..COUNT).map(|at| (group.rank() + at) as f32).collect();
    let send = stream.clone_htod(&mine)?;
    let mut recv = stream.alloc_zeros::<f32>(COUNT)?;
    group.on(&stream).all_reduce(&send, &mut recv, ReduceOp::Sum)?;
    // A view, in place; all ranks have the same there, so the largest is the same again.
    group.on(&stream).all_reduce_in_place(&mut recv.slice_mut(..2), ReduceOp::Max)?;
    group.synchronize(&stream)?;

    let size = group.world_size();
    let of_ranks = size * (size - 1) / 2;
    let expected: Vec<f32> = (0..COUNT).map(|at| (of_ranks + size * at) as f32).collect();
    let right = stream.clone_dtoh(&recv)? == expected;
    let name = group.backend_name();
    Ok(format!("{name} on device {device}, {COUNT} elements, sum as expected: {right}"))
}
