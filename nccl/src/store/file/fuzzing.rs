//! Entries for `fuzz/`.

use crate::store::file::log::CLOSED;
use crate::store::file::log::Log;
use crate::store::file::log::OPEN;

/// The log of a file store: taken in two pieces, it amounts to the same.
pub(in crate::store) fn store_files(bytes: &[u8]) {
    let mut whole = Log::new();
    if whole.take(bytes).is_err() {
        return;
    }
    assert!(whole.taken_bytes <= bytes.len() as u64);
    let mut pieces = Log::new();
    let first = bytes.get(..bytes.len() / 2).unwrap_or_default();
    if pieces.take(first).is_err() {
        // Half of a first record alone is no log yet.
        return;
    }
    let taken = usize::try_from(pieces.taken_bytes).unwrap_or(usize::MAX);
    let rest = pieces.take(bytes.get(taken..).unwrap_or_default());
    assert!(rest.is_ok());
    assert_eq!(pieces.taken_bytes, whole.taken_bytes);
    for name in [OPEN, CLOSED] {
        assert_eq!(pieces.counter(name), whole.counter(name));
    }
}
