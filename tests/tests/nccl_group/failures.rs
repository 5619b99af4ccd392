//! Ranks that do not come, die, or meet errors.

use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

use super::filled;
use super::stream;
use super::world;

/// How much later than its timeout an operation may end.
const MORE: Duration = Duration::from_millis(1500);

/// Sums until something fails; the error, and how long after the last good one it came.
fn until_it_fails(group: &ProcessGroup, most: usize) -> Result<(String, Duration)> {
    let stream = stream(group)?;
    let mut buf = filled(&stream, group.rank(), 1000)?;
    let mut last = Instant::now();
    for _ in 0..most {
        let outcome = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Max);
        let outcome =
            outcome.and_then(|()| group.with_timeout(Duration::from_secs(30)).synchronize(&stream));
        if let Err(error) = outcome {
            // Freeing waits for the device, which hangs where the abort does.
            std::mem::forget(buf);
            return Ok((error.to_string(), last.elapsed()));
        }
        last = Instant::now();
    }
    Ok(("none".to_owned(), last.elapsed()))
}

/// Rank 1 makes one call less than the others.
pub(super) fn late(group: ProcessGroup) -> Result<String> {
    let most = if group.rank() == 1 { 2 } else { 1000 };
    let (mut text, mut took) = until_it_fails(&group, most)?;
    if group.rank() == 1 {
        let begun = Instant::now();
        while group.check().is_ok() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2)); // until the others have given up
        }
        text = group.check().err().map_or_else(|| "none".to_owned(), |error| error.to_string());
        took = begun.elapsed();
    }
    Ok(format!("{} {text}", took.as_millis()))
}

/// All sum.
pub(super) fn sums(group: ProcessGroup) -> Result<String> {
    let (text, took) = until_it_fails(&group, 20)?;
    Ok(format!("{} {text}", took.as_millis()))
}

/// Rank 1 is killed between two sums.
pub(super) fn killed(group: ProcessGroup) -> Result<String> {
    if group.rank() == 1 {
        until_it_fails(&group, 3)?;
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
    let (text, took) = until_it_fails(&group, 1000)?;
    Ok(format!("{} {text}", took.as_millis()))
}

/// Rank 0 aborts the group while the others wait for it.
pub(super) fn aborted(group: ProcessGroup) -> Result<String> {
    if group.rank() == 0 {
        until_it_fails(&group, 3)?;
        group.abort("the user pressed stop");
    }
    let (text, took) = until_it_fails(&group, 1000)?;
    Ok(format!("{} {text}", took.as_millis()))
}

/// Milliseconds and text of each rank.
fn told(texts: Vec<String>) -> Vec<(u64, String)> {
    let split = |text: String| {
        let (ms, text) = text.split_once(' ').unwrap();
        (ms.parse().unwrap(), text.to_owned())
    };
    texts.into_iter().map(split).collect()
}

#[test]
fn a_rank_that_does_not_call_is_named_by_all_with_the_fake_nccl() {
    for blocking in ["0", "1"] {
        let (world, _folder) = world(3);
        let world =
            world.with("NCCL_RS_TIMEOUT_MS", "1500").with("NCCL_RS_NCCL_BLOCKING", blocking);
        for (rank, (ms, text)) in told(world.run("late")).into_iter().enumerate() {
            assert!(text.contains(" in #3 all_reduce f32\u{d7}1000 max"), "rank {rank}: {text}");
            assert!(text.contains("not arrived: rank 1 (host "), "rank {rank}: {text}");
            assert!(text.contains("finished #2 all_reduce"), "rank {rank}: {text}");
            let bound = Duration::from_millis(1500) + MORE;
            assert!(u128::from(ms) < bound.as_millis(), "rank {rank}: {ms} ms");
        }
    }
}

#[test]
fn an_abort_that_hangs_in_the_fake_nccl_keeps_nobody() {
    let (world, _folder) = world(2);
    let world = world.with("NCCL_RS_TIMEOUT_MS", "1500").with("FAKE_NCCL_HANG", "ncclCommAbort");
    for (rank, (ms, text)) in told(world.run("late")).into_iter().enumerate() {
        assert!(text.contains("not arrived: rank 1"), "rank {rank}: {text}");
        assert!(u128::from(ms) < (Duration::from_millis(1500) + MORE).as_millis(), "{ms} ms");
    }
}

#[test]
fn an_operation_that_hangs_on_one_rank_of_the_fake_nccl_ends_at_the_timeout() {
    let (world, _folder) = world(3);
    let world =
        world.with("NCCL_RS_TIMEOUT_MS", "1500").with("FAKE_NCCL_HANG", "ncclAllReduce@4#2");
    for (rank, (_, text)) in told(world.run("sums")).into_iter().enumerate() {
        assert!(text.contains(" in #4 all_reduce"), "rank {rank}: {text}");
        assert!(text.contains("every rank has called it"), "rank {rank}: {text}");
    }
}

#[test]
fn an_error_of_the_fake_nccl_on_one_rank_is_known_to_all() {
    for (variable, rule, said) in [
        ("FAKE_NCCL_FAIL", "ncclAllReduce=42@3#1", "unknown result 42"),
        ("FAKE_NCCL_FAIL", "ncclAllReduce=1@3#1", "ncclUnhandledCudaError (1)"),
        ("FAKE_NCCL_ASYNC_ERROR", "ops=6@3#1", "ncclRemoteError (6)"),
    ] {
        let (world, _folder) = world(3);
        let world = world.with("NCCL_RS_TIMEOUT_MS", "20000").with(variable, rule);
        for (rank, (ms, text)) in told(world.run("sums")).into_iter().enumerate() {
            assert!(text.contains(said), "{rule}, rank {rank}: {text}");
            // NCCL's own news of an error may be at another rank before this rank's is.
            let first = rank == 1 || variable == "FAKE_NCCL_ASYNC_ERROR";
            assert!(first || text.contains("rank 1 aborted the group"), "{rule}: {text}");
            assert!(ms < 2500, "{rule}, rank {rank}: {ms} ms");
        }
    }
}

#[test]
fn a_killed_rank_is_known_to_all_within_a_second_on_the_fake_nccl() {
    let (world, _folder) = world(3);
    let ended = world.with("FAKE_NCCL_PEER_ERRORS", "0").run_to_the_end("killed");
    for rank in [0, 2] {
        let text = ended[rank].text.clone().unwrap_or_else(|| panic!("{}", ended[rank].log));
        let (ms, text) = text.split_once(' ').unwrap();
        assert!(text.contains(": rank 1 (host "), "rank {rank}: {text}");
        assert!(ms.parse::<u64>().unwrap() < 1500, "rank {rank}: {ms} ms");
    }
}

#[test]
fn an_abort_of_the_group_frees_what_waits_in_the_fake_nccl() {
    let (world, _folder) = world(3);
    for (rank, (ms, text)) in told(world.run("aborted")).into_iter().enumerate() {
        assert!(text.contains("rank 0 aborted the group: the user pressed stop"), "{rank}: {text}");
        assert!(ms < 1500, "rank {rank}: {ms} ms");
    }
}
