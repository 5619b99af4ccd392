//! A sum over all ranks in the memory of GPUs: each rank takes its GPU, and one call with its
//! stream sums a buffer there, by NCCL or, where the ranks cannot all use that, through host memory.
//!
//! Run `nccl run -n 2 --example device_all_reduce`; where there is no CUDA driver it prints
//!
//! ```text
//! [rank 0] rank 0: no CUDA driver here, so nothing was run
//! [rank 0] rank 1: no CUDA driver here, so nothing was run
//! ```
//!
//! With GPUs each line is as `rank 0: nccl on device 0 (NVIDIA H200), 1024 elements, sum as expected:
//! true`.

use std::time::Duration;

use examples::print_in_rank_order;
use nccl::Error;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::config::Env;
use nccl::config::vars;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::Stream;

const COUNT: usize = 1024;
/// For copies between host and device.
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let group = ProcessGroup::from_env()?;
    let driver = match Driver::get() {
        Ok(_) => "yes",
        Err(Error::DriverMissing(_)) => "no",
        Err(error) => return Err(error),
    };
    // All ranks or none: a rank that runs nothing would leave the others waiting.
    let all = group.all_gather_bytes(driver.as_bytes())?;
    let line = if all.iter().all(|one| one == b"yes") {
        sum(&group)?
    } else {
        match driver {
            "no" => "no CUDA driver here, so nothing was run".to_owned(),
            _ => "another rank has no CUDA driver, so nothing was run".to_owned(),
        }
    };
    print_in_rank_order(&group, &format!("rank {}: {line}", group.rank()))?;
    group.finalize()
}

/// Sums on the GPUs; what to print.
fn sum(group: &ProcessGroup) -> Result<String> {
    let env = Env::process();
    let asked = vars::DEVICE.read(&env, &mut Vec::new())?;
    let gpu = nccl::cuda::choose(group.local_rank(), asked.as_ref(), &env)?;
    let stream = Stream::new(&gpu)?;

    let mine: Vec<f32> = (0..COUNT).map(|at| (group.rank() + at) as f32).collect();
    let mut buf = DeviceVec::from_slice(&stream, &mine, TIMEOUT)?;
    group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
    // With NCCL the call has only enqueued the work. This waits for it, and fails, other than a
    // wait of CUDA's own, when a rank is lost meanwhile.
    group.synchronize(&stream)?;

    let size = group.world_size();
    let of_ranks = size * (size - 1) / 2;
    let expected: Vec<f32> = (0..COUNT).map(|at| (of_ranks + size * at) as f32).collect();
    let right = buf.to_vec(&stream, TIMEOUT)? == expected;
    Ok(format!(
        "{} on device {} ({}), {COUNT} elements, sum as expected: {right}",
        group.backend_name(),
        gpu.ordinal(),
        gpu.name()?,
    ))
}
