//! A communicator's properties, errors and end.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use std::sync::Arc;

use crate::api::make::has_own_ops;
use crate::comm;
use crate::comm::Comm;
use crate::comm::Phase;
use crate::fail::ARGUMENT;
use crate::fail::IN_PROGRESS;
use crate::fail::Outcome;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::ffi::Out;
use crate::ffi::api;
use crate::watch;

api! {
    fn ncclCommCount(comm: usize, count: Out<i32>) {
        let comm = ready(comm, "ncclCommCount")?;
        count.set("CommCount", number(comm.world_size))
    }

    fn ncclCommUserRank(comm: usize, rank: Out<i32>) {
        let comm = ready(comm, "ncclCommUserRank")?;
        rank.set("CommUserRank", number(comm.rank))
    }

    fn ncclCommCuDevice(comm: usize, device: Out<i32>) {
        let comm = ready(comm, "ncclCommCuDevice")?;
        device.set("CommCuDevice", comm.device)
    }

    fn ncclCommGetAsyncError(comm: usize, error: Out<i32>) {
        let comm = comm::get_for(comm, "ncclCommGetAsyncError")?;
        error.set("ncclGetAsyncError", comm.poll())
    }

    fn ncclCommFinalize(comm: usize) {
        if comm == 0 {
            return Ok(());
        }
        let comm = comm::get_for(comm, "ncclCommFinalize")?;
        let _inside = watch::inside(comm.handle, "ncclCommFinalize");
        if [Phase::Finalizing, Phase::Finalized].contains(&comm.phase()) {
            return fail(ARGUMENT, "CommFinalize : already finalized");
        }
        comm.usable("ncclCommFinalize")?;
        comm.set_phase(Phase::Finalizing);
        let own = Arc::clone(&comm);
        comm::now_or_later(&comm, "ncclCommFinalize", move || finalize(&own))
    }

    fn ncclCommDestroy(comm: usize) {
        if comm == 0 {
            return Ok(());
        }
        let comm = comm::get_for(comm, "ncclCommDestroy")?;
        let _inside = watch::inside(comm.handle, "ncclCommDestroy");
        destroy(&comm)
    }

    fn ncclCommAbort(comm: usize) {
        if comm == 0 {
            return Ok(());
        }
        let comm = comm::get_for(comm, "ncclCommAbort")?;
        let _inside = watch::inside(comm.handle, "ncclCommAbort");
        comm.abort();
        // Until the streams have left its operations, as NCCL waits for its kernels.
        comm.drain_aborted();
        comm::retire(comm.handle, "ncclCommAbort");
        Ok(())
    }

    fn ncclCommRevoke(comm: usize, flags: i32) {
        if comm == 0 {
            return Ok(());
        }
        let comm = comm::get_for(comm, "ncclCommRevoke")?;
        let _inside = watch::inside(comm.handle, "ncclCommRevoke");
        if flags != 0 {
            return fail(ARGUMENT, format!("CommRevoke : flags {flags}"));
        }
        comm.set_phase(Phase::Revoked);
        comm.stop_operations();
        Ok(())
    }

    fn ncclCommSuspend(comm: usize, flags: i32) {
        let comm = comm::get_for(comm, "ncclCommSuspend")?;
        if flags != 1 {
            return fail(ARGUMENT, format!("CommSuspend : flags {flags}"));
        }
        comm.usable("ncclCommSuspend")?;
        comm.drain();
        comm.set_phase(Phase::Suspended);
        Ok(())
    }

    fn ncclCommResume(comm: usize) {
        let comm = comm::get_for(comm, "ncclCommResume")?;
        if comm.phase() != Phase::Suspended {
            return fail(USAGE, "CommResume : not suspended");
        }
        comm.set_phase(Phase::Ready);
        Ok(())
    }

    fn ncclCommMemStats(comm: usize, stat: i32, value: Out<u64>) {
        let comm = comm::get_for(comm, "ncclCommMemStats")?;
        // Bytes that a suspension frees, whether it is suspended, bytes that stay, all bytes.
        let suspended = comm.phase() == Phase::Suspended;
        let values = [64 << 20, u64::from(suspended), 4 << 20, 68 << 20];
        match usize::try_from(stat).ok().and_then(|at| values.get(at)) {
            Some(found) => value.set("CommMemStats", *found),
            None => fail(ARGUMENT, format!("CommMemStats : stat {stat}")),
        }
    }
}

/// A communicator whose properties may be asked for: while it is made, NCCL refuses.
fn ready(handle: usize, function: &'static str) -> Outcome<Arc<Comm>> {
    let comm = comm::get_for(handle, function)?;
    if comm.phase() == Phase::Starting {
        return fail(
            ARGUMENT,
            "Attempt to use communicator before the previous operation returned ncclSuccess",
        );
    }
    Ok(comm)
}

/// Waits for all operations, and for the other processes.
fn finalize(comm: &Comm) -> Outcome {
    comm.drain();
    let mesh = comm.mesh()?;
    mesh.goodbye();
    // A thread may end the communicators of several ranks one after the other.
    if !comm.has_neighbours() {
        let _ = mesh.wait_for_goodbyes();
    }
    comm.set_phase(Phase::Finalized);
    Ok(())
}

fn destroy(comm: &Arc<Comm>) -> Outcome {
    match comm.async_state() {
        0 => {}
        IN_PROGRESS => {
            return fail(ARGUMENT, "CommDestroy while an operation is in progress");
        }
        _ => {
            // NCCL leaves the thread inside of a group.
            watch::allow_repair();
            watch::violation(
                "ncclCommDestroy of a communicator with an error; it is for ncclCommAbort",
            );
            comm.abort();
            comm::retire(comm.handle, "ncclCommDestroy");
            return Ok(());
        }
    }
    if !comm.windows.is_empty() {
        watch::violation("ncclCommDestroy of a communicator with registered windows");
    }
    if has_own_ops(comm) {
        watch::violation("ncclCommDestroy of a communicator with ops of its own");
    }
    if comm.phase() == Phase::Ready {
        finalize(comm)?;
    }
    if let Ok(mesh) = comm.mesh() {
        if comm.phase() != Phase::Finalized {
            mesh.goodbye();
        }
        mesh.close();
    }
    comm::retire(comm.handle, "ncclCommDestroy");
    Ok(())
}

fn number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
