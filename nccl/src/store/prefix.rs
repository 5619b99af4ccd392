//! A part of a store under a prefix of its own.

use std::time::Duration;

use crate::error::Result;
use crate::store::SharedStore;
use crate::store::Store;

/// A view of another store in which every key gets a prefix: `prefix/key`.
///
/// Prefixes nest as in torch: the outer store adds its prefix first, the store that it wraps adds
/// its own in front. `num_keys` counts the keys of the whole store.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use nccl::store::{MemoryStore, PrefixStore, Store};
///
/// let base = MemoryStore::new(Duration::from_secs(5));
/// let inner = Arc::new(PrefixStore::new("inner", Arc::new(base.clone())));
/// let outer = PrefixStore::new("outer", inner);
/// outer.set("k", b"v")?;
/// assert_eq!(base.get("inner/outer/k")?, b"v");
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PrefixStore {
    prefix: String,
    store: SharedStore,
}

impl PrefixStore {
    /// A view of `store` under `prefix`.
    pub fn new(prefix: impl Into<String>, store: SharedStore) -> Self {
        Self { prefix: prefix.into(), store }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    fn keys(&self, keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| self.key(key)).collect()
    }
}

fn slices(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

impl Store for PrefixStore {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn timeout(&self) -> Duration {
        self.store.timeout()
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.store.set(&self.key(key), value)
    }

    fn get_within(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        self.store.get_within(&self.key(key), timeout)
    }

    fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()> {
        self.store.wait(&slices(&self.keys(keys)), timeout)
    }

    fn add(&self, key: &str, delta: i64) -> Result<i64> {
        self.store.add(&self.key(key), delta)
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>> {
        self.store.compare_set(&self.key(key), expected, desired)
    }

    fn check(&self, keys: &[&str]) -> Result<bool> {
        self.store.check(&slices(&self.keys(keys)))
    }

    fn delete(&self, key: &str) -> Result<bool> {
        self.store.delete(&self.key(key))
    }

    fn num_keys(&self) -> Result<usize> {
        self.store.num_keys()
    }

    fn append(&self, key: &str, value: &[u8]) -> Result<()> {
        self.store.append(&self.key(key), value)
    }

    fn multi_get(&self, keys: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.store.multi_get(&slices(&self.keys(keys)))
    }

    fn multi_set(&self, pairs: &[(&str, &[u8])]) -> Result<()> {
        let keys: Vec<String> = pairs.iter().map(|(key, _)| self.key(key)).collect();
        let pairs: Vec<(&str, &[u8])> =
            keys.iter().zip(pairs).map(|(key, (_, value))| (key.as_str(), *value)).collect();
        self.store.multi_set(&pairs)
    }

    fn queue_push(&self, key: &str, value: &[u8]) -> Result<()> {
        self.store.queue_push(&self.key(key), value)
    }

    fn queue_pop(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        self.store.queue_pop(&self.key(key), timeout)
    }

    fn queue_len(&self, key: &str) -> Result<usize> {
        self.store.queue_len(&self.key(key))
    }

    fn ping(&self) -> Result<()> {
        self.store.ping()
    }
}
