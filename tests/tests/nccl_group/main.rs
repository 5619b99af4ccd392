//! Process groups on NCCL, against the fake libnccl and libcuda: what passes here says nothing about
//! NCCL, but that the group calls it by its rules, and what the group does when NCCL fails.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod agreement;
mod failures;
mod graphs;
mod works;

use std::time::Duration;

use nccl::ProcessGroup;
use nccl::Result;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::Stream;
use tests::fakes::Folder;
use tests::processes;
use tests::processes::Processes;

/// For copies and waits on the host.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_rank_of_a_world_of_processes() {
    processes::serve(&[
        ("every_operation", works::every_operation),
        ("subgroups", works::subgroups),
        ("replayed", graphs::replayed),
        ("wrong_while_capturing", graphs::wrong_while_capturing),
        ("refused_where_staged", graphs::refused_where_staged),
        ("matrix", works::matrix),
        ("backend", agreement::backend),
        ("late", failures::late),
        ("sums", failures::sums),
        ("killed", failures::killed),
        ("aborted", failures::aborted),
    ]);
}

/// A world on the fakes; the folder must live as long as the world runs.
fn world(world_size: usize) -> (Processes, Folder) {
    let folder = Folder::new();
    let mut world = Processes::new(world_size).with("NCCL_RS_BACKEND", "nccl");
    for (name, value) in folder.env() {
        world = world.with(name, &value);
    }
    (world.with("FAKE_NCCL_STRICT", "1").with("FAKE_CUDA_STRICT", "1"), folder)
}

/// The device of this rank and a stream on it.
fn stream(group: &ProcessGroup) -> Result<Stream> {
    Stream::new(&Driver::get()?.device(group.local_rank())?)
}

/// Numbers that differ by rank and place.
fn numbers(rank: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (rank * 1000 + at) as f32).collect()
}

/// A buffer with them.
fn filled(stream: &Stream, rank: usize, count: usize) -> Result<DeviceVec<f32>> {
    DeviceVec::from_slice(stream, &numbers(rank, count), PATIENCE)
}
