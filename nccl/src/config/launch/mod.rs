//! Which process of a job this is, and where its ranks meet.

use crate::config::address::HostPort;
use crate::config::env::Env;
use crate::config::init_method::InitMethod;
use crate::config::rendezvous::Rendezvous;
use crate::error::Result;

mod apinfo;
mod claim;
mod conflict;
mod flux;
mod kubernetes;
mod launcher;
mod lsf;
mod meet;
mod mpich;
mod openmpi;
mod pals;
mod plain;
pub(crate) mod pmi;
mod pmix;
mod slurm;
#[cfg(test)]
mod tests;
mod torchrun;

pub use launcher::Launcher;

/// What the launcher says about this process, and where the ranks meet.
///
/// Rank, size and local rank come from the variables of one launcher, never from several. Where
/// launchers nest (torchrun inside srun) the inner one counts; where they contradict each other
/// otherwise, [`Launch::from_env`] fails with [`Error::Conflict`](crate::Error::Conflict). Without
/// any launcher the process is a world of one. docs/launchers.md has the rules.
///
/// ```
/// use nccl::config::Env;
/// use nccl::config::Launch;
/// use nccl::config::Launcher;
///
/// let env = Env::empty()
///     .with("OMPI_COMM_WORLD_RANK", "3")
///     .with("OMPI_COMM_WORLD_SIZE", "4")
///     .with("OMPI_COMM_WORLD_LOCAL_RANK", "1")
///     .with("MASTER_ADDR", "node0")
///     .with("MASTER_PORT", "29500");
/// let launch = Launch::from_env(&env)?;
/// assert_eq!(launch.launcher, Launcher::OpenMpi);
/// assert_eq!((launch.rank, launch.world_size, launch.local_rank), (3, 4, Some(1)));
/// assert_eq!(launch.rendezvous.to_string(), "tcp://node0:29500 (rank 0 serves)");
///
/// let alone = Launch::from_env(&Env::empty())?;
/// assert_eq!((alone.launcher, alone.rank, alone.world_size), (Launcher::Single, 0, 1));
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// Whose variables were read.
    pub launcher: Launcher,
    /// This process's rank in the world.
    pub rank: usize,
    /// How many ranks the world has.
    pub world_size: usize,
    /// This process's number among those on its host.
    pub local_rank: Option<usize>,
    /// How many ranks run on this host.
    pub local_world_size: Option<usize>,
    /// This host's number.
    pub node_rank: Option<usize>,
    /// How many hosts the job has.
    pub nodes: Option<usize>,
    /// Where the ranks meet.
    pub rendezvous: Rendezvous,
    /// The job's name, equal on all its ranks; empty if the launcher gives none.
    pub job_id: String,
    /// How often the launcher has started the job before. Not always equal on all ranks.
    pub attempt: usize,
    /// What a user should know about how this was found, one sentence each, for the log.
    pub notes: Vec<String>,
}

impl Launch {
    /// Reads what the launcher says.
    ///
    /// # Errors
    /// [`Error::Env`](crate::Error::Env) for a variable that is missing or cannot be,
    /// [`Error::Conflict`](crate::Error::Conflict) for two that contradict each other.
    pub fn from_env(env: &Env) -> Result<Self> {
        let mut notes = Vec::new();
        let claim = conflict::choose(env, &mut notes)?;
        claim.check(env)?;
        let job_id = claim.job_id(env)?;
        let rendezvous = meet::rendezvous(env, &claim, &job_id, &mut notes)?;
        Ok(Self::of(claim, rendezvous, job_id, notes))
    }

    /// Reads what the launcher says, and takes the place to meet, and perhaps rank and size, from
    /// an `init_method`.
    ///
    /// # Errors
    /// As [`Launch::from_env`]; rank and size must come from one of the two.
    pub fn from_init_method(method: &InitMethod, env: &Env) -> Result<Self> {
        let (rendezvous, member) = match method {
            InitMethod::Env => return Self::from_env(env),
            InitMethod::Tcp { at, member } => (Rendezvous::tcp(at.clone()), *member),
            InitMethod::File { path, member } => (Rendezvous::File { path: path.clone() }, *member),
        };
        let mut notes = Vec::new();
        let claim = match member {
            Some(member) => claim::Claim::of_member(env, member)?,
            None => conflict::choose(env, &mut notes)?,
        };
        claim.check(env)?;
        let job_id = claim.job_id(env)?;
        Ok(Self::of(claim, rendezvous, job_id, notes))
    }

    /// Returns the address of the store, if it is known already.
    #[must_use]
    pub fn store_addr(&self) -> Option<&HostPort> {
        match &self.rendezvous {
            Rendezvous::Tcp { at, .. } => Some(at),
            _ => None,
        }
    }

    fn of(claim: claim::Claim, rendezvous: Rendezvous, job_id: String, notes: Vec<String>) -> Self {
        for note in &notes {
            log::warn!(target: "nccl::init", "{note}");
        }
        Self {
            launcher: claim.launcher,
            rank: claim.rank.value,
            world_size: claim.world_size.value,
            local_rank: claim.local_rank,
            local_world_size: claim.local_world_size,
            node_rank: claim.node_rank,
            nodes: claim.nodes,
            rendezvous,
            job_id,
            attempt: claim.attempt,
            notes,
        }
    }
}
