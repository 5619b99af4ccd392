//! The table of allocations: what is device memory, what is pinned, and what is neither.

#![expect(unsafe_code, reason = "hands out memory and copies between addresses")]

use std::alloc::Layout;
use std::alloc::alloc;
use std::alloc::dealloc;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::code::Code;
use crate::device;
use crate::registry::lock;

/// What kind of memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of a device.
    Device,
    /// Of the host, allocated by the driver.
    Pinned,
    /// Of the host, the program's own, registered.
    Registered,
}

/// An allocation.
#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    pub(crate) start: usize,
    pub(crate) size_bytes: usize,
    pub(crate) kind: Kind,
    pub(crate) device: usize,
    pub(crate) id: u64,
    align: usize,
}

static TABLE: Mutex<BTreeMap<usize, Allocation>> = Mutex::new(BTreeMap::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What fresh memory holds, so that nobody relies on zeros.
const POISON: u8 = 0xa5;

/// Allocates memory, aligned as asked.
pub(crate) fn allocate(
    size_bytes: usize,
    align: usize,
    kind: Kind,
    at: usize,
) -> Result<usize, Code> {
    if size_bytes == 0 {
        return Err(Code::INVALID_VALUE);
    }
    let limit = device::all()?.get(at).map_or(0, |device| device.memory_bytes);
    if kind == Kind::Device && used_bytes(at).saturating_add(size_bytes) > limit {
        return Err(Code::OUT_OF_MEMORY);
    }
    let layout = Layout::from_size_align(size_bytes, align).map_err(|_| Code::OUT_OF_MEMORY)?;
    // SAFETY: the layout's size is not 0; checked above.
    let start = unsafe { alloc(layout) };
    if start.is_null() {
        return Err(Code::OUT_OF_MEMORY);
    }
    // SAFETY: `start` was just allocated with so many bytes, and nobody else knows it.
    unsafe { start.write_bytes(POISON, size_bytes) };
    add(Allocation { start: start.addr(), size_bytes, kind, device: at, id: 0, align });
    Ok(start.expose_provenance())
}

/// Adds memory of the program's own.
pub(crate) fn register(start: usize, size_bytes: usize, at: usize) -> Result<(), Code> {
    if start == 0 || size_bytes == 0 {
        return Err(Code::INVALID_VALUE);
    }
    if find(start).is_some() || find(start + size_bytes - 1).is_some() {
        return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
    }
    add(Allocation { start, size_bytes, kind: Kind::Registered, device: at, id: 0, align: 1 });
    Ok(())
}

/// Takes an allocation of this kind, by its start, out of the table and gives its memory back.
pub(crate) fn free(start: usize, kind: Kind) -> Result<(), Code> {
    let mut table = lock(&TABLE);
    match table.get(&start) {
        Some(found) if found.kind == kind => {}
        _ => return Err(Code::INVALID_VALUE),
    }
    let Some(gone) = table.remove(&start) else { return Err(Code::INVALID_VALUE) };
    drop(table);
    if gone.kind == Kind::Registered {
        return Ok(());
    }
    let layout = Layout::from_size_align(gone.size_bytes, gone.align);
    let layout = layout.map_err(|_| Code::UNKNOWN)?;
    // SAFETY: `start` came from `alloc` with this very layout, and the table, which held it once,
    // does not hold it any more, so nobody frees it again.
    unsafe { dealloc(std::ptr::with_exposed_provenance_mut(start), layout) };
    Ok(())
}

/// The allocation that an address lies in.
pub(crate) fn find(address: usize) -> Option<Allocation> {
    let table = lock(&TABLE);
    let (_, found) = table.range(..=address).next_back()?;
    (address < found.start + found.size_bytes).then(|| found.clone())
}

/// Checks that the whole range is device memory of one allocation (or, as CUDA allows with unified
/// addresses, pinned memory).
pub(crate) fn on_device(address: usize, size_bytes: usize) -> Result<(), Code> {
    let found = find(address).ok_or(Code::INVALID_VALUE)?;
    let end = address.checked_add(size_bytes).ok_or(Code::INVALID_VALUE)?;
    if end <= found.start + found.size_bytes { Ok(()) } else { Err(Code::INVALID_VALUE) }
}

/// Checks that an address is the host's.
pub(crate) fn on_host(address: usize) -> Result<(), Code> {
    match find(address) {
        Some(found) if found.kind == Kind::Device => Err(Code::INVALID_VALUE),
        _ if address == 0 => Err(Code::INVALID_VALUE),
        _ => Ok(()),
    }
}

/// Whether an address is ordinary memory of the program, which CUDA stages.
pub(crate) fn is_pageable(address: usize) -> bool {
    find(address).is_none()
}

/// Copies, when a stream comes to it. Complains if device memory has been freed since.
pub(crate) fn copy(to: usize, from: usize, size_bytes: usize, devices: [bool; 2]) {
    for (address, is_device) in [(to, devices[0]), (from, devices[1])] {
        if is_device && on_device(address, size_bytes).is_err() {
            violation(&format!("{address:#x} was freed before the copy of it ran"));
            return;
        }
    }
    let from: *const u8 = std::ptr::with_exposed_provenance(from);
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(to);
    // SAFETY: device sides are in the table for the whole range, checked above. Host sides are the
    // program's, which by cuMemcpy's contract keeps them valid until the copy is over. The ranges
    // may overlap.
    unsafe { std::ptr::copy(from, to, size_bytes) };
}

/// Takes a copy of the program's memory.
pub(crate) fn stage(from: usize, size_bytes: usize) -> Vec<u8> {
    let mut staged = vec![0_u8; size_bytes];
    copy(staged.as_mut_ptr().expose_provenance(), from, size_bytes, [false, false]);
    staged
}

/// Fills device memory with values of 1, 2 or 4 bytes.
pub(crate) fn fill(to: usize, value: &[u8], count: usize) {
    if on_device(to, value.len() * count).is_err() {
        violation(&format!("{to:#x} was freed before it was filled"));
        return;
    }
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(to);
    for at in 0..count {
        // SAFETY: the table holds the whole range, checked above; `value` is another object.
        unsafe {
            std::ptr::copy_nonoverlapping(value.as_ptr(), to.add(at * value.len()), value.len())
        };
    }
}

/// Bytes of a device in use.
pub(crate) fn used_bytes(at: usize) -> usize {
    let table = lock(&TABLE);
    let of = |one: &&Allocation| one.kind == Kind::Device && one.device == at;
    table.values().filter(of).map(|one| one.size_bytes).sum()
}

/// Says that the program did what is undefined on a real device.
pub(crate) fn violation(what: &str) {
    eprintln!("FAKE CUDA VIOLATION: {what}");
    if std::env::var("FAKE_CUDA_STRICT").is_ok_and(|strict| strict == "1") {
        std::process::abort();
    }
}

fn add(mut allocation: Allocation) {
    allocation.id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    lock(&TABLE).insert(allocation.start, allocation);
}
