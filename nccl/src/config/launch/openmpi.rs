//! Open MPI 4 (ORTE) and 5 (PRRTE), and what is built on them.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::launch::lsf;
use crate::config::launch::pals;
use crate::config::launch::slurm;
use crate::error::Error;
use crate::error::Result;

/// Where version 4 says how to reach mpirun.
const MPIRUN_URI: &str = "OMPI_MCA_orte_hnp_uri";
/// Where version 4 says how to reach the daemon of this host.
const DAEMON_URI: &str = "OMPI_MCA_orte_local_daemon_uri";

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::OpenMpi,
    sign: "OMPI_COMM_WORLD_RANK",
    vars: &[
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "PMIX_NAMESPACE",
        "LSB_JOBID",
        "OMPI_MCA_ess_base_jobid",
        MPIRUN_URI,
        DAEMON_URI,
    ],
    is_here: |env| env.value("OMPI_COMM_WORLD_RANK").is_some(),
    read,
    rank0,
};

fn read(env: &Env) -> Result<Claim> {
    let (rank, size) = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
    let mut claim = Claim::read(env, Launcher::OpenMpi, rank, size)?;
    claim.with_local(env, "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")?;
    claim.job = job_name(env, &["OMPI_MCA_ess_base_jobid"])?;
    // Version 5 has the second, jsrun with Spectrum MPI perhaps only the third.
    for var in ["PMIX_NAMESPACE", "LSB_JOBID"] {
        if claim.job.is_empty() {
            claim.job = job_name(env, &[var])?;
        }
    }
    Ok(claim)
}

/// The first host of the allocation, else mpirun's own host, where rank 0 can tell whether it is
/// there.
fn rank0(env: &Env, claim: &Claim, notes: &mut Vec<String>) -> Result<Rank0> {
    if let Some(host) = slurm::first_host(env)? {
        return Ok(Rank0::Host(host));
    }
    if let Some(host) = pals::first_of_nodefile(env)? {
        return Ok(Rank0::Host(host));
    }
    if let Some(host) = lsf::first_host(env)? {
        return Ok(Rank0::Host(host));
    }
    let Some(uri) = env.get(MPIRUN_URI)? else {
        return Ok(Rank0::Unknown("Open MPI 5 tells it to nobody but MPI".into()));
    };
    if claim.rank.value == 0 && env.get(DAEMON_URI)?.is_some_and(|own| own != uri) {
        return Err(Error::env_missing(
            "MASTER_ADDR",
            "is missing, and rank 0 does not run on mpirun's host, where the other ranks would \
             look for it; pass it with `mpirun -x MASTER_ADDR=<rank 0's host>`",
        ));
    }
    match host_of_uri(uri) {
        Some(host) => {
            notes.push(format!("rank 0 is taken to run on mpirun's host {host}: no MASTER_ADDR"));
            Ok(Rank0::Host(host))
        }
        None => Err(Error::env(MPIRUN_URI, uri, "has no address of mpirun; set MASTER_ADDR")),
    }
}

/// The first address of `jobid.0;tcp://ip1,ip2:port;tcp6://[ip3]:port`.
fn host_of_uri(uri: &str) -> Option<String> {
    uri.split(';').find_map(|part| {
        let rest = part.strip_prefix("tcp://").or_else(|| part.strip_prefix("tcp6://"))?;
        let (hosts, _) = rest.rsplit_once(':')?;
        let first = hosts.trim_matches(['[', ']']).split(',').next()?;
        first.parse::<core::net::IpAddr>().ok().map(|addr| addr.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_mpirun_is_in_its_uri() {
        let host = |uri: &str| host_of_uri(uri);
        assert_eq!(host("7.0;tcp://10.0.0.1,10.1.0.1:4").as_deref(), Some("10.0.0.1"));
        assert_eq!(host("7.0;tcp6://[fd00::1,fd00::2]:4").as_deref(), Some("fd00::1"));
        assert_eq!(host("7.0;usock;tcp://10.0.0.2:4").as_deref(), Some("10.0.0.2"));
        for uri in ["", "7.0", "7.0;tcp://", "7.0;tcp://x:4", "7.0;tcp://10.0.0.1"] {
            assert_eq!(host(uri), None, "{uri:?}");
        }
    }
}
