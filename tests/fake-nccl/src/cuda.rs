//! The fake driver, as this process has it loaded.

#![expect(unsafe_code, reason = "calls the driver through its C functions")]

use std::ffi::c_void;
use std::sync::OnceLock;

use libloading::os::unix::Library;
use libloading::os::unix::RTLD_LOCAL;
use libloading::os::unix::RTLD_NOW;

use crate::fail::CUDA;
use crate::fail::Outcome;
use crate::fail::fail;

/// `RTLD_NOLOAD`
const NO_LOAD: i32 = 4;

/// A function that a stream calls.
pub(crate) type HostFunction = extern "C" fn(*mut c_void);

/// The functions of the driver that are used here.
#[derive(Debug)]
pub(crate) struct Cuda {
    init: unsafe extern "C" fn(u32) -> i32,
    retain: unsafe extern "C" fn(*mut usize, i32) -> i32,
    set_current: unsafe extern "C" fn(usize) -> i32,
    get_device: unsafe extern "C" fn(*mut i32) -> i32,
    device_count: unsafe extern "C" fn(*mut i32) -> i32,
    launch: unsafe extern "C" fn(usize, HostFunction, *mut c_void) -> i32,
    is_capturing: unsafe extern "C" fn(usize, *mut i32) -> i32,
    free: unsafe extern "C" fn(usize) -> i32,
    range: unsafe extern "C" fn(usize, *mut usize, *mut i32, *mut i32) -> i32,
    stream_device: unsafe extern "C" fn(usize) -> i32,
    alloc_pages: unsafe extern "C" fn(*mut usize, usize) -> i32,
}

/// What lies at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Bytes that follow in the allocation.
    pub(crate) size_bytes: usize,
    pub(crate) device: i32,
    /// Of a device, not pinned memory of the host.
    pub(crate) on_device: bool,
}

/// Gives the driver, or fails as NCCL does where there is none.
pub(crate) fn driver() -> Outcome<&'static Cuda> {
    static DRIVER: OnceLock<Cuda> = OnceLock::new();
    let cuda = match DRIVER.get() {
        Some(cuda) => cuda,
        None => match load() {
            Some(cuda) => DRIVER.get_or_init(|| cuda),
            None => {
                return insufficient(
                    "CUDA driver version is insufficient for CUDA runtime version",
                );
            }
        },
    };
    // SAFETY: cuInit takes a number.
    if unsafe { (cuda.init)(0) } == 0 {
        Ok(cuda)
    } else {
        insufficient("no CUDA-capable device is detected")
    }
}

fn insufficient<T>(text: &str) -> Outcome<T> {
    fail(CUDA, format!("Cuda failure '{text}'"))
}

fn load() -> Option<Cuda> {
    let open = |name: &str, flags: i32| {
        // SAFETY: the fake driver's initializers do nothing; a real one's may run anywhere.
        unsafe { Library::open(Some(name), flags) }.ok()
    };
    let named = std::env::var("NCCL_RS_CUDA_LIB").ok();
    let library = named
        .as_deref()
        .and_then(|path| open(path, RTLD_NOW | RTLD_LOCAL))
        .or_else(|| open("libcuda.so.1", RTLD_NOW | NO_LOAD))
        .or_else(|| open("libcuda.so.1", RTLD_NOW | RTLD_LOCAL))?;
    macro_rules! symbol {
        ($name:literal) => {
            // SAFETY: the fake driver exports the name with the type of the field. A real driver
            // lacks the names that begin with `fake`, and is refused.
            *unsafe { library.get($name) }.ok()?
        };
    }
    let cuda = Cuda {
        init: symbol!("cuInit"),
        retain: symbol!("cuDevicePrimaryCtxRetain"),
        set_current: symbol!("cuCtxSetCurrent"),
        get_device: symbol!("cuCtxGetDevice"),
        device_count: symbol!("cuDeviceGetCount"),
        launch: symbol!("cuLaunchHostFunc"),
        is_capturing: symbol!("cuStreamIsCapturing"),
        free: symbol!("cuMemFree_v2"),
        range: symbol!("fakeCudaRange"),
        stream_device: symbol!("fakeCudaStreamDevice"),
        alloc_pages: symbol!("fakeCudaAllocPages"),
    };
    // Never unloaded: streams hold its functions.
    std::mem::forget(library);
    Some(cuda)
}

impl Cuda {
    /// The device of the thread's current context; without one device 0, as the CUDA runtime does.
    pub(crate) fn current_device(&self) -> i32 {
        let mut device = 0;
        // SAFETY: the place is valid for the call.
        let code = unsafe { (self.get_device)(&raw mut device) };
        if code == 0 { device } else { 0 }
    }

    /// Whether the thread has a current context.
    pub(crate) fn has_context(&self) -> bool {
        let mut device = 0;
        // SAFETY: the place is valid for the call.
        unsafe { (self.get_device)(&raw mut device) == 0 }
    }

    /// Makes a device's primary context current in this thread.
    pub(crate) fn set_device(&self, device: i32) -> Outcome {
        let mut context = 0;
        // SAFETY: the place is valid for the call.
        let code = unsafe { (self.retain)(&raw mut context, device) };
        if code != 0 {
            return insufficient("invalid device ordinal");
        }
        // SAFETY: takes a handle, just given.
        match unsafe { (self.set_current)(context) } {
            0 => Ok(()),
            _ => insufficient("invalid device context"),
        }
    }

    pub(crate) fn device_count(&self) -> i32 {
        let mut count = 0;
        // SAFETY: the place is valid for the call.
        unsafe { (self.device_count)(&raw mut count) };
        count
    }

    /// Lets a stream call a function with a number.
    pub(crate) fn launch(&self, stream: usize, function: HostFunction, data: usize) -> Outcome {
        let data = std::ptr::without_provenance_mut(data);
        // SAFETY: the function takes any number, so it may be called at any time.
        let code = unsafe { (self.launch)(stream, function, data) };
        if code == 0 {
            return Ok(());
        }
        fail(CUDA, format!("Cuda failure {code} when launching on stream {stream:#x}"))
    }

    /// Whether the stream is being captured.
    pub(crate) fn is_capturing(&self, stream: usize) -> bool {
        let mut status = 0;
        // SAFETY: the place is valid for the call.
        let code = unsafe { (self.is_capturing)(stream, &raw mut status) };
        code == 0 && status != 0
    }

    /// What lies at an address, if it is the driver's memory.
    pub(crate) fn range(&self, address: usize) -> Option<Range> {
        let (mut size_bytes, mut device, mut kind) = (0, 0, 0);
        // SAFETY: the places are valid for the call, which does not read the memory asked about.
        let code =
            unsafe { (self.range)(address, &raw mut size_bytes, &raw mut device, &raw mut kind) };
        (code == 0).then_some(Range { size_bytes, device, on_device: kind == 1 })
    }

    /// The device of a stream, -1 for none.
    pub(crate) fn stream_device(&self, stream: usize) -> i32 {
        // SAFETY: takes a number.
        unsafe { (self.stream_device)(stream) }
    }

    /// Allocates device memory on page boundaries.
    pub(crate) fn allocate(&self, size_bytes: usize) -> Outcome<usize> {
        let mut address = 0;
        // SAFETY: the place is valid for the call.
        match unsafe { (self.alloc_pages)(&raw mut address, size_bytes) } {
            0 => Ok(address),
            code => fail(CUDA, format!("Cuda failure {code} when allocating {size_bytes} bytes")),
        }
    }

    /// Frees it.
    pub(crate) fn free(&self, address: usize) -> Outcome {
        // SAFETY: the driver checks the number against its table.
        match unsafe { (self.free)(address) } {
            0 => Ok(()),
            code => fail(CUDA, format!("Cuda failure {code} when freeing {address:#x}")),
        }
    }
}
