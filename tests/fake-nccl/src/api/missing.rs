//! What is exported, and does nothing useful without a device that runs kernels.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use crate::comm;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::ffi::Out;
use crate::ffi::api;
use crate::watch;

/// `ncclTeam_t`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Team {
    world_size: i32,
    rank: i32,
    stride: i32,
}

/// Exports functions that fail, whatever they are passed.
macro_rules! unsupported {
    ($($name:ident),* $(,)?) => {
        api! {
            $(fn $name() {
                fail(USAGE, concat!(stringify!($name), " : the fake has no device API"))
            })*

            fn ncclSetEncryption(_config: Out<u8>) { Ok(()) }

            fn ncclCommQueryProperties(comm: usize, properties: Out<i32>) {
                query(comm, properties)
            }
        }
    };
}
unsupported!(
    ncclDevCommCreate,
    ncclDevCommDestroy,
    ncclGetCftDeviceLeInfo,
    ncclGetLsaDevicePointer,
    ncclGetLsaMultimemDevicePointer,
    ncclGetMultimemDeviceLeInfo,
    ncclGetMultimemDevicePointer,
    ncclGetPeerDeviceLeInfo,
    ncclGetPeerDevicePointer,
    ncclGinBarrierCreateRequirement,
    ncclGinInboxA2ACreateRequirement,
    ncclGinOutboxCreateRequirement,
    ncclLLA2ACreateRequirement,
    ncclLsaBarrierCreateRequirement,
);

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclLLA2ACalcSlots(max_elements: i32, max_size: i32) -> i32 {
    max_elements.saturating_mul(max_size) / 16
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamWorld(comm: usize) -> Team {
    team(comm, "ncclTeamWorld")
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamLsa(comm: usize) -> Team {
    team(comm, "ncclTeamLsa")
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamCft(comm: usize, _mode: i32) -> Team {
    team(comm, "ncclTeamCft")
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamCftMultimem(comm: usize) -> Team {
    team(comm, "ncclTeamCftMultimem")
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamRail(comm: usize) -> Team {
    Team { world_size: 1, rank: 0, ..team(comm, "ncclTeamRail") }
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamRankToWorld(_comm: usize, _team: Team, rank: i32) -> i32 {
    rank
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclTeamRankToLsa(_comm: usize, _team: Team, rank: i32) -> i32 {
    rank
}

fn team(handle: usize, function: &'static str) -> Team {
    if handle == 0 {
        watch::violation(&format!("{function} with a NULL communicator, where NCCL crashes"));
        return Team::default();
    }
    let number = |number: usize| i32::try_from(number).unwrap_or(0);
    comm::get(handle, function).map_or_else(
        |_| Team::default(),
        |comm| Team { world_size: number(comm.world_size), rank: number(comm.rank), stride: 1 },
    )
}

/// `ncclCommProperties_t`: size, magic, version, then rank, number of ranks, device. A structure
/// for a newer version than this one is refused, as NCCL does.
fn query(handle: usize, properties: Out<i32>) -> crate::fail::Outcome {
    let comm = comm::get_for(handle, "ncclCommQueryProperties")?;
    let written_for = properties.at(3).get().unwrap_or(0);
    if written_for > crate::version::code() {
        return fail(USAGE, "NCCL library is too old for the properties asked for");
    }
    let number = |number: usize| i32::try_from(number).unwrap_or(0);
    let values = [number(comm.rank), number(comm.world_size), comm.device];
    for (at, value) in values.into_iter().enumerate() {
        properties.at(4 + at).set("CommQueryProperties", value)?;
    }
    Ok(())
}
