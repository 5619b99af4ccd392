//! Beginnings and ends.

use tempfile::NamedTempFile;

use crate::child::Child;

/// A child whose calls are in a file.
fn logged(case: &'static str, run: impl FnOnce(Child) -> Child) {
    let log = NamedTempFile::new().unwrap();
    let child = Child::new(case).with("FAKE_NCCL_LOG", &log.path().display().to_string());
    run(child).run();
}

#[test]
fn with_the_fake_an_init_that_never_ends_is_aborted_at_its_deadline() {
    logged("init_stuck", |child| child.with("FAKE_NCCL_HANG", "init"));
}

#[test]
fn with_the_fake_a_rank_that_never_comes_is_waited_for_until_the_deadline() {
    Child::new("never_comes").run();
}

#[test]
fn with_the_fake_a_communicator_ends_once_and_says_why_ever_after() {
    logged("ends", |child| child);
}

#[test]
fn with_the_fake_a_panic_ends_communicators_and_not_the_process() {
    logged("unwinding", |child| child);
}

#[test]
fn with_the_fake_an_abort_that_hangs_holds_up_nobody() {
    Child::new("abort_hangs").with("FAKE_NCCL_HANG", "ncclCommAbort").run();
}

#[test]
fn with_the_fake_an_end_that_hangs_is_left_behind_at_the_deadline() {
    for call in ["ncclCommFinalize", "ncclCommDestroy"] {
        Child::new("destroy_hangs").with("FAKE_NCCL_HANG", call).with("EXPECTED_CALL", call).run();
    }
}

#[test]
fn with_the_fake_an_abort_ends_another_threads_waiting() {
    logged("abort_while_waiting", |child| child);
}

#[test]
fn with_the_fake_an_abort_frees_the_stream() {
    Child::new("abort_while_enqueued").run();
}

#[test]
fn with_the_fake_a_communicator_of_others_is_what_they_say_or_refused() {
    Child::new("from_raw").run();
}
