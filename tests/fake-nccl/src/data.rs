//! Bytes in and out of the fake device's memory, checked against its table at the last moment.

#![expect(unsafe_code, reason = "device memory is given by address")]

use crate::cuda;
use crate::watch;

/// Copies device memory out. `None`, and a violation, if it is there no more.
pub(crate) fn read(address: usize, size_bytes: usize) -> Option<Vec<u8>> {
    if size_bytes == 0 {
        return Some(Vec::new());
    }
    check(address, size_bytes)?;
    let mut bytes = vec![0_u8; size_bytes];
    let from: *const u8 = std::ptr::with_exposed_provenance(address);
    // SAFETY: the driver's table has the whole range, just now; that nobody frees it in between is
    // the duty of who issued the operation, and what `check` tries to catch.
    unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size_bytes) };
    Some(bytes)
}

/// Copies into device memory, unless it is there no more.
pub(crate) fn write(address: usize, bytes: &[u8]) {
    if bytes.is_empty() || check(address, bytes.len()).is_none() {
        return;
    }
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: as in `read`; `bytes` is memory of this library.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

fn check(address: usize, size_bytes: usize) -> Option<()> {
    let range = cuda::driver().ok()?.range(address);
    if range.is_some_and(|range| range.size_bytes >= size_bytes) {
        return Some(());
    }
    watch::violation(&format!(
        "{size_bytes} bytes at {address:#x} were freed before the operation that uses them ran"
    ));
    None
}
