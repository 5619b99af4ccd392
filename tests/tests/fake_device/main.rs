//! Operations on device memory over the CPU backend, staged through pinned memory, against the
//! fake CUDA driver. What passes here has not been shown on a GPU.
//!
//! The driver is one of the process, found by a variable, so every test runs in processes of its
//! own: worlds of processes, or one process whose ranks are threads.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod allocator;
mod arguments;
mod batches;
mod faults;
mod graphs;
mod matrix;
mod order;
mod places;

use std::time::Duration;

use nccl::DataType;
use nccl::Element;
use nccl::ProcessGroup;
use nccl::Result;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::Stream;
use tests::fakes;
use tests::processes;
use tests::processes::Processes;
use tests::processes::Rank;

/// The bound of everything.
const SECONDS: Duration = Duration::from_secs(20);

#[test]
fn a_rank_of_a_world_of_processes() {
    let mut cases: Vec<(&str, Rank)> = Vec::new();
    cases.extend(arguments::CASES);
    cases.extend(batches::CASES);
    cases.extend(faults::CASES);
    cases.extend(graphs::CASES);
    cases.extend(matrix::CASES);
    cases.extend(order::CASES);
    cases.extend(places::CASES);
    processes::serve(&cases);
}

/// A world of processes that find the fake driver and nothing else.
fn with_fake(world_size: usize) -> Processes {
    let path = fakes::cuda().display().to_string();
    Processes::new(world_size)
        .with("NCCL_RS_CUDA_LIB", &path)
        .with("FAKE_CUDA_STRICT", "1")
        .limit(Duration::from_secs(100))
}

/// A stream on a device of the rank's own.
fn stream(group: &ProcessGroup) -> Result<Stream> {
    let driver = Driver::get()?;
    Stream::new(&driver.device(group.rank() % driver.device_count()?)?)
}

/// Elements on the stream's device.
fn on_device<T: Element>(stream: &Stream, elements: &[T]) -> Result<DeviceVec<T>> {
    DeviceVec::from_slice(stream, elements, SECONDS)
}

/// What is on the device, once the stream is that far.
fn read<T: Element>(stream: &Stream, buffer: &DeviceVec<T>) -> Result<Vec<T>> {
    buffer.to_vec(stream, SECONDS)
}

/// What all ranks said, if it is the same.
#[track_caller]
fn all_say(said: &[String], expected: &str) {
    assert!(said.iter().all(|text| text == expected), "{said:?}, expected {expected}");
}

const F32: DataType = DataType::F32;
