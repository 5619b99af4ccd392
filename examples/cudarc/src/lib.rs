//! What the programs of this package share. They use cudarc as an engine does; those without it
//! are in the package `examples`.

use cudarc::driver::DriverError;
use nccl::Error;
use nccl::ProcessGroup;
use nccl::Result;
use nccl::config::Env;
use nccl::config::vars;
use nccl::cuda::Driver;

/// The number of this rank's GPU; `None` where some rank has no CUDA driver. cudarc panics where
/// there is none, so this asks first.
///
/// # Errors
/// Those of the group, and of a driver that is there and does not work.
pub fn device(group: &ProcessGroup) -> Result<Option<usize>> {
    let driver: &[u8] = match Driver::get() {
        Ok(_) => b"yes",
        Err(Error::DriverMissing(_)) => b"no",
        Err(error) => return Err(error),
    };
    // All ranks or none: a rank that runs nothing would leave the others waiting.
    if group.all_gather_bytes(driver)?.iter().any(|one| one != b"yes") {
        return Ok(None);
    }
    // As NCCL_RS_DEVICE says, else by the local rank.
    let env = Env::process();
    let asked = vars::DEVICE.read(&env, &mut Vec::new())?;
    Ok(Some(nccl::cuda::choose(group.local_rank(), asked.as_ref(), &env)?.ordinal()))
}

/// What ends a program of this package: an error of the group's or of cudarc's.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failed {
    /// The group's, or of our own part of CUDA.
    Group(Error),
    /// cudarc's.
    Cuda(DriverError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Group(error)
    }
}

impl From<DriverError> for Failed {
    fn from(error: DriverError) -> Self {
        Self::Cuda(error)
    }
}
