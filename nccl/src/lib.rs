//! Process groups and collectives for Rust.

mod backend;
mod buffer;
mod clock;
pub mod config;
mod control;
mod count;
pub mod cuda;
mod debug;
mod desc;
mod device;
mod dtype;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod kernel;
mod net;
mod op;
mod rank;
mod schedule;
pub mod store;
mod trace;
mod transport;
mod wire;

/// NCCL itself: its library, and communicators without a process group.
pub mod comm {
    pub use crate::backend::nccl::AbortHandle;
    pub use crate::backend::nccl::CallConfig;
    pub use crate::backend::nccl::CommConfig;
    pub use crate::backend::nccl::Communicator;
    pub use crate::backend::nccl::Configured;
    pub use crate::backend::nccl::CtaPolicy;
    pub use crate::backend::nccl::Group;
    pub use crate::backend::nccl::HostInfo;
    pub use crate::backend::nccl::MemoryStats;
    pub use crate::backend::nccl::Nccl;
    pub use crate::backend::nccl::NotAnId;
    pub use crate::backend::nccl::Param;
    pub use crate::backend::nccl::Properties;
    pub use crate::backend::nccl::Registered;
    pub use crate::backend::nccl::Signal;
    pub use crate::backend::nccl::UniqueId;
    pub use crate::backend::nccl::Window;
    pub use crate::backend::nccl::WindowFlags;
    pub use nccl_sys::Missing;
    pub use nccl_sys::Version;
}

/// The examples that the compiler refuses.
#[cfg(doctest)]
#[doc = include_str!("../../docs/soundness.md")]
struct Soundness;

pub use buffer::OwnedBuffer;
pub use desc::Kind;
pub use device::OnStream;
pub use device::StreamBatch;
pub use dtype::DataType;
pub use dtype::Element;
pub use dtype::F8E4M3;
pub use dtype::F8E5M2;
pub use dtype::bf16;
pub use dtype::f16;
pub use error::Absent;
pub use error::At;
pub use error::DriverAttempt;
pub use error::DriverError;
pub use error::DriverMissing;
pub use error::DriverProblem;
pub use error::Error;
pub use error::Family;
pub use error::NcclError;
pub use error::Result;
pub use group::Batch;
pub use group::Builder;
pub use group::Coalesced;
pub use group::ProcessGroup;
pub use group::Scope;
pub use group::Work;
pub use group::run_threads;
pub use op::ReduceOp;
pub use rank::Member;
