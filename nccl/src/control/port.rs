//! Accepting connections: never in a busy loop, also without free descriptors.

use std::io;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::error::Error;
use crate::error::Result;
use crate::net::widen_backlog;

/// How many connections are accepted before others have their turn.
const TURN: usize = 64;
/// For how long nothing is accepted after the system refused to.
const PAUSE: Duration = Duration::from_millis(100);
/// How often that is logged.
const QUIET: Duration = Duration::from_secs(60);

/// Opens a listening port on one address of this machine.
pub(super) fn listen(what: &'static str, ip: IpAddr) -> Result<TcpListener> {
    let fail = |source: io::Error, hint: &str| Error::Bind {
        what,
        addr: ip.to_string(),
        source: Arc::new(source),
        hint: hint.to_owned(),
    };
    if ip.is_unspecified() {
        let source = io::Error::from(ErrorKind::InvalidInput);
        return Err(fail(source, "; other ranks need the address of one interface"));
    }
    let listener = TcpListener::bind((ip, 0))
        .map_err(|error| fail(error, "; is it an address of this machine?"))?;
    // In a large world all ranks dial at once, and a connection that overflows the standard
    // library's queue is reset after its hello.
    widen_backlog(&listener);
    listener.set_nonblocking(true).map_err(|error| fail(error, ""))?;
    Ok(listener)
}

/// A break after the system could not accept, so that the backlog does not make the poll spin.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    logged: Option<Instant>,
    refusal: Option<Refusal>,
}

/// That the system accepts no connection, since when, and why.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) since: Instant,
    pub(super) source: Arc<io::Error>,
}

impl Pause {
    /// How long the break still lasts.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// The refusal that still lasts, if the last attempt met one.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.clone()
    }

    fn begin(&mut self, what: &str, error: io::Error) {
        let now = Instant::now();
        self.until = now.checked_add(PAUSE);
        if self.logged.is_none_or(|at| now.duration_since(at) >= QUIET) {
            self.logged = Some(now);
            log::warn!(target: "nccl::control",
                "cannot accept connections to the {what} for now: {error}; is `ulimit -n` too low?");
        }
        let since = self.refusal.take().map_or(now, |refusal| refusal.since);
        self.refusal = Some(Refusal { since, source: Arc::new(error) });
    }

    /// Accepts what is here, up to a turn's share.
    pub(super) fn accept<S>(
        &mut self,
        what: &str,
        mut accept: impl FnMut() -> io::Result<S>,
    ) -> Vec<S> {
        let mut accepted = Vec::new();
        for _ in 0..TURN {
            match accept() {
                Ok(stream) => {
                    self.refusal = None;
                    accepted.push(stream);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    ErrorKind::WouldBlock => {
                        self.refusal = None;
                        break;
                    }
                    _ => {
                        self.begin(what, error);
                        break;
                    }
                },
            }
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_descriptors_accepting_pauses_instead_of_spinning() {
        let mut pause = Pause::default();
        let mut calls = 0;
        let got: Vec<()> = pause.accept("port", || {
            calls += 1;
            Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()))
        });
        assert!(got.is_empty());
        assert_eq!(calls, 1);
        assert!(pause.left().is_some_and(|left| left <= PAUSE));
        let first = pause.refusal().unwrap();
        assert_eq!(first.source.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        let _: Vec<()> = pause.accept("port", || Err(ErrorKind::OutOfMemory.into()));
        assert_eq!(pause.refusal().unwrap().since, first.since, "it lasts since the first one");
        let _: Vec<()> = pause.accept("port", || Err(ErrorKind::WouldBlock.into()));
        assert!(pause.refusal().is_none(), "the system accepts again");
    }

    #[test]
    fn the_wildcard_address_is_refused_with_a_hint() {
        let error = listen("test port", "0.0.0.0".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("test port") && error.contains("one interface"), "{error}");
        let error = listen("test port", "192.0.2.1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && error.contains("of this machine"), "{error}");
    }
}
