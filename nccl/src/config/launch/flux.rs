//! flux run.

use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::number;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Flux,
    sign: "FLUX_TASK_RANK",
    vars: &[
        "FLUX_TASK_RANK",
        "FLUX_JOB_SIZE",
        "FLUX_TASK_LOCAL_ID",
        "FLUX_JOB_NNODES",
        "FLUX_JOB_ID",
        "PMI_FD",
    ],
    is_here: |env| env.value("FLUX_TASK_RANK").is_some(),
    read: |env| {
        let mut claim = Claim::read(env, Launcher::Flux, "FLUX_TASK_RANK", "FLUX_JOB_SIZE")?;
        claim.local_rank = number::read(env, "FLUX_TASK_LOCAL_ID")?;
        claim.nodes = number::read_size(env, "FLUX_JOB_NNODES")?;
        if claim.nodes == Some(1) {
            claim.local_world_size = Some(claim.world_size.value);
        }
        claim.job = job_name(env, &["FLUX_JOB_ID"])?;
        Ok(claim)
    },
    rank0: |env, _, _| {
        Ok(if env.has("PMI_FD") {
            Rank0::Pmi
        } else {
            Rank0::Unknown("there is no PMI_FD to ask through".into())
        })
    },
};
