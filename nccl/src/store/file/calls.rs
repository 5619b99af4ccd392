//! The calls of a store, as records.

use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::store::Store;
use crate::store::file::FileStore;
use crate::store::file::MAX_VALUE_BYTES;
use crate::store::file::State;
use crate::store::file::log;
use crate::store::file::log::Mark;
use crate::store::file::missing_of;
use crate::store::names;
use crate::store::table::Table;

impl FileStore {
    /// Appends the records that `change` makes of what is there; its value is the answer.
    fn change<T>(
        &self,
        op: &'static str,
        deadline: &Deadline,
        change: impl FnOnce(&Table, &mut Vec<u8>) -> Result<T, String>,
    ) -> Result<T> {
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let mut locked = self.locked(op, exclusive, deadline)?;
        let mut records = Vec::new();
        let answer = change(&locked.state.log.table, &mut records)
            .map_err(|problem| self.refused(op, problem))?;
        self.write(op, &mut locked, &records)?;
        Ok(answer)
    }

    /// Reads what is there now.
    fn look<T>(&self, op: &'static str, look: impl FnOnce(&State) -> T) -> Result<T> {
        let deadline = Deadline::after(self.timeout);
        let locked = self.locked(op, FlockOperation::NonBlockingLockShared, &deadline)?;
        Ok(look(&locked.state))
    }

    fn refused(&self, op: &'static str, problem: String) -> Error {
        Error::StoreRefused { store: self.describe(), op, problem }
    }

    fn check_sizes(&self, op: &'static str, key: &str, value: &[u8]) -> Result<()> {
        if key.len() > MAX_VALUE_BYTES || value.len() > MAX_VALUE_BYTES {
            let problem = format!("keys and values may have up to {MAX_VALUE_BYTES} bytes");
            return Err(self.refused(op, problem));
        }
        Ok(())
    }

    fn own_deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }
}

impl Store for FileStore {
    fn describe(&self) -> String {
        self.name()
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.check_sizes("set", key, value)?;
        self.change("set", &self.own_deadline(), |_, records| {
            log::put(records, Mark::Set, key, value);
            Ok(())
        })
    }

    fn get_within(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        self.poll("get", &Deadline::after(timeout), |state| {
            missing_of(state, &[key])?;
            Ok(state.log.table.get(key.as_bytes()).unwrap_or_default().to_vec())
        })
    }

    fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()> {
        self.poll("wait", &Deadline::after(timeout), |state| missing_of(state, keys))
    }

    fn add(&self, key: &str, delta: i64) -> Result<i64> {
        self.check_sizes("add", key, b"")?;
        self.change("add", &self.own_deadline(), |table, records| {
            let sum = table.sum(key.as_bytes(), delta).map_err(|refusal| refusal.to_string())?;
            log::put(records, Mark::Set, key, sum.to_string().as_bytes());
            Ok(sum)
        })
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>> {
        const OP: &str = "compare_set";
        self.check_sizes(OP, key, desired)?;
        self.change(OP, &self.own_deadline(), |table, records| {
            match table.get(key.as_bytes()) {
                Some(current) if current != expected => return Ok(current.to_vec()),
                None if !expected.is_empty() => return Ok(expected.to_vec()),
                _ => {}
            }
            log::put(records, Mark::Set, key, desired);
            Ok(desired.to_vec())
        })
    }

    fn check(&self, keys: &[&str]) -> Result<bool> {
        self.look("check", |state| missing_of(state, keys).is_ok())
    }

    fn delete(&self, key: &str) -> Result<bool> {
        self.change("delete", &self.own_deadline(), |table, records| {
            let was_there = table.get(key.as_bytes()).is_some();
            if was_there {
                log::put(records, Mark::Delete, key, b"");
            }
            Ok(was_there)
        })
    }

    fn num_keys(&self) -> Result<usize> {
        self.look("num_keys", |state| state.log.table.count())
    }

    fn append(&self, key: &str, value: &[u8]) -> Result<()> {
        self.check_sizes("append", key, value)?;
        self.change("append", &self.own_deadline(), |table, records| {
            let mut whole = table.get(key.as_bytes()).unwrap_or_default().to_vec();
            whole.extend_from_slice(value);
            if whole.len() > MAX_VALUE_BYTES {
                return Err(format!("values may have up to {MAX_VALUE_BYTES} bytes"));
            }
            log::put(records, Mark::Set, key, &whole);
            Ok(())
        })
    }

    fn multi_get(&self, keys: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.poll("multi_get", &self.own_deadline(), |state| {
            missing_of(state, keys)?;
            let table = &state.log.table;
            let value = |key: &&str| table.get(key.as_bytes()).unwrap_or_default().to_vec();
            Ok(keys.iter().map(value).collect())
        })
    }

    fn multi_set(&self, pairs: &[(&str, &[u8])]) -> Result<()> {
        for (key, value) in pairs {
            self.check_sizes("multi_set", key, value)?;
        }
        self.change("multi_set", &self.own_deadline(), |_, records| {
            for (key, value) in pairs {
                log::put(records, Mark::Set, key, value);
            }
            Ok(())
        })
    }

    fn queue_push(&self, key: &str, value: &[u8]) -> Result<()> {
        self.check_sizes("queue_push", key, value)?;
        self.change("queue_push", &self.own_deadline(), |_, records| {
            log::put(records, Mark::Push, key, value);
            Ok(())
        })
    }

    fn queue_pop(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        const OP: &str = "queue_pop";
        let deadline = Deadline::after(timeout);
        loop {
            if !timeout.is_zero() {
                self.poll(OP, &deadline, |state| {
                    match state.log.table.queue_len(key.as_bytes()) {
                        0 => Err(names::list(&[key])),
                        _ => Ok(()),
                    }
                })?;
            }
            // The lock is taken with the store's timeout: a short one is about the queue.
            let first = self.change(OP, &self.own_deadline(), |table, records| {
                let first = table.first(key.as_bytes()).map(<[u8]>::to_vec);
                if first.is_some() {
                    log::put(records, Mark::Pop, key, b"");
                }
                Ok(first)
            })?;
            match first {
                Some(value) => return Ok(value),
                None if deadline.passed() => {
                    return Err(self.timed_out(OP, &names::list(&[key]), &deadline));
                }
                None => {}
            }
        }
    }

    fn queue_len(&self, key: &str) -> Result<usize> {
        self.look("queue_len", |state| state.log.table.queue_len(key.as_bytes()))
    }

    fn ping(&self) -> Result<()> {
        self.look("ping", |_| ())
    }
}
