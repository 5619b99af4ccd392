//! One request and its answer.

use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::store::client::TcpStore;
use crate::store::client::conn::Broken;
use crate::store::client::conn::Conn;
use crate::store::client::pool::Lease;
use crate::wire::store::MAX_KEY_BYTES;
use crate::wire::store::MAX_KEYS;
use crate::wire::store::MAX_VALUE_BYTES;
use crate::wire::store::Request;

/// How long a broken connection is tried to be made again.
const RECONNECT: Duration = Duration::from_secs(5);

/// What ends the text of a lost connection while a write was not acknowledged.
const UNKNOWN: &str = "; the last writes of this client may be lost";

impl TcpStore {
    /// Sends a request and reads its answer. `is_read` says that doing it twice changes nothing.
    pub(super) fn exchange<T>(
        &self,
        op: &'static str,
        is_read: bool,
        request: &Request<&[u8]>,
        read: impl Fn(&mut Conn, &Deadline) -> Result<T, Broken>,
    ) -> Result<T> {
        let deadline = Deadline::after(self.timeout);
        let mut lease = self.lease(op, &deadline)?;
        self.exchange_on(&mut lease, op, is_read, request, &deadline, read)
    }

    /// As [`TcpStore::exchange`], on a connection that is held already.
    pub(super) fn exchange_on<T>(
        &self,
        lease: &mut Lease<'_>,
        op: &'static str,
        is_read: bool,
        request: &Request<&[u8]>,
        deadline: &Deadline,
        read: impl Fn(&mut Conn, &Deadline) -> Result<T, Broken>,
    ) -> Result<T> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let mut may_retry = is_read;
        loop {
            let mut conn = self.ready(lease, op, deadline)?;
            let was_dirty = conn.is_dirty;
            let done = conn.send(&bytes, deadline).and_then(|()| read(&mut conn, deadline));
            match done {
                Ok(answer) => {
                    conn.is_dirty = false;
                    lease.conn = Some(conn);
                    return Ok(answer);
                }
                Err(Broken::Lost(_)) if may_retry && !was_dirty => may_retry = false,
                Err(broken) => return Err(self.broken(op, was_dirty, broken, deadline)),
            }
        }
    }

    /// Sends a request that is not answered.
    pub(super) fn send(&self, op: &'static str, request: &Request<&[u8]>) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        let mut lease = self.lease(op, &deadline)?;
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let mut conn = self.ready(&mut lease, op, &deadline)?;
        let was_dirty = conn.is_dirty;
        match conn.send(&bytes, &deadline) {
            Ok(()) => {
                conn.is_dirty = true;
                lease.conn = Some(conn);
                Ok(())
            }
            Err(broken) => Err(self.broken(op, was_dirty, broken, &deadline)),
        }
    }

    /// Takes the main connection from the other threads.
    pub(super) fn lease(&self, op: &'static str, deadline: &Deadline) -> Result<Lease<'_>> {
        self.pool.lease(deadline).ok_or_else(|| Error::StoreTimeout {
            store: self.name.clone(),
            op,
            keys: "other calls of this process to the store".to_owned(),
            waited: deadline.waited(),
        })
    }

    /// The connection of a lease, made again if it ended while nothing was under way. It is out of
    /// the lease: whoever puts it back says that it is still good.
    pub(super) fn ready(
        &self,
        lease: &mut Lease<'_>,
        op: &'static str,
        deadline: &Deadline,
    ) -> Result<Conn> {
        if let Some(conn) = lease.conn.take() {
            if conn.is_quiet() {
                return Ok(conn);
            }
            if conn.is_dirty {
                let why = "the server closed the connection".to_owned();
                return Err(self.broken(op, true, Broken::Lost(why), deadline));
            }
        }
        self.open(op, deadline)
    }

    /// A new connection to the same store.
    pub(super) fn open(&self, op: &'static str, deadline: &Deadline) -> Result<Conn> {
        let patience = Deadline::after(deadline.left_at_most(RECONNECT));
        self.place.reconnect(&patience).map_err(|error| Error::StoreLost {
            store: self.name.clone(),
            op,
            why: match error {
                Error::Connect { why, .. } => why,
                other => other.to_string(),
            },
        })
    }

    /// The error of an exchange that ended in its middle.
    pub(super) fn broken(
        &self,
        op: &'static str,
        was_dirty: bool,
        broken: Broken,
        deadline: &Deadline,
    ) -> Error {
        match broken {
            Broken::Timeout => Error::StoreTimeout {
                store: self.name.clone(),
                op,
                keys: "the server's answer".to_owned(),
                waited: deadline.waited(),
            },
            Broken::Lost(why) => {
                let hint = match op {
                    "add" => "; a server also does this when the value is no number",
                    _ if was_dirty => UNKNOWN,
                    _ => "",
                };
                Error::StoreLost { store: self.name.clone(), op, why: format!("{why}{hint}") }
            }
        }
    }

    /// A key as it is on the wire.
    pub(super) fn wire_key(&self, op: &'static str, key: &str) -> Result<Vec<u8>> {
        let mut wire = Vec::with_capacity(key.len() + 1);
        wire.push(b'/');
        wire.extend_from_slice(key.as_bytes());
        self.limit(op, "key", wire.len(), MAX_KEY_BYTES, "bytes with its slash")?;
        Ok(wire)
    }

    /// Keys as they are on the wire.
    pub(super) fn wire_keys(&self, op: &'static str, keys: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.limit(op, "list", keys.len(), MAX_KEYS, "keys")?;
        keys.iter().map(|key| self.wire_key(op, key)).collect()
    }

    /// Refuses a value that a server would refuse by closing the connection.
    pub(super) fn check_value(&self, op: &'static str, value: &[u8]) -> Result<()> {
        self.limit(op, "value", value.len(), MAX_VALUE_BYTES, "bytes")
    }

    fn limit(
        &self,
        op: &'static str,
        what: &str,
        got: usize,
        max: usize,
        unit: &str,
    ) -> Result<()> {
        if got <= max {
            return Ok(());
        }
        Err(Error::StoreRefused {
            store: self.name.clone(),
            op,
            problem: format!("the {what} has {got} {unit}, the protocol allows {max}"),
        })
    }
}

/// Borrows keys for a request.
pub(super) fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}
