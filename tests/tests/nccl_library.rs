//! Real libnccls, one version after the other, each in a process of its own. No GPU is needed.

#![expect(unsafe_code, reason = "calls a C library")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::ptr;

use nccl_sys::FUNCTIONS;
use nccl_sys::LEFT_OUT;
use nccl_sys::Library;
use nccl_sys::NcclResult;
use nccl_sys::Version;
use nccl_sys::ncclSimInfo_t;
use nccl_sys::ncclUniqueId;
use tests::wheels;

const LIBRARY: &str = "NCCL_TESTS_LIBRARY";
const VERSION: &str = "NCCL_TESTS_VERSION";
const CHILD: &str = "a_library_is_as_its_version_says";

fn version(text: &str) -> Version {
    let parts: Vec<u16> = text.split('.').map(|part| part.parse().unwrap()).collect();
    let [major, minor, patch] = parts[..] else { panic!("{text} is no version") };
    Version::new(major, minor, patch)
}

/// Runs this program's test [`CHILD`] for one library.
fn child(name: &str, library: &Path) -> String {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(LIBRARY, library)
        .env(VERSION, name)
        .env("NCCL_SOCKET_IFNAME", "lo")
        .env_remove("NCCL_DEBUG")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "NCCL {name}: {}\n{said}", output.status);
    said
}

#[test]
fn every_version_has_the_functions_that_the_table_says() {
    wheels::for_each(|name, folder| {
        let said = child(name, &folder.join("lib/libnccl.so.2"));
        assert!(said.contains(&format!("checked NCCL {name}")), "{said}");
    });
}

/// The part of the test above that runs in a process of its own: NCCL keeps threads, sockets and
/// what it read from the environment.
#[test]
fn a_library_is_as_its_version_says() {
    let Some(path) = env::var_os(LIBRARY).map(PathBuf::from) else { return };
    let name = env::var(VERSION).unwrap();
    let expected = version(&name);
    // SAFETY: a library from NVIDIA's wheel.
    let library = unsafe { Library::open_at(&path) }.unwrap();
    assert_eq!(library.version(), expected);
    assert_eq!(library.path(), Some(path.canonicalize().unwrap().as_path()));

    let known = FUNCTIONS.iter().filter(|function| function.since <= expected);
    let known: Vec<&str> = known.map(|function| function.name).collect();
    let present: Vec<&str> = library.functions().present().collect();
    assert_eq!(present, known, "left: the library, right: the table");

    texts(&library);
    missing(&library);
    unique_ids(&library);
    simulation(&library);
    parameters(&library);
    println!("checked NCCL {name}: {} of {} functions", present.len(), FUNCTIONS.len());
}

fn texts(library: &Library) {
    let expected = [
        (-1, "unknown result code"),
        (0, "no error"),
        (1, "unhandled cuda error (run with NCCL_DEBUG=INFO for details)"),
        (2, "unhandled system error (run with NCCL_DEBUG=INFO for details)"),
        (3, "internal error - please report this issue to the NCCL developers"),
        (4, "invalid argument (run with NCCL_DEBUG=WARN for details)"),
        (5, "invalid usage (run with NCCL_DEBUG=WARN for details)"),
        (6, "remote process exited or there was a network error"),
        (7, "NCCL operation in progress"),
        (99, "unknown result code"),
    ];
    for (code, text) in expected {
        assert_eq!(library.error_string(NcclResult(code)), text, "{code}");
    }
    let knows_timeout = library.version() >= Version::new(2, 30, 3);
    let timeout = if knows_timeout { "timeout" } else { "unknown result code" };
    assert_eq!(library.error_string(NcclResult::TIMEOUT), timeout);
}

/// A function is there, or the error says since when others have it.
fn missing(library: &Library) {
    let since = Version::new(2, 27, 3);
    match library.ncclCommShrink() {
        Ok(_) => assert!(library.version() >= since),
        Err(missing) => {
            assert_eq!((missing.needs, missing.found), (since, library.version()));
            assert!(library.version() < since);
        }
    }
    assert!(library.ncclAllReduce().is_ok());
}

fn unique_ids(library: &Library) {
    let get = library.ncclGetUniqueId().unwrap();
    let ids = [(), ()].map(|()| {
        let mut id = ncclUniqueId { internal: [0; 128] };
        // SAFETY: writes 128 bytes through the pointer, which is to as many.
        let result = unsafe { get(&raw mut id) };
        assert_eq!(result, NcclResult::SUCCESS);
        assert!(id.internal.iter().any(|byte| *byte != 0));
        id
    });
    assert_ne!(ids[0], ids[1]);
    // SAFETY: null is looked for.
    assert_eq!(unsafe { get(ptr::null_mut()) }, NcclResult::INVALID_ARGUMENT);
}

/// Groups count their depth, and the struct is one that the library takes.
fn simulation(library: &Library) {
    let start = library.ncclGroupStart().unwrap();
    // SAFETY: takes nothing.
    assert_eq!(unsafe { start() }, NcclResult::SUCCESS);
    let Ok(simulate) = library.ncclGroupSimulateEnd() else {
        // SAFETY: takes nothing.
        assert_eq!(unsafe { library.ncclGroupEnd().unwrap()() }, NcclResult::SUCCESS);
        return;
    };
    let mut info = ncclSimInfo_t::new(library.version());
    // SAFETY: the struct says its size, and lives until the call is over.
    assert_eq!(unsafe { simulate(&raw mut info) }, NcclResult::SUCCESS);
    // SAFETY: takes nothing.
    assert_eq!(unsafe { library.ncclGroupEnd().unwrap()() }, NcclResult::INVALID_USAGE);
}

fn parameters(library: &Library) {
    let Ok(keys) = library.ncclParamGetAllParameterKeys() else { return };
    let (mut table, mut length) = (ptr::null_mut(), 0);
    // SAFETY: writes through both pointers, which are to live variables of those types.
    assert_eq!(unsafe { keys(&raw mut table, &raw mut length) }, NcclResult::SUCCESS);
    assert!(length > 0 && !table.is_null(), "{length} parameters");
}

#[test]
fn every_exported_function_is_in_the_table_or_left_out_with_a_reason() {
    wheels::for_each(|name, folder| {
        let listed = Command::new("nm")
            .args(["-D", "--defined-only", "--format=posix"])
            .arg(folder.join("lib/libnccl.so.2"))
            .output();
        let Ok(listed) = listed else {
            return wheels::skipped("wheels", "no program `nm` to list what a library exports");
        };
        assert!(listed.status.success());
        let text = String::from_utf8_lossy(&listed.stdout);
        let names = text.lines().filter_map(|line| line.split_whitespace().next());
        let exported: BTreeSet<&str> = names
            .map(|line| line.split('@').next().unwrap())
            .filter(|name| {
                name.strip_prefix("nccl").is_some_and(|rest| rest.starts_with(char::is_uppercase))
            })
            .collect();
        assert!(exported.len() > 20, "NCCL {name} exports {exported:?}");
        let found = version(name);
        let early = |name: &&str| name.starts_with("ncclParam") && found < Version::new(2, 30, 7);
        let table = FUNCTIONS.iter().filter(|function| function.since <= found);
        let table = table.map(|function| function.name);
        let known = table.chain(LEFT_OUT.iter().map(|(name, _)| *name));
        let known: BTreeSet<&str> = known.chain(exported.iter().copied().filter(early)).collect();
        let unknown: Vec<_> = exported.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "NCCL {name} exports functions that nobody knows, or too early: {unknown:?}"
        );
    });
}

#[test]
fn no_function_is_both_in_the_table_and_left_out() {
    let table: BTreeSet<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    assert_eq!(table.len(), FUNCTIONS.len());
    assert!(LEFT_OUT.iter().all(|(name, why)| !table.contains(name) && !why.is_empty()));
}
