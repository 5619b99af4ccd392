//! Events.

#![expect(unsafe_code, reason = "exports the driver's names")]

use std::ffi::c_uint;

use crate::context;
use crate::event;
use crate::event::EVENTS;
use crate::ffi::Out;
use crate::ffi::api;
use crate::stream;

api! {
    fn cuEventCreate(event: Out<usize>, flags: c_uint) { event.set(event::create(flags)?) }

    fn cuEventRecord(event: usize, stream: usize) {
        EVENTS.get(event)?.record(&stream::get(stream)?)
    }

    fn cuEventRecordWithFlags(event: usize, stream: usize, _flags: c_uint) {
        EVENTS.get(event)?.record(&stream::get(stream)?)
    }

    fn cuEventQuery(event: usize) {
        context::current_device()?;
        EVENTS.get(event)?.query()
    }

    fn cuEventSynchronize(event: usize) {
        context::current_device()?;
        EVENTS.get(event)?.wait()
    }

    fn cuEventDestroy_v2(event: usize) { EVENTS.remove(event).map(drop) }

    fn cuEventElapsedTime(ms: Out<f32>, from: usize, to: usize) {
        ms.set(EVENTS.get(from)?.elapsed_ms(&*EVENTS.get(to)?)?)
    }

    fn cuEventElapsedTime_v2(ms: Out<f32>, from: usize, to: usize) {
        ms.set(EVENTS.get(from)?.elapsed_ms(&*EVENTS.get(to)?)?)
    }
}
