//! The functions of libcuda that we use, as cuda.h declares them; each may be missing.
#![expect(unsafe_code, reason = "calls functions of a C library")]

use core::ffi::CStr;
use core::ffi::c_char;
use core::ffi::c_int;
use core::ffi::c_uint;
use core::ffi::c_ulonglong;
use core::ffi::c_void;
use std::sync::Arc;

use crate::cuda::load::Opened;
use crate::error::DriverError;
use crate::error::Error;
use crate::error::Result;

/// `CUcontext`, `CUstream`, `CUevent`, `CUgraph` and `CUgraphExec`: pointers of the driver's.
pub(super) type Handle = *mut c_void;
/// `CUdeviceptr`, on 64-bit machines.
pub(super) type DevicePtr = u64;
/// `CUresult`: a plain number, since a newer driver knows more codes than any list.
type Code = c_int;

const SUCCESS: Code = 0;
const INVALID_VALUE: Code = 1;
const DEINITIALIZED: Code = 4;
/// `CUDA_ERROR_STUB_LIBRARY`.
pub(super) const STUB_LIBRARY: Code = 34;
const NOT_READY: Code = 600;

/// What a function returned.
#[must_use]
pub(super) struct Outcome<'a> {
    table: &'a Table,
    call: &'static str,
    since: &'static str,
    /// `None` if the driver lacks the function.
    code: Option<Code>,
}

impl Outcome<'_> {
    /// Success, or the error.
    pub(super) fn done(self) -> Result<()> {
        if self.code == Some(SUCCESS) { Ok(()) } else { Err(self.error()) }
    }

    /// Whether it succeeded; `false` if the device is not that far yet.
    pub(super) fn ready(self) -> Result<bool> {
        match self.code {
            Some(SUCCESS) => Ok(true),
            Some(NOT_READY) => Ok(false),
            _ => Err(self.error()),
        }
    }

    /// Whether it succeeded; `false` if the driver does not know the argument.
    pub(super) fn known(self) -> Result<bool> {
        match self.code {
            Some(SUCCESS) => Ok(true),
            Some(INVALID_VALUE) => Ok(false),
            _ => Err(self.error()),
        }
    }

    /// The number, if the function exists.
    pub(super) fn code(&self) -> Option<Code> {
        self.code
    }

    /// For what is freed: nobody is there to be told, but the log.
    pub(super) fn freed(self, what: &str) {
        // A process that exits deinitialises the driver, which frees everything.
        if !matches!(self.code, None | Some(SUCCESS | DEINITIALIZED)) {
            log::warn!(target: "nccl::cuda", "{what} is not freed: {}", self.error());
        }
    }

    fn error(self) -> Error {
        match self.code {
            Some(code) => self.table.error(self.call, code),
            None => Error::DriverTooOld {
                function: self.call,
                needs: self.since,
                found: self.table.version().map(|(major, minor)| format!("{major}.{minor}")),
            },
        }
    }
}

/// Declares the table, and for each function a method that calls it if it is there.
macro_rules! functions {
    ($($name:ident = $symbol:literal since $since:literal ($($arg:ident: $type:ty),* $(,)?);)*) => {
        /// The functions that a library has.
        pub(super) struct Table {
            $($name: Option<unsafe extern "C" fn($($type),*) -> Code>,)*
            error_name: Option<ErrorText>,
            error_text: Option<ErrorText>,
        }

        impl Table {
            /// Looks all functions up.
            ///
            /// # Safety
            /// The library is CUDA's driver: what has the name of a function of cuda.h is that
            /// function.
            pub(super) unsafe fn read(library: &Opened) -> Self {
                Self {
                    // SAFETY: the caller vouches for the names; the types are those of cuda.h.
                    $($name: unsafe { library.symbol($symbol) },)*
                    // SAFETY: as above.
                    error_name: unsafe { library.symbol("cuGetErrorName") },
                    // SAFETY: as above.
                    error_text: unsafe { library.symbol("cuGetErrorString") },
                }
            }

            $(
                #[doc = concat!("Calls `", $symbol, "`.\n\n# Safety\nWhat cuda.h asks for.")]
                pub(super) unsafe fn $name(&self, $($arg: $type),*) -> Outcome<'_> {
                    // SAFETY: the pointer is to the function of this name (`read`), of a library
                    // that is never unloaded; the caller has what the function asks for.
                    let code = self.$name.map(|function| unsafe { function($($arg),*) });
                    Outcome { table: self, call: $symbol, since: $since, code }
                }
            )*
        }
    };
}

type ErrorText = unsafe extern "C" fn(Code, *mut *const c_char) -> Code;

functions! {
    init = "cuInit" since "2.0" (flags: c_uint);
    driver_version = "cuDriverGetVersion" since "2.2" (version: *mut c_int);
    device_count = "cuDeviceGetCount" since "2.0" (count: *mut c_int);
    device_get = "cuDeviceGet" since "2.0" (device: *mut c_int, ordinal: c_int);
    device_name = "cuDeviceGetName" since "2.0" (name: *mut c_char, bytes: c_int, device: c_int);
    device_uuid = "cuDeviceGetUuid" since "9.2" (uuid: *mut [u8; 16], device: c_int);
    device_uuid_v2 = "cuDeviceGetUuid_v2" since "11.4" (uuid: *mut [u8; 16], device: c_int);
    device_memory = "cuDeviceTotalMem_v2" since "3.2" (bytes: *mut usize, device: c_int);
    device_attribute = "cuDeviceGetAttribute" since "2.0"
        (value: *mut c_int, attribute: c_int, device: c_int);
    device_pci = "cuDeviceGetPCIBusId" since "4.1" (text: *mut c_char, bytes: c_int, device: c_int);
    primary_retain = "cuDevicePrimaryCtxRetain" since "7.0" (context: *mut Handle, device: c_int);
    primary_release = "cuDevicePrimaryCtxRelease_v2" since "11.0" (device: c_int);
    context_current = "cuCtxGetCurrent" since "4.0" (context: *mut Handle);
    context_push = "cuCtxPushCurrent_v2" since "4.0" (context: Handle);
    context_pop = "cuCtxPopCurrent_v2" since "4.0" (context: *mut Handle);
    stream_create = "cuStreamCreate" since "2.0" (stream: *mut Handle, flags: c_uint);
    stream_destroy = "cuStreamDestroy_v2" since "4.0" (stream: Handle);
    stream_query = "cuStreamQuery" since "2.0" (stream: Handle);
    stream_wait_event = "cuStreamWaitEvent" since "3.2"
        (stream: Handle, event: Handle, flags: c_uint);
    stream_is_capturing = "cuStreamIsCapturing" since "10.0" (stream: Handle, status: *mut c_int);
    stream_begin_capture = "cuStreamBeginCapture_v2" since "10.1" (stream: Handle, mode: c_int);
    stream_end_capture = "cuStreamEndCapture" since "10.0" (stream: Handle, graph: *mut Handle);
    stream_context = "cuStreamGetCtx" since "9.2" (stream: Handle, context: *mut Handle);
    exchange_capture_mode = "cuThreadExchangeStreamCaptureMode" since "10.1" (mode: *mut c_int);
    graph_instantiate = "cuGraphInstantiateWithFlags" since "11.4"
        (exec: *mut Handle, graph: Handle, flags: c_ulonglong);
    graph_launch = "cuGraphLaunch" since "10.0" (exec: Handle, stream: Handle);
    graph_destroy = "cuGraphDestroy" since "10.0" (graph: Handle);
    graph_exec_destroy = "cuGraphExecDestroy" since "10.0" (exec: Handle);
    event_create = "cuEventCreate" since "2.0" (event: *mut Handle, flags: c_uint);
    event_record = "cuEventRecord" since "2.0" (event: Handle, stream: Handle);
    event_query = "cuEventQuery" since "2.0" (event: Handle);
    event_destroy = "cuEventDestroy_v2" since "4.0" (event: Handle);
    memory_alloc = "cuMemAlloc_v2" since "3.2" (at: *mut DevicePtr, bytes: usize);
    memory_free = "cuMemFree_v2" since "3.2" (at: DevicePtr);
    memory_set = "cuMemsetD8Async" since "3.2"
        (at: DevicePtr, value: u8, bytes: usize, stream: Handle);
    host_alloc = "cuMemHostAlloc" since "2.2" (at: *mut *mut c_void, bytes: usize, flags: c_uint);
    host_free = "cuMemFreeHost" since "2.0" (at: *mut c_void);
    copy_to_device = "cuMemcpyHtoDAsync_v2" since "3.2"
        (to: DevicePtr, from: *const c_void, bytes: usize, stream: Handle);
    copy_to_host = "cuMemcpyDtoHAsync_v2" since "3.2"
        (to: *mut c_void, from: DevicePtr, bytes: usize, stream: Handle);
    copy_on_device = "cuMemcpyDtoDAsync_v2" since "3.2"
        (to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle);
    pointer_attribute = "cuPointerGetAttribute" since "4.0"
        (value: *mut c_void, attribute: c_int, at: DevicePtr);
}

impl Table {
    /// The version of CUDA that the driver is for.
    pub(super) fn version(&self) -> Option<(u32, u32)> {
        let mut code = 0;
        // SAFETY: the function writes one int through the pointer, which is to a live one; it
        // may be called before `cuInit`.
        let outcome = unsafe { self.driver_version(&raw mut code) };
        // Not as an error, which would ask for the version.
        let code = u32::try_from(code).ok().filter(|_| outcome.code() == Some(SUCCESS))?;
        Some((code / 1000, code % 1000 / 10))
    }

    /// A code with the driver's words for it.
    pub(super) fn error(&self, call: &'static str, code: Code) -> Error {
        let words = |function| words(function, code);
        let error = DriverError::new(call, code, words(self.error_name), words(self.error_text));
        Error::Driver(Arc::new(error))
    }
}

/// The driver's text for a code; empty if it has none.
fn words(function: Option<ErrorText>, code: Code) -> String {
    let mut text = core::ptr::null();
    // SAFETY: the function takes any code and writes a pointer through the second argument, which
    // is to a live one.
    let found = function.map(|function| unsafe { function(code, &raw mut text) });
    if found != Some(SUCCESS) || text.is_null() {
        return String::new();
    }
    // SAFETY: not null; the driver gives texts of its own, which end with a zero byte and live as
    // long as the library, that is for good.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
