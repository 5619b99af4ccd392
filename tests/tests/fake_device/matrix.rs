//! Every collective on device memory, compared with the oracle bit for bit.

use nccl::ProcessGroup;
use nccl::Result;
use tests::cases;
use tests::matrix::Case;
use tests::matrix::device;
use tests::processes::Rank;
use tests::threads::Threads;

use crate::stream;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 3] =
    [("threads", threads), ("threads, small", threads_small), ("processes", processes)];

const WORLD_SIZES: [usize; 5] = [1, 2, 3, 4, 5];
/// Every so many-th case is taken, so that types, reductions, counts and places take turns.
const THREADS_STEP: usize = 2;
const SMALL_STEP: usize = 3;
const PROCESSES_STEP: usize = 7;

/// Some cases of the matrix, others for each world.
fn some(world_size: usize, step: usize) -> Vec<Case> {
    cases::matrix(world_size).into_iter().skip(world_size).step_by(step).collect()
}

/// Ranks as threads; all of them, in this one process.
fn of_threads(step: usize, with: &[(&str, &str)]) -> Result<String> {
    let mut checked = 0;
    for world_size in WORLD_SIZES {
        let mut world = Threads::new(world_size);
        for (name, value) in with {
            world = world.with(name, value);
        }
        let cases = some(world_size, step);
        let done = world.run(|group| {
            let checked = device::check_all(&group, &stream(&group)?, &cases)?;
            group.finalize()?;
            Ok(checked)
        })?;
        assert_eq!(done, vec![cases.len(); world_size]);
        checked += cases.len();
    }
    Ok(checked.to_string())
}

fn threads(_: ProcessGroup) -> Result<String> {
    of_threads(THREADS_STEP, &[])
}

fn threads_small(_: ProcessGroup) -> Result<String> {
    of_threads(SMALL_STEP, &[("NCCL_BUFFSIZE", "4096")])
}

fn processes(group: ProcessGroup) -> Result<String> {
    let cases = some(group.world_size(), PROCESSES_STEP);
    let checked = device::check_all(&group, &stream(&group)?, &cases)?;
    group.finalize()?;
    Ok(checked.to_string())
}

fn expected(step: usize) -> usize {
    WORLD_SIZES.into_iter().map(|world_size| some(world_size, step).len()).sum()
}

#[test]
fn fake_every_collective_among_threads() {
    let count = expected(THREADS_STEP);
    assert!(count > 1000, "{count}");
    assert_eq!(with_fake(1).run("threads"), [count.to_string()]);
}

#[test]
fn fake_every_collective_among_threads_in_many_rounds() {
    let count = expected(SMALL_STEP);
    assert!(count > 500, "{count}");
    assert_eq!(with_fake(1).run("threads, small"), [count.to_string()]);
}

#[test]
fn fake_every_collective_among_processes() {
    for world_size in WORLD_SIZES {
        let count = some(world_size, PROCESSES_STEP).len().to_string();
        assert_eq!(with_fake(world_size).run("processes"), vec![count; world_size]);
    }
}
