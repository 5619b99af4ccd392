//! The NCCL of this process.
#![expect(unsafe_code, reason = "calls functions of libnccl that need no communicator")]

use core::ffi::c_char;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

use nccl_sys::NcclResult;
use nccl_sys::Version;

use crate::backend::nccl::unique_id::UniqueId;
use crate::error::Error;
use crate::error::NcclError;
use crate::error::Result;
use crate::trace::lock;

/// The longest warning that NCCL keeps, in bytes.
const WARNING_BYTES: usize = 1024;

/// A libnccl, opened at run time. It stays in the process for good.
///
/// [`Nccl::get`] gives the one that the environment chooses. All functions that communicators need
/// are found when it is opened; what a version lacks is
/// [`Error::Unsupported`](crate::Error::Unsupported) when it is used.
#[derive(Debug)]
pub struct Nccl {
    library: nccl_sys::Library,
    /// Why no id can be made in this process any more.
    no_id: Mutex<Option<Error>>,
}

impl Nccl {
    /// Returns the process's NCCL; the first call finds and opens it, and its result holds for
    /// all later ones.
    ///
    /// If `NCCL_RS_NCCL_LIB` is set, that library and no other is opened. Otherwise the first one
    /// of: one that the process has already, what the linker finds as `libnccl.so.2` and
    /// `libnccl.so`, and the folders where wheels and conda put it.
    ///
    /// # Errors
    /// [`Error::Load`] lists every place tried and what the linker said.
    pub fn get() -> Result<&'static Self> {
        static NCCL: OnceLock<Result<&'static Nccl>> = OnceLock::new();
        let open = || {
            let library = nccl_sys::Library::open();
            library.map(Self::keep).map_err(|error| Error::Load(Arc::new(error)))
        };
        NCCL.get_or_init(open).clone()
    }

    /// Opens the NCCL at `path`, beside that of [`Nccl::get`]. The two share nothing.
    ///
    /// # Safety
    /// If the file is a library, its initialisers run, and what has the name of a function of
    /// nccl.h is called as that: both must be sound, as they are in every NCCL.
    ///
    /// # Errors
    /// As of [`Nccl::get`].
    pub unsafe fn open_at(path: &Path) -> Result<&'static Self> {
        // SAFETY: the caller vouches for the library.
        let library = unsafe { nccl_sys::Library::open_at(path) };
        library.map(Self::keep).map_err(|error| Error::Load(Arc::new(error)))
    }

    fn keep(library: nccl_sys::Library) -> &'static Self {
        log::info!(
            target: "nccl::library",
            "NCCL {} from {}",
            library.version(),
            library.path().unwrap_or_else(|| Path::new("libnccl")).display()
        );
        Box::leak(Box::new(Self { library, no_id: Mutex::new(None) }))
    }

    /// Returns its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.library.version()
    }

    /// Returns its file, where the system tells.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.library.path()
    }

    /// Returns its sentence about a number that a function of NCCL returned; any number will do.
    #[must_use]
    pub fn error_string(&self, code: i32) -> Cow<'static, str> {
        self.library.error_string(NcclResult(code))
    }

    /// Makes an id: where the ranks of a new communicator meet. One rank makes it and gives it to
    /// the others.
    ///
    /// A thread and a listening socket of NCCL stay in this process for good.
    ///
    /// # Errors
    /// [`Error::Nccl`]; as when no interface fits `NCCL_SOCKET_IFNAME`, which then holds for this
    /// process: NCCL looks once only.
    ///
    /// # Source
    /// `ncclGetUniqueId` of nccl.h.
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut no_id = lock(&self.no_id);
        if let Some(error) = &*no_id {
            // Up to 2.21 a second call would never return.
            return Err(error.clone());
        }
        let get = self.library.ncclGetUniqueId().map_err(Error::Unsupported)?;
        let mut id = UniqueId::from_bytes([0; UniqueId::BYTES]).to_raw();
        // SAFETY: the function writes one id, through a pointer to a live one.
        let made = self.check("ncclGetUniqueId", unsafe { get(&raw mut id) });
        if let Err(error) = &made {
            *no_id = Some(error.clone());
        }
        made.map(|()| UniqueId::from_raw(&id))
    }

    /// Returns the last warning that NCCL gave in this process; empty if it gave none.
    ///
    /// # Source
    /// `ncclGetLastError` of nccl.h.
    #[must_use]
    pub fn last_warning(&self) -> String {
        let Ok(get) = self.library.ncclGetLastError() else { return String::new() };
        // SAFETY: the function ignores its argument; null is what NCCL's own tests give.
        let text = unsafe { get(core::ptr::null_mut()) };
        if text.is_null() { String::new() } else { copied(text) }
    }

    /// The functions.
    pub(super) fn library(&self) -> &nccl_sys::Library {
        &self.library
    }

    /// A result as an error.
    pub(super) fn check(&self, call: &'static str, result: NcclResult) -> Result<()> {
        if result.is_success() { Ok(()) } else { Err(self.failed(call, result)) }
    }

    /// The error of a result that is none of success.
    #[cold]
    pub(super) fn failed(&self, call: &'static str, result: NcclResult) -> Error {
        let text = self.library.error_string(result).into_owned();
        let error = NcclError::new(call, result, text, self.last_warning());
        Error::Nccl(Arc::new(error))
    }
}

/// A copy of NCCL's warning, which another thread may overwrite at any time.
fn copied(text: *const c_char) -> String {
    let mut bytes = Vec::new();
    for at in 0..WARNING_BYTES {
        // SAFETY: the text lies in a static array of `WARNING_BYTES` bytes of a library that is
        // never unloaded, which ends with a zero byte at the latest at its end; the loop ends
        // there. Each byte is read once and by itself, as another thread of NCCL's may write it:
        // then the text is a mix of two.
        let byte = unsafe { text.add(at).read_volatile() };
        if byte == 0 {
            break;
        }
        bytes.extend(byte.to_ne_bytes());
    }
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_copied_up_to_its_end_and_no_further_than_nccl_writes() {
        assert_eq!(copied(c"no interface\n".as_ptr()), "no interface");
        let endless = vec![c_char::from_ne_bytes([b'x']); WARNING_BYTES + 10];
        assert_eq!(copied(endless.as_ptr()).len(), WARNING_BYTES);
    }
}
