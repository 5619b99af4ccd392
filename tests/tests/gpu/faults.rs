//! Ranks that abort, die, or do not come: all others learn it in time.

use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::DeviceVec;
use tests::processes::Rank;

use crate::PATIENCE;
use crate::machine::report;
use crate::stream;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 3] =
    [("aborted", aborted), ("killed", killed), ("late", late)];

/// How long a rank may take to learn it.
const KNOWN_WITHIN_MS: u64 = 2500;
/// The timeout where a rank does not come.
const TIMEOUT_MS: u64 = 2000;

#[test]
fn an_abort_in_the_middle_frees_all_on_the_gpu() {
    for how in [How::Threads, How::Processes] {
        let Some(world) = World::new(how, 2) else { return };
        for text in world.run("aborted") {
            let (ms, text) = told(&text);
            assert!(text.contains("rank 0 aborted the group: the user pressed stop"), "{text}");
            assert!(ms < KNOWN_WITHIN_MS, "{ms} ms");
        }
    }
}

#[test]
fn a_killed_rank_is_known_to_the_others_on_the_gpu() {
    let Some(world) = World::new(How::Processes, 3) else { return };
    let ended = world.run_to_the_end("killed");
    for rank in [0, 2] {
        let text = ended[rank].text.clone().unwrap_or_else(|| panic!("{}", ended[rank].log));
        let (ms, text) = told(&text);
        assert!(text.contains(": rank 1 (host "), "rank {rank}: {text}");
        assert!(ms < KNOWN_WITHIN_MS, "rank {rank}: {ms} ms");
        report("killed", &format!("rank {rank} knew it after at most {ms} ms"));
    }
}

#[test]
fn a_rank_that_does_not_call_is_named_on_the_gpu() {
    for blocking in ["0", "1"] {
        let Some(world) = World::new(How::Processes, 2) else { return };
        let world = world.with("NCCL_RS_NCCL_BLOCKING", blocking);
        for text in world.with("NCCL_RS_TIMEOUT_MS", &TIMEOUT_MS.to_string()).run("late") {
            let (ms, text) = told(&text);
            assert!(text.contains("not arrived: rank 1 (host "), "{text}");
            assert!(ms < TIMEOUT_MS + KNOWN_WITHIN_MS, "{ms} ms");
        }
    }
}

/// Milliseconds and text.
fn told(text: &str) -> (u64, String) {
    let (ms, text) = text.split_once(' ').unwrap();
    (ms.parse().unwrap(), text.to_owned())
}

/// Sums until something fails; how many ms after the last good sum, and the error.
fn until_it_fails(group: &ProcessGroup, most: usize) -> Result<String> {
    let stream = stream(group)?;
    let mut buf = DeviceVec::from_slice(&stream, &[1.0_f32; 100_000], PATIENCE)?;
    let (mut last, begun) = (Instant::now(), Instant::now());
    let mut told = "0 nothing failed".to_owned();
    for _ in 0..most {
        let outcome = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Max);
        let outcome = outcome.and_then(|()| group.with_timeout(PATIENCE).synchronize(&stream));
        if let Err(error) = outcome {
            told = format!("{} {error}", last.elapsed().as_millis());
            break;
        }
        last = Instant::now();
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    // Freeing would wait for the device, and so, where ranks are threads, for the others' calls.
    std::mem::forget(buf);
    Ok(told)
}

/// Rank 0 aborts the group while the others wait for it.
fn aborted(group: ProcessGroup) -> Result<String> {
    if group.rank() == 0 {
        until_it_fails(&group, 3)?;
        group.abort("the user pressed stop");
    }
    until_it_fails(&group, usize::MAX)
}

/// Rank 1 is killed between two sums.
fn killed(group: ProcessGroup) -> Result<String> {
    if group.rank() == 1 {
        until_it_fails(&group, 3)?;
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
    until_it_fails(&group, usize::MAX)
}

/// Rank 1 makes one call less than the others.
fn late(group: ProcessGroup) -> Result<String> {
    if group.rank() != 1 {
        return until_it_fails(&group, usize::MAX);
    }
    until_it_fails(&group, 2)?;
    let begun = Instant::now();
    while group.check().is_ok() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2)); // until the others have given up
    }
    let text = group.check().err().map_or_else(|| "none".to_owned(), |error| error.to_string());
    Ok(format!("{} {text}", begun.elapsed().as_millis()))
}
