//! What can go wrong, in four families told apart by who must act.
//!
//! - **Misuse**: a wrong call, found before anything is sent; the group stays good.
//! - **Setup**: the machine or the configuration; the text names variable, value, file, address.
//! - **Group**: other ranks; poisons the group, later calls return [`Error::Poisoned`].
//! - **Library**: NCCL or CUDA.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::dtype::DataType;
use crate::op::ReduceOp;
use crate::rank;

mod driver;
mod failure;
mod nccl;

pub use driver::DriverAttempt;
pub use driver::DriverError;
pub use driver::DriverMissing;
pub use driver::DriverProblem;
pub use failure::Absent;
pub(crate) use failure::Failure;
pub use nccl::NcclError;

/// The result of nearly everything here.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a call failed. [`Error::family`] says who must act, [`Error::poisons_group`] whether the
/// group can still be used.
#[expect(missing_docs, reason = "the sentence on a variant explains its fields")]
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- misuse ----
    /// A buffer has the wrong number of elements.
    #[error("{op}: `{buffer}` holds {got} elements, expected {expected}")]
    Count { op: &'static str, buffer: &'static str, expected: usize, got: usize },
    /// A rank is not below the group's world size, or is not allowed here.
    #[error("{op}: {what} {rank} is not a rank of this group of {world_size} (0..{world_size})")]
    Rank { op: &'static str, what: &'static str, rank: usize, world_size: usize },
    /// The reduction does not exist for the type.
    #[error("{op}: the reduction `{reduce}` does not exist for {dtype}: {why}")]
    Op { op: &'static str, reduce: ReduceOp, dtype: DataType, why: &'static str },
    /// Any other wrong call; nothing was sent.
    #[error("{op}: {problem}")]
    Usage { op: &'static str, problem: String },

    // ---- setup ----
    /// An environment variable or a setting is missing or cannot be what it says.
    #[error("{}", env_text(.var, .value.as_deref(), .problem))]
    Env { var: String, value: Option<String>, problem: String },
    /// Two sources say different things.
    #[error("{what}: {first} and {second} contradict each other; {advice}")]
    Conflict { what: &'static str, first: String, second: String, advice: String },
    /// A host name has no address.
    #[error("cannot resolve the host name {host:?} ({var}): {why}")]
    Resolve { host: String, var: String, why: String },
    /// No network interface fits.
    #[error("no network interface fits {spec}: {problem}; this machine has {available}")]
    Interface { spec: String, problem: String, available: String },
    /// A listening port could not be opened.
    #[error("cannot listen on {addr} ({what}): {source}{hint}")]
    Bind { what: &'static str, addr: String, source: Arc<io::Error>, hint: String },
    /// A connection could not be made before the deadline.
    #[error("cannot connect to {what} at {addr}: {why} (tried for {waited:.1?})")]
    Connect { what: &'static str, addr: String, why: String, waited: Duration },
    /// Rank 0 refused this rank, or this rank refused what it met.
    #[error("rank {rank} of {world_size} cannot join: {why}")]
    Join { rank: usize, world_size: usize, why: String },
    /// Some ranks did not come.
    #[error(
        "{} of {world_size} ranks did not join within {waited:.1?}: missing {}; {advice}",
        .ranks.len(),
        rank::list(.ranks)
    )]
    Missing { ranks: Vec<usize>, world_size: usize, waited: Duration, advice: String },
    /// A system call failed.
    #[error("{what}: {source}")]
    System { what: String, source: Arc<io::Error> },

    /// No GPU can be chosen for this rank.
    #[error("no GPU for {who}: {problem}")]
    DeviceChoice { who: String, problem: String },

    // ---- group ----
    /// A rank is gone, silent, or unreachable.
    #[error("{at}: rank {rank} (host {host}, pid {pid}) {why}")]
    PeerLost { at: At, rank: usize, host: String, pid: u32, why: String },
    /// Two ranks called different things.
    #[error(
        "{at}: the ranks disagree: rank {} called {}, rank {} called {}",
        .first.0, .first.1, .second.0, .second.1
    )]
    Mismatch { at: At, first: (usize, String), second: (usize, String) },
    /// The deadline passed; `origin` is the rank whose deadline it was.
    #[error("{at}: {}", failure::timeout_text(*.origin, .op, *.waited, .absent))]
    Timeout { at: At, origin: usize, op: String, waited: Duration, absent: Vec<Absent> },
    /// A rank ended the group.
    #[error("{at}: rank {rank} aborted the group: {reason}")]
    Aborted { at: At, rank: usize, reason: String },
    /// A peer sent what it must not.
    #[error("{at}: rank {reporter} received nonsense from rank {rank}: {what}")]
    Protocol { at: At, reporter: usize, rank: usize, what: String },
    /// The group failed before; the first cause is inside.
    #[error("group {group:?} is no longer usable since it failed: {cause}")]
    Poisoned { group: String, cause: Box<Self> },

    // ---- store ----
    /// Keys did not appear before the deadline.
    #[error("store {store}: {op} timed out after {waited:.1?} waiting for {keys}")]
    StoreTimeout { store: String, op: &'static str, keys: String, waited: Duration },
    /// The store's server is gone, or is no store.
    #[error("store {store}: {op} failed: {why}")]
    StoreLost { store: String, op: &'static str, why: String },
    /// The store refuses a request, which never reaches other ranks.
    #[error("store {store}: {op}: {problem}")]
    StoreRefused { store: String, op: &'static str, problem: String },

    // ---- library ----
    /// A call of NCCL failed.
    #[error("{0}")]
    Nccl(Arc<NcclError>),
    /// The NCCL that was opened lacks something.
    #[error("{0}")]
    Unsupported(nccl_sys::Missing),
    /// NCCL did not finish a call before the deadline; the communicator was aborted.
    #[error(
        "{call} on device {device} was not finished after {waited:.1?}, and the communicator was \
         aborted: a rank did not make the same call, or cannot be reached"
    )]
    NcclStuck { call: &'static str, device: usize, waited: Duration },
    /// The communicator was ended before.
    #[error("the communicator is no longer usable: {why}")]
    CommEnded { why: String },
    /// A library could not be opened; every path tried is listed.
    #[error("{0}")]
    Load(Arc<nccl_sys::LoadError>),
    /// The CUDA driver could not be opened; every place tried is listed.
    #[error("{0}")]
    DriverMissing(Arc<DriverMissing>),
    /// A call of the CUDA driver failed.
    #[error("{0}")]
    Driver(Arc<DriverError>),
    /// The CUDA driver is too old for a call.
    #[error(
        "the CUDA driver {} has no function {function}, which came with CUDA {needs}; update it",
        .found.as_deref().unwrap_or("(of unknown version)")
    )]
    DriverTooOld { function: &'static str, needs: &'static str, found: Option<String> },
    /// What was enqueued on a stream was not done before the deadline.
    #[error(
        "{what}: the work on the stream of device {device} was not done after {waited:.1?}; an          operation before it waits for another rank, or a kernel does not end"
    )]
    StreamTimeout { what: &'static str, device: usize, waited: Duration },
}

/// The text, behind the variant's name: what a program prints whose `main` returns the error.
impl core::fmt::Debug for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {self}", self.kind())
    }
}

/// Where in a group something happened: `group "world", rank 1, #18 all_reduce f32×1024 sum`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct At {
    /// The group's name.
    pub group: String,
    /// The rank that reports, in that group.
    pub rank: usize,
    /// The operation this rank was in, if it was in one.
    pub op: Option<String>,
}

impl core::fmt::Display for At {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "group {:?}, rank {}", self.group, self.rank)?;
        match &self.op {
            Some(op) => write!(f, ", {op}"),
            None => Ok(()),
        }
    }
}

/// Who must act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// A wrong call: the program.
    Misuse,
    /// The machine or the configuration: whoever starts the job.
    Setup,
    /// Other ranks: rebuild the group or end the job.
    Group,
    /// NCCL or CUDA.
    Library,
}

impl Error {
    /// Which of the four families it belongs to.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Count { .. } | Self::Rank { .. } | Self::Op { .. } | Self::Usage { .. } => {
                Family::Misuse
            }
            Self::StoreRefused { .. } => Family::Misuse,
            Self::Env { .. }
            | Self::Conflict { .. }
            | Self::Resolve { .. }
            | Self::Interface { .. }
            | Self::Bind { .. }
            | Self::Connect { .. }
            | Self::Join { .. }
            | Self::Missing { .. }
            | Self::System { .. }
            | Self::DeviceChoice { .. } => Family::Setup,
            Self::PeerLost { .. }
            | Self::Mismatch { .. }
            | Self::Timeout { .. }
            | Self::Aborted { .. }
            | Self::Protocol { .. }
            | Self::Poisoned { .. }
            | Self::StoreTimeout { .. }
            | Self::StoreLost { .. } => Family::Group,
            Self::Load(_)
            | Self::Nccl(_)
            | Self::Unsupported(_)
            | Self::NcclStuck { .. }
            | Self::CommEnded { .. }
            | Self::DriverMissing(_)
            | Self::Driver(_)
            | Self::DriverTooOld { .. }
            | Self::StreamTimeout { .. } => Family::Library,
        }
    }

    /// The variant's name.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Count { .. } => "Count",
            Self::Rank { .. } => "Rank",
            Self::Op { .. } => "Op",
            Self::Usage { .. } => "Usage",
            Self::Env { .. } => "Env",
            Self::Conflict { .. } => "Conflict",
            Self::Resolve { .. } => "Resolve",
            Self::Interface { .. } => "Interface",
            Self::Bind { .. } => "Bind",
            Self::Connect { .. } => "Connect",
            Self::Join { .. } => "Join",
            Self::Missing { .. } => "Missing",
            Self::System { .. } => "System",
            Self::PeerLost { .. } => "PeerLost",
            Self::Mismatch { .. } => "Mismatch",
            Self::Timeout { .. } => "Timeout",
            Self::Aborted { .. } => "Aborted",
            Self::Protocol { .. } => "Protocol",
            Self::Poisoned { .. } => "Poisoned",
            Self::StoreTimeout { .. } => "StoreTimeout",
            Self::StoreLost { .. } => "StoreLost",
            Self::StoreRefused { .. } => "StoreRefused",
            Self::Load(_) => "Load",
            Self::DeviceChoice { .. } => "DeviceChoice",
            Self::Nccl(_) => "Nccl",
            Self::Unsupported(_) => "Unsupported",
            Self::NcclStuck { .. } => "NcclStuck",
            Self::CommEnded { .. } => "CommEnded",
            Self::DriverMissing(_) => "DriverMissing",
            Self::Driver(_) => "Driver",
            Self::DriverTooOld { .. } => "DriverTooOld",
            Self::StreamTimeout { .. } => "StreamTimeout",
        }
    }

    /// Whether the group that returned it is no longer usable.
    #[must_use]
    pub fn poisons_group(&self) -> bool {
        matches!(
            self,
            Self::PeerLost { .. }
                | Self::Mismatch { .. }
                | Self::Timeout { .. }
                | Self::Aborted { .. }
                | Self::Protocol { .. }
                | Self::Poisoned { .. }
        )
    }

    /// A system call's error with what it was for.
    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: Arc::new(source.into()) }
    }

    /// A variable that is missing.
    pub(crate) fn env_missing(var: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Env { var: var.into(), value: None, problem: problem.into() }
    }

    /// A variable whose value cannot be.
    pub(crate) fn env(
        var: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self::Env { var: var.into(), value: Some(value.into()), problem: problem.into() }
    }
}

/// `RANK="abc": ...` with the value escaped and cut.
fn env_text(var: &str, value: Option<&str>, problem: &str) -> String {
    const SHOWN: usize = 80;
    match value {
        None => format!("{var} {problem}"),
        Some(value) if value.chars().count() > SHOWN => {
            let cut: String = value.chars().take(SHOWN).collect();
            format!("{var}={cut:?}... ({} bytes) {problem}", value.len())
        }
        Some(value) => format!("{var}={value:?} {problem}"),
    }
}
