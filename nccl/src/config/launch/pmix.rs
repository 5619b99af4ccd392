//! Launchers that speak PMIx and nothing else that is known here: they tell the rank only.

use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Rank0;
use crate::config::launch::claim::Said;
use crate::config::launch::claim::job_name;
use crate::config::launch::claim::size_from_user;
use crate::config::number;
use crate::error::Error;

pub(super) static FAMILY: Family = Family {
    launcher: Launcher::Pmix,
    sign: "PMIX_RANK",
    vars: &["PMIX_RANK", "PMIX_NAMESPACE"],
    is_here: |env| env.has("PMIX_RANK") && env.has("PMIX_NAMESPACE"),
    read: |env| {
        let size = size_from_user(env, "PMIx")?;
        let Some(value) = number::read(env, "PMIX_RANK")? else {
            return Err(Error::env_missing("PMIX_RANK", "is missing"));
        };
        let rank = Said { var: "PMIX_RANK", value };
        let mut claim = Claim::new(Launcher::Pmix, rank, size);
        claim.job = job_name(env, &["PMIX_NAMESPACE"])?;
        Ok(claim)
    },
    rank0: |_, _, _| Ok(Rank0::Unknown("PMIx tells it to MPI only".into())),
};
