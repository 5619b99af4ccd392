//! Communicators out of unique ids.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use std::sync::Arc;

use crate::comm::Comm;
use crate::config;
use crate::config::Config;
use crate::cuda;
use crate::fail::ARGUMENT;
use crate::fail::CUDA;
use crate::fail::Fail;
use crate::fail::Outcome;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::ffi::Out;
use crate::ffi::api;
use crate::group;
use crate::group::Making;
use crate::init;
use crate::rendezvous;
use crate::rendezvous::UniqueId;
use crate::version;
use crate::watch;

api! {
    fn ncclCommInitRank(comm: Out<usize>, world_size: i32, id: UniqueId, rank: i32) {
        let config = config::read(Out::NULL)?;
        group::note(begin("ncclCommInitRank", comm, [world_size, rank], id, config))
    }

    fn ncclCommInitRankConfig(comm: Out<usize>, world_size: i32, id: UniqueId, rank: i32, config: Out<u8>) {
        leaky("ncclCommInitRankConfig", comm, [world_size, rank], id, config)
    }

    fn ncclCommInitRankScalable(comm: Out<usize>, world_size: i32, rank: i32, ids: i32, id: Out<UniqueId>, config: Out<u8>) {
        if ids <= 0 || ids > world_size {
            return fail(ARGUMENT, format!("improper usage of ncclCommInitRankScalable: nId = {ids}"));
        }
        // One of the ids is enough here; all ranks pass the same ones.
        let Some(id) = id.get() else { return fail(ARGUMENT, "commId argument is NULL") };
        leaky("ncclCommInitRankScalable", comm, [world_size, rank], id, config)
    }

    fn ncclCommInitAll(comms: Out<usize>, count: i32, devices: Out<i32>) {
        init_all(comms, count, devices)
    }
}

/// As 2.23 and later do: a failure for want of CUDA leaves the thread inside of a group.
fn leaky(
    function: &'static str,
    out: Out<usize>,
    numbers: [i32; 2],
    id: UniqueId,
    config: Out<u8>,
) -> Outcome {
    let config = group::note(config::read(config))?;
    let outcome = group::note(begin(function, out, numbers, id, config));
    if outcome == Err(Fail(CUDA)) {
        watch::allow_repair();
        if version::code() >= 22304 {
            group::leak_level();
        }
    }
    outcome
}

fn begin(
    function: &'static str,
    out: Out<usize>,
    [world_size, rank]: [i32; 2],
    id: UniqueId,
    config: Config,
) -> Outcome {
    cuda::driver()?;
    if out.is_null() {
        return fail(ARGUMENT, "CommInitRank : comm argument is NULL");
    }
    let numbers = (usize::try_from(world_size), usize::try_from(rank));
    let (Ok(world_size), Ok(rank)) = numbers else {
        return fail(ARGUMENT, format!("Invalid rank requested : {rank}/{world_size}"));
    };
    if world_size == 0 || rank >= world_size {
        return fail(ARGUMENT, format!("Invalid rank requested : {rank}/{world_size}"));
    }
    let blocking = config.blocking;
    let comm = Comm::new(world_size, rank, init::current_device()?, config);
    if !blocking {
        out.set(function, comm.handle)?;
    }
    let own = Arc::clone(&comm);
    let work = move || init::by_id(&own, &id);
    let new = blocking.then(|| Arc::clone(&comm));
    group::make(Making { function, watched: comm, new, out, work: Box::new(work) })
}

/// All ranks in this process, one device each.
fn init_all(comms: Out<usize>, count: i32, devices: Out<i32>) -> Outcome {
    let cuda = cuda::driver()?;
    if comms.is_null() || count < 0 {
        return fail(ARGUMENT, format!("Invalid device count requested : {count}"));
    }
    let before = init::current_device()?;
    let id = rendezvous::unique_id()?;
    let mut seen = Vec::new();
    group::start();
    let mut outcome = Ok(());
    for rank in 0..count {
        let at = usize::try_from(rank).unwrap_or(0);
        let device = devices.at_if_any(at).unwrap_or(rank);
        if device < 0 || device >= cuda.device_count() || seen.contains(&device) {
            outcome = fail(USAGE, format!("Invalid device {device} in ncclCommInitAll"));
            break;
        }
        seen.push(device);
        outcome = cuda
            .set_device(device)
            .and_then(|()| config::read(Out::NULL))
            .and_then(|config| begin("ncclCommInitAll", comms.at(at), [count, rank], id, config));
        if outcome.is_err() {
            break;
        }
    }
    let outcome = group::note(outcome);
    let ended = group::end();
    cuda.set_device(before)?;
    outcome.and(ended)
}
