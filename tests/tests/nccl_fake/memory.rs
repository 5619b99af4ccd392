//! Registered buffers, memory of NCCL, windows.

use crate::child::Child;

#[test]
fn with_the_fake_registered_buffers_work_and_are_unregistered_before_the_end() {
    Child::new("registered").run();
    Child::new("registered").with("FAKE_NCCL_IN_PROGRESS", "ncclAllReduce=3").run();
}

#[test]
fn with_the_fake_registrations_may_outlive_their_communicator_or_be_leaked() {
    Child::new("registered_outlives").run();
}

#[test]
fn with_the_fake_memory_of_nccl_is_used_as_any_other_and_freed_behind_its_work() {
    Child::new("allocated").with("FAKE_CUDA_SLOW_US", "2000").run();
}

#[test]
fn with_the_fake_an_allocation_that_hangs_is_left_behind() {
    Child::new("alloc_hangs").with("FAKE_NCCL_HANG", "ncclMemAlloc").run();
}

#[test]
fn with_the_fake_ranks_write_into_each_others_windows() {
    Child::new("window").run();
}

#[test]
fn with_the_fake_memory_without_a_window_can_be_used_all_the_same() {
    Child::new("window_unsupported").with("NCCL_WIN_ENABLE", "0").run();
}

#[test]
fn with_the_fake_writes_that_do_not_fit_a_window_are_refused() {
    Child::new("window_misuse").run();
}

#[test]
fn with_the_fake_a_window_that_a_rank_does_not_register_ends_at_the_deadline() {
    Child::new("window_stuck").run();
}
