//! Memory: allocations and what is known about an address.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_uint;
use std::sync::Arc;

use crate::api::private::device_number;
use crate::capture;
use crate::code::Code;
use crate::context;
use crate::device;
use crate::ffi::Out;
use crate::ffi::api;
use crate::memory;
use crate::memory::Allocation;
use crate::memory::Kind;
use crate::stream;

/// How `cuMemAlloc` aligns.
const ALIGN: usize = 512;
/// Host memory comes in pages.
const PAGE: usize = 4096;

api! {
    fn cuMemAlloc_v2(address: Out<usize>, size_bytes: usize) {
        let device = context::current_device()?;
        capture::not_now()?;
        address.set(memory::allocate(size_bytes, ALIGN, Kind::Device, device)?)
    }

    /// Waits for the device first, as the real one does.
    fn cuMemFree_v2(address: usize) {
        context::current_device()?;
        capture::not_now()?;
        if address == 0 {
            return Ok(());
        }
        let found = memory::find(address).ok_or(Code::INVALID_VALUE)?;
        stream::wait_for_device(found.device);
        memory::free(address, Kind::Device)
    }

    fn cuMemAllocAsync(address: Out<usize>, size_bytes: usize, stream: usize) {
        let stream = stream::get(stream)?;
        capture::not_captured(&stream)?;
        capture::not_now()?;
        address.set(memory::allocate(size_bytes, ALIGN, Kind::Device, stream.device)?)
    }

    fn cuMemFreeAsync(address: usize, stream: usize) {
        let stream = stream::get(stream)?;
        capture::not_captured(&stream)?;
        memory::on_device(address, 1)?;
        let free = move || {
            if memory::free(address, Kind::Device).is_err() {
                memory::violation(&format!("{address:#x} was freed twice"));
            }
        };
        stream::submit(&stream, Arc::new(free)).map(drop)
    }

    fn cuMemHostAlloc(address: Out<usize>, size_bytes: usize, _flags: c_uint) {
        pinned(address, size_bytes)
    }

    fn cuMemAllocHost_v2(address: Out<usize>, size_bytes: usize) { pinned(address, size_bytes) }

    fn cuMemFreeHost(address: usize) {
        let device = context::current_device()?;
        capture::not_now()?;
        stream::wait_for_device(device);
        memory::free(address, Kind::Pinned)
    }

    fn cuMemHostRegister_v2(address: usize, size_bytes: usize, _flags: c_uint) {
        memory::register(address, size_bytes, context::current_device()?)
    }

    fn cuMemHostUnregister(address: usize) {
        let device = context::current_device()?;
        stream::wait_for_device(device);
        memory::free(address, Kind::Registered).map_err(|_| Code::HOST_MEMORY_NOT_REGISTERED)
    }

    fn cuMemHostGetDevicePointer_v2(device: Out<usize>, address: usize, _flags: c_uint) {
        match memory::find(address) {
            Some(found) if found.kind != Kind::Device => device.set(address),
            _ => Err(Code::INVALID_VALUE),
        }
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let device = context::current_device()?;
        let all = device::all()?.get(device).map_or(0, |device| device.memory_bytes);
        free.set(all.saturating_sub(memory::used_bytes(device)))?;
        total.set(all)
    }

    fn cuMemGetAddressRange_v2(start: Out<usize>, size_bytes: Out<usize>, address: usize) {
        let found = memory::find(address).ok_or(Code::NOT_FOUND)?;
        start.set_if_wanted(found.start);
        size_bytes.set_if_wanted(found.size_bytes);
        Ok(())
    }

    fn cuPointerGetAttribute(data: Out<u8>, attribute: i32, address: usize) {
        let found = memory::find(address).ok_or(Code::INVALID_VALUE)?;
        set_attribute(data, attribute, address, Some(&found))
    }

    /// Unlike the singular, says 0 about memory that it does not know, and succeeds.
    fn cuPointerGetAttributes(
        count: c_uint,
        attributes: Out<i32>,
        data: Out<Out<u8>>,
        address: usize,
    ) {
        let found = memory::find(address);
        for at in 0..usize::try_from(count).map_err(|_| Code::INVALID_VALUE)? {
            set_attribute(data.at(at).get()?, attributes.at(at).get()?, address, found.as_ref())?;
        }
        Ok(())
    }
}

fn pinned(address: Out<usize>, size_bytes: usize) -> Result<(), Code> {
    let device = context::current_device()?;
    capture::not_now()?;
    address.set(memory::allocate(size_bytes, PAGE, Kind::Pinned, device)?)
}

/// Writes one `CUpointer_attribute`, whose type depends on which it is.
fn set_attribute(
    out: Out<u8>,
    attribute: i32,
    address: usize,
    found: Option<&Allocation>,
) -> Result<(), Code> {
    let device_kind = found.is_some_and(|found| found.kind == Kind::Device);
    match attribute {
        // CONTEXT
        1 => out.cast().set(found.map_or(0, |found| context::handle_of(found.device))),
        // MEMORY_TYPE: 1 host, 2 device
        2 => out.cast::<u32>().set(found.map_or(0, |_| if device_kind { 2 } else { 1 })),
        // DEVICE_POINTER
        3 => out.cast().set(found.map_or(0, |_| address)),
        // HOST_POINTER
        4 => out.cast().set(found.filter(|_| !device_kind).map_or(0, |_| address)),
        // BUFFER_ID
        7 => out.cast::<u64>().set(found.map_or(0, |found| found.id)),
        // IS_MANAGED
        8 => out.cast::<u32>().set(0),
        // DEVICE_ORDINAL
        9 => out.cast::<i32>().set(found.map_or(-2, |found| device_number(found.device))),
        // RANGE_START_ADDR, RANGE_SIZE
        11 => out.cast().set(found.map_or(0, |found| found.start)),
        12 => out.cast().set(found.map_or(0, |found| found.size_bytes)),
        // MAPPED
        13 => out.cast::<u32>().set(u32::from(found.is_some())),
        _ => Err(Code::INVALID_VALUE),
    }
}
