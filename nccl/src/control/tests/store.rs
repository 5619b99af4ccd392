//! A store in memory with what joining needs.

use std::collections::HashMap;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;

use crate::error::Error;
use crate::error::Result;
use crate::store::Store;
use crate::trace::lock;

#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    map: Mutex<HashMap<String, Vec<u8>>>,
    changed: Condvar,
}

fn no<T>(op: &'static str) -> Result<T> {
    Err(Error::StoreRefused { store: "test".into(), op, problem: "not in this test".into() })
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".into()
    }
    fn timeout(&self) -> Duration {
        Duration::from_secs(5)
    }
    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        lock(&self.map).insert(key.into(), value.into());
        self.changed.notify_all();
        Ok(())
    }
    fn get_within(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        let map = lock(&self.map);
        let found = self.changed.wait_timeout_while(map, timeout, |map| !map.contains_key(key));
        let value = found.unwrap().0.get(key).cloned();
        let (store, keys) = ("test".into(), key.into());
        value.ok_or(Error::StoreTimeout { store, op: "get", keys, waited: timeout })
    }
    fn wait(&self, _: &[&str], _: Duration) -> Result<()> {
        no("wait")
    }
    fn add(&self, _: &str, _: i64) -> Result<i64> {
        no("add")
    }
    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>> {
        let mut map = lock(&self.map);
        let now = match map.get(key) {
            Some(value) if value != expected => value.clone(),
            None if !expected.is_empty() => expected.to_vec(),
            _ => {
                map.insert(key.into(), desired.into());
                desired.to_vec()
            }
        };
        self.changed.notify_all();
        Ok(now)
    }
    fn check(&self, keys: &[&str]) -> Result<bool> {
        let map = lock(&self.map);
        Ok(keys.iter().all(|key| map.contains_key(*key)))
    }
    fn delete(&self, _: &str) -> Result<bool> {
        no("delete")
    }
    fn num_keys(&self) -> Result<usize> {
        Ok(lock(&self.map).len())
    }
    fn append(&self, _: &str, _: &[u8]) -> Result<()> {
        no("append")
    }
    fn multi_get(&self, _: &[&str]) -> Result<Vec<Vec<u8>>> {
        no("multi_get")
    }
    fn multi_set(&self, _: &[(&str, &[u8])]) -> Result<()> {
        no("multi_set")
    }
    fn queue_push(&self, _: &str, _: &[u8]) -> Result<()> {
        no("queue_push")
    }
    fn queue_pop(&self, _: &str, _: Duration) -> Result<Vec<u8>> {
        no("queue_pop")
    }
    fn queue_len(&self, _: &str) -> Result<usize> {
        no("queue_len")
    }
    fn ping(&self) -> Result<()> {
        Ok(())
    }
}
