//! Windows: memory that other ranks may write into.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::data;
use crate::fail::lock;
use crate::watch;

/// A registered range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The same number on all ranks.
    pub(crate) number: u64,
    pub(crate) address: usize,
    pub(crate) size_bytes: usize,
}

/// The windows of a communicator, by handle.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    by_handle: Mutex<BTreeMap<usize, Window>>,
    made: Mutex<u64>,
}

impl Windows {
    /// Adds a window, and gives its handle.
    pub(crate) fn add(&self, address: usize, size_bytes: usize) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0x5fd0_0000_0000);
        let mut made = lock(&self.made);
        *made += 1;
        let handle = NEXT.fetch_add(64, Ordering::Relaxed);
        lock(&self.by_handle).insert(handle, Window { number: *made, address, size_bytes });
        handle
    }

    pub(crate) fn get(&self, handle: usize) -> Option<Window> {
        lock(&self.by_handle).get(&handle).copied()
    }

    pub(crate) fn remove(&self, handle: usize) -> Option<Window> {
        lock(&self.by_handle).remove(&handle)
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.by_handle).is_empty()
    }

    /// Writes what another rank puts.
    pub(crate) fn put(&self, number: u64, offset: u64, bytes: &[u8]) {
        let found = lock(&self.by_handle).values().find(|window| window.number == number).copied();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match found {
            Some(window)
                if offset.checked_add(bytes.len()).is_some_and(|end| end <= window.size_bytes) =>
            {
                data::write(window.address + offset, bytes);
            }
            // A signal alone comes with no bytes and no window.
            None if bytes.is_empty() => {}
            _ => watch::violation(&format!("a put outside of window {number}")),
        }
    }
}
