//! Communicators out of communicators.

use crate::child::Child;

#[test]
fn with_the_fake_a_split_gives_communicators_that_work_and_leaves_the_parent() {
    Child::new("split").run();
    Child::new("split_blocking").run();
}

#[test]
fn with_the_fake_a_split_that_is_in_progress_for_long_is_waited_for() {
    Child::new("split_in_progress").with("FAKE_NCCL_IN_PROGRESS", "ncclCommSplit=50").run();
    Child::new("split_in_progress").with("FAKE_NCCL_IN_PROGRESS", "ncclCommSplit=200ms").run();
}

#[test]
fn with_the_fake_a_split_to_which_a_rank_does_not_come_ends_at_its_deadline() {
    Child::new("split_alone").run();
}

#[test]
fn with_the_fake_a_shrunk_communicator_works_without_the_excluded_ranks() {
    Child::new("shrink").run();
    Child::new("shrink_misuse").run();
    Child::new("shrink").with("FAKE_NCCL_IN_PROGRESS", "ncclCommShrink=20").run();
}

#[test]
fn with_the_fake_shrinking_stops_what_waits_for_a_rank_that_is_gone() {
    Child::new("shrink_abort").run();
}

#[test]
fn with_the_fake_a_communicator_grows_by_a_rank() {
    Child::new("grow").run();
    Child::new("grow").with("FAKE_NCCL_IN_PROGRESS", "ncclCommGrow=30").run();
}

#[test]
fn with_the_fake_a_suspended_communicator_refuses_work_until_it_is_resumed() {
    Child::new("suspend").run();
}

#[test]
fn with_the_fake_a_revoked_communicator_has_stopped_and_can_be_split_and_ended() {
    Child::new("revoke").run();
}

#[test]
fn with_the_fake_nccl_and_we_say_the_same_of_a_communicator() {
    Child::new("facts").run();
    Child::new("facts").version("2.30.7").run();
}

#[test]
fn with_the_fake_all_devices_of_a_process_are_made_at_once() {
    Child::new("all_devices").run();
}

#[test]
fn with_the_fake_a_device_that_fails_ends_the_waiting_of_the_others() {
    Child::new("all_devices_fail").with("FAKE_NCCL_FAIL", "ncclCommInitRankConfig=2@3").run();
}
