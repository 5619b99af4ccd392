//! jsrun of IBM's LSF.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::job_name;
use crate::config::launch::pals::hosts_in_file;
use crate::config::number;
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Jsrun,
    sign: "JSM_NAMESPACE_RANK",
    vars: &[
        "JSM_NAMESPACE_RANK",
        "JSM_NAMESPACE_SIZE",
        "JSM_NAMESPACE_LOCAL_RANK",
        "LSB_JOBID",
        "JSM_NAMESPACE_ID",
        "LSB_DJOB_RANKFILE",
    ],
    is_here: |env| env.value("JSM_NAMESPACE_RANK").is_some(),
    read: |env| {
        let (rank, size) = ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE");
        let mut claim = Claim::read(env, Launcher::Jsrun, rank, size)?;
        claim.local_rank = number::read(env, "JSM_NAMESPACE_LOCAL_RANK")?;
        claim.job = job_name(env, &["LSB_JOBID", "JSM_NAMESPACE_ID"])?;
        Ok(claim)
    },
    rank0: |env, _, _| {
        Ok(match first_host(env)? {
            Some(host) => Rank0::Host(host),
            None => Rank0::Unknown("LSB_DJOB_RANKFILE is not set".into()),
        })
    },
};

/// The first compute host of LSF's rank file, whose first line is the host that launches.
pub(super) fn first_host(env: &Env) -> Result<Option<String>> {
    let mut hosts = hosts_in_file(env, "LSB_DJOB_RANKFILE")?.into_iter();
    let launch = hosts.next();
    Ok(hosts.find(|host| Some(host) != launch.as_ref()).or(launch))
}
