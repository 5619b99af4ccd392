//! srun.
//!
//! A batch script has `SLURM_PROCID=0` too, although nobody started ranks yet: what counts is a
//! step, which only srun makes (`SLURM_STEP_ID`, `SLURM_STEP_NUM_TASKS`).

use crate::config::env::Env;
use crate::config::hostlist;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::number;
use crate::error::Error;
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Slurm,
    sign: "SLURM_PROCID",
    vars: &[
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_NTASKS",
        "SLURM_NPROCS",
        "SLURM_LOCALID",
        "SLURM_GTIDS",
        "SLURM_STEP_TASKS_PER_NODE",
        "SLURM_NODEID",
        "SLURM_STEP_NUM_NODES",
        "SLURM_STEP_NODELIST",
        "SLURM_JOB_NODELIST",
        "SLURM_DISTRIBUTION",
        "SLURM_JOB_ID",
        "SLURM_STEP_ID",
        "SLURM_RESTART_COUNT",
    ],
    is_here: is_in_step,
    read,
    rank0,
};

fn is_in_step(env: &Env) -> bool {
    let step = env.has("SLURM_STEP_ID") || env.has("SLURM_STEP_NUM_TASKS");
    env.value("SLURM_PROCID").is_some() && step
}

fn read(env: &Env) -> Result<Claim> {
    let sizes = ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"];
    let size = sizes.into_iter().find(|var| env.value(var).is_some()).unwrap_or(sizes[0]);
    let mut claim = Claim::read(env, Launcher::Slurm, "SLURM_PROCID", size)?;
    claim.with_nodes(env, "SLURM_NODEID", "SLURM_STEP_NUM_NODES")?;
    claim.local_rank = number::read(env, "SLURM_LOCALID")?;
    claim.local_world_size = local_size(env, claim.node_rank)?;
    if let Some((local, size)) = claim.local_rank.zip(claim.local_world_size)
        && local >= size
    {
        let problem = format!("is not below the {size} tasks that srun says this node has");
        return Err(Error::env("SLURM_LOCALID", local.to_string(), problem));
    }
    claim.job = job_name(env, &["SLURM_JOB_ID", "SLURM_STEP_ID"])?;
    claim.attempt = number::read(env, "SLURM_RESTART_COUNT")?.unwrap_or(0);
    Ok(claim)
}

/// The tasks of this node: the entries of `SLURM_GTIDS`, else those of the step's list.
fn local_size(env: &Env, node: Option<usize>) -> Result<Option<usize>> {
    if let Some(ranks) = env.get("SLURM_GTIDS")?.filter(|ranks| !ranks.is_empty()) {
        return Ok(Some(ranks.split(',').count()));
    }
    let Some(list) = env.get("SLURM_STEP_TASKS_PER_NODE")? else { return Ok(None) };
    match hostlist::tasks_on_node(list, node.unwrap_or(0)) {
        Some(tasks) if tasks > 0 => Ok(Some(tasks)),
        _ => {
            let problem = format!("has no number of tasks for node {}", node.unwrap_or(0));
            Err(Error::env("SLURM_STEP_TASKS_PER_NODE", list, problem))
        }
    }
}

/// The first host of the step, where tasks are laid out by a rule.
fn rank0(env: &Env, claim: &Claim, _: &mut Vec<String>) -> Result<Rank0> {
    let arbitrary = env.get("SLURM_DISTRIBUTION")?.is_some_and(|way| way.starts_with("arbitrary"));
    if arbitrary && claim.nodes != Some(1) {
        return Ok(Rank0::Unknown("SLURM_DISTRIBUTION=arbitrary puts it anywhere".into()));
    }
    for var in ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"] {
        if let Some(host) = first_of(env, var)? {
            return Ok(Rank0::Host(host));
        }
    }
    Ok(Rank0::Unknown("neither SLURM_STEP_NODELIST nor SLURM_JOB_NODELIST is set".into()))
}

/// The first host of the allocation that mpirun runs in; not the step's, which is the daemons'.
pub(super) fn first_host(env: &Env) -> Result<Option<String>> {
    first_of(env, "SLURM_JOB_NODELIST")
}

fn first_of(env: &Env, var: &str) -> Result<Option<String>> {
    let Some(list) = env.get(var)?.filter(|list| !list.is_empty()) else { return Ok(None) };
    let hosts = hostlist::expand(list)
        .map_err(|problem| Error::env(var, list, format!("{problem}; set MASTER_ADDR")))?;
    Ok(hosts.into_iter().next())
}

/// What to tell a process of a batch script that nobody started as a rank.
pub(super) fn batch_note(env: &Env) -> Result<Option<String>> {
    if !env.has("SLURM_JOB_ID") || is_in_step(env) {
        return Ok(None);
    }
    let tasks = number::read(env, "SLURM_NTASKS")?.unwrap_or(1);
    Ok((tasks > 1).then(|| {
        format!(
            "this process is in a Slurm allocation of {tasks} tasks but was not started by srun: \
             it is a world of one; start it with `srun` for {tasks} ranks"
        )
    }))
}
