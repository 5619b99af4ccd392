//! Handles: numbers that look like pointers, are never used twice, and name what is still there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::code::Code;

/// The next handle. Never reused, so that a destroyed one is known as such.
static NEXT: AtomicUsize = AtomicUsize::new(0x5fa0_0000_0000);

/// Things of one kind by handle.
#[derive(Debug)]
pub(crate) struct Registry<T>(Mutex<BTreeMap<usize, Arc<T>>>);

/// Locks, also after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a handle that was never given before.
pub(crate) fn new_handle() -> usize {
    NEXT.fetch_add(64, Ordering::Relaxed)
}

impl<T> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Adds a thing under a handle of [`new_handle`].
    pub(crate) fn add(&self, handle: usize, thing: Arc<T>) {
        lock(&self.0).insert(handle, thing);
    }

    /// Gives the thing, or `INVALID_HANDLE` when it was destroyed or never was.
    pub(crate) fn get(&self, handle: usize) -> Result<Arc<T>, Code> {
        lock(&self.0).get(&handle).cloned().ok_or(Code::INVALID_HANDLE)
    }

    /// Takes the thing out.
    pub(crate) fn remove(&self, handle: usize) -> Result<Arc<T>, Code> {
        lock(&self.0).remove(&handle).ok_or(Code::INVALID_HANDLE)
    }

    /// Gives all.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.0).values().cloned().collect()
    }
}
