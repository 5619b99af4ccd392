//! Entries for `fuzz/`.

pub use crate::store::client::fuzzing::store_replies;
use crate::store::file::fuzzing;
pub use crate::store::server::fuzzing::store_requests;

/// The log of a file store: taken in two pieces, it amounts to the same.
pub fn store_files(bytes: &[u8]) {
    fuzzing::store_files(bytes);
}
