//! Data connections that peers have made and nobody has fetched yet.

use core::fmt;
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
#[cfg(test)]
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use super::port::Refusal;
#[cfg(test)]
use crate::clock::Deadline;
use crate::trace::lock;
use crate::wire::MeshHello;

/// How many connections may wait to be fetched; the peers that make them are known.
const WAITING: usize = 16 << 10;

/// A connected, non-blocking socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// Over a Unix socket of this host.
    Unix(UnixStream),
}

/// Names one data connection on the side that accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkKey {
    /// The group.
    pub(crate) group: u64,
    /// The channel of the group.
    pub(crate) channel: u16,
    /// The world rank that connects.
    pub(crate) from: usize,
    /// Which of several parallel connections of the link this is.
    pub(crate) lane: u16,
}

impl LinkKey {
    /// The key a hello asks for.
    pub(super) fn of(hello: &MeshHello) -> Self {
        let MeshHello { group, channel, from, lane, .. } = *hello;
        Self { group, channel, from, lane }
    }
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, channel, from, lane } = self;
        write!(f, "group {group:x}, channel {channel}, rank {from}, lane {lane}")
    }
}

/// A data connection with its hello, and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The socket, non-blocking, with nothing read behind the hello.
    pub(crate) stream: Stream,
    /// At most two.
    pub(crate) fds: Vec<OwnedFd>,
    /// What the other side said it is for.
    pub(crate) hello: MeshHello,
}

/// The connections that wait.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<HashMap<LinkKey, Accepted>>,
    came: Condvar,
    refusal: Mutex<Option<Refusal>>,
    /// Why a connection that had come in was lost; it does not come again.
    lost: Mutex<Option<Refusal>>,
}

impl Inbox {
    /// Puts a connection in, unless one with its key waits already: the first one wins.
    pub(super) fn put(&self, accepted: Accepted) -> Result<(), &'static str> {
        let key = LinkKey::of(&accepted.hello);
        let mut waiting = lock(&self.waiting);
        if waiting.contains_key(&key) {
            return Err("it is the second one for the same link");
        }
        if waiting.len() >= WAITING {
            return Err("too many connections wait to be fetched");
        }
        waiting.insert(key, accepted);
        drop(waiting);
        self.came.notify_all();
        Ok(())
    }

    /// Fetches the connection `key` if it is here.
    pub(super) fn take(&self, key: &LinkKey) -> Option<Accepted> {
        lock(&self.waiting).remove(key)
    }

    /// Fetches the connection `key`, waiting for it at most `timeout`.
    #[cfg(test)]
    pub(super) fn wait_for(&self, key: &LinkKey, timeout: Duration) -> Option<Accepted> {
        let deadline = Deadline::after(timeout);
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(accepted) = waiting.remove(key) {
                return Some(accepted);
            }
            if deadline.passed() {
                return None;
            }
            let woken = self.came.wait_timeout(waiting, deadline.left());
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes whether connections can be accepted at present.
    pub(super) fn note(&self, refusal: Option<Refusal>) {
        *lock(&self.refusal) = refusal;
    }

    /// Notes that a connection was lost for want of descriptors.
    pub(super) fn note_loss(&self, source: io::Error) {
        let loss = Refusal { since: Instant::now(), source: Arc::new(source) };
        lock(&self.lost).get_or_insert(loss);
    }

    /// Why no connection comes in for `grace` already, if the system accepts none, or one was lost.
    pub(super) fn refused_for(&self, grace: Duration) -> Option<Arc<io::Error>> {
        let refusal = lock(&self.refusal).clone().or_else(|| lock(&self.lost).clone())?;
        (refusal.since.elapsed() >= grace).then_some(refusal.source)
    }

    /// Closes what waits for a group that is no more.
    pub(super) fn forget(&self, group: u64) {
        lock(&self.waiting).retain(|key, _| key.group != group);
    }

    /// Closes everything.
    pub(super) fn clear(&self) {
        lock(&self.waiting).clear();
    }
}
