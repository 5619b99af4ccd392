//! A tensor-parallel layer in a CUDA graph: a product of matrix and vector by a kernel, then the sum
//! over all ranks, captured once and replayed with new inputs.
//!
//! Each rank has the columns of its part of the inputs. All numbers are small integers, so that the
//! result must be that of one rank, exactly.
//!
//! Run `cargo build --release -p examples-cudarc`, then `nccl run -n 2 target/release/graph`; where
//! there is no CUDA driver it prints
//!
//! ```text
//! [rank 0] rank 0: no CUDA driver on every rank, so nothing was run
//! [rank 0] rank 1: no CUDA driver on every rank, so nothing was run
//! ```
//!
//! The group must be on NCCL: the CPU backend cannot be captured, and says so.
#![expect(unsafe_code, reason = "launches a kernel")]

use core::ops::Range;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::CudaFunction;
use cudarc::driver::CudaSlice;
use cudarc::driver::CudaStream;
use cudarc::driver::LaunchConfig;
use cudarc::driver::PushKernelArg;
use cudarc::driver::sys::CUgraphInstantiate_flags;
use cudarc::driver::sys::CUstreamCaptureMode;
use cudarc::nvrtc::Ptx;
use examples::part;
use examples::print_in_rank_order;
use examples_cudarc::Failed;
use nccl::ProcessGroup;
use nccl::ReduceOp;

const ROWS: u16 = 256;
const INPUTS: usize = 96;
const REPLAYS: usize = 5;

/// `y[row] = sum over k of w[row * columns + k] * x[k]`, a thread for each row.
const MATVEC: &str = include_str!("../matvec.ptx");

fn main() -> Result<(), Failed> {
    let group = ProcessGroup::from_env()?;
    let line = match examples_cudarc::device(&group)? {
        Some(device) => layer(&group, device)?,
        None => "no CUDA driver on every rank, so nothing was run".to_owned(),
    };
    print_in_rank_order(&group, &format!("rank {}: {line}", group.rank()))?;
    Ok(group.finalize()?)
}

/// Captures and replays; what to print.
fn layer(group: &ProcessGroup, device: usize) -> Result<String, Failed> {
    let context = CudaContext::new(device)?;
    // cudarc lets streams wait for the events of buffers that others wrote, which a capture cannot
    // do for what was before it.
    // SAFETY: all buffers are used on one stream only.
    unsafe { context.disable_event_tracking() };
    let kernel = context.load_module(Ptx::from_src(MATVEC))?.load_function("matvec")?;
    let stream = context.new_stream()?;
    let columns = part(group, INPUTS);

    let weights = weights(columns.clone());
    let weights = stream.clone_htod(&weights)?;
    let mut x = stream.alloc_zeros::<f32>(columns.len())?;
    let mut y = stream.alloc_zeros::<f32>(usize::from(ROWS))?;
    // The first operation connects the ranks, which need not be captured.
    group.on(&stream).all_reduce_in_place(&mut y, ReduceOp::Sum)?;
    group.synchronize(&stream)?;

    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    let captured = matvec(&stream, &kernel, &weights, &x, &mut y, columns.len())
        .and_then(|()| Ok(group.on(&stream).all_reduce_in_place(&mut y, ReduceOp::Sum)?));
    // Ended in any case, so that the stream is of use afterwards.
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags)?;
    captured?;
    let Some(graph) = graph else { return Ok("the capture is empty".to_owned()) };

    let mut right = 0;
    for replay in 0..REPLAYS {
        let inputs: Vec<f32> = columns.clone().map(|column| input(column, replay)).collect();
        stream.memcpy_htod(&inputs, &mut x)?;
        graph.launch()?;
        group.synchronize(&stream)?;
        right += usize::from(stream.clone_dtoh(&y)? == alone(replay));
    }
    let name = group.backend_name();
    Ok(format!(
        "{name} on device {device}, columns {columns:?}, {right} of {REPLAYS} replays right"
    ))
}

/// Enqueues the kernel.
fn matvec(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    weights: &CudaSlice<f32>,
    x: &CudaSlice<f32>,
    y: &mut CudaSlice<f32>,
    columns: usize,
) -> Result<(), Failed> {
    let (rows, columns) = (u32::from(ROWS), u32::try_from(columns).unwrap_or(0));
    let mut launch = stream.launch_builder(kernel);
    launch.arg(weights).arg(x).arg(y).arg(&rows).arg(&columns);
    // SAFETY: the arguments are those of the kernel; `weights` has rows times columns elements, `x`
    // a column's worth and `y` a row's, and no thread goes beyond `rows`.
    unsafe { launch.launch(LaunchConfig::for_num_elems(rows)) }?;
    Ok(())
}

/// These columns of the weights, row by row.
fn weights(columns: Range<usize>) -> Vec<f32> {
    let row = |row: usize| columns.clone().map(move |column| weight(row, column));
    (0..usize::from(ROWS)).flat_map(row).collect()
}

/// The whole product.
fn alone(replay: usize) -> Vec<f32> {
    let sum = |row| (0..INPUTS).map(|column| weight(row, column) * input(column, replay)).sum();
    (0..usize::from(ROWS)).map(sum).collect()
}

fn weight(row: usize, column: usize) -> f32 {
    ((row * 31 + column * 17) % 7) as f32 - 3.0
}

fn input(column: usize, replay: usize) -> f32 {
    ((column * 13 + replay * 5) % 11) as f32 - 5.0
}
