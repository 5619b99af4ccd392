//! What one launcher's variables say about this process.

use crate::config::env::Env;
use crate::config::launch::Launcher;
use crate::config::number;
use crate::config::vars;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;

/// A number and the variable that says it.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) var: &'static str,
    pub(super) value: usize,
}

/// What one launcher's variables say about this process.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) launcher: Launcher,
    pub(super) rank: Said,
    pub(super) world_size: Said,
    pub(super) local_rank: Option<usize>,
    pub(super) local_world_size: Option<usize>,
    pub(super) node_rank: Option<usize>,
    pub(super) nodes: Option<usize>,
    /// Parts of the job's name; those that are empty do not count.
    pub(super) job: String,
    pub(super) attempt: usize,
}

/// A family of variables: how to see that it is there, how to read it, and where rank 0 is.
pub(super) struct Family {
    pub(super) launcher: Launcher,
    /// The variable whose presence says that this launcher started the process.
    pub(super) sign: &'static str,
    /// Everything it reads; the documentation lists them.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares it with the documentation"))]
    pub(super) vars: &'static [&'static str],
    /// Whether the launcher started this process and not an ancestor that left its variables.
    pub(super) is_here: fn(&Env) -> bool,
    /// Reads the claim.
    pub(super) read: fn(&Env) -> Result<Claim>,
    /// Where rank 0 is, if `MASTER_ADDR` does not say so.
    pub(super) rank0: fn(&Env, &Claim, &mut Vec<String>) -> Result<Rank0>,
}

/// Where rank 0 is, as far as a launcher's variables tell.
#[derive(Debug)]
pub(super) enum Rank0 {
    /// On this host; the port is `MASTER_PORT` or derived.
    Host(String),
    /// As `Host`, with a port that the launcher's own variable gives.
    At(String, Option<u16>),
    /// It tells through PMI.
    Pmi,
    /// Nobody says; the text says why.
    Unknown(String),
}

impl Claim {
    /// A claim of rank and size; the rest is filled in by the family.
    pub(super) fn new(launcher: Launcher, rank: Said, world_size: Said) -> Self {
        Self {
            launcher,
            rank,
            world_size,
            local_rank: None,
            local_world_size: None,
            node_rank: None,
            nodes: None,
            job: String::new(),
            attempt: 0,
        }
    }

    /// A claim read from a variable for the rank and one for the size.
    pub(super) fn read(
        env: &Env,
        launcher: Launcher,
        rank: &'static str,
        size: &'static str,
    ) -> Result<Self> {
        let world_size = match number::read_size(env, size)? {
            Some(value) => Said { var: size, value },
            None => return Err(missing_beside(size, rank, "the number of ranks")),
        };
        let rank = match number::read(env, rank)? {
            Some(value) => Said { var: rank, value },
            None => return Err(missing_beside(rank, size, "this process's rank")),
        };
        Ok(Self::new(launcher, rank, world_size))
    }

    /// The claim of a process whose rank and size the program gave.
    pub(super) fn of_member(env: &Env, member: Member) -> Result<Self> {
        let rank = Said { var: "rank", value: member.rank };
        let size = Said { var: "world_size", value: member.world_size };
        let mut claim = Self::new(Launcher::Plain, rank, size);
        claim.with_local(env, "LOCAL_RANK", "LOCAL_WORLD_SIZE")?;
        Ok(claim)
    }

    /// Reads local rank and local size, which may be missing.
    pub(super) fn with_local(&mut self, env: &Env, rank: &str, size: &str) -> Result<()> {
        self.local_rank = number::read(env, rank)?;
        self.local_world_size = number::read_size(env, size)?;
        below(env, rank, self.local_rank, size, self.local_world_size)
    }

    /// Reads the host's number and the number of hosts, which may be missing.
    pub(super) fn with_nodes(&mut self, env: &Env, rank: &str, nodes: &str) -> Result<()> {
        self.node_rank = number::read(env, rank)?;
        self.nodes = number::read_size(env, nodes)?;
        below(env, rank, self.node_rank, nodes, self.nodes)
    }

    /// Whether both say the same rank and size.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.rank.value == other.rank.value && self.world_size.value == other.world_size.value
    }

    /// Whether all ranks run on this host.
    pub(super) fn is_one_host(&self) -> bool {
        self.nodes == Some(1) || self.local_world_size == Some(self.world_size.value)
    }

    /// Checks what every claim must fulfil.
    pub(super) fn check(&self, env: &Env) -> Result<()> {
        let (rank, size) = (&self.rank, &self.world_size);
        if rank.value >= size.value {
            let text = env.get(rank.var)?.map_or_else(|| rank.value.to_string(), str::to_owned);
            let problem = format!(
                "is not below {} {}; ranks go from 0 to {}",
                size.var,
                size.value,
                size.value.saturating_sub(1)
            );
            return Err(Error::env(rank.var, text, problem));
        }
        if self.local_world_size.is_some_and(|local| local > size.value) {
            return Err(Error::Conflict {
                what: "the number of ranks",
                first: format!("{}={}", size.var, size.value),
                second: format!("{} ranks on this host", self.local_world_size.unwrap_or(0)),
                advice: "a host cannot have more ranks than the world".into(),
            });
        }
        Ok(())
    }

    /// The job's name: `NCCL_RS_JOB_ID`, else the launcher's.
    pub(super) fn job_id(&self, env: &Env) -> Result<String> {
        let own = vars::JOB_ID.read(env, &mut Vec::new())?;
        Ok(own.unwrap_or_else(|| self.job.clone()))
    }
}

/// Joins the values of variables to a job's name, leaving out those that are unset.
pub(super) fn job_name(env: &Env, vars: &[&str]) -> Result<String> {
    let mut name = String::new();
    for var in vars {
        if let Some(value) = env.get(var)?.filter(|value| !value.is_empty()) {
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(value);
        }
    }
    Ok(name)
}

/// The size that the launcher does not tell: `NCCL_RS_WORLD_SIZE` or `WORLD_SIZE`.
pub(super) fn size_from_user(env: &Env, launcher: &str) -> Result<Said> {
    if let Some(value) = vars::WORLD_SIZE.read(env, &mut Vec::new())? {
        return Ok(Said { var: "NCCL_RS_WORLD_SIZE", value });
    }
    if let Some(value) = number::read_size(env, "WORLD_SIZE")? {
        return Ok(Said { var: "WORLD_SIZE", value });
    }
    Err(Error::env_missing(
        "WORLD_SIZE",
        format!(
            "is missing: {launcher} tells a process its rank but not the number of ranks; set \
             WORLD_SIZE or NCCL_RS_WORLD_SIZE to it"
        ),
    ))
}

/// The error for a variable that is missing though its partner is set.
fn missing_beside(missing: &str, set: &str, what: &str) -> Error {
    Error::env_missing(missing, format!("is missing, though {set} is set; set it to {what}"))
}

/// Checks that a number is below its count, where both are known.
fn below(
    env: &Env,
    var: &str,
    value: Option<usize>,
    size_var: &str,
    size: Option<usize>,
) -> Result<()> {
    let Some((value, size)) = value.zip(size) else { return Ok(()) };
    if value < size {
        return Ok(());
    }
    let text = env.get(var)?.unwrap_or_default();
    Err(Error::env(var, text, format!("is not below {size_var} {size}")))
}
