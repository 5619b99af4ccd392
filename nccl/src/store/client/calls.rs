//! The calls of a store, as requests.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Result;
use crate::net::Backoff;
use crate::store::Store;
use crate::store::client::TcpStore;
use crate::store::client::exchange::slices;
use crate::store::client::pool::Lease;
use crate::wire::store::MAX_KEYS;
use crate::wire::store::READY;
use crate::wire::store::Request;

impl Store for TcpStore {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = self.wire_key("set", key)?;
        self.check_value("set", value)?;
        self.send("set", &Request::Set(&key, value))
    }

    fn get_within(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        let deadline = Deadline::after(timeout);
        let wire = self.wire_key("get", key)?;
        let mut lease = self.wait_for("get", &[key], &deadline)?;
        let answer = Deadline::after(deadline.left().max(Duration::from_secs(1)));
        let request = Request::Get(wire.as_slice());
        self.exchange_on(&mut lease, "get", true, &request, &answer, |conn, deadline| {
            conn.receive_value(deadline)
        })
    }

    fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()> {
        self.wait_for("wait", keys, &Deadline::after(timeout)).map(drop)
    }

    fn add(&self, key: &str, delta: i64) -> Result<i64> {
        let key = self.wire_key("add", key)?;
        let request = Request::Add(key.as_slice(), delta);
        self.exchange("add", false, &request, |conn, deadline| conn.receive_i64(deadline))
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>> {
        const OP: &str = "compare_set";
        let key = self.wire_key(OP, key)?;
        self.check_value(OP, expected)?;
        self.check_value(OP, desired)?;
        let request = Request::CompareSet(key.as_slice(), expected, desired);
        self.exchange(OP, false, &request, |conn, deadline| conn.receive_value(deadline))
    }

    fn check(&self, keys: &[&str]) -> Result<bool> {
        let keys = self.wire_keys("check", keys)?;
        let request = Request::Check(slices(&keys));
        self.exchange("check", true, &request, |conn, deadline| {
            Ok(conn.receive_u8(deadline)? == READY)
        })
    }

    fn delete(&self, key: &str) -> Result<bool> {
        let key = self.wire_key("delete", key)?;
        let request = Request::Delete(key.as_slice());
        self.exchange("delete", false, &request, |conn, deadline| {
            Ok(conn.receive_i64(deadline)? > 0)
        })
    }

    fn num_keys(&self) -> Result<usize> {
        let request = Request::<&[u8]>::CountKeys;
        self.exchange("num_keys", true, &request, |conn, deadline| conn.receive_count(deadline))
    }

    fn append(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = self.wire_key("append", key)?;
        self.check_value("append", value)?;
        self.send("append", &Request::Append(&key, value))
    }

    fn multi_get(&self, keys: &[&str]) -> Result<Vec<Vec<u8>>> {
        const OP: &str = "multi_get";
        let deadline = Deadline::after(self.timeout);
        let wire = self.wire_keys(OP, keys)?;
        let mut lease = self.wait_for(OP, keys, &deadline)?;
        let answer = Deadline::after(deadline.left().max(Duration::from_secs(1)));
        let request = Request::MultiGet(slices(&wire));
        self.exchange_on(&mut lease, OP, true, &request, &answer, |conn, deadline| {
            (0..keys.len()).map(|_| conn.receive_value(deadline)).collect()
        })
    }

    fn multi_set(&self, pairs: &[(&str, &[u8])]) -> Result<()> {
        const OP: &str = "multi_set";
        let names: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let keys = self.wire_keys(OP, &names)?;
        debug_assert!(keys.len() <= MAX_KEYS);
        let mut wire = Vec::with_capacity(pairs.len());
        for (key, (_, value)) in keys.iter().zip(pairs) {
            self.check_value(OP, value)?;
            wire.push((key.as_slice(), *value));
        }
        self.send(OP, &Request::MultiSet(wire))
    }

    fn queue_push(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = self.wire_key("queue_push", key)?;
        self.check_value("queue_push", value)?;
        self.send("queue_push", &Request::QueuePush(&key, value))
    }

    fn queue_pop(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        const OP: &str = "queue_pop";
        let deadline = Deadline::after(timeout);
        let wire = self.wire_key(OP, key)?;
        let request = Request::QueuePop(wire.as_slice());
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
        loop {
            let mut lease = if timeout.is_zero() {
                self.lease(OP, &Deadline::after(self.timeout))?
            } else {
                self.wait_for(OP, &[key], &deadline)?
            };
            let answer = Deadline::after(deadline.left().max(Duration::from_secs(1)));
            let popped =
                self.exchange_on(&mut lease, OP, false, &request, &answer, |conn, deadline| {
                    match conn.receive_count(deadline)? {
                        0 => Ok(None),
                        _ => conn.receive_value(deadline).map(Some),
                    }
                })?;
            // Another client may have been faster.
            match popped {
                Some(value) => return Ok(value),
                None if deadline.passed() => return Err(self.timed_out(OP, &[key], &deadline)),
                None => {
                    drop(lease);
                    thread::sleep(deadline.left_at_most(backoff.pause()));
                }
            }
        }
    }

    fn queue_len(&self, key: &str) -> Result<usize> {
        let key = self.wire_key("queue_len", key)?;
        let request = Request::QueueLen(key.as_slice());
        self.exchange("queue_len", true, &request, |conn, deadline| conn.receive_count(deadline))
    }

    fn ping(&self) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        let mut lease = self.lease("ping", &deadline)?;
        self.ping_on(&mut lease, "ping", &deadline)
    }
}

impl TcpStore {
    /// A round trip; servers that know no ping are asked for their size.
    pub(super) fn ping_on(
        &self,
        lease: &mut Lease<'_>,
        op: &'static str,
        deadline: &Deadline,
    ) -> Result<()> {
        if self.place.is_old.load(Ordering::Relaxed) {
            let request = Request::<&[u8]>::CountKeys;
            let count = self.exchange_on(lease, op, true, &request, deadline, |conn, deadline| {
                conn.receive_i64(deadline)
            });
            return count.map(drop);
        }
        let request = Request::<&[u8]>::Ping(std::process::id());
        self.exchange_on(lease, op, true, &request, deadline, |conn, deadline| {
            conn.receive(&mut [0; 4], deadline)
        })
    }
}
