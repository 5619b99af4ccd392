//! Version, devices, their properties.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_char;
use std::ffi::c_uint;

use crate::code::Code;
use crate::code::describe;
use crate::context;
use crate::device;
use crate::ffi::Out;
use crate::ffi::api;
use crate::ffi::set_text;
use crate::knobs;

api! {
    fn cuInit(_flags: c_uint) { device::initialize() }

    fn cuDriverGetVersion(version: Out<i32>) {
        let number = knobs::number("FAKE_CUDA_DRIVER_VERSION", 12080);
        version.set(i32::try_from(number).map_err(|_| Code::UNKNOWN)?)
    }

    fn cuDeviceGetCount(count: Out<i32>) {
        count.set(i32::try_from(device::all()?.len()).map_err(|_| Code::UNKNOWN)?)
    }

    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        device::get(ordinal)?;
        device.set(ordinal)
    }

    fn cuDeviceGetName(name: Out<c_char>, len: i32, device: i32) {
        device::get(device)?;
        set_text(name, len, "Fake H200")
    }

    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) { uuid.set(device::get(device)?.1.uuid) }

    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) {
        uuid.set(device::get(device)?.1.uuid)
    }

    fn cuDeviceGetAttribute(value: Out<i32>, attribute: i32, device: i32) {
        let (_, found) = device::get(device)?;
        value.set(attribute_of(found, attribute)?)
    }

    fn cuDeviceTotalMem_v2(size_bytes: Out<usize>, device: i32) {
        size_bytes.set(device::get(device)?.1.memory_bytes)
    }

    fn cuDeviceGetPCIBusId(text: Out<c_char>, len: i32, device: i32) {
        let (_, found) = device::get(device)?;
        set_text(text, len, &format!("0000:{:02X}:00.0", bus_of(found)))
    }

    fn cuDeviceGetByPCIBusId(device: Out<i32>, text: *const c_char) {
        let text = crate::ffi::text(text).ok_or(Code::INVALID_VALUE)?.to_ascii_uppercase();
        let is_it = |one: &device::Device| text == format!("0000:{:02X}:00.0", bus_of(one));
        let at = device::all()?.iter().position(is_it).ok_or(Code::INVALID_DEVICE)?;
        device.set(i32::try_from(at).map_err(|_| Code::UNKNOWN)?)
    }

    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        device::get(device)?;
        device::get(peer)?;
        can.set(i32::from(device != peer))
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<c_uint>, active: Out<i32>) {
        let (at, _) = device::get(device)?;
        flags.set(0)?;
        active.set(i32::from(context::is_active(at)))
    }

    fn cuGetErrorName(code: i32, name: Out<*const c_char>) {
        name.set(std::ptr::null())?;
        let (found, _) = describe(code).ok_or(Code::INVALID_VALUE)?;
        name.set(found.as_ptr())
    }

    fn cuGetErrorString(code: i32, text: Out<*const c_char>) {
        text.set(std::ptr::null())?;
        let (_, found) = describe(code).ok_or(Code::INVALID_VALUE)?;
        text.set(found.as_ptr())
    }
}

/// Buses begin at 0x17 and are four apart, as on many a server.
fn bus_of(device: &device::Device) -> usize {
    (0x17 + 4 * device.physical) % 256
}

/// `CUdevice_attribute`: the ones that programs ask for here; 0 for all others in range.
fn attribute_of(device: &device::Device, attribute: i32) -> Result<i32, Code> {
    let bus = i32::try_from(bus_of(device)).map_err(|_| Code::UNKNOWN)?;
    Ok(match attribute {
        1 => 1024,               // MAX_THREADS_PER_BLOCK
        10 => 32,                // WARP_SIZE
        16 => 132,               // MULTIPROCESSOR_COUNT
        33 => bus,               // PCI_BUS_ID
        75 => 9,                 // COMPUTE_CAPABILITY_MAJOR
        31 | 41 | 78 | 115 => 1, // CONCURRENT_KERNELS, UNIFIED_ADDRESSING, priorities, pools
        other if other > 0 && other <= 150 => 0,
        _ => return Err(Code::INVALID_VALUE),
    })
}
