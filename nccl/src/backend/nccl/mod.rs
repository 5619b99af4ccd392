//! Collectives by NCCL.

mod bounded;
mod communicator;
mod config;
mod facts;
mod flight;
mod guarded;
mod init;
mod issue;
mod library;
mod premul;
mod shared;
mod unique_id;

pub use communicator::AbortHandle;
pub use communicator::Communicator;
pub use config::CommConfig;
pub use config::CtaPolicy;
pub(crate) use facts::Facts;
pub(crate) use guarded::GuardedBackend;
pub use library::Nccl;
pub use unique_id::NotAnId;
pub use unique_id::UniqueId;
