//! Process groups on a real GPU, with the real NCCL: several ranks on one GPU, which NCCL allows
//! since 2.30.3.
//!
//! **Nobody has run this on a GPU yet** (docs/gpu.md says when that changes). The one command for a
//! machine with a GPU is `.ci/gpu`; by hand it is
//! `NCCL_RS_NCCL_LIB=/path/libnccl.so.2 cargo test -p tests --features gpu --test gpu`.
//!
//! Without the feature `gpu`, or without a GPU, each test prints `skipped:` and why; with
//! `NCCL_RS_REQUIRE=gpu` that is a failure. `NCCL_RS_GPU_TEST_FAKES=1` runs all of it against the
//! fake driver and the fake NCCL of this repository: that shows that this code works, and nothing
//! about a GPU or about NCCL.
//!
//! Ranks are processes, or threads of one process. Every world runs in children with a limit of
//! their own, and all worlds together have [`ALL`]; a hang costs its test and no other. What was
//! measured is appended to the file that `NCCL_RS_GPU_REPORT` names, as rows of a table.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod collectives;
#[cfg(feature = "gpu")]
mod cudarc;
mod exact;
mod faults;
mod graphs;
mod groups;
mod machine;
mod time;
mod world;

use std::time::Duration;

use nccl::ProcessGroup;
use nccl::Result;
use nccl::config::Env;
use nccl::config::vars;
use nccl::cuda::DeviceStream;
use nccl::cuda::Stream;
use tests::processes;
use tests::processes::Rank;

/// The bound of every single wait of a rank.
const PATIENCE: Duration = Duration::from_secs(20);
/// The bound of one world.
const WORLD: Duration = Duration::from_secs(60);
/// The bound of all worlds of a run; later ones are not started.
const ALL: Duration = Duration::from_secs(480);

/// What a rank can run.
fn cases() -> Vec<(&'static str, Rank)> {
    let mut cases: Vec<(&str, Rank)> = Vec::new();
    cases.extend(collectives::CASES);
    #[cfg(feature = "gpu")]
    cases.extend(cudarc::CASES);
    cases.extend(faults::CASES);
    cases.extend(graphs::CASES);
    cases.extend(groups::CASES);
    cases.extend(time::CASES);
    cases
}

#[test]
fn a_rank_of_a_world_of_processes() {
    let mut all = cases();
    all.push((world::THREADS, world::in_threads));
    processes::serve(&all);
}

/// A stream on this rank's device.
fn stream(group: &ProcessGroup) -> Result<Stream> {
    let env = Env::process();
    let asked = vars::DEVICE.read(&env, &mut Vec::new())?;
    Stream::new(&nccl::cuda::choose(group.local_rank(), asked.as_ref(), &env)?)
}

/// Makes a call at a time when all ranks do, and waits until it is done on all of them.
///
/// Allocating, copying and freeing may wait for all work of the device (`cuMemFree` does). Ranks
/// that are threads share it: one that frees would wait for a call of another, which waits for
/// this one. So nothing of that kind may happen between the two barriers.
fn together(
    group: &ProcessGroup,
    stream: &(impl DeviceStream + ?Sized),
    call: impl FnOnce() -> Result<()>,
) -> Result<()> {
    group.barrier()?;
    call()?;
    group.synchronize(stream)?;
    group.barrier()
}
