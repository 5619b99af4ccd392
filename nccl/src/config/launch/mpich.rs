//! MPICH's hydra, Intel MPI and MVAPICH 3 (PMI-1), and MVAPICH2 with its own names.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::launch::lsf;
use crate::config::launch::pals;
use crate::config::launch::slurm;
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Mpich,
    sign: "PMI_RANK",
    vars: &["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_JOBID", "PMI_FD"],
    is_here: |env| env.value("PMI_RANK").is_some(),
    read: |env| {
        let mut claim = Claim::read(env, Launcher::Mpich, "PMI_RANK", "PMI_SIZE")?;
        claim.with_local(env, "MPI_LOCALRANKID", "MPI_LOCALNRANKS")?;
        claim.job = job_name(env, &["PMI_JOBID"])?;
        Ok(claim)
    },
    rank0,
};

pub(super) static MVAPICH2: Family = Family {
    launcher: Launcher::Mvapich2,
    sign: "MV2_COMM_WORLD_RANK",
    vars: &[
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
        "PMI_JOBID",
        "PMI_FD",
    ],
    is_here: |env| env.value("MV2_COMM_WORLD_RANK").is_some(),
    read: |env| {
        let (rank, size) = ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE");
        let mut claim = Claim::read(env, Launcher::Mvapich2, rank, size)?;
        claim.with_local(env, "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE")?;
        claim.job = job_name(env, &["PMI_JOBID"])?;
        Ok(claim)
    },
    rank0,
};

/// PMI where there is one, else the first host of the allocation.
fn rank0(env: &Env, _: &Claim, _: &mut Vec<String>) -> Result<Rank0> {
    if env.has("PMI_FD") {
        return Ok(Rank0::Pmi);
    }
    let mut host = slurm::first_host(env)?;
    if host.is_none() {
        host = pals::first_of_nodefile(env)?;
    }
    if host.is_none() {
        host = lsf::first_host(env)?;
    }
    Ok(host.map_or_else(|| Rank0::Unknown("there is no PMI_FD to ask through".into()), Rank0::Host))
}
