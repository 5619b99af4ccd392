//! Results that nobody knows, late errors, calls in progress.

use tempfile::NamedTempFile;

use crate::child::Child;

/// What fails in a whole run. Not here: what only ends something, whose failure is logged.
const CALLS: [&str; 28] = [
    "ncclGetUniqueId",
    "ncclCommInitRankConfig",
    "ncclCommGetAsyncError",
    "ncclCommCount",
    "ncclCommUserRank",
    "ncclCommCuDevice",
    "ncclCommQueryProperties",
    "ncclCommMemStats",
    "ncclCommGetUniqueId",
    "ncclAllReduce",
    "ncclMemAlloc",
    "ncclRedOpCreatePreMulSum",
    "ncclGroupStart",
    "ncclGroupSimulateEnd",
    "ncclCommRegister",
    "ncclCommDeregister",
    "ncclCommWindowRegister",
    "ncclCommWindowDeregister",
    "ncclSignal",
    "ncclWaitSignal",
    "ncclCommSplit",
    "ncclCommSuspend",
    "ncclCommResume",
    "ncclParamGetAllParameterKeys",
    "ncclParamGetParameter",
    "ncclSetEncryption",
    "ncclCommRevoke",
    "ncclCommDestroy",
];

#[test]
fn with_the_fake_a_result_that_nobody_knows_is_an_error_with_its_number_in_every_call() {
    let run = |codes: &[&str], calls: &[&str]| {
        for (at, call) in calls.iter().enumerate() {
            let code = codes[at % codes.len()];
            Child::new("unknown_code")
                .with("FAKE_NCCL_FAIL", &format!("{call}={code}"))
                .with("EXPECTED_CALL", call)
                .with("EXPECTED_CODE", code)
                .run();
        }
    };
    std::thread::scope(|scope| {
        let (one, two) = CALLS.split_at(CALLS.len() / 2);
        scope.spawn(move || run(&["9", "42"], one));
        scope.spawn(move || run(&["42", "-3"], two));
    });
}

#[test]
fn with_the_fake_an_init_with_a_result_that_nobody_knows_fails() {
    Child::new("unknown_code_init").with("FAKE_NCCL_FAIL", "ncclCommInitRankConfig=9").run();
}

#[test]
fn with_the_fake_an_error_that_comes_later_is_told() {
    Child::new("async_error").with("FAKE_NCCL_ASYNC_ERROR", "ops=6@3").run();
}

#[test]
fn with_the_fake_every_call_may_be_in_progress_for_a_while() {
    let slow = "ncclCommInitRankConfig=7,ncclAllReduce=7,ncclCommSplit=7,ncclCommFinalize=7,\
                ncclSignal=7,ncclWaitSignal=7,init=7";
    Child::new("in_progress_everywhere").with("FAKE_NCCL_IN_PROGRESS", slow).run();
    let slow = slow.replace("=7", "=30ms");
    Child::new("in_progress_everywhere").with("FAKE_NCCL_IN_PROGRESS", &slow).run();
}

#[test]
fn with_the_fake_an_init_without_cuda_leaves_no_thread_inside_of_a_group() {
    let log = NamedTempFile::new().unwrap();
    for version in ["2.32.3", "2.21.5"] {
        log.as_file().set_len(0).unwrap();
        Child::new("leaked_level")
            .version(version)
            .with("FAKE_NCCL_LOG", &log.path().display().to_string())
            .with("FAKE_CUDA_FAIL", "cuInit=100@2")
            .run();
    }
}

#[test]
fn with_the_fake_an_id_that_could_not_be_made_is_not_asked_for_again() {
    let log = NamedTempFile::new().unwrap();
    Child::new("no_interface")
        .version("2.21.5")
        .with("FAKE_NCCL_LOG", &log.path().display().to_string())
        .with("FAKE_NCCL_FAIL", "ncclGetUniqueId=3")
        .run();
}

#[test]
fn with_the_fake_a_communicator_that_a_thread_keeps_is_waited_for_until_the_deadline() {
    Child::new("busy_comm").run();
}
