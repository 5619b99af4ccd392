//! torchrun: the usual names, and an agent that may serve the store.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::number;
use crate::config::rendezvous::Server;
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Torchrun,
    sign: "TORCHELASTIC_RUN_ID",
    vars: &[
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "TORCHELASTIC_RUN_ID",
        "TORCHELASTIC_RESTART_COUNT",
        "TORCHELASTIC_USE_AGENT_STORE",
    ],
    // Left over in a shell it comes without a rank.
    is_here: |env| env.has("TORCHELASTIC_RUN_ID") && env.value("RANK").is_some(),
    read,
    rank0: |_, _, _| Ok(Rank0::Unknown("torchrun always sets MASTER_ADDR and MASTER_PORT".into())),
};

fn read(env: &Env) -> Result<Claim> {
    let mut claim = Claim::read(env, Launcher::Torchrun, "RANK", "WORLD_SIZE")?;
    claim.with_local(env, "LOCAL_RANK", "LOCAL_WORLD_SIZE")?;
    claim.with_nodes(env, "GROUP_RANK", "GROUP_WORLD_SIZE")?;
    claim.job = job_name(env, &["TORCHELASTIC_RUN_ID"])?;
    claim.attempt = number::read(env, "TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0);
    Ok(claim)
}

/// Who serves the store at `MASTER_ADDR`. torch compares with exactly `True`.
pub(super) fn server(env: &Env) -> Result<Server> {
    match env.get("TORCHELASTIC_USE_AGENT_STORE")? {
        Some("True") => Ok(Server::Agent),
        _ => Ok(Server::Rank0),
    }
}
