//! Which launcher's variables count, where several are set.
//!
//! Launchers nest: a job of srun starts one torchrun a node, mpirun inside an allocation starts
//! its daemons by srun, a pod of Kubernetes starts mpirun. What the outer one set is still there,
//! and is about the outer one's processes. So the inner one counts:
//!
//! 1. torchrun, whatever else is set.
//! 2. Of the launchers that start processes, the first in the order of [`FAMILIES`] where they
//!    agree. Where they do not, the one that lies inside by [`inner`], else it is an error.
//! 3. Those that start pods ([`PODS`]), only if none of the above is there.
//! 4. Nobody: a world of one.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::launch::claim::Claim;
use crate::config::launch::claim::Family;
use crate::config::launch::claim::Said;
use crate::config::launch::flux;
use crate::config::launch::kubernetes;
use crate::config::launch::lsf;
use crate::config::launch::mpich;
use crate::config::launch::openmpi;
use crate::config::launch::pals;
use crate::config::launch::plain;
use crate::config::launch::pmix;
use crate::config::launch::slurm;
use crate::config::launch::torchrun;
use crate::config::number;
use crate::config::vars;
use crate::error::Error;
use crate::error::Result;

/// The families of launchers that start processes, in the order in which one is taken of several
/// that agree: those that tell more come first.
static FAMILIES: [&Family; 9] = [
    &torchrun::FAMILY,
    &plain::FAMILY,
    &openmpi::FAMILY,
    &mpich::MVAPICH2,
    &flux::FAMILY,
    &pals::FAMILY,
    &lsf::FAMILY,
    &slurm::FAMILY,
    &mpich::FAMILY,
];

/// The families that tell a rank but no size, or start pods; looked at if no other is there.
static PODS: [&Family; 4] =
    [&pmix::FAMILY, &kubernetes::LWS, &kubernetes::TRAINER, &kubernetes::INDEXED_JOB];

/// All families.
pub(super) fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(PODS.iter()).copied()
}

/// The claim that counts.
pub(super) fn choose(env: &Env, notes: &mut Vec<String>) -> Result<Claim> {
    if let Some(forced) = vars::LAUNCHER.read(env, &mut Vec::new())? {
        return forced_claim(env, forced);
    }
    if (torchrun::FAMILY.is_here)(env) {
        return (torchrun::FAMILY.read)(env);
    }
    let mut chosen: Option<Claim> = None;
    for family in FAMILIES.iter().filter(|family| (family.is_here)(env)) {
        let claim = (family.read)(env)?;
        claim.check(env)?;
        chosen = Some(match chosen {
            None => claim,
            Some(first) if first.agrees(&claim) => first,
            Some(first) => inner(env, first, claim)?,
        });
    }
    if let Some(claim) = chosen {
        plain::check_partial(env, &claim)?;
        return Ok(claim);
    }
    if let Some(family) = PODS.iter().find(|family| (family.is_here)(env)) {
        return (family.read)(env);
    }
    alone(env, notes)
}

/// The claim of the launcher that the user names.
fn forced_claim(env: &Env, launcher: Launcher) -> Result<Claim> {
    let Some(family) = families().find(|family| family.launcher == launcher) else {
        return Ok(world_of_one());
    };
    if !env.has(family.sign) {
        let problem =
            format!("is set, but {launcher} did not start this process: no {}", family.sign);
        return Err(Error::env("NCCL_RS_LAUNCHER", launcher.name(), problem));
    }
    (family.read)(env)
}

/// Of two claims that differ, the one of the launcher that runs inside the other.
///
/// - A launcher that started one process only may have another one inside.
/// - An MPI launcher inside srun starts its daemons by srun, one a host.
/// - Whoever set `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and `LOCAL_WORLD_SIZE` is a launcher, and may
///   run inside one that started one process a host, or fewer processes than it did.
fn inner(env: &Env, first: Claim, second: Claim) -> Result<Claim> {
    let (one, other) = (first.world_size.value, second.world_size.value);
    if other == 1 && one > 1 {
        return Ok(first);
    }
    if one == 1 && other > 1 {
        return Ok(second);
    }
    let is_mpi = |claim: &Claim| {
        matches!(claim.launcher, Launcher::OpenMpi | Launcher::Mvapich2 | Launcher::Mpich)
    };
    if one_a_host(&second) && is_mpi(&first) && !is_mpi(&second) {
        return Ok(first);
    }
    if one_a_host(&first) && is_mpi(&second) && !is_mpi(&first) {
        return Ok(second);
    }
    let whole = first.local_rank.is_some() && first.local_world_size.is_some();
    if first.launcher == Launcher::Plain && whole && (one_a_host(&second) || one > other) {
        return Ok(first);
    }
    Err(contradiction(env, &first, &second))
}

/// Whether a launcher started one process on each host.
fn one_a_host(claim: &Claim) -> bool {
    claim.nodes == Some(claim.world_size.value)
}

/// The error for two launchers that contradict each other.
pub(super) fn contradiction(env: &Env, first: &Claim, second: &Claim) -> Error {
    let same_size = first.world_size.value == second.world_size.value;
    let (what, a, b) = if same_size {
        ("the rank", &first.rank, &second.rank)
    } else {
        ("the number of ranks", &first.world_size, &second.world_size)
    };
    let said = |said: &Said| {
        let text = env.get(said.var).ok().flatten().map(str::to_owned);
        format!("{}={}", said.var, text.unwrap_or_else(|| said.value.to_string()))
    };
    Error::Conflict {
        what,
        first: said(a),
        second: said(b),
        advice: format!(
            "unset one of them, or say whose count with NCCL_RS_LAUNCHER={} or {}",
            first.launcher, second.launcher
        ),
    }
}

/// The claim of a process that nobody started; not for one that somebody began to describe.
fn alone(env: &Env, notes: &mut Vec<String>) -> Result<Claim> {
    if env.value("RANK").is_some() {
        // The claim of RANK and WORLD_SIZE says which of the two is missing.
        return (plain::FAMILY.read)(env);
    }
    for var in ["WORLD_SIZE", "NCCL_RS_WORLD_SIZE", "MASTER_ADDR"] {
        if env.has(var) {
            // A size that cannot be is the better thing to say.
            number::read_size(env, "WORLD_SIZE")?;
            return Err(Error::env_missing(
                "RANK",
                format!(
                    "is missing, though {var} is set; set RANK to this process's rank, start it \
                     with a launcher, or unset {var} for a world of one"
                ),
            ));
        }
    }
    if let Some(note) = slurm::batch_note(env)? {
        notes.push(note);
    }
    Ok(world_of_one())
}

fn world_of_one() -> Claim {
    let rank = Said { var: "RANK", value: 0 };
    let size = Said { var: "WORLD_SIZE", value: 1 };
    let mut claim = Claim::new(Launcher::Single, rank, size);
    claim.local_rank = Some(0);
    claim.local_world_size = Some(1);
    claim.node_rank = Some(0);
    claim.nodes = Some(1);
    claim
}
