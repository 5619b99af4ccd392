//! Which NCCL this is: 2.32.3, unless a copy of the library or a variable says otherwise.

#![expect(unsafe_code, reason = "reads a constant that tests change in copies of the file")]

use std::ptr;
use std::sync::LazyLock;

/// The version, findable in the file: a test that wants an older library changes it in a copy.
static MARK: [u8; 32] = *b"FAKE-NCCL-VERSION=02.32.03\0\0\0\0\0\0";

/// The version as `ncclGetVersion` gives it: 23203 for 2.32.3.
pub(crate) fn code() -> i32 {
    static CODE: LazyLock<i32> = LazyLock::new(|| match std::env::var("FAKE_NCCL_VERSION") {
        Ok(text) => parse(&text).unwrap_or_else(|| panic!("FAKE_NCCL_VERSION={text}: not 2.x.y")),
        Err(_) => parse(&mark()).unwrap_or_else(|| panic!("the version in the file is broken")),
    });
    *CODE
}

fn mark() -> String {
    // SAFETY: a valid static; volatile, because the file may hold other bytes than the source.
    let bytes = unsafe { ptr::read_volatile(&raw const MARK) };
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').trim_start_matches("FAKE-NCCL-VERSION=").to_owned()
}

fn parse(text: &str) -> Option<i32> {
    let mut parts = text.trim().split('.').map(|part| part.parse::<i32>().ok());
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
    Some(major * 10000 + minor * 100 + patch)
}
