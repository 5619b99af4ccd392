//! What the server answers, and who is woken. Knows connections by number only.

use core::fmt;
use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::store::table::Refusal;
use crate::store::table::Table;
use crate::wire::store::NOT_READY;
use crate::wire::store::READY;
use crate::wire::store::Request;
use crate::wire::store::STOP_WAITING;
use crate::wire::store::WAIT_CANCELED;
use crate::wire::store::put_bytes;
use crate::wire::store::put_count;
use crate::wire::store::put_i64;

/// A wait for existence: any value will do.
const ANY_VALUE: i64 = i64::MIN;

/// What a key in a waiting list costs besides its bytes, about.
const WAITER_BYTES: usize = 160;

/// Why a request ends its connection: the protocol has no other way to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The table refuses.
    Refused(Refusal),
    /// The answer would be too long.
    LongAnswer { limit_bytes: usize },
    /// A second wait while one is pending.
    WaitsTwice,
    /// The magic number came twice.
    ValidatesTwice,
    /// Too many keys are being waited for.
    ManyWaiters { limit_bytes: usize },
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::LongAnswer { limit_bytes } => {
                write!(f, "the answer would be longer than {limit_bytes} bytes")
            }
            Self::WaitsTwice => f.write_str("a second wait while one is pending"),
            Self::ValidatesTwice => f.write_str("a second beginning of the connection"),
            Self::ManyWaiters { limit_bytes } => {
                write!(f, "the lists of waiting clients take more than {limit_bytes} bytes")
            }
        }
    }
}

impl From<Refusal> for Closed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What one connection waits for.
#[derive(Debug)]
struct Waiting {
    /// Keys that are still missing.
    missing: usize,
    /// Its places in the lists.
    places: Vec<(Vec<u8>, Place)>,
}

/// A place in the list of a key: the least number the key must have, then first come first.
type Place = (i64, u64);

/// The table and the waiting connections.
#[derive(Debug)]
pub(super) struct Engine {
    table: Table,
    limit_bytes: usize,
    max_answer_bytes: usize,
    /// By key, who waits for it.
    lists: HashMap<Vec<u8>, BTreeMap<Place, u64>>,
    waiting: HashMap<u64, Waiting>,
    waiting_bytes: usize,
    next_ticket: u64,
    /// Connections whose wait is over; each is owed one byte.
    woken: Vec<u64>,
    /// Connections that were woken for a value in a queue and have not fetched it yet.
    handed: HashMap<u64, Vec<u8>>,
}

impl Engine {
    /// An engine whose table takes up to `limit_bytes`, and whose answers are bounded.
    pub(super) fn new(limit_bytes: usize, max_answer_bytes: usize) -> Self {
        Self {
            table: Table::new(limit_bytes),
            limit_bytes,
            max_answer_bytes,
            lists: HashMap::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            next_ticket: 0,
            woken: Vec::new(),
            handed: HashMap::new(),
        }
    }

    /// The connections woken since the last call; each gets [`STOP_WAITING`].
    pub(super) fn take_woken(&mut self) -> Vec<u64> {
        core::mem::take(&mut self.woken)
    }

    /// Forgets a connection that is gone.
    pub(super) fn forget(&mut self, conn: u64) {
        self.end_wait(conn);
        self.woken.retain(|woken| *woken != conn);
        if let Some(key) = self.handed.remove(&conn) {
            self.hand_on(&key);
        }
    }

    /// Does what `conn` asks and appends the answer to `out`.
    pub(super) fn handle(
        &mut self,
        conn: u64,
        request: Request<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        if let Some(at) = self.woken.iter().position(|woken| *woken == conn) {
            // It woke itself a moment ago: that answer comes before this one.
            self.woken.remove(at);
            out.push(STOP_WAITING);
        }
        if let Some(key) = self.handed.remove(&conn) {
            // Woken for a value that it does not fetch: the next one that waits may.
            if !matches!(&request, Request::QueuePop(popped) if *popped == key) {
                self.hand_on(&key);
            }
        }
        match request {
            Request::Validate(_) => return Err(Closed::ValidatesTwice),
            Request::Set(key, value) => {
                self.table.set(key.clone(), value)?;
                self.changed(&key);
            }
            Request::CompareSet(key, expected, desired) => {
                let (answer, was_set) = self.table.compare_set(key.clone(), expected, desired)?;
                if was_set {
                    self.changed(&key);
                }
                put_bytes(out, &answer);
            }
            Request::Get(key) => put_bytes(out, self.table.get(&key).unwrap_or_default()),
            Request::Add(key, delta) => {
                put_i64(out, self.table.add(key.clone(), delta)?);
                self.changed(&key);
            }
            Request::Check(keys) => {
                let ready = keys.iter().all(|key| self.table.contains(key));
                out.push(if ready { READY } else { NOT_READY });
            }
            Request::Wait(keys) => self.wait(conn, keys, out)?,
            Request::CountKeys => put_count(out, self.table.count()),
            Request::Delete(key) => put_i64(out, i64::from(self.table.delete(&key))),
            Request::Append(key, value) => {
                self.table.append(key.clone(), &value)?;
                self.changed(&key);
            }
            Request::MultiGet(keys) => self.multi_get(&keys, out)?,
            Request::MultiSet(pairs) => self.multi_set(pairs)?,
            Request::CancelWait => {
                self.end_wait(conn);
                out.push(WAIT_CANCELED);
            }
            Request::Ping(number) => out.extend_from_slice(&number.to_le_bytes()),
            Request::QueuePush(key, value) => {
                self.table.push(key.clone(), value)?;
                self.wake_one(&key);
            }
            Request::QueuePop(key) => self.queue_pop(&key, out),
            Request::QueueLen(key) => put_count(out, self.table.queue_len(&key)),
            Request::ListKeys => self.list_keys(out)?,
            Request::Barrier(key, world_size) => self.barrier(conn, key, world_size, out)?,
        }
        Ok(())
    }

    fn wait(&mut self, conn: u64, keys: Vec<Vec<u8>>, out: &mut Vec<u8>) -> Result<(), Closed> {
        let missing: Vec<Vec<u8>> =
            keys.into_iter().filter(|key| !self.table.contains(key)).collect();
        if missing.is_empty() {
            self.put_stop(conn, out)
        } else {
            self.enlist(conn, missing, ANY_VALUE)
        }
    }

    fn barrier(
        &mut self,
        conn: u64,
        key: Vec<u8>,
        world_size: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        let arrived = self.table.add(key.clone(), 1)?;
        self.changed(&key);
        if arrived >= world_size {
            self.put_stop(conn, out)
        } else {
            self.enlist(conn, vec![key], world_size)
        }
    }

    /// Answers a wait that is over as it begins.
    fn put_stop(&self, conn: u64, out: &mut Vec<u8>) -> Result<(), Closed> {
        if self.waiting.contains_key(&conn) {
            return Err(Closed::WaitsTwice);
        }
        out.push(STOP_WAITING);
        Ok(())
    }

    fn enlist(&mut self, conn: u64, keys: Vec<Vec<u8>>, least: i64) -> Result<(), Closed> {
        if self.waiting.contains_key(&conn) {
            return Err(Closed::WaitsTwice);
        }
        let bytes: usize = keys.iter().map(|key| waiter_cost(key)).sum();
        if self.waiting_bytes.saturating_add(bytes) > self.limit_bytes {
            return Err(Closed::ManyWaiters { limit_bytes: self.limit_bytes });
        }
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        let mut waiting = Waiting { missing: keys.len(), places: Vec::with_capacity(keys.len()) };
        for key in keys {
            let place = (least, self.next_ticket);
            self.next_ticket = self.next_ticket.wrapping_add(1);
            self.lists.entry(key.clone()).or_default().insert(place, conn);
            waiting.places.push((key, place));
        }
        self.waiting.insert(conn, waiting);
        Ok(())
    }

    /// Wakes those for whom the new value of `key` is enough.
    fn changed(&mut self, key: &[u8]) {
        if !self.lists.contains_key(key) {
            return;
        }
        let number = self.table.number(key).unwrap_or(ANY_VALUE);
        while self.wake_first(key, number).is_some() {}
    }

    /// Wakes the first that waits for a value in the queue `key`.
    fn wake_one(&mut self, key: &[u8]) {
        while let Some((conn, is_over)) = self.wake_first(key, ANY_VALUE) {
            if is_over {
                self.handed.insert(conn, key.to_vec());
                return;
            }
        }
    }

    /// Wakes the next one if there is a value that nobody was woken for.
    fn hand_on(&mut self, key: &[u8]) {
        if self.table.queue_len(key) > 0 {
            self.wake_one(key);
        }
    }

    /// Takes the first out of the list of `key` that needs `number` or less; says who, and
    /// whether that ended its wait.
    fn wake_first(&mut self, key: &[u8], number: i64) -> Option<(u64, bool)> {
        let list = self.lists.get_mut(key)?;
        let first = list.first_entry().filter(|entry| entry.key().0 <= number)?;
        let conn = first.remove();
        if list.is_empty() {
            self.lists.remove(key);
        }
        let waiting = self.waiting.get_mut(&conn)?;
        waiting.missing = waiting.missing.saturating_sub(1);
        let is_over = waiting.missing == 0;
        if is_over {
            self.end_wait(conn);
            self.woken.push(conn);
        }
        Some((conn, is_over))
    }

    /// Takes `conn` out of all lists.
    fn end_wait(&mut self, conn: u64) {
        let Some(waiting) = self.waiting.remove(&conn) else { return };
        for (key, place) in waiting.places {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(waiter_cost(&key));
            if let Some(list) = self.lists.get_mut(&key) {
                list.remove(&place);
                if list.is_empty() {
                    self.lists.remove(&key);
                }
            }
        }
    }

    fn multi_get(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<(), Closed> {
        for key in keys {
            put_bytes(out, self.table.get(key).unwrap_or_default());
            self.bound_answer(out)?;
        }
        Ok(())
    }

    fn multi_set(&mut self, pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), Closed> {
        let keys: Vec<Vec<u8>> = pairs.iter().map(|(key, _)| key.clone()).collect();
        self.table.set_all(pairs)?;
        keys.iter().for_each(|key| self.changed(key));
        Ok(())
    }

    fn queue_pop(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let (before, first) = self.table.pop(key);
        put_count(out, before);
        if let Some(value) = first {
            put_bytes(out, &value);
        }
    }

    fn list_keys(&self, out: &mut Vec<u8>) -> Result<(), Closed> {
        put_count(out, self.table.count());
        for key in self.table.keys() {
            put_bytes(out, key);
            self.bound_answer(out)?;
        }
        Ok(())
    }

    fn bound_answer(&self, out: &[u8]) -> Result<(), Closed> {
        if out.len() > self.max_answer_bytes {
            return Err(Closed::LongAnswer { limit_bytes: self.max_answer_bytes });
        }
        Ok(())
    }
}

fn waiter_cost(key: &[u8]) -> usize {
    key.len().saturating_mul(2).saturating_add(WAITER_BYTES)
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
