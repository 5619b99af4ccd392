//! What can be made to go wrong does, and the checker sees what it must.

use std::fs;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::world::child;
use crate::world::children;
use crate::world::text;

#[test]
fn a_capture_records_and_forbids_waits() {
    child("capture", &[]);
}

#[test]
fn visible_devices_are_numbers_and_beginnings_of_uuids() {
    let text = child("visible_devices", &[("CUDA_VISIBLE_DEVICES", "3,GPU-ff4e,0,9,1")]);
    assert!(text.contains("devices [3, 5, 0]"), "{text}");
}

#[test]
fn a_function_of_the_driver_fails_from_the_nth_call_on() {
    let text = child("allocations", &[("FAKE_CUDA_FAIL", "cuMemAlloc_v2=2@2")]);
    assert!(text.contains("codes [0, 2, 2]"), "{text}");
}

#[test]
fn a_code_of_the_future_comes_from_the_nth_call_on() {
    let text = child_that_exits("codes", &[("FAKE_NCCL_FAIL", "ncclAllReduce=42@3#1")]);
    assert!(text.contains("rank 1 [0, 0, 42, 42, 42]"), "{text}");
}

#[test]
fn an_asynchronous_error_comes_after_so_many_operations() {
    let text = child_that_exits("late_error", &[("FAKE_NCCL_ASYNC_ERROR", "ops=6@2#1")]);
    assert!(text.contains("rank 1 [0, 6, -6]"), "{text}");
}

#[test]
fn a_collective_hangs_until_it_is_aborted() {
    let text = child_that_exits("hang_and_abort", &[("FAKE_NCCL_HANG", "ncclAllReduce#1")]);
    assert!(text.contains("rank 0 is free") && text.contains("rank 1 is free"), "{text}");
    assert!(!text.contains("VIOLATION"), "{text}");
}

#[test]
fn an_abort_hangs_if_told() {
    let text = child_that_exits("abort", &[("FAKE_NCCL_HANG", "ncclCommAbort")]);
    assert!(text.contains("still inside") && !text.contains("came back"), "{text}");
}

#[test]
fn without_blocking_calls_are_in_progress() {
    let env: &[(&str, &str)] =
        &[("FAKE_NCCL_IN_PROGRESS", "ncclCommInitRankConfig=3,ncclAllReduce=5")];
    let text = child("nonblocking", env);
    assert!(text.contains("init 2 polls, all_reduce 7 4 polls, finalize 7"), "{text}");
    // Before 2.23 the calling thread launches.
    let text = child("nonblocking", &[("FAKE_NCCL_VERSION", "2.22.3")]);
    assert!(text.contains("all_reduce 0 0 polls"), "{text}");
}

#[test]
fn a_rank_that_never_comes_can_be_aborted() {
    let text = child("never_comes", &[("FAKE_NCCL_HANG", "init#1")]);
    assert!(text.contains("both aborted"), "{text}");
}

#[test]
fn misuse_is_seen_and_told() {
    let log = NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    let text = child("misuse", &[("FAKE_NCCL_LOG", path)]);
    assert!(text.contains("FAKE NCCL VIOLATION: ncclGroupEnd without ncclGroupStart"), "{text}");
    let log = fs::read_to_string(path).unwrap();
    assert!(log.contains("CALL ncclCommSplit") && log.contains("VIOLATION"), "{log}");
}

#[test]
fn misuse_ends_the_process_if_strict() {
    let env: &[(&str, &str)] = &[("FAKE_NCCL_STRICT", "1")];
    let output = children("misuse", &[env], Duration::from_secs(10)).remove(0);
    assert!(!output.status.success() && text(&output).contains("VIOLATION"));
}

#[test]
fn two_threads_on_one_device_are_seen() {
    let text = child("parallel", &[("FAKE_NCCL_LINGER_US", "2000")]);
    assert!(text.contains("of the same device 0"), "{text}");
    assert!(!text.contains("\n0 violations"), "{text}");
}

#[test]
fn ranks_that_call_different_things_hang_and_are_told() {
    let text = child_that_exits("mismatch", &[]);
    assert!(text.contains("collective 1 differs") && text.contains("hangs"), "{text}");
}

#[test]
fn a_sum_in_a_graph_sums_at_each_launch() {
    let text = child("graph", &[]);
    assert!(text.contains("sums [[32], [32]]"), "{text}");
}

#[test]
fn a_failed_init_raises_the_depth_of_groups_since_2_23() {
    let no_devices = ("FAKE_CUDA_DEVICES", "0");
    let text = child("leak", &[no_devices]);
    assert!(text.contains("init 1 ends [0, 5]"), "{text}");
    let text = child("leak", &[no_devices, ("FAKE_NCCL_VERSION", "2.22.3")]);
    assert!(text.contains("init 1 ends [5, 5]"), "{text}");
}

#[test]
fn configurations_are_checked() {
    let text = child("config", &[]);
    assert!(text.contains("configurations tried"), "{text}");
}

#[test]
fn two_ranks_share_a_device_only_where_nccl_lets_them() {
    let run = |env: &[(&str, &str)]| children("shared", &[env], Duration::from_secs(10)).remove(0);
    let version = |version| [("FAKE_NCCL_VERSION", version)];
    assert!(text(&run(&version("2.28.9"))).contains("Duplicate GPU detected : rank 1 and rank 0"));
    assert!(text(&run(&version("2.30.7"))).contains("NCCL_MULTI_RANK_GPU_ENABLE=1"));
    let allowed = run(&[("NCCL_MULTI_RANK_GPU_ENABLE", "1")]);
    assert!(text(&allowed).contains("both are there"), "{}", text(&allowed));
}

#[test]
fn a_group_that_fails_at_its_end_has_ended() {
    let text = child("group_fails", &[("FAKE_NCCL_FAIL", "ncclGroupEnd=9@2")]);
    assert!(text.contains("[[0, 0, 0], [0, 0, 9], [0, 0, 9]]"), "{text}");
}

#[test]
fn a_buffer_freed_too_early_is_seen() {
    let text = child("freed", &[]);
    assert!(text.contains("were freed before the operation that uses them ran"), "{text}");
}

#[test]
fn the_per_thread_stream_is_for_communicators_that_block() {
    let text = child("per_thread", &[]);
    assert!(text.contains("per-thread default stream"), "{text}");
}

#[test]
fn threads_and_descriptors_end_with_what_they_are_for() {
    child("threads_end", &[]);
}

/// For cases that end in the middle, while other threads are blocked.
fn child_that_exits(case: &str, env: &[(&str, &str)]) -> String {
    let output = children(case, &[env], Duration::from_secs(20)).remove(0);
    let text = text(&output);
    assert!(output.status.success(), "{case}: {}\n{text}", output.status);
    text
}
