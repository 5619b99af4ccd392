//! Groups of several communicators, configurations of calls, default streams, graphs.

use tempfile::NamedTempFile;

use crate::child::Child;

#[test]
fn with_the_fake_one_thread_drives_several_devices() {
    Child::new("grouped").run();
    Child::new("grouped").with("FAKE_NCCL_IN_PROGRESS", "ncclAllReduce=40ms").run();
    Child::new("grouped").version("2.21.5").run();
}

#[test]
fn with_the_fake_a_group_of_wrong_parts_begins_nothing() {
    Child::new("grouped_misuse").run();
}

#[test]
fn with_the_fake_a_call_that_fails_inside_of_a_group_leaves_the_thread_outside() {
    Child::new("grouped_failing").with("FAKE_NCCL_FAIL", "ncclAllReduce=4#1").run();
    Child::new("grouped_torn").with("FAKE_NCCL_FAIL", "ncclAllReduce=4@2").run();
}

#[test]
fn with_the_fake_a_group_is_simulated_and_nothing_runs() {
    Child::new("simulated").run();
    Child::new("simulated").version("2.22.3").run();
}

#[test]
fn with_the_fake_calls_have_configurations_of_their_own() {
    let log = NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    Child::new("call_config").with("FAKE_NCCL_LOG", &path).run();
    Child::new("call_config").with("FAKE_NCCL_LOG", &path).version("2.31.2").run();
}

#[test]
fn with_the_fake_the_threads_default_stream_keeps_its_order() {
    for version in ["2.21.5", "2.23.4", "2.32.3"] {
        Child::new("per_thread").version(version).with("FAKE_CUDA_SLOW_US", "300").run();
    }
    // The environment makes also those not block that are to.
    Child::new("per_thread").with("NCCL_COMM_BLOCKING", "0").run();
    Child::new("per_thread_group").run();
}

#[test]
fn with_the_fake_a_captured_sum_runs_as_often_as_its_graph() {
    Child::new("captured").run();
    Child::new("captured").version("2.21.5").run();
    Child::new("captured_per_thread").run();
}

#[test]
fn with_the_fake_threads_on_one_device_take_turns() {
    Child::new("shared_device").with("FAKE_NCCL_LINGER_US", "200").run();
}

#[test]
fn with_the_fake_wrong_lengths_reach_no_function_of_nccl() {
    let log = NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    Child::new("wrong_lengths").with("FAKE_NCCL_LOG", &path).run();
}
