//! How a connection to a store begins, and what can be there instead of a store.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::net;
use crate::net::Backoff;
use crate::store::client::conn::Broken;
use crate::store::client::conn::Conn;
use crate::wire::store::MAGIC;
use crate::wire::store::Request;

/// How long a server may be silent before it is no store.
const SILENCE: Duration = Duration::from_secs(5);
/// How long one round over all addresses may take before the next: a server that has just come up
/// answers a new attempt sooner than an old one.
const ROUND: Duration = Duration::from_secs(10);
/// How long names are believed.
const NAMES: Duration = Duration::from_secs(5);
/// More keys than this has no store: the answer is of another protocol.
const MANY_KEYS: i64 = 1 << 40;

/// Where a store is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    /// Set once the server turned out to be older than the ping.
    pub(super) is_old: AtomicBool,
}

/// What one attempt ended with.
#[derive(Debug)]
enum Attempt {
    /// Nobody answered; the errors by address.
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// The server ended the connection without a byte.
    Closed(SocketAddr, String),
    /// The server said nothing.
    Silent(SocketAddr, Duration),
    /// The server said what no store says.
    NoStore(SocketAddr, Vec<u8>),
}

impl Attempt {
    fn text(&self) -> String {
        match self {
            Self::Unreachable(failed) => {
                let each: Vec<String> =
                    failed.iter().map(|(addr, error)| format!("{addr}: {error}")).collect();
                each.join("; ")
            }
            Self::Closed(addr, why) => format!(
                "server at {addr} takes the connection and ends it ({why}): no store, or one that \
                 has no room for clients"
            ),
            Self::Silent(addr, waited) => format!(
                "server at {addr} is not a store (it takes the connection and says nothing for \
                 {waited:.1?}), or it is stopped"
            ),
            Self::NoStore(addr, bytes) => {
                let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
                let shown = line.filter(|line| !line.is_empty()).unwrap_or(bytes);
                format!("server at {addr} is not a store (got '{}')", shown.escape_ascii())
            }
        }
    }
}

impl Place {
    /// `host:port` as it was given.
    pub(super) fn addr(&self) -> String {
        let bare = self.host.contains(':') && !self.host.starts_with('[');
        if bare {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects, and tries again until the deadline while there may be hope.
    pub(super) fn connect(&self, deadline: &Deadline) -> Result<Conn> {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut addrs = self.resolve(deadline)?;
        let mut resolved = Deadline::after(NAMES);
        let mut closed_since: Option<Deadline> = None;
        loop {
            let attempt = match self.attempt(&addrs, deadline) {
                Ok(conn) => return Ok(conn),
                Err(attempt) => attempt,
            };
            let hope = match &attempt {
                Attempt::Unreachable(failed) => {
                    closed_since = None;
                    failed.iter().any(|(_, error)| net::is_passing(error))
                }
                Attempt::Closed(..) => {
                    !closed_since.get_or_insert_with(|| Deadline::after(SILENCE)).passed()
                }
                Attempt::Silent(..) | Attempt::NoStore(..) => false,
            };
            let pause = backoff.pause();
            if !hope || deadline.left() <= pause {
                return Err(self.failed(&attempt, deadline));
            }
            thread::sleep(pause);
            if resolved.passed() {
                // The machine behind the name may be another one by now.
                addrs = self.resolve(deadline).unwrap_or(addrs);
                resolved = Deadline::after(NAMES);
            }
        }
    }

    /// Connects to a store that was there before: one attempt.
    pub(super) fn reconnect(&self, deadline: &Deadline) -> Result<Conn> {
        let addrs = self.resolve(deadline)?;
        self.attempt(&addrs, deadline).map_err(|attempt| self.failed(&attempt, deadline))
    }

    fn resolve(&self, deadline: &Deadline) -> Result<Vec<SocketAddr>> {
        net::resolve(&self.host, self.port, "the store's host, usually MASTER_ADDR", deadline)
    }

    fn failed(&self, attempt: &Attempt, deadline: &Deadline) -> Error {
        let hint = match attempt {
            Attempt::Unreachable(_) => {
                "; is rank 0 up, and are MASTER_ADDR and MASTER_PORT the same on all ranks?"
            }
            _ => "; is MASTER_PORT the port of this job's store?",
        };
        Error::Connect {
            what: "the store",
            addr: self.addr(),
            why: format!("{}{hint}", attempt.text()),
            waited: deadline.waited(),
        }
    }

    /// One connection, and its beginning; once more without a ping for servers that know none.
    fn attempt(&self, addrs: &[SocketAddr], deadline: &Deadline) -> Result<Conn, Attempt> {
        if self.is_old.load(Ordering::Relaxed) {
            return self.greet(addrs, false, deadline);
        }
        match self.greet(addrs, true, deadline) {
            Err(Attempt::Closed(..)) => {
                let conn = self.greet(addrs, false, deadline)?;
                self.is_old.store(true, Ordering::Relaxed);
                Ok(conn)
            }
            other => other,
        }
    }

    fn greet(
        &self,
        addrs: &[SocketAddr],
        ping: bool,
        deadline: &Deadline,
    ) -> Result<Conn, Attempt> {
        let round = Deadline::after(deadline.left_at_most(ROUND));
        let stream = net::connect_any(addrs, &round).map_err(Attempt::Unreachable)?;
        let peer = match stream.peer_addr() {
            Ok(peer) => peer,
            Err(error) => {
                let addr = addrs.first().copied();
                return Err(Attempt::Unreachable(
                    addr.map(|addr| (addr, error)).into_iter().collect(),
                ));
            }
        };
        let mut conn = Conn::new(stream);
        let patience = Deadline::after(deadline.left_at_most(SILENCE));
        let nonce = std::process::id();
        let mut hello = Vec::new();
        Request::<&[u8]>::Validate(MAGIC).encode(&mut hello);
        let question = if ping { Request::<&[u8]>::Ping(nonce) } else { Request::CountKeys };
        question.encode(&mut hello);
        let mut answer = [0_u8; 8];
        let answer = answer.get_mut(..if ping { 4 } else { 8 }).unwrap_or_default();
        let first = conn.send(&hello, &patience).and_then(|()| conn.wait(None, &patience));
        match first {
            Ok(_) => {}
            Err(Broken::Timeout) => return Err(Attempt::Silent(peer, patience.waited())),
            Err(Broken::Lost(why)) => return Err(Attempt::Closed(peer, why)),
        }
        let mut got = Vec::new();
        for byte in answer.iter_mut() {
            match conn.receive_u8(&patience) {
                Ok(one) => {
                    *byte = one;
                    got.push(one);
                }
                Err(_) if !got.is_empty() => return Err(Attempt::NoStore(peer, got)),
                Err(Broken::Timeout) => return Err(Attempt::Silent(peer, patience.waited())),
                Err(Broken::Lost(why)) => return Err(Attempt::Closed(peer, why)),
            }
        }
        if is_right(&got, ping.then_some(nonce)) {
            return Ok(conn);
        }
        got.extend(conn.receive_some(&Deadline::after(Duration::from_millis(100))));
        Err(Attempt::NoStore(peer, got))
    }
}

/// Whether a store would answer this to a ping with this nonce, or to the question for its size.
fn is_right(got: &[u8], nonce: Option<u32>) -> bool {
    match nonce {
        Some(nonce) => got == nonce.to_le_bytes(),
        None => <[u8; 8]>::try_from(got)
            .is_ok_and(|bytes| (0..MANY_KEYS).contains(&i64::from_le_bytes(bytes))),
    }
}
