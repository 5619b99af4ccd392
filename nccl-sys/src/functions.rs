//! The table of functions: name, type, and the first version that has it.

#![expect(unsafe_code, reason = "addresses become functions")]
#![expect(non_snake_case, reason = "the names of nccl.h")]

use core::fmt;

use crate::load::Library;
use crate::missing::Missing;
use crate::signatures;
use crate::version::Version;

/// A function of NCCL and the first version that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// The name, as in nccl.h.
    pub name: &'static str,
    /// The first public version that has it in the form that it has here. Since then no function has
    /// changed its signature or gone.
    pub since: Version,
}

/// Gives the address behind a name, as a function of unknown type.
pub(crate) type Find<'a> = &'a dyn Fn(&'static str) -> Option<unsafe extern "C" fn()>;

macro_rules! functions {
    ($($(#[doc = $doc:literal])+ $name:ident: signatures::$same:ident
        = $major:literal, $minor:literal, $patch:literal;)+) => {
        /// Every function for hosts, by the name in nccl.h: there if the library that was opened
        /// has it.
        ///
        /// [`Library`] has a method for each, which gives the function or says what it needs.
        #[derive(Clone)]
        #[non_exhaustive]
        pub struct Functions {
            $($(#[doc = $doc])+ pub $name: Option<signatures::$same>,)+
        }

        /// Every function in [`Functions`], with the first version that has it.
        pub const FUNCTIONS: &[Function] = &[
            $(Function {
                name: stringify!($name),
                since: Version::new($major, $minor, $patch),
            },)+
        ];

        impl Functions {
            /// Asks `find` for each function that the version is to have. Some libraries export a
            /// function before a header declares it, and not in its final form.
            ///
            /// # Safety
            /// What `find` gives is NCCL's function of that name.
            #[expect(clippy::useless_transmute, reason = "one function is of this type")]
            pub(crate) unsafe fn load(found: Version, find: Find<'_>) -> Self {
                Self {
                    $($name: (found >= Version::new($major, $minor, $patch)).then(|| find(stringify!($name))).flatten().map(|address| {
                        // SAFETY: a pointer to a function of another type; the caller vouches that
                        // it is NCCL's of this name, whose type is the same in all versions.
                        unsafe {
                            core::mem::transmute::<unsafe extern "C" fn(), signatures::$same>(address)
                        }
                    }),)+
                }
            }

            /// The names of the functions that are there, in the order of [`FUNCTIONS`].
            pub fn present(&self) -> impl Iterator<Item = &'static str> {
                [$(self.$name.is_some().then_some(stringify!($name)),)+].into_iter().flatten()
            }
        }

        /// The functions, each one or what it needs.
        impl Library {
            $(
                $(#[doc = $doc])+
                ///
                /// # Errors
                /// The library that was opened does not have it.
                pub fn $name(&self) -> Result<signatures::$same, Missing> {
                    self.functions().$name.ok_or(Missing::new(
                        stringify!($name),
                        Version::new($major, $minor, $patch),
                        self.version(),
                    ))
                }
            )+
        }
    };
}

functions! {
    /// Writes the library's version.
    ncclGetVersion: signatures::ncclGetVersion = 2, 3, 5;
    /// Gives a sentence for a result.
    ncclGetErrorString: signatures::ncclGetErrorString = 2, 3, 5;
    /// Gives the last warning of the process; a hint, not of one communicator or thread.
    ncclGetLastError: signatures::ncclGetLastError = 2, 13, 4;
    /// Makes the library read its logging variables anew; deprecated in NCCL.
    ncclResetDebugInit: signatures::ncclResetDebugInit = 2, 24, 3;
    /// Makes an id; a thread and a listening socket stay behind.
    ncclGetUniqueId: signatures::ncclGetUniqueId = 2, 3, 5;
    /// Makes a communicator.
    ncclCommInitRank: signatures::ncclCommInitRank = 2, 3, 5;
    /// Makes a communicator with a configuration.
    ncclCommInitRankConfig: signatures::ncclCommInitRankConfig = 2, 14, 3;
    /// Makes a communicator with several ids, for many ranks.
    ncclCommInitRankScalable: signatures::ncclCommInitRankScalable = 2, 23, 4;
    /// Makes communicators for several devices of one process.
    ncclCommInitAll: signatures::ncclCommInitAll = 2, 3, 5;
    /// Finishes what a communicator has begun.
    ncclCommFinalize: signatures::ncclCommFinalize = 2, 14, 3;
    /// Frees a communicator.
    ncclCommDestroy: signatures::ncclCommDestroy = 2, 3, 5;
    /// Stops and frees a communicator.
    ncclCommAbort: signatures::ncclCommAbort = 2, 4, 2;
    /// Stops what is in flight; afterwards a communicator may be shrunk or destroyed.
    ncclCommRevoke: signatures::ncclCommRevoke = 2, 28, 7;
    /// Makes communicators of parts of one.
    ncclCommSplit: signatures::ncclCommSplit = 2, 18, 1;
    /// Makes a communicator without some ranks; sorts their list in place, and the communicator must not be null.
    ncclCommShrink: signatures::ncclCommShrink = 2, 27, 3;
    /// Makes an id for growing a communicator.
    ncclCommGetUniqueId: signatures::ncclCommGetUniqueId = 2, 29, 2;
    /// Makes a communicator with more ranks.
    ncclCommGrow: signatures::ncclCommGrow = 2, 29, 2;
    /// Writes the state of a communicator.
    ncclCommGetAsyncError: signatures::ncclCommGetAsyncError = 2, 4, 2;
    /// Writes the number of ranks.
    ncclCommCount: signatures::ncclCommCount = 2, 3, 5;
    /// Writes the device.
    ncclCommCuDevice: signatures::ncclCommCuDevice = 2, 3, 5;
    /// Writes the rank.
    ncclCommUserRank: signatures::ncclCommUserRank = 2, 3, 5;
    /// Registers memory of the user.
    ncclCommRegister: signatures::ncclCommRegister = 2, 19, 1;
    /// Undoes a registration.
    ncclCommDeregister: signatures::ncclCommDeregister = 2, 19, 1;
    /// Registers a window on all ranks.
    ncclCommWindowRegister: signatures::ncclCommWindowRegister = 2, 27, 3;
    /// Undoes that.
    ncclCommWindowDeregister: signatures::ncclCommWindowDeregister = 2, 27, 3;
    /// Writes the address behind a window.
    ncclWinGetUserPtr: signatures::ncclWinGetUserPtr = 2, 29, 2;
    /// Gives back GPU memory of an idle communicator.
    ncclCommSuspend: signatures::ncclCommSuspend = 2, 29, 7;
    /// Takes it again.
    ncclCommResume: signatures::ncclCommResume = 2, 29, 7;
    /// Writes how much GPU memory a communicator has.
    ncclCommMemStats: signatures::ncclCommMemStats = 2, 29, 7;
    /// Writes what a communicator can do; not to be called in 2.29.2 and 2.29.3.
    ncclCommQueryProperties: signatures::ncclCommQueryProperties = 2, 29, 2;
    /// Allocates GPU memory that is good for registering.
    ncclMemAlloc: signatures::ncclMemAlloc = 2, 19, 1;
    /// Frees it.
    ncclMemFree: signatures::ncclMemFree = 2, 19, 1;
    /// Makes a sum of scaled inputs.
    ncclRedOpCreatePreMulSum: signatures::ncclRedOpCreatePreMulSum = 2, 11, 4;
    /// Frees it.
    ncclRedOpDestroy: signatures::ncclRedOpDestroy = 2, 11, 4;
    /// Reduces to all ranks.
    ncclAllReduce: signatures::ncclAllReduce = 2, 3, 5;
    /// Reduces to one rank.
    ncclReduce: signatures::ncclReduce = 2, 3, 5;
    /// Reduces, and gives each rank a part.
    ncclReduceScatter: signatures::ncclReduceScatter = 2, 3, 5;
    /// Copies from one rank to all.
    ncclBroadcast: signatures::ncclBroadcast = 2, 3, 5;
    /// Copies from one rank to all, in place.
    ncclBcast: signatures::ncclBcast = 2, 3, 5;
    /// Concatenates the inputs of all ranks on all ranks.
    ncclAllGather: signatures::ncclAllGather = 2, 3, 5;
    /// Gives every rank a part of every rank's input.
    ncclAlltoAll: signatures::ncclAlltoAll = 2, 28, 3;
    /// Concatenates the inputs of all ranks on one.
    ncclGather: signatures::ncclGather = 2, 28, 3;
    /// Gives every rank a part of one rank's input.
    ncclScatter: signatures::ncclScatter = 2, 28, 3;
    /// Sends to one rank.
    ncclSend: signatures::ncclSend = 2, 7, 3;
    /// Receives from one rank.
    ncclRecv: signatures::ncclRecv = 2, 7, 3;
    /// As `ncclAllReduce`, with a configuration.
    ncclAllReduceConfig: signatures::ncclAllReduceConfig = 2, 31, 2;
    /// As `ncclReduce`, with a configuration.
    ncclReduceConfig: signatures::ncclReduceConfig = 2, 31, 2;
    /// As `ncclReduceScatter`, with a configuration.
    ncclReduceScatterConfig: signatures::ncclReduceScatterConfig = 2, 31, 2;
    /// As `ncclBroadcast`, with a configuration.
    ncclBroadcastConfig: signatures::ncclBroadcastConfig = 2, 31, 2;
    /// As `ncclAllGather`, with a configuration.
    ncclAllGatherConfig: signatures::ncclAllGatherConfig = 2, 31, 2;
    /// As `ncclAlltoAll`, with a configuration.
    ncclAlltoAllConfig: signatures::ncclAlltoAllConfig = 2, 31, 2;
    /// As `ncclGather`, with a configuration.
    ncclGatherConfig: signatures::ncclGatherConfig = 2, 31, 2;
    /// As `ncclScatter`, with a configuration.
    ncclScatterConfig: signatures::ncclScatterConfig = 2, 31, 2;
    /// Writes into a peer's window, and signals.
    ncclPutSignal: signatures::ncclPutSignal = 2, 29, 2;
    /// Signals a peer.
    ncclSignal: signatures::ncclSignal = 2, 29, 2;
    /// Waits for signals.
    ncclWaitSignal: signatures::ncclWaitSignal = 2, 29, 2;
    /// Begins a group of calls, on this thread.
    ncclGroupStart: signatures::ncclGroupStart = 2, 3, 5;
    /// Ends it, and starts what was called.
    ncclGroupEnd: signatures::ncclGroupEnd = 2, 3, 5;
    /// Ends it, and estimates the time instead.
    ncclGroupSimulateEnd: signatures::ncclGroupSimulateEnd = 2, 22, 3;
    /// Sets how this process encrypts its sockets.
    ncclSetEncryption: signatures::ncclSetEncryption = 2, 32, 3;
    /// Finds a parameter.
    ncclParamBind: signatures::ncclParamBind = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetI8: signatures::ncclParamGetI8 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetI16: signatures::ncclParamGetI16 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetI32: signatures::ncclParamGetI32 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetI64: signatures::ncclParamGetI64 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetU8: signatures::ncclParamGetU8 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetU16: signatures::ncclParamGetU16 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetU32: signatures::ncclParamGetU32 = 2, 30, 7;
    /// Reads a parameter.
    ncclParamGetU64: signatures::ncclParamGetU64 = 2, 30, 7;
    /// Reads a parameter as text, which is good until this thread's next call.
    ncclParamGetStr: signatures::ncclParamGetStr = 2, 30, 7;
    /// Reads a parameter as bytes.
    ncclParamGet: signatures::ncclParamGet = 2, 30, 7;
    /// Reads the parameter of this name as text.
    ncclParamGetParameter: signatures::ncclParamGetParameter = 2, 30, 7;
    /// Lists the names of parameters.
    ncclParamGetAllParameterKeys: signatures::ncclParamGetAllParameterKeys = 2, 30, 7;
    /// Writes all parameters to the log.
    ncclParamDumpAll: signatures::ncclParamDumpAll = 2, 30, 7;
    /// Gives the team of all ranks.
    ncclTeamWorld: signatures::ncclTeamWorld = 2, 28, 3;
    /// Gives the team of ranks that reach each other's memory directly.
    ncclTeamLsa: signatures::ncclTeamLsa = 2, 28, 3;
    /// Gives the team of ranks with the same place in theirs.
    ncclTeamRail: signatures::ncclTeamRail = 2, 28, 3;
    /// Translates a rank of a team.
    ncclTeamRankToWorld: signatures::ncclTeamRankToWorld = 2, 28, 3;
    /// Translates a rank of a team.
    ncclTeamRankToLsa: signatures::ncclTeamRankToLsa = 2, 28, 3;
    /// Writes the address of a window of a rank in reach.
    ncclGetLsaDevicePointer: signatures::ncclGetLsaDevicePointer = 2, 29, 2;
    /// Writes the address at which one store reaches all in reach.
    ncclGetLsaMultimemDevicePointer: signatures::ncclGetLsaMultimemDevicePointer = 2, 29, 2;
    /// Writes the address of a window of a rank.
    ncclGetPeerDevicePointer: signatures::ncclGetPeerDevicePointer = 2, 29, 2;
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.present()).finish()
    }
}

/// Functions that libraries export and that are not in the table, with why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("ncclDevCommCreate", "for kernels that communicate by themselves"),
    ("ncclDevCommDestroy", "for kernels that communicate by themselves"),
    ("ncclGetCftDeviceLeInfo", "for counted transfers by kernels"),
    ("ncclGetMultimemDeviceLeInfo", "for counted transfers by kernels"),
    ("ncclGetMultimemDevicePointer", "for kernels that communicate by themselves"),
    ("ncclGetPeerDeviceLeInfo", "for counted transfers by kernels"),
    ("ncclGinBarrierCreateRequirement", "for kernels that communicate by themselves"),
    ("ncclGinInboxA2ACreateRequirement", "for kernels that communicate by themselves"),
    ("ncclGinOutboxCreateRequirement", "for kernels that communicate by themselves"),
    ("ncclLLA2ACalcSlots", "for kernels that communicate by themselves"),
    ("ncclLLA2ACreateRequirement", "for kernels that communicate by themselves"),
    ("ncclLsaBarrierCreateRequirement", "for kernels that communicate by themselves"),
    ("ncclResetDebugInitInternal", "in no header"),
    ("ncclTeamCft", "for counted transfers by kernels"),
    ("ncclTeamCftMultimem", "for counted transfers by kernels"),
];
