//! HPE's PALS (mpiexec of Cray machines) and the node file of PBS.

use std::path::Path;

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::apinfo;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::number;
use crate::error::Error;
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Pals,
    sign: "PALS_RANKID",
    vars: &[
        "PALS_RANKID",
        "PMI_SIZE",
        "PALS_LOCAL_RANKID",
        "PALS_LOCAL_SIZE",
        "PMI_LOCAL_SIZE",
        "PALS_NODEID",
        "PALS_APID",
        "PALS_APINFO",
        "PBS_NODEFILE",
    ],
    is_here: |env| env.value("PALS_RANKID").is_some(),
    read,
    rank0,
};

fn read(env: &Env) -> Result<Claim> {
    let mut claim = Claim::read(env, Launcher::Pals, "PALS_RANKID", "PMI_SIZE")?;
    let sizes = ["PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"];
    let size = sizes.into_iter().find(|var| env.value(var).is_some()).unwrap_or(sizes[0]);
    claim.with_local(env, "PALS_LOCAL_RANKID", size)?;
    claim.node_rank = number::read(env, "PALS_NODEID")?;
    claim.job = job_name(env, &["PALS_APID"])?;
    Ok(claim)
}

fn rank0(env: &Env, _: &Claim, _: &mut Vec<String>) -> Result<Rank0> {
    if let Some(path) = env.get("PALS_APINFO")?.filter(|path| !path.is_empty()) {
        let read = env.read(Path::new(path)).map_err(|error| error.to_string());
        return match read.and_then(|bytes| apinfo::host_of_rank0(&bytes)) {
            Ok(host) => Ok(Rank0::Host(host)),
            Err(problem) => {
                let problem = format!("does not tell rank 0's host: {problem}; set MASTER_ADDR");
                Err(Error::env("PALS_APINFO", path, problem))
            }
        };
    }
    Ok(match first_of_nodefile(env)? {
        Some(host) => Rank0::Host(host),
        None => Rank0::Unknown("neither PALS_APINFO nor PBS_NODEFILE is set".into()),
    })
}

/// The first host of PBS's node file.
pub(super) fn first_of_nodefile(env: &Env) -> Result<Option<String>> {
    Ok(hosts_in_file(env, "PBS_NODEFILE")?.into_iter().next())
}

/// The hosts of the file that a variable names, one a line, none if it is unset.
pub(super) fn hosts_in_file(env: &Env, var: &str) -> Result<Vec<String>> {
    let Some(path) = env.get(var)?.filter(|path| !path.is_empty()) else { return Ok(Vec::new()) };
    let bytes = env.read(Path::new(path)).map_err(|error| {
        Error::env(var, path, format!("cannot be read: {error}; set MASTER_ADDR"))
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let hosts: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    if hosts.is_empty() {
        return Err(Error::env(var, path, "names a file without hosts; set MASTER_ADDR"));
    }
    Ok(hosts)
}
