//! Calls that may never return, on threads of their own.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;

/// How often somebody who waits asks whether it is still worth it.
const SLICE: Duration = Duration::from_millis(20);

/// Says why waiting is of no use any more.
pub(super) type Cancel<'a> = &'a dyn Fn() -> Option<Error>;

/// Runs `work` on a thread of its own and waits for it, at most `timeout`: `None` if it is not
/// over by then. It goes on nevertheless, and what it holds stays until it ends.
///
/// # Errors
/// There can be no thread.
pub(super) fn run<T: Send + 'static>(
    name: &str,
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    run_until(name, &Deadline::after(timeout), &|| None, work)
}

/// As [`run`], and gives up as soon as `cancel` says why.
///
/// # Errors
/// There can be no thread; or that of `cancel`.
pub(super) fn run_until<T: Send + 'static>(
    name: &str,
    deadline: &Deadline,
    cancel: Cancel<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (tell, told) = mpsc::sync_channel(1);
    start(name, move || {
        // Nobody may be waiting any more.
        drop(tell.send(work()));
    })?;
    loop {
        match told.recv_timeout(deadline.left_at_most(SLICE)) {
            Ok(outcome) => return Ok(Some(outcome)),
            // The thread panicked.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) if deadline.passed() => return Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Some(why) = cancel() {
            return Err(why);
        }
    }
}

/// Runs `work` on a thread of its own, which nobody waits for.
///
/// # Errors
/// There can be no thread.
pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread
        .map(drop)
        .map_err(|error| Error::system(format!("cannot start the thread {name}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_left_behind() {
        assert_eq!(run("quick", Duration::from_secs(60), || 7).unwrap(), Some(7));
        let (release, held) = mpsc::channel::<()>();
        let stuck = run("stuck", Duration::from_millis(20), move || held.recv().is_ok());
        assert_eq!(stuck.unwrap(), None);
        let why = || Some(Error::CommEnded { why: "over".to_owned() });
        let long = Deadline::after(Duration::from_secs(600));
        let cancelled = run_until("cancelled", &long, &why, thread::park);
        assert!(matches!(cancelled, Err(Error::CommEnded { .. })));
        drop(release);
    }
}
