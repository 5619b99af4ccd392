//! NCCL's parameters, as it sees them.
#![expect(unsafe_code, reason = "reads texts of libnccl by address")]

use core::ffi::CStr;
use core::ffi::c_char;
use core::ffi::c_int;
use core::ptr::null;
use core::ptr::null_mut;
use std::ffi::CString;

use crate::backend::nccl::library::Nccl;
use crate::error::Error;
use crate::error::Result;

/// A parameter of NCCL and its value in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Param {
    /// The name, as `NCCL_BUFFSIZE`.
    pub name: String,
    /// The value, as NCCL writes it.
    pub value: String,
}

impl Nccl {
    /// Returns all parameters with the values that hold in this process, whether they come from the
    /// environment, a file or a default.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.30.7, [`Error::Nccl`].
    ///
    /// # Source
    /// `ncclParamGetAllParameterKeys` and `ncclParamGetParameter` of nccl.h.
    pub fn params(&self) -> Result<Vec<Param>> {
        const CALL: &str = "ncclParamGetAllParameterKeys";
        let list = self.library().ncclParamGetAllParameterKeys().map_err(Error::Unsupported)?;
        let (mut table, mut length): (*mut *const c_char, c_int) = (null_mut(), 0);
        // SAFETY: the function writes an address and a length, through pointers to live ones.
        self.check(CALL, unsafe { list(&raw mut table, &raw mut length) })?;
        if table.is_null() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for at in 0..usize::try_from(length).unwrap_or(0) {
            // SAFETY: the table has `length` addresses of texts, or null; NCCL keeps them for good.
            let name = unsafe {
                let key = *table.add(at);
                if key.is_null() {
                    continue;
                }
                CStr::from_ptr(key)
            };
            names.push(name.to_owned());
        }
        let read = |name: &CString| {
            let value = self.read(name)?;
            Ok(Param { name: name.to_string_lossy().into_owned(), value })
        };
        names.iter().map(read).collect()
    }

    /// Returns the value of a parameter, as `NCCL_BUFFSIZE`.
    ///
    /// # Errors
    /// As of [`Nccl::params`]; NCCL refuses a name that it does not know.
    ///
    /// # Source
    /// `ncclParamGetParameter` of nccl.h.
    pub fn param(&self, name: &str) -> Result<String> {
        let name = CString::new(name).map_err(|_| Error::Usage {
            op: "Nccl::param",
            problem: format!("{name:?} has a zero byte, which no name has"),
        })?;
        self.read(&name)
    }

    fn read(&self, name: &CStr) -> Result<String> {
        const CALL: &str = "ncclParamGetParameter";
        let get = self.library().ncclParamGetParameter().map_err(Error::Unsupported)?;
        let (mut value, mut length): (*const c_char, c_int) = (null(), 0);
        // SAFETY: the function reads a text, and writes an address and a length, through pointers
        // to live ones.
        let result = unsafe { get(name.as_ptr(), &raw mut value, &raw mut length) };
        self.check(CALL, result)?;
        if value.is_null() {
            return Ok(String::new());
        }
        // SAFETY: the text ends with a zero byte, and stays until this thread's next call.
        Ok(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
    }
}
