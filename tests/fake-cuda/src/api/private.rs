//! What the fake NCCL and tests ask beyond the driver API. A real driver has none of these names.

#![expect(unsafe_code, reason = "exports names")]

use std::ffi::c_char;

use crate::capture;
use crate::code::Code;
use crate::context;
use crate::ffi::Out;
use crate::ffi::text;
use crate::knobs;
use crate::memory;
use crate::memory::Kind;
use crate::stream;

/// Says what lies at an address: the bytes that follow it in its allocation, the device, and 1 for
/// device memory or 2 for pinned. Fails for memory that nobody allocated here. May be called from a
/// host function.
// SAFETY: nobody else exports this name.
#[unsafe(no_mangle)]
extern "C" fn fakeCudaRange(
    address: usize,
    size_bytes: Out<usize>,
    device: Out<i32>,
    kind: Out<i32>,
) -> i32 {
    let Some(found) = memory::find(address) else { return Code::INVALID_VALUE.0 };
    size_bytes.set_if_wanted(found.start + found.size_bytes - address);
    device.set_if_wanted(device_number(found.device));
    kind.set_if_wanted(if found.kind == Kind::Device { 1 } else { 2 });
    0
}

/// The device of a stream, -1 if it is none.
// SAFETY: nobody else exports this name.
#[unsafe(no_mangle)]
extern "C" fn fakeCudaStreamDevice(stream: usize) -> i32 {
    stream::device_of(stream).map_or(-1, device_number)
}

/// Allocates device memory on page boundaries, as `ncclMemAlloc` does.
// SAFETY: nobody else exports this name.
#[unsafe(no_mangle)]
extern "C" fn fakeCudaAllocPages(address: Out<usize>, size_bytes: usize) -> i32 {
    let allocate = || {
        capture::not_now()?;
        let device = context::current_device()?;
        address.set(memory::allocate(size_bytes, 4096, Kind::Device, device)?)
    };
    allocate().map_or_else(|code: Code| code.0, |()| 0)
}

/// How often a function was called, with `FAKE_CUDA_COUNT` set.
// SAFETY: nobody else exports this name.
#[unsafe(no_mangle)]
extern "C" fn fakeCudaCalls(name: *const c_char) -> u64 {
    text(name).map_or(0, |name| knobs::calls(&name))
}

/// A device as C counts it.
pub(crate) fn device_number(device: usize) -> i32 {
    i32::try_from(device).unwrap_or(i32::MAX)
}
