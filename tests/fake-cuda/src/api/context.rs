//! Contexts.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_uint;

use crate::api::private::device_number;
use crate::capture;
use crate::code::Code;
use crate::context;
use crate::ffi::Out;
use crate::ffi::api;
use crate::stream;

api! {
    fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: i32) {
        context.set(context::retain(device)?)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) { context::release(device) }

    fn cuCtxSetCurrent(context: usize) { context::set_current(context) }

    fn cuCtxGetCurrent(context: Out<usize>) { context.set(context::current()) }

    fn cuCtxPushCurrent_v2(context: usize) { context::push(context) }

    fn cuCtxPopCurrent_v2(context: Out<usize>) {
        let popped = context::pop()?;
        context.set_if_wanted(popped);
        Ok(())
    }

    fn cuCtxGetDevice(device: Out<i32>) {
        device.set(device_number(context::current_device()?))
    }

    fn cuCtxSynchronize() {
        let device = context::current_device()?;
        capture::not_now()?;
        stream::wait_for_device(device);
        Ok(())
    }

    fn cuCtxEnablePeerAccess(peer: usize, _flags: c_uint) {
        context::device_of(peer).map(drop)
    }

    fn cuCtxDisablePeerAccess(peer: usize) { context::device_of(peer).map(drop) }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        context::current_device()?;
        least.set_if_wanted(0);
        greatest.set_if_wanted(-5);
        Ok(())
    }

    fn cuCtxGetApiVersion(context: usize, version: Out<c_uint>) {
        context::device_of(context)?;
        version.set(3020)
    }

    fn cuCtxCreate_v2(_context: Out<usize>, _flags: c_uint, _device: i32) {
        // Only primary contexts: runtimes and engines use no others.
        Err(Code::NOT_SUPPORTED)
    }
}
