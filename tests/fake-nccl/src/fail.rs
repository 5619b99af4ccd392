//! Failures: NCCL's code, and the text that `ncclGetLastError` gives.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// A failure, by its number in `nccl.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fail(pub(crate) i32);

/// What a call of NCCL gives.
pub(crate) type Outcome<T = ()> = Result<T, Fail>;

pub(crate) const CUDA: i32 = 1;
pub(crate) const SYSTEM: i32 = 2;
pub(crate) const INTERNAL: i32 = 3;
pub(crate) const ARGUMENT: i32 = 4;
pub(crate) const USAGE: i32 = 5;
pub(crate) const REMOTE: i32 = 6;
pub(crate) const IN_PROGRESS: i32 = 7;

/// The last warning of the process, as in NCCL: one for all communicators, never cleared.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Locks, also after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failure with a warning.
pub(crate) fn fail<T>(code: i32, text: impl Into<String>) -> Outcome<T> {
    let text = text.into();
    let level = std::env::var("NCCL_DEBUG").unwrap_or_default();
    if ["WARN", "INFO", "TRACE"].contains(&level.to_ascii_uppercase().as_str()) {
        let pid = std::process::id();
        eprintln!("\nfakehost:{pid}:{pid} [0] fake.cc:1 NCCL WARN {text}");
    }
    *lock(&LAST) = text;
    Err(Fail(code))
}

/// The text of the last failure.
pub(crate) fn last_text() -> String {
    lock(&LAST).clone()
}
