//! Pods of Kubernetes as ranks: Indexed Job and JobSet, LeaderWorkerSet, Kubeflow Trainer.

use std::path::Path;

use crate::config::address;
use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::Said;
use crate::config::launch::claim::job_name;
use crate::config::launch::claim::size_from_user;
use crate::config::number;
use crate::config::vars;
use crate::error::Error;
use crate::error::Result;

pub(super) static INDEXED_JOB: Family = Family {
    launcher: Launcher::Kubernetes,
    sign: "JOB_COMPLETION_INDEX",
    vars: &[
        "JOB_COMPLETION_INDEX",
        "WORLD_SIZE",
        "NCCL_RS_WORLD_SIZE",
        "HOSTNAME",
        "NCCL_RS_SUBDOMAIN",
    ],
    is_here: |env| env.value("JOB_COMPLETION_INDEX").is_some(),
    read: |env| {
        let size = size_from_user(env, "an Indexed Job")?;
        let value = number::read(env, "JOB_COMPLETION_INDEX")?.unwrap_or(usize::MAX);
        let rank = Said { var: "JOB_COMPLETION_INDEX", value };
        let mut claim = Claim::new(Launcher::Kubernetes, rank, size);
        claim.job = job_of_pod(env, value)?.unwrap_or_default();
        Ok(claim)
    },
    rank0: first_pod,
};

pub(super) static LWS: Family = Family {
    launcher: Launcher::LeaderWorkerSet,
    sign: "LWS_WORKER_INDEX",
    vars: &["LWS_WORKER_INDEX", "LWS_GROUP_SIZE", "LWS_LEADER_ADDRESS"],
    is_here: |env| env.value("LWS_WORKER_INDEX").is_some(),
    read: |env| {
        let (rank, size) = ("LWS_WORKER_INDEX", "LWS_GROUP_SIZE");
        let mut claim = Claim::read(env, Launcher::LeaderWorkerSet, rank, size)?;
        claim.job = job_name(env, &["LWS_LEADER_ADDRESS"])?;
        Ok(claim)
    },
    rank0: |env, _, _| {
        Ok(match address::read_host(env, "LWS_LEADER_ADDRESS")? {
            Some(host) => Rank0::Host(host),
            None => Rank0::Unknown("LWS_LEADER_ADDRESS is not set".into()),
        })
    },
};

pub(super) static TRAINER: Family = Family {
    launcher: Launcher::Trainer,
    sign: "PET_NODE_RANK",
    vars: &[
        "PET_NODE_RANK",
        "PET_NNODES",
        "PET_NPROC_PER_NODE",
        "PET_MASTER_ADDR",
        "PET_MASTER_PORT",
    ],
    is_here: |env| env.value("PET_NODE_RANK").is_some(),
    read: |env| {
        let processes = env.get("PET_NPROC_PER_NODE")?.unwrap_or("1");
        if number::decimal(processes).is_ok_and(|processes| processes != 1) {
            let problem = "asks for several processes a pod, and nothing started them; start the \
                           program with `torchrun --no-python` or `nccl run`";
            return Err(Error::env("PET_NPROC_PER_NODE", processes, problem));
        }
        let mut claim = Claim::read(env, Launcher::Trainer, "PET_NODE_RANK", "PET_NNODES")?;
        claim.local_rank = Some(0);
        claim.local_world_size = Some(1);
        claim.job = job_name(env, &["PET_MASTER_ADDR"])?;
        Ok(claim)
    },
    rank0: |env, _, _| {
        Ok(match address::read_host(env, "PET_MASTER_ADDR")? {
            Some(host) => Rank0::At(host, address::read_port(env, "PET_MASTER_PORT")?),
            None => Rank0::Unknown("PET_MASTER_ADDR is not set".into()),
        })
    },
};

/// `<job>-0.<subdomain>`, where both are known.
fn first_pod(env: &Env, claim: &Claim, _: &mut Vec<String>) -> Result<Rank0> {
    let Some(job) = job_of_pod(env, claim.rank.value)? else {
        return Ok(Rank0::Unknown(format!(
            "the pod's name is not <job>-{}, so rank 0's is not known",
            claim.rank.value
        )));
    };
    match subdomain(env)? {
        Some(subdomain) => Ok(Rank0::Host(format!("{job}-0.{subdomain}"))),
        None => Ok(Rank0::Unknown(format!(
            "the pod has no subdomain: give the job a headless service (`subdomain` in its pod \
             template) or NCCL_RS_SUBDOMAIN; rank 0 is then {job}-0.<subdomain>"
        ))),
    }
}

/// The pod's host name, whole.
fn pod_name(env: &Env) -> Result<Option<&str>> {
    Ok(env.get("HOSTNAME")?.filter(|name| !name.is_empty()).or_else(|| env.host_name()))
}

/// The job of a pod named `<job>-<index>`.
fn job_of_pod(env: &Env, index: usize) -> Result<Option<String>> {
    let Some(name) = pod_name(env)? else { return Ok(None) };
    let short = name.split('.').next().unwrap_or(name);
    let job = short.strip_suffix(&format!("-{index}")).filter(|job| !job.is_empty());
    Ok(job.map(str::to_owned))
}

/// The subdomain: `NCCL_RS_SUBDOMAIN`, the pod's full name, or what kubelet wrote to /etc/hosts.
fn subdomain(env: &Env) -> Result<Option<String>> {
    if let Some(own) = vars::SUBDOMAIN.read(env, &mut Vec::new())? {
        return Ok(Some(own));
    }
    let Some(name) = pod_name(env)? else { return Ok(None) };
    if let Some((_, subdomain)) = name.split_once('.') {
        return Ok(Some(subdomain.to_owned()));
    }
    let hosts = env.read(Path::new("/etc/hosts")).unwrap_or_default();
    let prefix = format!("{name}.");
    let text = String::from_utf8_lossy(&hosts);
    let mut words = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace().skip(1));
    Ok(words.find_map(|word| word.strip_prefix(&prefix)).map(str::to_owned))
}
