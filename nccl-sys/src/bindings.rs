//! The types of nccl.h. Written by `cargo xtask bindgen`; do not edit.

#![allow(non_camel_case_types, reason = "the names of nccl.h")]
#![allow(non_snake_case, reason = "the names of nccl.h")]
#![allow(non_upper_case_globals, reason = "the names of nccl.h")]
#![allow(missing_docs, reason = "members are named, and meant, as in nccl.h")]
#![allow(missing_debug_implementations, reason = "unions have none")]
#![allow(unused_qualifications, reason = "bindgen writes whole paths")]
#![allow(clippy::all, clippy::use_self, reason = "as bindgen writes it")]

use crate::result::ncclResult_t;

/// The first number of the version of the header that this was made from.
pub const NCCL_MAJOR: i32 = 2;
/// The second number of the version of the header that this was made from.
pub const NCCL_MINOR: i32 = 32;
/// The third number of the version of the header that this was made from.
pub const NCCL_PATCH: i32 = 3;
/// The version of the header that this was made from, as one number.
pub const NCCL_VERSION_CODE: i32 = 23203;
/// Bytes of a [`ncclUniqueId`].
pub const NCCL_UNIQUE_ID_BYTES: i32 = 128;
/// Color of a rank that is to be in no part of a split.
pub const NCCL_SPLIT_NOCOLOR: i32 = -1;
/// Window flag: none.
pub const NCCL_WIN_DEFAULT: i32 = 0;
/// Window flag: every rank has the same offsets (2.27).
pub const NCCL_WIN_COLL_SYMMETRIC: i32 = 1;
/// Window flag: writes arrive in order (2.29).
pub const NCCL_WIN_STRICT_ORDERING: i32 = 2;
/// Window flag: for networking from the GPU only (2.32).
pub const NCCL_WIN_GIN_ONLY: i32 = 4;
/// Window flag: for counted transfers (2.32).
pub const NCCL_WIN_CFT_COUNTED: i32 = 8;
/// Alignment of a window's memory in bytes.
pub const NCCL_WIN_REQUIRED_ALIGNMENT: i32 = 4096;
/// `CTAPolicy`: the library chooses.
pub const NCCL_CTA_POLICY_DEFAULT: i32 = 0;
/// `CTAPolicy`: fewer thread blocks at the same bandwidth.
pub const NCCL_CTA_POLICY_EFFICIENCY: i32 = 1;
/// `CTAPolicy`: copy engines instead of thread blocks where possible.
pub const NCCL_CTA_POLICY_ZERO: i32 = 2;
/// Shrink flag: the parent has nothing to do.
pub const NCCL_SHRINK_DEFAULT: i32 = 0;
/// Shrink flag: stops what the parent does first.
pub const NCCL_SHRINK_ABORT: i32 = 1;
/// Revoke flag: the only one.
pub const NCCL_REVOKE_DEFAULT: i32 = 0;
/// Suspend flag: gives GPU memory back.
pub const NCCL_SUSPEND_MEM: i32 = 1;
/// What a [`cudaStream_t`] points to; known to CUDA only.
#[repr(C)]
#[derive(Debug)]
pub struct CUstream_st {
    _unused: [u8; 0],
}
/// A stream of CUDA; null is the default stream.
pub type cudaStream_t = *mut CUstream_st;
/// What a [`cudaEvent_t`] points to; known to CUDA only.
#[repr(C)]
#[derive(Debug)]
pub struct CUevent_st {
    _unused: [u8; 0],
}
/// An event of CUDA.
pub type cudaEvent_t = *mut CUevent_st;
/// What a [`ncclComm_t`] points to; known to NCCL only.
#[repr(C)]
#[derive(Debug)]
pub struct ncclComm {
    _unused: [u8; 0],
}
/// A communicator: one rank's end of a group of ranks.
pub type ncclComm_t = *mut ncclComm;
/// What a [`ncclWindow_t`] points to; in GPU memory.
#[repr(C)]
#[derive(Debug)]
pub struct ncclWindow_vidmem {
    _unused: [u8; 0],
}
/// Registered memory that other ranks may use. Never to be read through; null when the library has no support for it, although registering succeeded.
pub type ncclWindow_t = *mut ncclWindow_vidmem;
/// Where and under which number the ranks of a communicator meet: made by one rank, and given to all.
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct ncclUniqueId {
    pub internal: [::core::ffi::c_char; 128usize],
}
impl ncclHostCftMode_t {
    pub const ncclHostCftDefault: ncclHostCftMode_t = ncclHostCftMode_t(-2147483648);
    pub const ncclHostCftEnable: ncclHostCftMode_t = ncclHostCftMode_t(1);
    pub const ncclHostCftDisable: ncclHostCftMode_t = ncclHostCftMode_t(2);
    pub const ncclHostCftFallback: ncclHostCftMode_t = ncclHostCftMode_t(3);
}
/// Values of `ncclConfig_t::hostCftMode` (2.31).
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclHostCftMode_t(pub ::core::ffi::c_int);
impl ncclNvlsHostMode_t {
    pub const ncclNvlsHostModeDefault: ncclNvlsHostMode_t = ncclNvlsHostMode_t(-2147483648);
    pub const ncclNvlsHostModeEnable: ncclNvlsHostMode_t = ncclNvlsHostMode_t(0);
    pub const ncclNvlsHostModeDisableTransport: ncclNvlsHostMode_t = ncclNvlsHostMode_t(1);
    pub const ncclNvlsHostModeDisableSymmetricMultimem: ncclNvlsHostMode_t = ncclNvlsHostMode_t(2);
    pub const ncclNvlsHostModeDisable: ncclNvlsHostMode_t = ncclNvlsHostMode_t(2147483647);
}
/// Values of `ncclConfig_t::nvlsHostMode` (2.32).
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclNvlsHostMode_t(pub ::core::ffi::c_int);
/// How a communicator is made, in the newest layout. [`ncclConfig_t::new`] fills in what the opened library is to see; the library reads as much as it knows.
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct ncclConfig_t {
    pub size: usize,
    pub magic: ::core::ffi::c_uint,
    pub version: ::core::ffi::c_uint,
    pub blocking: ::core::ffi::c_int,
    pub cgaClusterSize: ::core::ffi::c_int,
    pub minCTAs: ::core::ffi::c_int,
    pub maxCTAs: ::core::ffi::c_int,
    pub netName: *const ::core::ffi::c_char,
    pub splitShare: ::core::ffi::c_int,
    pub trafficClass: ::core::ffi::c_int,
    pub commName: *const ::core::ffi::c_char,
    pub collnetEnable: ::core::ffi::c_int,
    pub CTAPolicy: ::core::ffi::c_int,
    pub shrinkShare: ::core::ffi::c_int,
    pub nvlsCTAs: ::core::ffi::c_int,
    pub nChannelsPerNetPeer: ::core::ffi::c_int,
    pub nvlinkCentricSched: ::core::ffi::c_int,
    pub graphUsageMode: ::core::ffi::c_int,
    pub numRmaCtx: ::core::ffi::c_int,
    pub maxP2pPeers: ::core::ffi::c_int,
    pub graphStreamOrdering: ::core::ffi::c_int,
    pub launchOrderImplicit: ::core::ffi::c_int,
    pub numRmaSig: ::core::ffi::c_int,
    pub rmaEagerInit: ::core::ffi::c_int,
    pub hostCftMode: ::core::ffi::c_int,
    pub nvlsHostMode: ::core::ffi::c_int,
}
/// An option of a vendor in a list of such.
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ncclConfigExt {
    pub next: *mut ncclConfigExt,
    pub key: ncclConfigExt__bindgen_ty_1,
    pub val: ncclConfigExt__bindgen_ty_2,
}
/// Whose option, and which.
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct ncclConfigExt__bindgen_ty_1 {
    pub vendorId: ::core::ffi::c_int,
    pub optionId: ::core::ffi::c_int,
}
/// The value of an option.
#[repr(C)]
#[derive(Copy, Clone)]
pub union ncclConfigExt__bindgen_ty_2 {
    pub i: ::core::ffi::c_int,
    pub s: *const ::core::ffi::c_char,
    pub raw: *mut ::core::ffi::c_void,
}
/// An option of a vendor in a list of such.
pub type ncclConfigExt_t = ncclConfigExt;
/// How one collective is run (2.31); must live until the group ends.
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct ncclCollConfig_t {
    pub size: usize,
    pub magic: ::core::ffi::c_uint,
    pub version: ::core::ffi::c_uint,
    pub ext: *mut ncclConfigExt_t,
    pub minCTAs: ::core::ffi::c_int,
    pub maxCTAs: ::core::ffi::c_int,
    pub nvlsCTAs: ::core::ffi::c_int,
    pub cgaClusterSize: ::core::ffi::c_int,
    pub algSelection: *const ::core::ffi::c_char,
    pub forceAlgSelection: ::core::ffi::c_int,
    pub CTAPolicy: ::core::ffi::c_int,
    pub userProfilerTag: u64,
    pub launchCompletionEvent: cudaEvent_t,
}
/// What `ncclGroupSimulateEnd` estimates.
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct ncclSimInfo_t {
    pub size: usize,
    pub magic: ::core::ffi::c_uint,
    pub version: ::core::ffi::c_uint,
    pub estimatedTime: f32,
}
impl ncclCommMemStat_t {
    pub const ncclStatGpuMemSuspend: ncclCommMemStat_t = ncclCommMemStat_t(0);
    pub const ncclStatGpuMemSuspended: ncclCommMemStat_t = ncclCommMemStat_t(1);
    pub const ncclStatGpuMemPersist: ncclCommMemStat_t = ncclCommMemStat_t(2);
    pub const ncclStatGpuMemTotal: ncclCommMemStat_t = ncclCommMemStat_t(3);
}
/// Which number `ncclCommMemStats` is to give.
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclCommMemStat_t(pub ::core::ffi::c_uint);
impl ncclRedOp_t {
    pub const ncclSum: ncclRedOp_t = ncclRedOp_t(0);
    pub const ncclProd: ncclRedOp_t = ncclRedOp_t(1);
    pub const ncclMax: ncclRedOp_t = ncclRedOp_t(2);
    pub const ncclMin: ncclRedOp_t = ncclRedOp_t(3);
    pub const ncclAvg: ncclRedOp_t = ncclRedOp_t(4);
    pub const ncclNumOps: ncclRedOp_t = ncclRedOp_t(5);
    pub const ncclMaxRedOp: ncclRedOp_t = ncclRedOp_t(2147483647);
}
/// A reduction; those made by `ncclRedOpCreatePreMulSum` are 5 and above. A newtype and no enum, since any number may come.
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclRedOp_t(pub ::core::ffi::c_uint);
impl ncclDataType_t {
    pub const ncclInt8: ncclDataType_t = ncclDataType_t(0);
    pub const ncclChar: ncclDataType_t = ncclDataType_t(0);
    pub const ncclUint8: ncclDataType_t = ncclDataType_t(1);
    pub const ncclInt32: ncclDataType_t = ncclDataType_t(2);
    pub const ncclInt: ncclDataType_t = ncclDataType_t(2);
    pub const ncclUint32: ncclDataType_t = ncclDataType_t(3);
    pub const ncclInt64: ncclDataType_t = ncclDataType_t(4);
    pub const ncclUint64: ncclDataType_t = ncclDataType_t(5);
    pub const ncclFloat16: ncclDataType_t = ncclDataType_t(6);
    pub const ncclHalf: ncclDataType_t = ncclDataType_t(6);
    pub const ncclFloat32: ncclDataType_t = ncclDataType_t(7);
    pub const ncclFloat: ncclDataType_t = ncclDataType_t(7);
    pub const ncclFloat64: ncclDataType_t = ncclDataType_t(8);
    pub const ncclDouble: ncclDataType_t = ncclDataType_t(8);
    pub const ncclBfloat16: ncclDataType_t = ncclDataType_t(9);
    pub const ncclFloat8e4m3: ncclDataType_t = ncclDataType_t(10);
    pub const ncclFloat8e5m2: ncclDataType_t = ncclDataType_t(11);
    pub const ncclNumTypes: ncclDataType_t = ncclDataType_t(12);
}
/// A type of elements; the two of 8-bit floats are known since 2.24.
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclDataType_t(pub ::core::ffi::c_uint);
impl ncclScalarResidence_t {
    pub const ncclScalarDevice: ncclScalarResidence_t = ncclScalarResidence_t(0);
    pub const ncclScalarHostImmediate: ncclScalarResidence_t = ncclScalarResidence_t(1);
}
/// Where the scalar of a reduction lies.
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclScalarResidence_t(pub ::core::ffi::c_uint);
/// How many signals of which peer are waited for.
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct ncclWaitSignalDesc_t {
    pub opCnt: ::core::ffi::c_int,
    pub peer: ::core::ffi::c_int,
    pub sigIdx: ::core::ffi::c_int,
    pub ctx: ::core::ffi::c_int,
}
impl ncclEncryptionMode_t {
    pub const NCCL_ENCRYPTION_MODE_NONE: ncclEncryptionMode_t = ncclEncryptionMode_t(0);
    pub const NCCL_ENCRYPTION_MODE_PSK: ncclEncryptionMode_t = ncclEncryptionMode_t(1);
}
/// Values of `ncclEncryptionConfig_t::mode`.
#[repr(transparent)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub struct ncclEncryptionMode_t(pub ::core::ffi::c_uint);
/// How the process encrypts its sockets (2.32).
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct ncclEncryptionConfig_t {
    pub size: usize,
    pub magic: ::core::ffi::c_uint,
    pub version: ::core::ffi::c_uint,
    pub mode: ::core::ffi::c_int,
    pub psk: *const ::core::ffi::c_char,
}
/// What a [`ncclParamHandle_t`] points to; known to NCCL only.
#[repr(C)]
#[derive(Debug)]
pub struct ncclParamHandle {
    _unused: [u8; 0],
}
/// A parameter of NCCL (2.30); never to be freed.
pub type ncclParamHandle_t = *mut ncclParamHandle;

/// The type of each function of nccl.h, under the name of the function.
pub(crate) mod functions {
    use super::*;

    /// Points to `ncclMemAlloc`.
    pub type ncclMemAlloc =
        unsafe extern "C" fn(ptr: *mut *mut ::core::ffi::c_void, size: usize) -> ncclResult_t;
    /// Points to `ncclMemFree`.
    pub type ncclMemFree = unsafe extern "C" fn(ptr: *mut ::core::ffi::c_void) -> ncclResult_t;
    /// Points to `ncclGetVersion`.
    pub type ncclGetVersion =
        unsafe extern "C" fn(version: *mut ::core::ffi::c_int) -> ncclResult_t;
    /// Points to `ncclGetUniqueId`.
    pub type ncclGetUniqueId = unsafe extern "C" fn(uniqueId: *mut ncclUniqueId) -> ncclResult_t;
    /// Points to `ncclCommInitRankConfig`.
    pub type ncclCommInitRankConfig = unsafe extern "C" fn(
        comm: *mut ncclComm_t,
        nranks: ::core::ffi::c_int,
        commId: ncclUniqueId,
        rank: ::core::ffi::c_int,
        config: *mut ncclConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclCommInitRank`.
    pub type ncclCommInitRank = unsafe extern "C" fn(
        comm: *mut ncclComm_t,
        nranks: ::core::ffi::c_int,
        commId: ncclUniqueId,
        rank: ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclCommInitAll`.
    pub type ncclCommInitAll = unsafe extern "C" fn(
        comm: *mut ncclComm_t,
        ndev: ::core::ffi::c_int,
        devlist: *const ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclCommFinalize`.
    pub type ncclCommFinalize = unsafe extern "C" fn(comm: ncclComm_t) -> ncclResult_t;
    /// Points to `ncclCommDestroy`.
    pub type ncclCommDestroy = unsafe extern "C" fn(comm: ncclComm_t) -> ncclResult_t;
    /// Points to `ncclCommAbort`.
    pub type ncclCommAbort = unsafe extern "C" fn(comm: ncclComm_t) -> ncclResult_t;
    /// Points to `ncclCommRevoke`.
    pub type ncclCommRevoke =
        unsafe extern "C" fn(comm: ncclComm_t, revokeFlags: ::core::ffi::c_int) -> ncclResult_t;
    /// Points to `ncclCommSplit`.
    pub type ncclCommSplit = unsafe extern "C" fn(
        comm: ncclComm_t,
        color: ::core::ffi::c_int,
        key: ::core::ffi::c_int,
        newcomm: *mut ncclComm_t,
        config: *mut ncclConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclCommShrink`.
    pub type ncclCommShrink = unsafe extern "C" fn(
        comm: ncclComm_t,
        excludeRanksList: *mut ::core::ffi::c_int,
        excludeRanksCount: ::core::ffi::c_int,
        newcomm: *mut ncclComm_t,
        config: *mut ncclConfig_t,
        shrinkFlags: ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclCommGetUniqueId`.
    pub type ncclCommGetUniqueId =
        unsafe extern "C" fn(comm: ncclComm_t, uniqueId: *mut ncclUniqueId) -> ncclResult_t;
    /// Points to `ncclCommGrow`.
    pub type ncclCommGrow = unsafe extern "C" fn(
        comm: ncclComm_t,
        nRanks: ::core::ffi::c_int,
        uniqueId: *const ncclUniqueId,
        rank: ::core::ffi::c_int,
        newcomm: *mut ncclComm_t,
        config: *mut ncclConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclCommInitRankScalable`.
    pub type ncclCommInitRankScalable = unsafe extern "C" fn(
        newcomm: *mut ncclComm_t,
        nranks: ::core::ffi::c_int,
        myrank: ::core::ffi::c_int,
        nId: ::core::ffi::c_int,
        commIds: *mut ncclUniqueId,
        config: *mut ncclConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclGetErrorString`.
    pub type ncclGetErrorString =
        unsafe extern "C" fn(result: ncclResult_t) -> *const ::core::ffi::c_char;
    /// Points to `ncclGetLastError`.
    pub type ncclGetLastError =
        unsafe extern "C" fn(comm: ncclComm_t) -> *const ::core::ffi::c_char;
    /// Points to `ncclResetDebugInit`.
    pub type ncclResetDebugInit = unsafe extern "C" fn();
    /// Points to `ncclCommGetAsyncError`.
    pub type ncclCommGetAsyncError =
        unsafe extern "C" fn(comm: ncclComm_t, asyncError: *mut ncclResult_t) -> ncclResult_t;
    /// Points to `ncclCommCount`.
    pub type ncclCommCount =
        unsafe extern "C" fn(comm: ncclComm_t, count: *mut ::core::ffi::c_int) -> ncclResult_t;
    /// Points to `ncclCommCuDevice`.
    pub type ncclCommCuDevice =
        unsafe extern "C" fn(comm: ncclComm_t, device: *mut ::core::ffi::c_int) -> ncclResult_t;
    /// Points to `ncclCommUserRank`.
    pub type ncclCommUserRank =
        unsafe extern "C" fn(comm: ncclComm_t, rank: *mut ::core::ffi::c_int) -> ncclResult_t;
    /// Points to `ncclCommRegister`.
    pub type ncclCommRegister = unsafe extern "C" fn(
        comm: ncclComm_t,
        buff: *mut ::core::ffi::c_void,
        size: usize,
        handle: *mut *mut ::core::ffi::c_void,
    ) -> ncclResult_t;
    /// Points to `ncclCommDeregister`.
    pub type ncclCommDeregister =
        unsafe extern "C" fn(comm: ncclComm_t, handle: *mut ::core::ffi::c_void) -> ncclResult_t;
    /// Points to `ncclCommSuspend`.
    pub type ncclCommSuspend =
        unsafe extern "C" fn(comm: ncclComm_t, flags: ::core::ffi::c_int) -> ncclResult_t;
    /// Points to `ncclCommResume`.
    pub type ncclCommResume = unsafe extern "C" fn(comm: ncclComm_t) -> ncclResult_t;
    /// Points to `ncclCommMemStats`.
    pub type ncclCommMemStats = unsafe extern "C" fn(
        comm: ncclComm_t,
        stat: ncclCommMemStat_t,
        value: *mut u64,
    ) -> ncclResult_t;
    /// Points to `ncclCommWindowRegister`.
    pub type ncclCommWindowRegister = unsafe extern "C" fn(
        comm: ncclComm_t,
        buff: *mut ::core::ffi::c_void,
        size: usize,
        win: *mut ncclWindow_t,
        winFlags: ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclCommWindowDeregister`.
    pub type ncclCommWindowDeregister =
        unsafe extern "C" fn(comm: ncclComm_t, win: ncclWindow_t) -> ncclResult_t;
    /// Points to `ncclWinGetUserPtr`.
    pub type ncclWinGetUserPtr = unsafe extern "C" fn(
        comm: ncclComm_t,
        win: ncclWindow_t,
        outUserPtr: *mut *mut ::core::ffi::c_void,
    ) -> ncclResult_t;
    /// Points to `ncclRedOpCreatePreMulSum`.
    pub type ncclRedOpCreatePreMulSum = unsafe extern "C" fn(
        op: *mut ncclRedOp_t,
        scalar: *mut ::core::ffi::c_void,
        datatype: ncclDataType_t,
        residence: ncclScalarResidence_t,
        comm: ncclComm_t,
    ) -> ncclResult_t;
    /// Points to `ncclRedOpDestroy`.
    pub type ncclRedOpDestroy =
        unsafe extern "C" fn(op: ncclRedOp_t, comm: ncclComm_t) -> ncclResult_t;
    /// Points to `ncclReduce`.
    pub type ncclReduce = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        op: ncclRedOp_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclBcast`.
    pub type ncclBcast = unsafe extern "C" fn(
        buff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclBroadcast`.
    pub type ncclBroadcast = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclAllReduce`.
    pub type ncclAllReduce = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        op: ncclRedOp_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclReduceScatter`.
    pub type ncclReduceScatter = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        recvcount: usize,
        datatype: ncclDataType_t,
        op: ncclRedOp_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclAllGather`.
    pub type ncclAllGather = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        sendcount: usize,
        datatype: ncclDataType_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclAlltoAll`.
    pub type ncclAlltoAll = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclGather`.
    pub type ncclGather = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclScatter`.
    pub type ncclScatter = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclAllReduceConfig`.
    pub type ncclAllReduceConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        op: ncclRedOp_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclBroadcastConfig`.
    pub type ncclBroadcastConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclReduceConfig`.
    pub type ncclReduceConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        op: ncclRedOp_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclAllGatherConfig`.
    pub type ncclAllGatherConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        sendcount: usize,
        datatype: ncclDataType_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclReduceScatterConfig`.
    pub type ncclReduceScatterConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        recvcount: usize,
        datatype: ncclDataType_t,
        op: ncclRedOp_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclAlltoAllConfig`.
    pub type ncclAlltoAllConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclGatherConfig`.
    pub type ncclGatherConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclScatterConfig`.
    pub type ncclScatterConfig = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        root: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
        config: *const ncclCollConfig_t,
    ) -> ncclResult_t;
    /// Points to `ncclSend`.
    pub type ncclSend = unsafe extern "C" fn(
        sendbuff: *const ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        peer: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclRecv`.
    pub type ncclRecv = unsafe extern "C" fn(
        recvbuff: *mut ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        peer: ::core::ffi::c_int,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclPutSignal`.
    pub type ncclPutSignal = unsafe extern "C" fn(
        localbuff: *const ::core::ffi::c_void,
        count: usize,
        datatype: ncclDataType_t,
        peer: ::core::ffi::c_int,
        peerWin: ncclWindow_t,
        peerWinOffset: usize,
        sigIdx: ::core::ffi::c_int,
        ctx: ::core::ffi::c_int,
        flags: ::core::ffi::c_uint,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclSignal`.
    pub type ncclSignal = unsafe extern "C" fn(
        peer: ::core::ffi::c_int,
        sigIdx: ::core::ffi::c_int,
        ctx: ::core::ffi::c_int,
        flags: ::core::ffi::c_uint,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclWaitSignal`.
    pub type ncclWaitSignal = unsafe extern "C" fn(
        nDesc: ::core::ffi::c_int,
        signalDescs: *mut ncclWaitSignalDesc_t,
        comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;
    /// Points to `ncclGroupStart`.
    pub type ncclGroupStart = unsafe extern "C" fn() -> ncclResult_t;
    /// Points to `ncclGroupEnd`.
    pub type ncclGroupEnd = unsafe extern "C" fn() -> ncclResult_t;
    /// Points to `ncclGroupSimulateEnd`.
    pub type ncclGroupSimulateEnd =
        unsafe extern "C" fn(simInfo: *mut ncclSimInfo_t) -> ncclResult_t;
    /// Points to `ncclSetEncryption`.
    pub type ncclSetEncryption =
        unsafe extern "C" fn(config: *const ncclEncryptionConfig_t) -> ncclResult_t;
    /// Points to `ncclParamBind`.
    pub type ncclParamBind = unsafe extern "C" fn(
        out: *mut ncclParamHandle_t,
        key: *const ::core::ffi::c_char,
    ) -> ncclResult_t;
    /// Points to `ncclParamGetI8`.
    pub type ncclParamGetI8 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut i8) -> ncclResult_t;
    /// Points to `ncclParamGetI16`.
    pub type ncclParamGetI16 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut i16) -> ncclResult_t;
    /// Points to `ncclParamGetI32`.
    pub type ncclParamGetI32 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut i32) -> ncclResult_t;
    /// Points to `ncclParamGetI64`.
    pub type ncclParamGetI64 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut i64) -> ncclResult_t;
    /// Points to `ncclParamGetU8`.
    pub type ncclParamGetU8 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut u8) -> ncclResult_t;
    /// Points to `ncclParamGetU16`.
    pub type ncclParamGetU16 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut u16) -> ncclResult_t;
    /// Points to `ncclParamGetU32`.
    pub type ncclParamGetU32 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut u32) -> ncclResult_t;
    /// Points to `ncclParamGetU64`.
    pub type ncclParamGetU64 =
        unsafe extern "C" fn(h: ncclParamHandle_t, out: *mut u64) -> ncclResult_t;
    /// Points to `ncclParamGetStr`.
    pub type ncclParamGetStr = unsafe extern "C" fn(
        h: ncclParamHandle_t,
        out: *mut *const ::core::ffi::c_char,
    ) -> ncclResult_t;
    /// Points to `ncclParamGet`.
    pub type ncclParamGet = unsafe extern "C" fn(
        h: ncclParamHandle_t,
        out: *mut ::core::ffi::c_void,
        maxLen: ::core::ffi::c_int,
        len: *mut ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclParamGetParameter`.
    pub type ncclParamGetParameter = unsafe extern "C" fn(
        key: *const ::core::ffi::c_char,
        value: *mut *const ::core::ffi::c_char,
        valueLen: *mut ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclParamGetAllParameterKeys`.
    pub type ncclParamGetAllParameterKeys = unsafe extern "C" fn(
        table: *mut *mut *const ::core::ffi::c_char,
        tableLen: *mut ::core::ffi::c_int,
    ) -> ncclResult_t;
    /// Points to `ncclParamDumpAll`.
    pub type ncclParamDumpAll = unsafe extern "C" fn();
}
