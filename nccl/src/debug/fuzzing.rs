//! Entries for `fuzz/`.

use crate::debug::level::Level;
use crate::debug::logger::expand;
use crate::debug::subsys::Subsys;

/// `NCCL_DEBUG_FILE`, `NCCL_DEBUG` and `NCCL_DEBUG_SUBSYS`.
pub fn debug_files(text: &str) {
    let path = expand(text, "host", 7);
    assert!(text.contains('%') || path == text);
    assert!(path.len() <= text.len() * 2);
    let _ = Level::parse(text);
    let _ = Subsys::parse(text);
}
