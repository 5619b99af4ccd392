//! The file of a file store: a log of records that only grows.
//!
//! A record is a key and a value, each behind its length in four bytes. A key `/k` sets `k`, `-/k`
//! deletes it. Ours, which torch reads and passes over: `>/k` appends the value to the queue `k`,
//! `</k` takes its first. `refcount/` and `cleanup/` count the stores that use the file.
//!
//! # Source
//! `FileStore.cpp` of torch.

use core::fmt;
use std::collections::HashMap;

use crate::store::table::Table;

/// The counter of the stores that are open.
pub(super) const OPEN: &[u8] = b"refcount/";
/// The counter of the stores that were closed.
pub(super) const CLOSED: &[u8] = b"cleanup/";

/// What stands before the slash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The key has this value.
    Set,
    /// The key has no value.
    Delete,
    /// The queue has one more value.
    Push,
    /// The queue has its first value no longer.
    Pop,
}

impl Mark {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Set => b"",
            Self::Delete => b"-",
            Self::Push => b">",
            Self::Pop => b"<",
        }
    }
}

/// Bytes that are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoLog;

impl fmt::Display for NoLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is no log of a file store")
    }
}

/// What the records so far amount to.
#[derive(Debug)]
pub(super) struct Log {
    /// Keys and queues, without their slash.
    pub(super) table: Table,
    counters: HashMap<Vec<u8>, i64>,
    /// How many bytes of the file are in it.
    pub(super) taken_bytes: u64,
}

impl Log {
    /// A log of no record.
    pub(super) fn new() -> Self {
        Self { table: Table::new(usize::MAX), counters: HashMap::new(), taken_bytes: 0 }
    }

    /// The counter `name`.
    pub(super) fn counter(&self, name: &[u8]) -> i64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Takes the whole records at the front of `bytes`, which stand behind those taken before.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), NoLog> {
        let mut is_first = self.taken_bytes == 0;
        while let Some((key, value, rest)) = split_record(bytes) {
            self.apply(key, value)?;
            self.taken_bytes += (bytes.len() - rest.len()) as u64;
            bytes = rest;
            is_first = false;
        }
        // A torn record behind whole ones is a writer that was killed; one alone is another file.
        if is_first && !bytes.is_empty() { Err(NoLog) } else { Ok(()) }
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), NoLog> {
        // The table has no limit, so that it never refuses.
        match key.split_first() {
            Some((b'/', key)) => {
                let _ = self.table.set(key.to_vec(), value.to_vec());
            }
            Some((b'-', [b'/', key @ ..])) => {
                self.table.delete(key);
            }
            Some((b'>', [b'/', key @ ..])) => {
                let _ = self.table.push(key.to_vec(), value.to_vec());
            }
            Some((b'<', [b'/', key @ ..])) => {
                self.table.pop(key);
            }
            _ if key == OPEN || key == CLOSED => {
                let number = core::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.counters.insert(key.to_vec(), number.ok_or(NoLog)?);
            }
            _ => return Err(NoLog),
        }
        Ok(())
    }
}

/// Appends a record about a key to `out`.
pub(super) fn put(out: &mut Vec<u8>, mark: Mark, key: &str, value: &[u8]) {
    let mut marked = mark.bytes().to_vec();
    marked.push(b'/');
    marked.extend_from_slice(key.as_bytes());
    put_raw(out, &marked, value);
}

/// Appends a record to `out`. Keys and values of 4 GiB are refused before.
pub(super) fn put_raw(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(part);
    }
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key, rest) = split_part(bytes)?;
    let (value, rest) = split_part(rest)?;
    Some((key, value, rest))
}

fn split_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What torch 2.15 writes for `set k v`, `add n 3`, `delete k`.
    const TORCH: &[u8] = b"\x09\0\0\0refcount/\x01\0\0\x001\x02\0\0\0/k\x01\0\0\0v\
        \x02\0\0\0/n\x01\0\0\x003\x03\0\0\0-/k\0\0\0\0";

    #[test]
    fn torchs_records_are_read_and_written_byte_for_byte() {
        let mut log = Log::new();
        log.take(TORCH).unwrap();
        assert_eq!(log.counter(OPEN), 1);
        assert_eq!((log.table.count(), log.table.number(b"n")), (1, Some(3)));
        let mut bytes = Vec::new();
        put_raw(&mut bytes, OPEN, b"1");
        put(&mut bytes, Mark::Set, "k", b"v");
        put(&mut bytes, Mark::Set, "n", b"3");
        put(&mut bytes, Mark::Delete, "k", b"");
        assert_eq!(bytes, TORCH);
    }

    #[test]
    fn a_log_cut_at_any_byte_has_the_whole_records_before() {
        for cut in 0..=TORCH.len() {
            let mut log = Log::new();
            let taken = log.take(&TORCH[..cut]);
            assert_eq!(taken.is_err(), (1..18).contains(&cut), "{cut}");
            if taken.is_ok() {
                let from = usize::try_from(log.taken_bytes).unwrap();
                assert!(from <= cut);
                log.take(&TORCH[from..]).unwrap();
                assert_eq!(log.taken_bytes, TORCH.len() as u64);
                assert_eq!(log.table.number(b"n"), Some(3));
            }
        }
    }

    #[test]
    fn another_file_is_no_log() {
        for bytes in [&b"root:x:0:0:root:/root:/bin/bash\n"[..], &[0xff; 64], &[0; 64]] {
            assert_eq!(Log::new().take(bytes), Err(NoLog));
        }
    }
}
