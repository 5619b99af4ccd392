//! Waiting for keys without holding up other threads.

use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::store::client::TcpStore;
use crate::store::client::conn::Broken;
use crate::store::client::conn::Conn;
use crate::store::client::conn::Wake;
use crate::store::client::exchange::slices;
use crate::store::client::pool::Lease;
use crate::store::names;
use crate::wire::store::Request;
use crate::wire::store::STOP_WAITING;
use crate::wire::store::WAIT_CANCELED;

/// How long after a deadline the server may take to end a wait.
const GRACE: Duration = Duration::from_millis(800);

/// Most keys of which the missing ones are told apart.
const TOLD: usize = 4096;

/// How a wait on a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// All keys exist.
    Done,
    /// The deadline passed, and the server has forgotten the wait.
    TooLong,
    /// Another thread wants the connection, and the server has forgotten the wait.
    Wanted,
}

impl TcpStore {
    /// Waits for all `keys`, then holds the main connection for what comes next.
    pub(super) fn wait_for(
        &self,
        op: &'static str,
        keys: &[&str],
        deadline: &Deadline,
    ) -> Result<Lease<'_>> {
        let wire = self.wire_keys(op, keys)?;
        let mut request = Vec::new();
        Request::Wait(slices(&wire)).encode(&mut request);
        let mut lease = self.lease(op, deadline)?;
        match self.wait_on_main(&mut lease, op, &request, deadline)? {
            Waited::Done => return Ok(lease),
            Waited::TooLong => return Err(self.missing(&mut lease, op, keys, &wire, deadline)),
            Waited::Wanted => drop(lease),
        }
        let waited = self.wait_aside(op, &request, deadline)?;
        let mut lease = self.pool.lease(&Deadline::after(deadline.left().max(GRACE)));
        match (&mut lease, waited) {
            (Some(_), Waited::Done) => {}
            (Some(lease), _) => return Err(self.missing(lease, op, keys, &wire, deadline)),
            (None, _) => return Err(self.timed_out(op, keys, deadline)),
        }
        lease.ok_or_else(|| self.timed_out(op, keys, deadline))
    }

    /// Meets `world_size` clients at `key`, which is used up afterwards: each calls this once.
    ///
    /// # Errors
    /// [`StoreTimeout`](crate::Error::StoreTimeout) if they do not all come (those that came stay
    /// counted), and when the store is lost or its server does not know the request.
    pub fn barrier(&self, key: &str, world_size: usize, timeout: Duration) -> Result<()> {
        const OP: &str = "barrier";
        let deadline = Deadline::after(timeout);
        let wire = self.wire_key(OP, key)?;
        // What this client wrote before is there when the others pass.
        let mut lease = self.lease(OP, &deadline)?;
        if lease.conn.as_ref().is_some_and(|conn| conn.is_dirty) {
            self.ping_on(&mut lease, OP, &deadline)?;
        }
        drop(lease);
        let world_size = i64::try_from(world_size).unwrap_or(i64::MAX);
        let mut request = Vec::new();
        Request::Barrier(wire.as_slice(), world_size).encode(&mut request);
        match self.wait_aside(OP, &request, &deadline)? {
            Waited::Done => Ok(()),
            _ => Err(self.timed_out(OP, &[key], &deadline)),
        }
    }

    fn wait_on_main(
        &self,
        lease: &mut Lease<'_>,
        op: &'static str,
        request: &[u8],
        deadline: &Deadline,
    ) -> Result<Waited> {
        let mut may_retry = true;
        loop {
            let mut conn = self.ready(lease, op, deadline)?;
            let was_dirty = conn.is_dirty;
            let sent = conn.send(request, deadline);
            let done = sent.and_then(|()| self.await_answer(&mut conn, lease, deadline));
            match done {
                Ok(waited) => {
                    conn.is_dirty = false;
                    lease.conn = Some(conn);
                    return Ok(waited);
                }
                Err(Broken::Lost(_)) if may_retry && !was_dirty => may_retry = false,
                Err(broken) => return Err(self.broken(op, was_dirty, broken, deadline)),
            }
        }
    }

    /// Waits for the one byte; gives up when another thread wants the connection.
    fn await_answer(
        &self,
        conn: &mut Conn,
        lease: &Lease<'_>,
        deadline: &Deadline,
    ) -> Result<Waited, Broken> {
        let wake = match lease.park() {
            Some(bell) => conn.wait(Some(bell), deadline),
            None => conn.wait(None, &Deadline::after(Duration::ZERO)).map(|wake| match wake {
                Wake::Timeout => Wake::Wanted,
                other => other,
            }),
        };
        lease.unpark();
        finish(conn, wake?, deadline)
    }

    /// Waits on a connection that is not the main one.
    fn wait_aside(&self, op: &'static str, request: &[u8], deadline: &Deadline) -> Result<Waited> {
        let mut conn = match self.pool.take_spare() {
            Some(conn) => conn,
            None => self.open(op, deadline)?,
        };
        let sent = conn.send(request, deadline).and_then(|()| conn.wait(None, deadline));
        let waited = sent.and_then(|wake| finish(&mut conn, wake, deadline));
        match waited {
            Ok(waited) => {
                self.pool.put_spare(conn);
                Ok(waited)
            }
            Err(broken) => Err(self.broken(op, false, broken, deadline)),
        }
    }

    /// The error that names which of `keys` are missing, asked for once more.
    fn missing(
        &self,
        lease: &mut Lease<'_>,
        op: &'static str,
        keys: &[&str],
        wire: &[Vec<u8>],
        deadline: &Deadline,
    ) -> Error {
        let known = (2..=TOLD).contains(&keys.len()).then(|| self.absent(lease, keys, wire));
        match known.flatten() {
            Some(absent) if !absent.is_empty() => self.timed_out(op, &absent, deadline),
            _ => self.timed_out(op, keys, deadline),
        }
    }

    /// Which of `keys` do not exist now; none if that cannot be learned.
    fn absent<'k>(
        &self,
        lease: &mut Lease<'_>,
        keys: &[&'k str],
        wire: &[Vec<u8>],
    ) -> Option<Vec<&'k str>> {
        let grace = Deadline::after(GRACE);
        let mut conn = lease.conn.take()?;
        let mut requests = Vec::new();
        for key in wire {
            Request::Check(vec![key.as_slice()]).encode(&mut requests);
        }
        conn.send(&requests, &grace).ok()?;
        let mut absent = Vec::new();
        for key in keys {
            if conn.receive_u8(&grace).ok()? != crate::wire::store::READY {
                absent.push(*key);
            }
        }
        lease.conn = Some(conn);
        Some(absent)
    }

    /// The error that names `keys`.
    pub(super) fn timed_out(&self, op: &'static str, keys: &[&str], deadline: &Deadline) -> Error {
        Error::StoreTimeout {
            store: self.name.clone(),
            op,
            keys: names::list(keys),
            waited: deadline.waited(),
        }
    }
}

/// Reads the answer that is here, or ends the wait at the server. The two can cross: then the
/// server has answered both.
fn finish(conn: &mut Conn, wake: Wake, deadline: &Deadline) -> Result<Waited, Broken> {
    let grace = Deadline::after(deadline.left().max(GRACE));
    if wake == Wake::Readable {
        return match conn.receive_u8(&grace)? {
            STOP_WAITING => Ok(Waited::Done),
            other => Err(impossible(other)),
        };
    }
    let mut cancel = Vec::new();
    Request::<&[u8]>::CancelWait.encode(&mut cancel);
    conn.send(&cancel, &grace)?;
    match conn.receive_u8(&grace)? {
        WAIT_CANCELED if wake == Wake::Wanted => Ok(Waited::Wanted),
        WAIT_CANCELED => Ok(Waited::TooLong),
        STOP_WAITING => match conn.receive_u8(&grace)? {
            WAIT_CANCELED => Ok(Waited::Done),
            other => Err(impossible(other)),
        },
        other => Err(impossible(other)),
    }
}

fn impossible(byte: u8) -> Broken {
    Broken::Lost(format!("the server answers {byte} to a wait, which cannot be"))
}
