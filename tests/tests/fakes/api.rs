//! The two libraries, opened as a user would: by path, function by function.

#![expect(unsafe_code, reason = "calls C functions")]

use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;

use libloading::Library;

use tests::fakes;

/// `ncclUniqueId`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Id(pub(crate) [u8; 128]);

/// `ncclConfig_t` of 2.18, with a tail for newer ones.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Config {
    pub(crate) size: usize,
    pub(crate) magic: u32,
    pub(crate) version: u32,
    pub(crate) ints: [i32; 28],
}

impl Config {
    /// As the header of 2.18 initializes it.
    pub(crate) fn undefined() -> Self {
        let mut ints = [i32::MIN; 28];
        // netName
        ints[4..6].fill(0);
        Self { size: 48, magic: 0xcafe_beef, version: 21803, ints }
    }

    pub(crate) fn nonblocking() -> Self {
        let mut config = Self::undefined();
        config.ints[0] = 0;
        config
    }
}

/// Both libraries.
pub(crate) struct Api {
    cuda: Library,
    nccl: Library,
}

/// Makes methods of C functions. They trust the test to pass what the functions want.
macro_rules! functions {
    ($($library:ident $name:ident($($arg:ident: $type:ty),*);)*) => {
        #[expect(non_snake_case, reason = "C's names")]
        impl Api {
            $(pub(crate) fn $name(&self, $($arg: $type),*) -> i32 {
                // SAFETY: the types are those of the header; the tests pass places that live.
                unsafe {
                    let function: libloading::Symbol<
                        '_, unsafe extern "C" fn($($type),*) -> i32,
                    > = self.$library.get(stringify!($name)).unwrap();
                    function($($arg),*)
                }
            })*
        }
    };
}

functions! {
    cuda cuInit(flags: u32);
    cuda cuDeviceGetCount(count: &mut i32);
    cuda cuDeviceGetUuid_v2(uuid: &mut [u8; 16], device: i32);
    cuda cuDevicePrimaryCtxRetain(context: &mut usize, device: i32);
    cuda cuCtxSetCurrent(context: usize);
    cuda cuCtxSynchronize();
    cuda cuMemAlloc_v2(address: &mut usize, size_bytes: usize);
    cuda cuMemFree_v2(address: usize);
    cuda cuMemFreeAsync(address: usize, stream: usize);
    cuda cuMemHostAlloc(address: &mut usize, size_bytes: usize, flags: u32);
    cuda cuMemFreeHost(address: usize);
    cuda cuMemcpyHtoDAsync_v2(to: usize, from: *const u8, size_bytes: usize, stream: usize);
    cuda cuMemcpyDtoHAsync_v2(to: *mut u8, from: usize, size_bytes: usize, stream: usize);
    cuda cuMemcpyDtoDAsync_v2(to: usize, from: usize, size_bytes: usize, stream: usize);
    cuda cuMemsetD8Async(to: usize, value: u8, count: usize, stream: usize);
    cuda cuStreamCreate(stream: &mut usize, flags: u32);
    cuda cuStreamDestroy_v2(stream: usize);
    cuda cuStreamSynchronize(stream: usize);
    cuda cuStreamQuery(stream: usize);
    cuda cuStreamWaitEvent(stream: usize, event: usize, flags: u32);
    cuda cuStreamIsCapturing(stream: usize, status: &mut i32);
    cuda cuStreamBeginCapture_v2(stream: usize, mode: i32);
    cuda cuStreamEndCapture(stream: usize, graph: &mut usize);
    cuda cuThreadExchangeStreamCaptureMode(mode: &mut i32);
    cuda cuGraphInstantiateWithFlags(executable: &mut usize, graph: usize, flags: u64);
    cuda cuGraphLaunch(executable: usize, stream: usize);
    cuda cuGraphExecDestroy(executable: usize);
    cuda cuGraphDestroy(graph: usize);
    cuda cuEventCreate(event: &mut usize, flags: u32);
    cuda cuEventRecord(event: usize, stream: usize);
    cuda cuEventQuery(event: usize);
    cuda cuEventSynchronize(event: usize);
    cuda cuEventDestroy_v2(event: usize);
    cuda cuLaunchHostFunc(stream: usize, function: extern "C" fn(*mut c_void), data: *mut c_void);
    cuda cuPointerGetAttribute(data: *mut u32, attribute: i32, address: usize);
    cuda cuGetErrorName(code: i32, name: &mut *const c_char);
    cuda cuGetProcAddress_v2(name: *const c_char, function: &mut usize, version: i32, flags: u64, status: &mut i32);

    nccl ncclGetVersion(version: &mut i32);
    nccl ncclGetUniqueId(id: &mut Id);
    nccl ncclCommInitRank(comm: &mut usize, world_size: i32, id: Id, rank: i32);
    nccl ncclCommInitRankConfig(comm: &mut usize, world_size: i32, id: Id, rank: i32, config: &mut Config);
    nccl ncclCommInitAll(comms: *mut usize, count: i32, devices: *const i32);
    nccl ncclCommSplit(comm: usize, color: i32, key: i32, new: &mut usize, config: *mut Config);
    nccl ncclCommShrink(comm: usize, excluded: *mut i32, count: i32, new: &mut usize, config: *mut Config, flags: i32);
    nccl ncclCommGetUniqueId(comm: usize, id: &mut Id);
    nccl ncclCommGrow(comm: usize, world_size: i32, id: *const Id, rank: i32, new: &mut usize, config: *mut Config);
    nccl ncclCommRevoke(comm: usize, flags: i32);
    nccl ncclCommFinalize(comm: usize);
    nccl ncclCommDestroy(comm: usize);
    nccl ncclCommAbort(comm: usize);
    nccl ncclCommGetAsyncError(comm: usize, error: &mut i32);
    nccl ncclCommCount(comm: usize, count: &mut i32);
    nccl ncclCommUserRank(comm: usize, rank: &mut i32);
    nccl ncclCommCuDevice(comm: usize, device: &mut i32);
    nccl ncclGroupStart();
    nccl ncclGroupEnd();
    nccl ncclAllReduce(send: usize, recv: usize, count: usize, dtype: i32, op: i32, comm: usize, stream: usize);
    nccl ncclBroadcast(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize);
    nccl ncclReduce(send: usize, recv: usize, count: usize, dtype: i32, op: i32, root: i32, comm: usize, stream: usize);
    nccl ncclAllGather(send: usize, recv: usize, count: usize, dtype: i32, comm: usize, stream: usize);
    nccl ncclReduceScatter(send: usize, recv: usize, count: usize, dtype: i32, op: i32, comm: usize, stream: usize);
    nccl ncclAlltoAll(send: usize, recv: usize, count: usize, dtype: i32, comm: usize, stream: usize);
    nccl ncclGather(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize);
    nccl ncclScatter(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize);
    nccl ncclSend(send: usize, count: usize, dtype: i32, peer: i32, comm: usize, stream: usize);
    nccl ncclRecv(recv: usize, count: usize, dtype: i32, peer: i32, comm: usize, stream: usize);
    nccl ncclRedOpCreatePreMulSum(op: &mut i32, scalar: *const u8, dtype: i32, residence: i32, comm: usize);
    nccl ncclRedOpDestroy(op: i32, comm: usize);
    nccl ncclMemAlloc(address: &mut usize, size_bytes: usize);
    nccl ncclMemFree(address: usize);
    nccl ncclCommWindowRegister(comm: usize, buffer: usize, size_bytes: usize, window: &mut usize, flags: i32);
    nccl ncclCommWindowDeregister(comm: usize, window: usize);
    nccl ncclPutSignal(local: usize, count: usize, dtype: i32, peer: i32, window: usize, offset: usize, index: i32, context: i32, flags: u32, comm: usize, stream: usize);
    nccl ncclWaitSignal(count: i32, waits: *const [i32; 4], comm: usize, stream: usize);
}

impl Api {
    /// Opens two files.
    pub(crate) fn open(cuda: &Path, nccl: &Path) -> Self {
        // SAFETY: neither runs anything when it is loaded.
        unsafe { Self { cuda: Library::new(cuda).unwrap(), nccl: Library::new(nccl).unwrap() } }
    }

    /// The newest versions, once per process.
    pub(crate) fn get() -> &'static Self {
        static API: OnceLock<Api> = OnceLock::new();
        API.get_or_init(|| Self::open(&fakes::cuda(), &fakes::nccl()))
    }

    /// Whether libnccl has a function.
    pub(crate) fn has(&self, name: &str) -> bool {
        // SAFETY: the symbol is not used.
        unsafe { self.nccl.get::<*const c_void>(name) }.is_ok()
    }

    /// How many violations libnccl has seen.
    pub(crate) fn violations(&self) -> u64 {
        // SAFETY: the fake's own function, without arguments.
        unsafe { self.nccl.get::<unsafe extern "C" fn() -> u64>("fakeNcclViolations").unwrap()() }
    }

    /// The text of a code.
    pub(crate) fn error_string(&self, code: i32) -> String {
        // SAFETY: as in nccl.h; the text lives as long as the library.
        unsafe {
            let function = self
                .nccl
                .get::<unsafe extern "C" fn(i32) -> *const c_char>("ncclGetErrorString")
                .unwrap();
            CStr::from_ptr(function(code)).to_string_lossy().into_owned()
        }
    }

    /// The name of a driver's code.
    pub(crate) fn error_name(&self, code: i32) -> Option<String> {
        let mut name = std::ptr::null();
        if self.cuGetErrorName(code, &mut name) != 0 {
            return None;
        }
        // SAFETY: a text that lives as long as the library.
        Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }

    /// The text of the last error.
    pub(crate) fn last_error(&self) -> String {
        // SAFETY: as in nccl.h; the text is copied at once.
        unsafe {
            let function = self
                .nccl
                .get::<unsafe extern "C" fn(usize) -> *const c_char>("ncclGetLastError")
                .unwrap();
            CStr::from_ptr(function(0)).to_string_lossy().into_owned()
        }
    }

    /// Makes a device's context current in this thread.
    pub(crate) fn use_device(&self, device: usize) {
        assert_eq!(self.cuInit(0), 0);
        let mut context = 0;
        assert_eq!(self.cuDevicePrimaryCtxRetain(&mut context, i32::try_from(device).unwrap()), 0);
        assert_eq!(self.cuCtxSetCurrent(context), 0);
    }

    /// A new stream.
    pub(crate) fn stream(&self) -> usize {
        let mut stream = 0;
        assert_eq!(self.cuStreamCreate(&mut stream, 1), 0);
        stream
    }

    /// Device memory with these bytes.
    pub(crate) fn upload(&self, bytes: &[u8], stream: usize) -> usize {
        let mut address = 0;
        assert_eq!(self.cuMemAlloc_v2(&mut address, bytes.len().max(1)), 0);
        assert_eq!(self.cuMemcpyHtoDAsync_v2(address, bytes.as_ptr(), bytes.len(), stream), 0);
        address
    }

    /// What is in device memory, once the stream comes to it.
    pub(crate) fn download(&self, address: usize, size_bytes: usize, stream: usize) -> Vec<u8> {
        let mut bytes = vec![0; size_bytes];
        assert_eq!(self.cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr(), address, size_bytes, stream), 0);
        bytes
    }

    /// A new unique id.
    pub(crate) fn id(&self) -> Id {
        let mut id = Id([0; 128]);
        assert_eq!(self.ncclGetUniqueId(&mut id), 0);
        id
    }

    /// The state of a communicator.
    pub(crate) fn state(&self, comm: usize) -> i32 {
        let mut state = -1;
        assert_eq!(self.ncclCommGetAsyncError(comm, &mut state), 0);
        state
    }
}

/// No place.
pub(crate) fn none<T>() -> *mut T {
    null_mut()
}
