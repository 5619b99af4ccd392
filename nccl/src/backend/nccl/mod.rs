//! Collectives by NCCL.

mod bounded;
mod communicator;
mod config;
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
pub use library::Nccl;
pub use unique_id::NotAnId;
pub use unique_id::UniqueId;
