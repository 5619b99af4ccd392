//! `RANK` and `WORLD_SIZE` without torchrun: by hand, by `nccl run`, by Kubeflow's PyTorchJob.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::Said;
use crate::config::launch::conflict;
use crate::config::number;
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Plain,
    sign: "RANK",
    vars: &[
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
    ],
    is_here: |env| env.value("RANK").is_some() && env.value("WORLD_SIZE").is_some(),
    read,
    rank0: |_, _, _| Ok(Rank0::Unknown("RANK and WORLD_SIZE alone do not tell it".into())),
};

fn read(env: &Env) -> Result<Claim> {
    let mut claim = Claim::read(env, Launcher::Plain, "RANK", "WORLD_SIZE")?;
    claim.with_local(env, "LOCAL_RANK", "LOCAL_WORLD_SIZE")?;
    claim.with_nodes(env, "GROUP_RANK", "GROUP_WORLD_SIZE")?;
    Ok(claim)
}

/// Checks `RANK` or `WORLD_SIZE`, where only one of them is set, against the launcher's.
pub(super) fn check_partial(env: &Env, claim: &Claim) -> Result<()> {
    let mut own = claim.clone();
    own.launcher = Launcher::Plain;
    let rank = number::read(env, "RANK")?;
    let size = number::read_size(env, "WORLD_SIZE")?;
    match (rank, size) {
        (Some(value), None) => own.rank = Said { var: "RANK", value },
        (None, Some(value)) => own.world_size = Said { var: "WORLD_SIZE", value },
        _ => return Ok(()),
    }
    if own.agrees(claim) { Ok(()) } else { Err(conflict::contradiction(env, &own, claim)) }
}
