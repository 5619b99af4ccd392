//! The checker: what would be undefined, or a hang, with the real library is told here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::ThreadId;
use std::time::Duration;

use crate::fail::lock;
use crate::knobs;

static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

/// Who is inside a call that issues work, by device.
static ISSUING: Mutex<BTreeMap<i32, Vec<Entry>>> = Mutex::new(BTreeMap::new());

/// A communicator, a thread, a function.
type Entry = (usize, ThreadId, &'static str);

/// Who is inside any call of a communicator.
static INSIDE: Mutex<BTreeMap<usize, (ThreadId, u64, &'static str)>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// Whether the last call failed in a way after which NCCL may have left the depth of groups
    /// raised, so that a further `ncclGroupEnd` is no mistake.
    static REPAIR: Cell<bool> = const { Cell::new(false) };
}

/// Tells what is wrong with how the library is used.
pub(crate) fn violation(what: &str) {
    VIOLATIONS.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let line = format!("FAKE NCCL VIOLATION: {what} (pid {pid})");
    eprintln!("{line}");
    log(&line);
    if knobs::is_on("FAKE_NCCL_STRICT") {
        std::process::abort();
    }
}

/// How often.
pub(crate) fn violations() -> u64 {
    VIOLATIONS.load(Ordering::Relaxed)
}

/// Notes a call in the file of `FAKE_NCCL_LOG`.
pub(crate) fn trace(function: &str) {
    log(&format!("CALL {function}"));
}

/// Allows the next `ncclGroupEnd` of this thread to be outside of a group.
pub(crate) fn allow_repair() {
    REPAIR.set(true);
}

/// Whether it is allowed; once.
pub(crate) fn take_repair() -> bool {
    REPAIR.replace(false)
}

/// Inside a call that issues work on a device, as long as it lives.
#[derive(Debug)]
pub(crate) struct Issuing {
    device: i32,
    comm: usize,
}

/// Enters such a call. Two threads at once on one device are a violation.
pub(crate) fn issuing(device: i32, comm: usize, function: &'static str) -> Issuing {
    let here = thread::current().id();
    let other = {
        let mut all = lock(&ISSUING);
        let entries = all.entry(device).or_default();
        let other = entries.iter().find(|entry| entry.1 != here).copied();
        entries.push((comm, here, function));
        other
    };
    if let Some((other_comm, _, other_function)) = other {
        violation(&format!(
            "{function} on communicator {comm:#x} while another thread is in {other_function} on \
             communicator {other_comm:#x} of the same device {device}"
        ));
    }
    static LINGER: LazyLock<u64> = LazyLock::new(|| {
        std::env::var("FAKE_NCCL_LINGER_US").ok().and_then(|us| us.parse().ok()).unwrap_or(0)
    });
    if *LINGER > 0 {
        // So that two threads that do not exclude each other are likely to meet.
        thread::sleep(Duration::from_micros(*LINGER));
    }
    Issuing { device, comm }
}

impl Drop for Issuing {
    fn drop(&mut self) {
        let here = thread::current().id();
        if let Some(entries) = lock(&ISSUING).get_mut(&self.device) {
            let own = |entry: &Entry| entry.0 == self.comm && entry.1 == here;
            if let Some(at) = entries.iter().rposition(own) {
                entries.remove(at);
            }
        }
    }
}

/// Inside a call of a communicator, as long as it lives.
#[derive(Debug)]
pub(crate) struct Inside(usize);

/// Enters a call of a communicator. Two threads at once are a violation.
pub(crate) fn inside(comm: usize, function: &'static str) -> Inside {
    let here = thread::current().id();
    let other = {
        let mut all = lock(&INSIDE);
        let entry = all.entry(comm).or_insert((here, 0, function));
        let other = (entry.0 != here).then_some(entry.2);
        if other.is_none() {
            *entry = (here, entry.1 + 1, function);
        }
        other
    };
    if let Some(other) = other {
        violation(&format!(
            "{function} on communicator {comm:#x} while another thread is in {other} on it"
        ));
        return Inside(0);
    }
    Inside(comm)
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut all = lock(&INSIDE);
        if let Some(entry) = all.get_mut(&self.0) {
            entry.1 -= 1;
            if entry.1 == 0 {
                all.remove(&self.0);
            }
        }
    }
}

fn log(line: &str) {
    static PATH: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FAKE_NCCL_LOG").ok());
    let Some(path) = PATH.as_ref() else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let line = format!("{} {line}\n", std::process::id());
        let _ = file.write_all(line.as_bytes());
    }
}
