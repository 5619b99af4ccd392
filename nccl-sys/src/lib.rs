//! NCCL's C library, found and opened at run time.
//!
//! Nothing is linked: a program that uses this crate also starts where there is no NCCL.
//! [`Library::open`] looks for libnccl where people have it, and when there is none that can be
//! used, [`LoadError`] lists every place with what was wrong there.
//!
//! One program works with every libnccl from [`Version::OLDEST`] on. A function that the opened
//! library does not have is [`Missing`], with the version that it needs:
//!
//! ```
//! let Ok(library) = nccl_sys::Library::open() else { return };
//! match library.ncclCommShrink() {
//!     Ok(_shrink) => println!("NCCL {} can shrink", library.version()),
//!     Err(missing) => println!("{missing}"),
//! }
//! ```
//!
//! What grew from version to version is made for the version at hand: [`ncclConfig_t::new`], and
//! [`ncclConfig_t::unsupported`] says which member that version would ignore.
//!
//! Types have the names of nccl.h. Codes ([`ncclResult_t`], [`ncclDataType_t`], [`ncclRedOp_t`])
//! are newtypes and no enums, because newer libraries give numbers that nobody here knows yet.
//! The calls are `unsafe`, as in C; `nccl` makes them safe.

mod bindings;
mod config;
mod device;
mod elf;
mod error;
mod functions;
mod load;
mod missing;
mod result;
mod search;
mod version;

/// The type of each function, under the name of the function.
pub mod signatures {
    pub use crate::bindings::functions::*;
    pub use crate::device::functions::*;
}

pub use bindings::*;
pub use config::COLL_CONFIG_MEMBERS;
pub use config::CONFIG_MEMBERS;
pub use config::Member;
pub use config::NCCL_API_MAGIC;
pub use config::NCCL_CONFIG_UNDEF_INT;
pub use config::NCCL_SIM_INFO_MAGIC;
pub use config::NCCL_UNDEF_FLOAT;
pub use device::ncclCommProperties_t;
pub use device::ncclGinConnectionType_t;
pub use device::ncclGinType_t;
pub use device::ncclTeam_t;
pub use error::Attempt;
pub use error::LoadError;
pub use error::Problem;
pub use functions::FUNCTIONS;
pub use functions::Function;
pub use functions::Functions;
pub use functions::LEFT_OUT;
pub use load::Library;
pub use missing::Missing;
pub use result::NcclResult;
pub use result::ncclResult_t;
pub use search::VARIABLE;
pub use version::Version;
