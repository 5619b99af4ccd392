//! A store inside one process.

use core::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::store::Store;
use crate::store::names;
use crate::store::table::Refusal;
use crate::store::table::Table;

/// A store for ranks that are threads of one process. Clones share what it holds.
///
/// ```
/// use std::time::Duration;
/// use nccl::store::{MemoryStore, Store};
///
/// let store = MemoryStore::new(Duration::from_secs(5));
/// let other = store.clone();
/// std::thread::spawn(move || other.set("address", b"here"));
/// assert_eq!(store.get("address")?, b"here");
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    timeout: Duration,
}

struct Shared {
    table: Mutex<Table>,
    changed: Condvar,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store; `timeout` bounds calls that are given none.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        let shared = Shared { table: Mutex::new(Table::new(usize::MAX)), changed: Condvar::new() };
        Self { shared: Arc::new(shared), timeout }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and wakes those that wait.
    fn change<T>(
        &self,
        op: &'static str,
        change: impl FnOnce(&mut Table) -> Result<T, Refusal>,
    ) -> Result<T> {
        let done = change(&mut self.table());
        self.shared.changed.notify_all();
        done.map_err(|refusal| Error::StoreRefused {
            store: self.describe(),
            op,
            problem: refusal.to_string(),
        })
    }

    /// What `take` finds as soon as it finds anything; it takes out of the list of keys what is there.
    fn until<T>(
        &self,
        op: &'static str,
        keys: &[&str],
        timeout: Duration,
        mut take: impl FnMut(&mut Table, &mut Vec<&str>) -> Option<T>,
    ) -> Result<T> {
        let deadline = Deadline::after(timeout);
        let mut missing = keys.to_vec();
        let mut table = self.table();
        loop {
            if let Some(found) = take(&mut table, &mut missing) {
                return Ok(found);
            }
            if deadline.passed() {
                return Err(Error::StoreTimeout {
                    store: self.describe(),
                    op,
                    keys: names::list(&missing),
                    waited: deadline.waited(),
                });
            }
            let waited = self.shared.changed.wait_timeout(table, deadline.left());
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether all keys have been there. Like the server: one that was there once counts, even if it was
/// deleted since.
fn all_were_there(table: &mut Table, missing: &mut Vec<&str>) -> Option<()> {
    missing.retain(|key| !table.contains(key.as_bytes()));
    missing.is_empty().then_some(())
}

fn value(table: &Table, key: &str) -> Vec<u8> {
    table.get(key.as_bytes()).unwrap_or_default().to_vec()
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.change("set", |table| table.set(key.into(), value.to_vec()))
    }

    fn get_within(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        self.until("get", &[key], timeout, |table, missing| {
            all_were_there(table, missing).map(|()| value(table, key))
        })
    }

    fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()> {
        self.until("wait", keys, timeout, all_were_there)
    }

    fn add(&self, key: &str, delta: i64) -> Result<i64> {
        self.change("add", |table| table.add(key.into(), delta))
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>> {
        let done = self.change("compare_set", |table| {
            table.compare_set(key.into(), expected.to_vec(), desired.to_vec())
        });
        done.map(|(answer, _)| answer)
    }

    fn check(&self, keys: &[&str]) -> Result<bool> {
        let table = self.table();
        Ok(keys.iter().all(|key| table.contains(key.as_bytes())))
    }

    fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.table().delete(key.as_bytes()))
    }

    fn num_keys(&self) -> Result<usize> {
        Ok(self.table().count())
    }

    fn append(&self, key: &str, value: &[u8]) -> Result<()> {
        self.change("append", |table| table.append(key.into(), value))
    }

    fn multi_get(&self, keys: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.until("multi_get", keys, self.timeout, |table, missing| {
            all_were_there(table, missing)
                .map(|()| keys.iter().map(|key| value(table, key)).collect())
        })
    }

    fn multi_set(&self, pairs: &[(&str, &[u8])]) -> Result<()> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).into(), value.to_vec())).collect();
        self.change("multi_set", |table| table.set_all(pairs))
    }

    fn queue_push(&self, key: &str, value: &[u8]) -> Result<()> {
        self.change("queue_push", |table| table.push(key.into(), value.to_vec()))
    }

    fn queue_pop(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        self.until("queue_pop", &[key], timeout, |table, _| table.pop(key.as_bytes()).1)
    }

    fn queue_len(&self, key: &str) -> Result<usize> {
        Ok(self.table().queue_len(key.as_bytes()))
    }

    fn ping(&self) -> Result<()> {
        Ok(())
    }
}
