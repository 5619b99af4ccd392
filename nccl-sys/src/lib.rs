//! NCCL's C library, found and opened at run time.
//!
//! Nothing is linked: a program that uses this crate also starts where there is no NCCL.
//! [`Library::open`] looks for libnccl where people have it, and when there is none that can be
//! used, [`LoadError`] lists every place with what was wrong there.

mod elf;
mod error;
mod load;
mod result;
mod search;
mod version;

pub use error::Attempt;
pub use error::LoadError;
pub use error::Problem;
pub use load::Library;
pub use result::NcclResult;
pub use search::VARIABLE;
pub use version::Version;
