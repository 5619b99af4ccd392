//! Streams, host functions, capture.

#![expect(unsafe_code, reason = "exports the driver's names, and calls functions of the program")]

use std::ffi::c_uint;
use std::ffi::c_void;
use std::sync::Arc;

use crate::capture;
use crate::code::Code;
use crate::context;
use crate::event::EVENTS;
use crate::ffi::Out;
use crate::ffi::api;
use crate::stream;

/// `CUhostFn`
type HostFunction = Option<unsafe extern "C" fn(*mut c_void)>;

api! {
    fn cuStreamCreate(stream: Out<usize>, flags: c_uint) {
        stream.set(stream::create(flags, 0)?)
    }

    fn cuStreamCreateWithPriority(stream: Out<usize>, flags: c_uint, priority: i32) {
        stream.set(stream::create(flags, priority)?)
    }

    fn cuStreamDestroy_v2(stream: usize) {
        context::current_device()?;
        stream::destroy(stream)
    }

    fn cuStreamSynchronize(stream: usize) {
        let stream = stream::get(stream)?;
        capture::not_captured(&stream)?;
        capture::not_now()?;
        stream.tail().wait();
        Ok(())
    }

    fn cuStreamQuery(stream: usize) {
        let stream = stream::get(stream)?;
        capture::not_captured(&stream)?;
        capture::not_now()?;
        if stream.tail().is_over() { Ok(()) } else { Err(Code::NOT_READY) }
    }

    fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) {
        let stream = stream::get(stream)?;
        EVENTS.get(event)?.make_wait(&stream)
    }

    fn cuStreamGetCtx(stream: usize, context: Out<usize>) {
        context.set(context::handle_of(stream::device_of(stream)?))
    }

    fn cuStreamGetFlags(stream: usize, flags: Out<c_uint>) { flags.set(stream::get(stream)?.flags) }

    fn cuStreamGetPriority(stream: usize, priority: Out<i32>) {
        priority.set(stream::get(stream)?.priority)
    }

    fn cuLaunchHostFunc(stream: usize, function: HostFunction, data: *mut c_void) {
        let stream = stream::get(stream)?;
        let function = function.ok_or(Code::INVALID_VALUE)?;
        let data = data.expose_provenance();
        let op = move || {
            context::as_callback(|| {
                // SAFETY: by cuLaunchHostFunc's contract the program's function may be called with
                // its data whenever the stream, or a graph with this node, comes to it.
                unsafe { function(std::ptr::with_exposed_provenance_mut(data)) }
            });
        };
        stream::submit(&stream, Arc::new(op)).map(drop)
    }

    fn cuStreamIsCapturing(stream: usize, status: Out<i32>) {
        status.set(capture_status(stream)?.0)
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: usize,
        status: Out<i32>,
        id: Out<u64>,
        graph: Out<usize>,
        dependencies: Out<usize>,
        count: Out<usize>,
    ) {
        let (now, number) = capture_status(stream)?;
        status.set(now)?;
        id.set_if_wanted(number);
        graph.set_if_wanted(0);
        dependencies.set_if_wanted(0);
        count.set_if_wanted(0);
        Ok(())
    }

    fn cuStreamBeginCapture_v2(stream: usize, mode: i32) {
        capture::begin(&stream::get(stream)?, mode)
    }

    fn cuStreamEndCapture(stream: usize, graph: Out<usize>) {
        graph.set(0)?;
        graph.set(capture::end(&stream::get(stream)?)?)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<i32>) {
        let before = capture::exchange_mode(mode.get()?)?;
        mode.set(before)
    }
}

/// 0 none, 1 active, 2 invalidated; and the capture's number.
fn capture_status(stream: usize) -> Result<(i32, u64), Code> {
    let stream = stream::get(stream)?;
    if stream.is_legacy() {
        return Ok((0, 0));
    }
    Ok(stream
        .capture()
        .map_or((0, 0), |capture| (if capture.is_invalid() { 2 } else { 1 }, capture.id)))
}
