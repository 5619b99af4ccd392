//! The fake driver alone.

use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::api::Api;

const INVALID_VALUE: i32 = 1;
const INVALID_HANDLE: i32 = 400;
const NOT_READY: i32 = 600;
const NOT_PERMITTED: i32 = 800;
const CAPTURE_UNSUPPORTED: i32 = 900;
const CAPTURE_INVALIDATED: i32 = 901;

/// A gate that a stream waits at.
pub(crate) struct Gate(AtomicBool);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Holds a stream up until it is opened.
    pub(crate) fn hold(&self, stream: usize) {
        assert_eq!(Api::get().cuLaunchHostFunc(stream, wait_at_gate, pass(self)), 0);
    }

    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Release);
    }
}

extern "C" fn wait_at_gate(gate: *mut c_void) {
    let gate: &Gate = gate_of(gate);
    while !gate.0.load(Ordering::Acquire) {
        thread::yield_now();
    }
}

#[expect(unsafe_code, reason = "a host function gets a pointer")]
fn gate_of<'a>(gate: *mut c_void) -> &'a Gate {
    // SAFETY: the tests pass a gate that lives until their stream is done.
    unsafe { &*gate.cast::<Gate>() }
}

fn pass(gate: &Gate) -> *mut c_void {
    std::ptr::from_ref(gate).cast_mut().cast()
}

#[test]
fn streams_run_behind_the_caller_and_in_order() {
    let api = Api::get();
    api.use_device(0);
    let (stream, gate) = (api.stream(), Gate::new());
    let memory = api.upload(&[1; 64], stream);
    assert_eq!(api.cuStreamSynchronize(stream), 0);
    gate.hold(stream);
    assert_eq!(api.cuMemsetD8Async(memory, 9, 64, stream), 0);
    assert_eq!(api.cuStreamQuery(stream), NOT_READY);
    let other = api.stream();
    assert_eq!(api.download(memory, 1, other), [1], "the fill waits behind the gate");
    let mut event = 0;
    assert_eq!(api.cuEventCreate(&mut event, 2), 0);
    assert_eq!(api.cuEventRecord(event, stream), 0);
    assert_eq!(api.cuEventQuery(event), NOT_READY);
    assert_eq!(api.cuStreamWaitEvent(other, event, 0), 0);
    assert_eq!(api.cuStreamQuery(other), NOT_READY);
    gate.open();
    assert_eq!(api.download(memory, 1, other), [9]);
    assert_eq!(api.cuEventSynchronize(event), 0);
    assert_eq!(api.cuEventQuery(event), 0);
    assert_eq!(api.cuEventDestroy_v2(event), 0);
    assert_eq!(api.cuEventQuery(event), INVALID_HANDLE);
    assert_eq!(api.cuStreamDestroy_v2(stream), 0);
    assert_eq!(api.cuStreamSynchronize(stream), INVALID_HANDLE);
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams() {
    let api = Api::get();
    api.use_device(7);
    let mut blocking = 0;
    assert_eq!(api.cuStreamCreate(&mut blocking, 0), 0);
    let gate = Gate::new();
    let memory = api.upload(&[1; 4], 0);
    gate.hold(blocking);
    assert_eq!(api.cuMemsetD8Async(memory, 2, 4, blocking), 0);
    assert_eq!(api.cuMemsetD8Async(memory, 3, 4, 0), 0);
    assert_eq!(api.cuMemsetD8Async(memory, 4, 1, 2), 0);
    assert_eq!(api.cuStreamQuery(0), NOT_READY);
    assert_eq!(api.cuStreamQuery(2), NOT_READY, "the thread's own stream waits for legacy work");
    gate.open();
    assert_eq!(api.download(memory, 4, 2), [4, 3, 3, 3]);
    assert_eq!(api.cuStreamDestroy_v2(blocking), 0);
}

#[test]
fn what_is_no_device_memory_is_refused() {
    let api = Api::get();
    api.use_device(0);
    let stream = api.stream();
    let host = [0_u8; 64];
    let address = host.as_ptr().addr();
    assert_eq!(api.cuMemsetD8Async(address, 0, 64, stream), INVALID_VALUE);
    assert_eq!(api.cuMemcpyHtoDAsync_v2(address, host.as_ptr(), 64, stream), INVALID_VALUE);
    let mut kind = 0;
    assert_eq!(api.cuPointerGetAttribute(&raw mut kind, 2, address), INVALID_VALUE);
    let memory = api.upload(&host, stream);
    assert_eq!(api.cuPointerGetAttribute(&raw mut kind, 2, memory + 63), 0);
    assert_eq!(kind, 2);
    assert_eq!(api.cuPointerGetAttribute(&raw mut kind, 2, memory + 64), INVALID_VALUE);
    assert_eq!(api.cuMemsetD8Async(memory, 0, 65, stream), INVALID_VALUE);
    assert_eq!(api.cuMemFree_v2(memory + 1), INVALID_VALUE);
    assert_eq!(api.cuMemFree_v2(memory), 0);
    assert_eq!(api.cuMemFree_v2(memory), INVALID_VALUE);
    assert_eq!(api.cuStreamDestroy_v2(stream), 0);
}

#[test]
fn a_thread_without_context_can_do_nothing() {
    let api = Api::get();
    api.use_device(0);
    let codes = thread::spawn(|| {
        let mut out = 0;
        let api = Api::get();
        [api.cuMemAlloc_v2(&mut out, 8), api.cuStreamCreate(&mut out, 0), api.cuCtxSynchronize()]
    });
    assert_eq!(codes.join().unwrap(), [201; 3]);
}

#[test]
fn host_functions_may_not_call_cuda() {
    static CODE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    extern "C" fn call(_: *mut c_void) {
        CODE.store(Api::get().cuStreamQuery(0), Ordering::Release);
    }
    let api = Api::get();
    api.use_device(0);
    let stream = api.stream();
    assert_eq!(api.cuLaunchHostFunc(stream, call, std::ptr::null_mut()), 0);
    assert_eq!(api.cuStreamSynchronize(stream), 0);
    assert_eq!(CODE.load(Ordering::Acquire), NOT_PERMITTED);
    assert_eq!(api.cuStreamDestroy_v2(stream), 0);
}

#[test]
fn pinned_memory_is_read_late_and_other_memory_at_once() {
    let api = Api::get();
    api.use_device(0);
    let (stream, gate) = (api.stream(), Gate::new());
    let memory = api.upload(&[0], stream);
    let mut own = [1_u8];
    let mut pinned = 0;
    assert_eq!(api.cuMemHostAlloc(&mut pinned, 1, 0), 0);
    gate.hold(stream);
    assert_eq!(api.cuMemcpyHtoDAsync_v2(memory, own.as_ptr(), 1, stream), 0);
    own[0] = 2;
    let from_pinned: *const u8 = std::ptr::with_exposed_provenance(pinned);
    let late = api.upload(&[0], stream);
    assert_eq!(api.cuMemcpyHtoDAsync_v2(late, from_pinned, 1, stream), 0);
    assert_eq!(
        api.cuMemcpyDtoHAsync_v2(std::ptr::with_exposed_provenance_mut(pinned), memory, 1, stream),
        0,
        "does not wait"
    );
    gate.open();
    assert_eq!(api.cuStreamSynchronize(stream), 0);
    assert_eq!(api.download(memory, 1, stream), [1]);
    assert_eq!(own[0], 2);
    assert_eq!(api.cuMemFreeHost(pinned), 0);
    assert_eq!(api.cuStreamDestroy_v2(stream), 0);
}

/// In a child: captures forbid calls in all threads.
pub(crate) fn capture_records_and_forbids() {
    let api = Api::get();
    api.use_device(0);
    let (stream, other) = (api.stream(), api.stream());
    let memory = api.upload(&[1; 2], stream);
    let mut event = 0;
    assert_eq!(api.cuEventCreate(&mut event, 2), 0);
    assert_eq!(api.cuStreamSynchronize(stream), 0);

    assert_eq!(api.cuStreamBeginCapture_v2(stream, 0), 0);
    assert_eq!(api.cuMemsetD8Async(memory, 5, 1, stream), 0);
    assert_eq!(api.cuEventRecord(event, stream), 0);
    assert_eq!(api.cuStreamWaitEvent(other, event, 0), 0);
    assert_eq!(api.cuMemcpyDtoDAsync_v2(memory + 1, memory, 1, other), 0);
    let mut status = 0;
    assert_eq!(api.cuStreamIsCapturing(other, &mut status), 0);
    assert_eq!(status, 1);
    assert_eq!(api.cuEventRecord(event, other), 0);
    assert_eq!(api.cuStreamWaitEvent(stream, event, 0), 0);
    let (mut graph, mut executable) = (0, 0);
    assert_eq!(api.cuStreamEndCapture(stream, &mut graph), 0);
    assert_eq!(api.download(memory, 2, stream), [1, 1], "captured, not run");
    assert_eq!(api.cuGraphInstantiateWithFlags(&mut executable, graph, 0), 0);
    assert_eq!(api.cuGraphDestroy(graph), 0);
    for _ in 0..2 {
        assert_eq!(api.cuMemsetD8Async(memory, 0, 2, stream), 0);
        assert_eq!(api.cuGraphLaunch(executable, stream), 0);
        assert_eq!(api.download(memory, 2, stream), [5, 5]);
    }
    assert_eq!(api.cuGraphExecDestroy(executable), 0);

    let forbidden: [&dyn Fn() -> i32; 4] = [
        &|| api.cuStreamSynchronize(stream),
        &|| api.cuStreamQuery(stream),
        &|| api.cuMemAlloc_v2(&mut 0, 8),
        &|| api.cuCtxSynchronize(),
    ];
    for call in forbidden {
        assert_eq!(api.cuStreamBeginCapture_v2(stream, 0), 0);
        assert_eq!(call(), CAPTURE_UNSUPPORTED);
        assert_eq!(api.cuMemsetD8Async(memory, 0, 1, stream), CAPTURE_INVALIDATED);
        assert_eq!(api.cuStreamEndCapture(stream, &mut graph), CAPTURE_INVALIDATED);
        assert_eq!(graph, 0);
    }

    // Of another stream, a wait is allowed to a thread that says so.
    assert_eq!(api.cuStreamBeginCapture_v2(stream, 0), 0);
    let mut mode = 2;
    assert_eq!(api.cuThreadExchangeStreamCaptureMode(&mut mode), 0);
    assert_eq!(api.cuStreamSynchronize(other), 0);
    assert_eq!(api.cuThreadExchangeStreamCaptureMode(&mut mode), 0);
    assert_eq!(api.cuStreamEndCapture(stream, &mut graph), 0);

    // Work of another stream that nobody waits for.
    assert_eq!(api.cuStreamBeginCapture_v2(stream, 0), 0);
    assert_eq!(api.cuEventRecord(event, stream), 0);
    assert_eq!(api.cuStreamWaitEvent(other, event, 0), 0);
    assert_eq!(api.cuMemsetD8Async(memory, 0, 1, other), 0);
    assert_eq!(api.cuStreamEndCapture(stream, &mut graph), 904);
}

/// In a child: devices by CUDA_VISIBLE_DEVICES=3,GPU-f94f,0,9,1 of eight.
pub(crate) fn visible_devices() {
    let api = Api::get();
    assert_eq!(api.cuInit(0), 0);
    let mut count = 0;
    assert_eq!(api.cuDeviceGetCount(&mut count), 0);
    let last_bytes: Vec<u8> = (0..count)
        .map(|device| {
            let mut uuid = [0; 16];
            assert_eq!(api.cuDeviceGetUuid_v2(&mut uuid, device), 0);
            uuid[15]
        })
        .collect();
    println!("devices {last_bytes:?}");
}

#[test]
fn freeing_waits_for_the_device() {
    let api = Api::get();
    api.use_device(5);
    let (stream, gate) = (api.stream(), Gate::new());
    let memory = api.upload(&[1], stream);
    gate.hold(stream);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            gate.open();
        });
        assert_eq!(api.cuMemFree_v2(memory), 0);
    });
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(api.cuStreamDestroy_v2(stream), 0);
}

#[test]
fn memory_freed_in_a_stream_is_there_until_then() {
    let api = Api::get();
    api.use_device(6);
    let (stream, gate) = (api.stream(), Gate::new());
    let memory = api.upload(&[3], stream);
    assert_eq!(api.cuStreamSynchronize(stream), 0);
    gate.hold(stream);
    assert_eq!(api.cuMemFreeAsync(memory, stream), 0);
    let other = api.stream();
    assert_eq!(api.download(memory, 1, other), [3]);
    gate.open();
    assert_eq!(api.cuStreamSynchronize(stream), 0);
    assert_eq!(api.cuMemsetD8Async(memory, 0, 1, other), INVALID_VALUE);
}

#[test]
fn codes_have_names() {
    assert_eq!(
        Api::get().error_name(900).as_deref(),
        Some("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
    );
    assert_eq!(Api::get().error_name(12345), None);
}

#[test]
fn functions_are_found_by_their_base_names() {
    let api = Api::get();
    let (mut function, mut status) = (0, -1);
    let code =
        api.cuGetProcAddress_v2(c"cuMemAlloc".as_ptr(), &mut function, 12080, 0, &mut status);
    assert_eq!((code, status), (0, 0));
    assert_ne!(function, 0);
    let code = api.cuGetProcAddress_v2(c"cuNothing".as_ptr(), &mut function, 12080, 0, &mut status);
    assert_eq!((code, status, function), (500, 1, 0));
}
