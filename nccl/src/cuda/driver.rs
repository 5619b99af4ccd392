//! The CUDA driver of this process.
#![expect(unsafe_code, reason = "opens the driver, and asks it how many devices there are")]

use core::ffi::c_int;
use core::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::config::Env;
use crate::config::vars;
use crate::cuda::device::Device;
use crate::cuda::load;
use crate::cuda::search;
use crate::cuda::table::Table;
use crate::error::Result;

/// The CUDA driver: libcuda, opened and initialised. It stays in the process for good.
pub struct Driver {
    table: Table,
    path: Option<PathBuf>,
    version: Option<DriverVersion>,
}

/// The version of CUDA that a driver is for, as 12.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct DriverVersion {
    /// 12 in 12.8.
    pub major: u32,
    /// 8 in 12.8.
    pub minor: u32,
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Driver {
    /// Returns the process's CUDA driver; the first call finds, opens and initialises it, and its
    /// result holds for all later ones.
    ///
    /// If `NCCL_RS_CUDA_LIB` is set, that library and no other is opened. Otherwise the first
    /// driver of: one that the process has already, what the linker finds as `libcuda.so.1` and
    /// `libcuda.so`, and the folders where drivers usually are. The toolkit's stub is passed over.
    ///
    /// Opening a library runs its code. This function is safe because only the process's
    /// environment chooses, which decides about code elsewhere too (`LD_PRELOAD`,
    /// `LD_LIBRARY_PATH`): a file of this name is taken to be the CUDA driver.
    ///
    /// # Errors
    /// [`Error::DriverMissing`](crate::Error::DriverMissing) lists every place tried and what the
    /// linker said; [`Error::Driver`](crate::Error::Driver) is a driver that cannot be
    /// initialised, as where no GPU is visible.
    ///
    /// # Source
    /// `cuInit` of cuda.h.
    pub fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<Result<&'static Driver>> = OnceLock::new();
        DRIVER.get_or_init(Self::of_environment).clone()
    }

    /// Opens the driver that `path` names, a whole path or a name for the linker, beside the one
    /// of [`Driver::get`]. Nothing else is tried, and the environment is not asked.
    ///
    /// # Safety
    /// If the file is a library, its initialisers run, and what has the name of a function of
    /// cuda.h is called as that: both must be sound, as they are in every CUDA driver.
    ///
    /// # Errors
    /// As of [`Driver::get`].
    pub unsafe fn open_at(path: &Path) -> Result<&'static Self> {
        // SAFETY: the caller vouches for the library.
        unsafe { Self::open(vec![search::explicit(path)], Some("asked for")) }
    }

    /// Returns how many devices this process sees.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    ///
    /// # Source
    /// `cuDeviceGetCount` of cuda.h.
    pub fn device_count(&self) -> Result<usize> {
        let mut count: c_int = 0;
        // SAFETY: the driver is initialised, and writes one int, through a pointer to a live one.
        unsafe { self.table.device_count(&raw mut count) }.done()?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Returns a device by its number among those this process sees, from 0.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver) if there is none of this number.
    ///
    /// # Source
    /// `cuDeviceGet` of cuda.h.
    pub fn device(&'static self, ordinal: usize) -> Result<Device> {
        Device::new(self, ordinal)
    }

    /// Returns all devices this process sees, in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    pub fn devices(&'static self) -> Result<Vec<Device>> {
        (0..self.device_count()?).map(|ordinal| self.device(ordinal)).collect()
    }

    /// Returns the version of CUDA that it is for, if it tells.
    #[must_use]
    pub fn version(&self) -> Option<DriverVersion> {
        self.version
    }

    /// Returns the library's file, where the system tells.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The functions.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    fn of_environment() -> Result<&'static Self> {
        let env = Env::process();
        match vars::CUDA_LIB.read(&env, &mut Vec::new())? {
            // SAFETY: whoever sets the process's environment vouches for the library, see `get`.
            Some(path) => unsafe {
                Self::open(vec![search::explicit(&path)], Some("NCCL_RS_CUDA_LIB"))
            },
            // SAFETY: as above.
            None => unsafe { Self::open(search::places(), None) },
        }
    }

    /// # Safety
    /// As of [`Driver::open_at`], for each candidate.
    unsafe fn open(
        candidates: Vec<search::Candidate>,
        asked: Option<&str>,
    ) -> Result<&'static Self> {
        // SAFETY: the caller vouches for the libraries.
        let load::Loaded { table, path } = unsafe { load::first(candidates, asked) }?;
        let version = table.version().map(|(major, minor)| DriverVersion { major, minor });
        log::info!(
            target: "nccl::cuda",
            "CUDA driver {} from {}",
            version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string()),
            path.as_deref().unwrap_or_else(|| Path::new("libcuda")).display(),
        );
        Ok(Box::leak(Box::new(Self { table, path, version })))
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, path, .. } = self;
        f.debug_struct("Driver").field("version", version).field("path", path).finish()
    }
}
