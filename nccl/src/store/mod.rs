//! The key-value map where ranks meet.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;

mod client;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod memory;
mod names;
mod prefix;
mod server;
mod table;

pub use client::TcpStore;
pub use file::FileStore;
pub use memory::MemoryStore;
pub use prefix::PrefixStore;
pub use server::ServerLimits;
pub use server::TcpStoreServer;

/// A key-value map that all ranks of a job share, with c10d's semantics.
///
/// Keys are text, values bytes. Every call is bounded by [`Store::timeout`] or by the timeout it
/// is given. A store may be used by several threads at once.
///
/// # Source
/// `c10d::Store` of torch.
pub trait Store: fmt::Debug + Send + Sync {
    /// Where it is, for messages: `tcp://127.0.0.1:29500`, `file:///path`, `memory`.
    fn describe(&self) -> String;

    /// The bound on a call that is given none.
    fn timeout(&self) -> Duration;

    /// Sets `key` to `value`, whatever it was.
    ///
    /// # Errors
    /// When the store is lost, or refuses the size of the key or the value.
    fn set(&self, key: &str, value: &[u8]) -> Result<()>;

    /// Waits until `key` exists, at most `timeout`, and returns its value.
    ///
    /// # Errors
    /// [`StoreTimeout`](crate::Error::StoreTimeout) names the key and how long was waited.
    fn get_within(&self, key: &str, timeout: Duration) -> Result<Vec<u8>>;

    /// Waits until all `keys` exist, at most `timeout`.
    ///
    /// # Errors
    /// [`StoreTimeout`](crate::Error::StoreTimeout) names the keys that are missing.
    fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()>;

    /// Adds `delta` to the decimal number at `key` (0 when there is none); returns the sum.
    ///
    /// # Errors
    /// When the store is lost, or the value is not a number.
    fn add(&self, key: &str, delta: i64) -> Result<i64>;

    /// Sets `key` to `desired` if it is `expected`, where an empty `expected` also means that
    /// there is no such key. Returns the value afterwards; for a missing key and an `expected`
    /// that is not empty it sets nothing and returns `expected`, as torch does.
    ///
    /// # Errors
    /// When the store is lost.
    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>>;

    /// Whether all `keys` exist now.
    ///
    /// # Errors
    /// When the store is lost.
    fn check(&self, keys: &[&str]) -> Result<bool>;

    /// Removes `key`; says whether it was there.
    ///
    /// # Errors
    /// When the store is lost.
    fn delete(&self, key: &str) -> Result<bool>;

    /// How many keys there are, whatever their prefix.
    ///
    /// # Errors
    /// When the store is lost.
    fn num_keys(&self) -> Result<usize>;

    /// Appends `value` to what `key` holds, nothing at first.
    ///
    /// # Errors
    /// When the store is lost.
    fn append(&self, key: &str, value: &[u8]) -> Result<()>;

    /// Waits for all `keys`, then returns their values in the same order.
    ///
    /// # Errors
    /// [`StoreTimeout`](crate::Error::StoreTimeout) names the keys that are missing.
    fn multi_get(&self, keys: &[&str]) -> Result<Vec<Vec<u8>>>;

    /// Sets several keys in one request.
    ///
    /// # Errors
    /// When the store is lost.
    fn multi_set(&self, pairs: &[(&str, &[u8])]) -> Result<()>;

    /// Appends `value` to the queue `key`.
    ///
    /// # Errors
    /// When the store is lost or has no queues.
    fn queue_push(&self, key: &str, value: &[u8]) -> Result<()>;

    /// Takes the first value of the queue `key`, waiting for one at most `timeout`; a zero
    /// timeout does not wait.
    ///
    /// # Errors
    /// [`StoreTimeout`](crate::Error::StoreTimeout) if it stayed empty.
    fn queue_pop(&self, key: &str, timeout: Duration) -> Result<Vec<u8>>;

    /// How many values the queue `key` holds.
    ///
    /// # Errors
    /// When the store is lost or has no queues.
    fn queue_len(&self, key: &str) -> Result<usize>;

    /// Makes a round trip: whatever this store object wrote before is visible afterwards.
    ///
    /// # Errors
    /// When the store is lost.
    fn ping(&self) -> Result<()>;

    /// [`Store::get_within`] with the store's own timeout.
    ///
    /// # Errors
    /// As [`Store::get_within`].
    fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.get_within(key, self.timeout())
    }
}

/// A store that several owners share.
pub type SharedStore = Arc<dyn Store>;
