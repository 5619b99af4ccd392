//! Where the ranks meet: an address somebody chose, else what the launcher lets us find.

use crate::config::address;
use crate::config::address::HostPort;
use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Rank0;
use crate::config::launch::conflict;
use crate::config::launch::torchrun;
use crate::config::rendezvous;
use crate::config::rendezvous::Rendezvous;
use crate::config::rendezvous::Server;
use crate::config::vars;
use crate::error::Error;
use crate::error::Result;

/// The address of this host for itself.
const LOOPBACK: &str = "127.0.0.1";

/// Where the ranks of `claim` meet. The order: `MASTER_ADDR`, `NCCL_COMM_ID`, this host if all
/// ranks are on it, what the launcher's variables tell.
pub(super) fn rendezvous(
    env: &Env,
    claim: &Claim,
    job_id: &str,
    notes: &mut Vec<String>,
) -> Result<Rendezvous> {
    let port = address::read_port(env, "MASTER_PORT")?;
    if let Some(host) = address::read_host(env, "MASTER_ADDR")? {
        return at_master(env, claim, host, port, job_id, notes);
    }
    if let Some(at) = vars::COMM_ID.read(env, &mut Vec::new())? {
        return Ok(Rendezvous::tcp(at));
    }
    if claim.world_size.value == 1 {
        return Ok(Rendezvous::Single);
    }
    let one_host = claim.is_one_host();
    let family = conflict::families().find(|family| family.launcher == claim.launcher);
    let has_pmi = matches!(claim.launcher, Launcher::Mpich | Launcher::Mvapich2 | Launcher::Flux);
    let found = match family {
        _ if one_host && has_pmi && env.has("PMI_FD") => Rank0::Pmi,
        _ if one_host => Rank0::Host(LOOPBACK.into()),
        Some(family) => (family.rank0)(env, claim, notes)?,
        None => Rank0::Unknown("nobody started it".into()),
    };
    match found {
        // A port that a user chose says that no PMI is wanted, where the host is no question.
        Rank0::Pmi if one_host && port.is_some() => derived(claim, LOOPBACK.into(), port, job_id),
        Rank0::Pmi => Ok(Rendezvous::Pmi { one_host }),
        Rank0::Host(host) => {
            notes.extend(elsewhere(env, claim, &host));
            derived(claim, host, port, job_id)
        }
        Rank0::At(host, own) => derived(claim, host, port.or(own), job_id),
        Rank0::Unknown(why) => Err(Error::env_missing(
            "MASTER_ADDR",
            format!(
                "is missing, and the launcher ({}) does not tell rank 0's host: {why}; set \
                 MASTER_ADDR to its name or address and MASTER_PORT to a free port there",
                claim.launcher
            ),
        )),
    }
}

/// What to tell if this is rank 0 and its host has another name than the one that was found.
fn elsewhere(env: &Env, claim: &Claim, host: &str) -> Option<String> {
    let is_addr = host.parse::<core::net::IpAddr>().is_ok();
    let own = env.host_name().filter(|_| claim.rank.value == 0 && !is_addr)?;
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    (short(own) != short(host)).then(|| {
        format!(
            "rank 0 runs on {own}, but by {} the other ranks look for it on {host}; set \
             MASTER_ADDR if these are two hosts",
            claim.launcher
        )
    })
}

/// `MASTER_ADDR`, with `MASTER_PORT` or derived ports.
fn at_master(
    env: &Env,
    claim: &Claim,
    host: String,
    port: Option<u16>,
    job_id: &str,
    notes: &mut Vec<String>,
) -> Result<Rendezvous> {
    let loopback = host == "localhost"
        || host.parse::<core::net::IpAddr>().is_ok_and(|addr| addr.is_loopback());
    if loopback && claim.nodes.is_some_and(|nodes| nodes > 1) {
        notes.push(format!(
            "MASTER_ADDR={host} is this host only, but {} says that the job has {} hosts",
            claim.launcher,
            claim.nodes.unwrap_or(0)
        ));
    }
    let server = match claim.launcher {
        Launcher::Torchrun => torchrun::server(env)?,
        _ => Server::Rank0,
    };
    match port {
        Some(port) => Ok(Rendezvous::Tcp { at: HostPort::new(host, port), server }),
        None if server == Server::Agent => Err(Error::env_missing(
            "MASTER_PORT",
            "is missing, though TORCHELASTIC_USE_AGENT_STORE says that torchrun serves the store",
        )),
        None => derived(claim, host, None, job_id),
    }
}

/// Rank 0's host with the port somebody chose, or with ports made from the job's name.
fn derived(claim: &Claim, host: String, port: Option<u16>, job_id: &str) -> Result<Rendezvous> {
    let host = address::check_host(&host).map_err(|problem| {
        let problem = format!("(rank 0's host by {}) {problem}; set MASTER_ADDR", claim.launcher);
        Error::env("MASTER_ADDR", &*host, problem)
    })?;
    if let Some(port) = port {
        return Ok(Rendezvous::tcp(HostPort::new(host, port)));
    }
    if job_id.is_empty() {
        return Err(Error::env_missing(
            "MASTER_PORT",
            format!(
                "is missing, and the launcher ({}) gives the job no name to make a port from; set \
                 MASTER_PORT to a free port of {host}, or NCCL_RS_JOB_ID to a name that all ranks \
                 share",
                claim.launcher
            ),
        ));
    }
    Ok(Rendezvous::Derived { host, ports: rendezvous::ports_of(job_id) })
}
