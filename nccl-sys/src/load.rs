//! Opens libnccl and keeps it: the only place here that trusts foreign code.
#![expect(unsafe_code, reason = "opening a library and calling C functions")]

use core::ffi::CStr;
use core::ffi::c_int;
use core::fmt;
use std::borrow::Cow;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use libloading::os::unix;

use crate::error::Attempt;
use crate::error::LoadError;
use crate::error::Problem;
use crate::functions::Functions;
use crate::result::NcclResult;
use crate::search;
use crate::search::Candidate;
use crate::search::Environment;
use crate::signatures;
use crate::version::Version;

/// A libnccl that was opened and is new enough. It stays in the process for good: NCCL has
/// threads of its own that nobody can stop.
#[derive(Clone)]
pub struct Library {
    get_error_string: signatures::ncclGetErrorString,
    functions: Arc<Functions>,
    version: Version,
    path: Option<PathBuf>,
}

impl Library {
    /// Finds and opens libnccl.
    ///
    /// If `NCCL_RS_NCCL_LIB` is set, that library and no other is opened. Otherwise the first that
    /// is new enough of: one that the process has already, what the linker finds as
    /// `libnccl.so.2` and `libnccl.so`, and the files of the PyPI wheels and of conda in
    /// `$VIRTUAL_ENV`, `$CONDA_PREFIX`, around the Python of `$PATH`, and in `~/.local`.
    ///
    /// Opening a library runs its code. This function is safe because only the process's
    /// environment chooses, which decides about code elsewhere too (`LD_PRELOAD`,
    /// `LD_LIBRARY_PATH`, `PATH`): a file that is found under one of these names is taken to be
    /// NCCL. Damaged files, other libraries and other versions are errors.
    ///
    /// # Errors
    /// Every place that was tried, with what was wrong there.
    pub fn open() -> Result<Self, LoadError> {
        let environment = Environment::read();
        if let Some(asked) = &environment.explicit {
            let candidate = search::explicit(asked);
            return first(vec![candidate], &environment, Some(search::VARIABLE));
        }
        first(environment.places(), &environment, None)
    }

    /// Opens the libnccl that `path` names: a whole path, or a name for the linker. Nothing else
    /// is tried, and the environment is not asked.
    ///
    /// # Safety
    /// If the file is a library, its initialisers run, and if it has NCCL's symbols, they are
    /// called as NCCL's: both must be sound, as they are in every NCCL.
    ///
    /// # Errors
    /// What is wrong with this library.
    pub unsafe fn open_at(path: &Path) -> Result<Self, LoadError> {
        let candidate = search::explicit(&path.as_os_str().to_owned());
        first(vec![candidate], &Environment::read(), Some("asked for"))
    }

    /// What the library says its version is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The file of the library, where the system tells.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The functions that it has.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The library's own sentence about a result.
    #[must_use]
    pub fn error_string(&self, result: NcclResult) -> Cow<'static, str> {
        // SAFETY: the pointer is to `ncclGetErrorString` of a library that is never unloaded
        // (`Opened::open`); the function takes any number.
        let text = unsafe { (self.get_error_string)(result) };
        if text.is_null() {
            return Cow::Borrowed("(no text)");
        }
        // SAFETY: not null; NCCL returns string literals, which end with a zero byte and live as
        // long as the library, that is for good.
        unsafe { CStr::from_ptr(text) }.to_string_lossy()
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, path, .. } = self;
        f.debug_struct("Library").field("version", version).field("path", path).finish()
    }
}

/// The first candidate that is a usable libnccl; `asked` says who asked for just one.
fn first(
    candidates: Vec<Candidate>,
    environment: &Environment,
    asked: Option<&str>,
) -> Result<Library, LoadError> {
    let mut attempts = Vec::new();
    for candidate in candidates {
        match attempt(candidate, environment) {
            Ok(library) => return Ok(library),
            Err(mut attempt) => {
                if let Some(asked) = asked {
                    attempt.place = format!("{} ({asked})", attempt.place);
                }
                attempts.push(attempt);
            }
        }
    }
    Err(LoadError::new(asked.is_some(), attempts))
}

fn attempt(candidate: Candidate, environment: &Environment) -> Result<Library, Attempt> {
    let (place, opened) = match candidate {
        Candidate::Not(attempt) => return Err(attempt),
        Candidate::Loaded(name) => {
            (format!("{name} already in this process"), Opened::of_process(name))
        }
        Candidate::Name(name) => {
            let opened = match environment.trap(Path::new(&name)) {
                Some((file, why)) => Err(Problem::Refused(format!(
                    "the linker would take {}: it {why}",
                    file.display()
                ))),
                None => Opened::open(&name, 0),
            };
            (name.display().to_string(), opened)
        }
        Candidate::File(path) => {
            let opened = search::check_file(&path).and_then(|()| Opened::open(path.as_os_str(), 0));
            (path.display().to_string(), opened)
        }
    };
    opened.and_then(|opened| opened.library()).map_err(|problem| Attempt::new(place, problem))
}

/// A library in the process, for good, of which nothing is known yet.
struct Opened {
    handle: &'static unix::Library,
}

impl Opened {
    /// Opens a library by path or name.
    fn open(name: &OsStr, more_flags: c_int) -> Result<Self, Problem> {
        let flags = unix::RTLD_NOW | unix::RTLD_LOCAL | more_flags;
        // SAFETY: initialisers of the library run. That they are sound is what `Library::open`
        // takes from whoever controls the environment, and what the caller of `open_at` promises.
        // A file that is given by path is complete (`search::check_file`).
        match unsafe { unix::Library::open(Some(name), flags) } {
            // Never unloaded: the handle is only reachable by reference from here on.
            Ok(handle) => Ok(Self { handle: Box::leak(Box::new(handle)) }),
            Err(why) => Err(Problem::Linker(words(&why))),
        }
    }

    /// The library if it is in the process already; opens nothing.
    fn of_process(name: &str) -> Result<Self, Problem> {
        #[cfg(target_os = "linux")]
        const RTLD_NOLOAD: Option<c_int> = Some(4);
        #[cfg(not(target_os = "linux"))]
        const RTLD_NOLOAD: Option<c_int> = None;
        let absent = || Problem::Absent("there is none".to_owned());
        let flag = RTLD_NOLOAD.ok_or_else(absent)?;
        Self::open(OsStr::new(name), flag).map_err(|_| absent())
    }

    /// A usable NCCL, or what it lacks.
    fn library(&self) -> Result<Library, Problem> {
        // SAFETY: the symbols of the library; that those with NCCL's names are NCCL's functions is
        // what `Library::open` and the caller of `open_at` stand for.
        let functions = unsafe { Functions::load(Version::OLDEST, &|name| self.symbol(name)) };
        let get_version =
            functions.ncclGetVersion.ok_or(Problem::MissingSymbol("ncclGetVersion"))?;
        let get_error_string =
            functions.ncclGetErrorString.ok_or(Problem::MissingSymbol("ncclGetErrorString"))?;
        let mut code = 0;
        // SAFETY: the function writes one int through the pointer, which is to a live one.
        let result = unsafe { get_version(&raw mut code) };
        if !result.is_success() {
            return Err(Problem::VersionCall(result));
        }
        let version = Version::from_code(code).ok_or(Problem::NoVersion(code))?;
        if version < Version::OLDEST {
            return Err(Problem::TooOld(version));
        }
        // SAFETY: as above.
        let functions = unsafe { Functions::load(version, &|name| self.symbol(name)) };
        let path = file_at(get_version as usize);
        Ok(Library { get_error_string, functions: Arc::new(functions), version, path })
    }

    /// A function of the library, of a type yet to be given.
    fn symbol(&self, name: &'static str) -> Option<unsafe extern "C" fn()> {
        // SAFETY: only the address is taken, and none is no function.
        let symbol =
            unsafe { self.handle.get_singlethreaded::<Option<unsafe extern "C" fn()>>(name) };
        symbol.ok().and_then(|symbol| *symbol)
    }
}

/// The linker's own text, which names the file and the reason.
fn words(why: &libloading::Error) -> String {
    why.source().map_or_else(|| why.to_string(), ToString::to_string)
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
    inside.then(|| PathBuf::from(path))
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
        let here = mapped_at as *const () as usize;
        assert_eq!(file_at(here), std::env::current_exe().ok());
    }
}
