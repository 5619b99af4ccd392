//! Opens libcuda and keeps it: here foreign code is trusted.
#![expect(unsafe_code, reason = "opens a library, looks its symbols up and initialises it")]

use core::ffi::c_int;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use libloading::os::unix;

use crate::cuda::elf;
use crate::cuda::search::Candidate;
use crate::cuda::table;
use crate::cuda::table::Table;
use crate::error::DriverAttempt;
use crate::error::DriverMissing;
use crate::error::DriverProblem;
use crate::error::Error;
use crate::error::Result;

/// A driver that was opened and initialised.
pub(super) struct Loaded {
    /// Its functions.
    pub(super) table: Table,
    /// Its file, where the system tells.
    pub(super) path: Option<PathBuf>,
}

/// The first candidate that is a CUDA driver, initialised; `asked` says who asked for just one.
///
/// A driver that is one but cannot be initialised ends the search: another file would not help
/// where there is no GPU.
///
/// # Safety
/// Initialisers of the libraries run, and what has the name of a function of cuda.h is called as
/// that: both must be sound, as they are in every CUDA driver.
pub(super) unsafe fn first(candidates: Vec<Candidate>, asked: Option<&str>) -> Result<Loaded> {
    let mut attempts = Vec::new();
    for candidate in candidates {
        // SAFETY: the caller vouches for the libraries.
        let (place, opened) = unsafe { open(candidate) };
        let problem = match opened {
            Err(problem) => problem,
            // SAFETY: as above.
            Ok(opened) => match unsafe { opened.driver() } {
                Ok(loaded) => return loaded,
                Err(problem) => problem,
            },
        };
        let place = match asked {
            Some(asked) => format!("{place} ({asked})"),
            None => place,
        };
        attempts.push(DriverAttempt::new(place, problem));
    }
    Err(Error::DriverMissing(Arc::new(DriverMissing::new(asked.is_some(), attempts))))
}

/// # Safety
/// As of [`first`].
unsafe fn open(candidate: Candidate) -> (String, Result<Opened, DriverProblem>) {
    match candidate {
        Candidate::Refused(place, why) => (place, Err(DriverProblem::Refused(why))),
        Candidate::Loaded(name) => {
            // SAFETY: the caller vouches for the library, which runs already.
            let opened = unsafe { Opened::of_process(name) };
            (format!("{name} already in this process"), opened)
        }
        Candidate::Name(name) => {
            // SAFETY: the caller vouches for the library.
            let opened = unsafe { Opened::open(&name, 0) };
            (name.display().to_string(), opened)
        }
        Candidate::File(path) => {
            // SAFETY: the caller vouches for the library; that it is complete was checked.
            let opened =
                elf::check(&path).and_then(|()| unsafe { Opened::open(path.as_os_str(), 0) });
            (path.display().to_string(), opened)
        }
    }
}

/// A library in the process, for good, of which nothing is known yet.
pub(super) struct Opened {
    handle: &'static unix::Library,
}

impl Opened {
    /// Opens a library by path or name.
    ///
    /// # Safety
    /// The library's initialisers are sound.
    unsafe fn open(name: &OsStr, more_flags: c_int) -> Result<Self, DriverProblem> {
        let flags = unix::RTLD_NOW | unix::RTLD_LOCAL | more_flags;
        // SAFETY: the caller vouches for the initialisers.
        match unsafe { unix::Library::open(Some(name), flags) } {
            // Never unloaded: the driver has threads and handlers of its own.
            Ok(handle) => Ok(Self { handle: Box::leak(Box::new(handle)) }),
            Err(why) => {
                let words = core::error::Error::source(&why);
                let words = words.map_or_else(|| why.to_string(), ToString::to_string);
                Err(DriverProblem::Linker(words))
            }
        }
    }

    /// The library if it is in the process already; opens nothing.
    ///
    /// # Safety
    /// As of [`Opened::open`].
    unsafe fn of_process(name: &str) -> Result<Self, DriverProblem> {
        #[cfg(target_os = "linux")]
        const RTLD_NOLOAD: Option<c_int> = Some(4);
        #[cfg(not(target_os = "linux"))]
        const RTLD_NOLOAD: Option<c_int> = None;
        let absent = || DriverProblem::Absent("there is none".to_owned());
        let flag = RTLD_NOLOAD.ok_or_else(absent)?;
        // SAFETY: the caller vouches for the library.
        unsafe { Self::open(OsStr::new(name), flag) }.map_err(|_| absent())
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is a type of function pointers, and that of the function of this name if there is one.
    pub(super) unsafe fn symbol<F: Copy>(&self, name: &str) -> Option<F> {
        // SAFETY: the caller vouches for the type; a null address is `None`.
        let symbol = unsafe { self.handle.get_singlethreaded::<Option<F>>(name) };
        symbol.ok().and_then(|symbol| *symbol)
    }

    /// The library as an initialised driver. The inner error is a driver's that cannot be used,
    /// the outer one says why this is none.
    ///
    /// # Safety
    /// What has the name of a function of cuda.h is that function.
    unsafe fn driver(&self) -> Result<Result<Loaded>, DriverProblem> {
        for name in ["cuInit", "cuDeviceGetCount"] {
            // SAFETY: the pointer is not called.
            if unsafe { self.symbol::<unsafe extern "C" fn()>(name) }.is_none() {
                return Err(DriverProblem::MissingSymbol(name));
            }
        }
        // SAFETY: the caller vouches for the names.
        let table = unsafe { Table::read(self) };
        // SAFETY: not called.
        let address = unsafe { self.symbol::<unsafe extern "C" fn()>("cuInit") };
        let path = address.and_then(|function| file_at(function as usize));
        // SAFETY: `cuInit` may be called at any time, from any thread; zero is the only flag.
        let outcome = unsafe { table.init(0) };
        if outcome.code() == Some(table::STUB_LIBRARY) {
            return Err(DriverProblem::Stub);
        }
        Ok(outcome.done().map(|()| Loaded { table, path }))
    }
}

/// The file that is mapped at an address.
fn file_at(address: usize) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| mapped_at(line, address))
}

/// Reads `7f00-7f10 r-xp 0 08:01 42   /usr/lib/x.so`.
fn mapped_at(line: &str, address: usize) -> Option<PathBuf> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let inside = (number(start)?..number(end)?).contains(&address);
    let path = rest.get(rest.find('/')?..)?;
    inside.then(|| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_at_an_address_is_read_from_the_map() {
        let line = "7f00-7f10 r-xp 00000000 08:01 42      /usr/lib/my lib.so";
        assert_eq!(mapped_at(line, 0x7f0f), Some(PathBuf::from("/usr/lib/my lib.so")));
        assert_eq!(mapped_at(line, 0x7f10), None);
        assert_eq!(mapped_at("7f00-7f10 rw-p 00000000 00:00 0", 0x7f00), None);
        assert_eq!(file_at(mapped_at as *const () as usize), std::env::current_exe().ok());
    }
}
