//! Collectives by NCCL.

mod bounded;
mod bridge;
mod children;
mod communicator;
mod config;
mod facts;
mod flight;
mod guarded;
mod held;
mod init;
mod issue;
mod library;
mod memory;
mod premul;
mod query;
mod registered;
mod shared;
mod unique_id;
mod window;
mod within;

pub use communicator::AbortHandle;
pub use communicator::Communicator;
pub use config::CommConfig;
pub use config::CtaPolicy;
pub(crate) use facts::Facts;
pub(crate) use guarded::GuardedBackend;
pub use library::Nccl;
pub use query::HostInfo;
pub use query::MemoryStats;
pub use query::Properties;
pub use registered::Registered;
pub use unique_id::NotAnId;
pub use unique_id::UniqueId;
pub use window::Signal;
pub use window::Window;
pub use window::WindowFlags;
