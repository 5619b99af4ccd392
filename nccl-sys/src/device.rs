//! What a host can use of `nccl_device/host.h`. Written by hand: the header is C++ and wants all
//! of CUDA.
//!
//! What only prepares kernels that communicate by themselves (`ncclDevCommCreate` and what belongs
//! to it) is left out: such kernels are compiled against one version's headers.

#![expect(non_camel_case_types, non_snake_case, reason = "the names of NCCL's headers")]

use core::ffi::c_int;
use core::ffi::c_uint;

/// A regular part of a communicator's ranks: `nRanks` of them, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ncclTeam_t {
    /// How many ranks.
    pub nRanks: c_int,
    /// This process's place among them.
    pub rank: c_int,
    /// The distance of two neighbours in ranks of the communicator.
    pub stride: c_int,
}

/// A kind of networking from the GPU; a newtype and no enum, since versions add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ncclGinType_t(pub c_uint);

/// How ranks are connected for networking from the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ncclGinConnectionType_t(pub c_uint);

/// What `ncclCommQueryProperties` tells, in the newest layout.
///
/// Made by [`new`](Self::new); the library writes the part that it knows. `bool` of C stands here
/// as `u8`, since a newer library may write any byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ncclCommProperties_t {
    /// Bytes of the struct as the library knows it.
    pub size: usize,
    /// [`NCCL_API_MAGIC`](crate::NCCL_API_MAGIC).
    pub magic: c_uint,
    /// Not above the library's version: it refuses newer ones.
    pub version: c_uint,
    /// This rank.
    pub rank: c_int,
    /// Ranks of the communicator.
    pub nRanks: c_int,
    /// The device's number in this process.
    pub cudaDev: c_int,
    /// The device's number on this host.
    pub nvmlDev: c_int,
    /// Whether kernels may communicate by themselves.
    pub deviceApiSupport: u8,
    /// Whether one store can reach several GPUs.
    pub multimemSupport: u8,
    /// The kind of networking from the GPU.
    pub ginType: ncclGinType_t,
    /// Groups of ranks that reach each other's memory directly.
    pub nLsaTeams: c_int,
    /// Whether `ncclPutSignal` and its like work.
    pub hostRmaSupport: u8,
    /// The kind of networking from the GPU along rails.
    pub railedGinType: ncclGinType_t,
    /// The communicator's number, as in NCCL's log (2.31).
    pub commHash: u64,
    /// The smallest stride for networking from the GPU (2.31).
    pub ginMinStride: c_int,
    /// How ranks are connected for it (2.31).
    pub ginConnectionType: ncclGinConnectionType_t,
    /// For each kind of it, whether there is support (2.31).
    pub ginSupport: [u8; 64],
    /// Bytes of the struct of kernels that communicate by themselves (2.31).
    pub devCommRuntimeVersionSize: usize,
    /// Whether counted transfers work (2.31).
    pub cftSupport: u8,
    /// Whether they work to several at once.
    pub cftMulticastSupport: u8,
    /// Whether they are counted.
    pub cftCountedSupport: u8,
}

/// The type of each function, under the name of the function.
pub(crate) mod functions {
    use core::ffi::c_int;
    use core::ffi::c_void;

    use crate::bindings::ncclComm_t;
    use crate::bindings::ncclWindow_t;
    use crate::device::ncclCommProperties_t;
    use crate::device::ncclTeam_t;
    use crate::result::ncclResult_t;

    /// Points to `ncclCommQueryProperties`. Not to be called in 2.29.2 and 2.29.3, which have another
    /// struct.
    pub type ncclCommQueryProperties =
        unsafe extern "C" fn(comm: ncclComm_t, props: *mut ncclCommProperties_t) -> ncclResult_t;
    /// Points to `ncclGetLsaDevicePointer`.
    pub type ncclGetLsaDevicePointer = unsafe extern "C" fn(
        window: ncclWindow_t,
        offset: usize,
        lsaRank: c_int,
        outPtr: *mut *mut c_void,
    ) -> ncclResult_t;
    /// Points to `ncclGetLsaMultimemDevicePointer`.
    pub type ncclGetLsaMultimemDevicePointer = unsafe extern "C" fn(
        window: ncclWindow_t,
        offset: usize,
        outPtr: *mut *mut c_void,
    ) -> ncclResult_t;
    /// Points to `ncclGetPeerDevicePointer`.
    pub type ncclGetPeerDevicePointer = unsafe extern "C" fn(
        window: ncclWindow_t,
        offset: usize,
        peer: c_int,
        outPtr: *mut *mut c_void,
    ) -> ncclResult_t;
    /// Points to `ncclTeamLsa`. The communicator must not be null.
    pub type ncclTeamLsa = unsafe extern "C" fn(comm: ncclComm_t) -> ncclTeam_t;
    /// Points to `ncclTeamRail`. The communicator must not be null.
    pub type ncclTeamRail = unsafe extern "C" fn(comm: ncclComm_t) -> ncclTeam_t;
    /// Points to `ncclTeamRankToLsa`. The communicator must not be null.
    pub type ncclTeamRankToLsa =
        unsafe extern "C" fn(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int;
    /// Points to `ncclTeamRankToWorld`. The communicator must not be null.
    pub type ncclTeamRankToWorld =
        unsafe extern "C" fn(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int;
    /// Points to `ncclTeamWorld`. The communicator must not be null.
    pub type ncclTeamWorld = unsafe extern "C" fn(comm: ncclComm_t) -> ncclTeam_t;
}
