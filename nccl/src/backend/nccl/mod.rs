//! Collectives by NCCL.

mod bounded;
mod children;
mod communicator;
mod config;
mod held;
mod init;
mod issue;
mod library;
mod premul;
mod query;
mod shared;
mod unique_id;
mod within;

pub use communicator::AbortHandle;
pub use communicator::Communicator;
pub use config::CommConfig;
pub use config::CtaPolicy;
pub use library::Nccl;
pub use query::HostInfo;
pub use query::MemoryStats;
pub use query::Properties;
pub use unique_id::NotAnId;
pub use unique_id::UniqueId;
