//! How the exported functions are made: one macro, and types for what C passes.

#![expect(unsafe_code, reason = "C passes pointers")]

use std::ffi::c_char;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use crate::code::Code;
use crate::knobs;

/// A place where the caller wants a result. As in C, the caller answers for it being null, or valid
/// for reads and writes until the call returns; only null can be found out.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes the result.
    pub(crate) fn set(self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so valid for writes by the contract of the type.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes the result if somebody wants it.
    pub(crate) fn set_if_wanted(self, value: T) {
        let _ = self.set(value);
    }

    /// Reads what the caller put there.
    pub(crate) fn get(self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so valid for reads by the contract of the type.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The place `index` elements on, in an array of the caller that is so long.
    pub(crate) fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }

    /// The same place for another type, where an attribute decides what is written.
    pub(crate) fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

/// Writes a text with its NUL into `limit` bytes at `out`, cut if need be.
pub(crate) fn set_text(out: Out<c_char>, limit: i32, text: &str) -> Result<(), Code> {
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let limit = limit.ok_or(Code::INVALID_VALUE)?;
    let kept = &text.as_bytes()[..text.len().min(limit - 1)];
    for (at, byte) in kept.iter().chain(&[0]).enumerate() {
        out.cast::<u8>().at(at).set(*byte)?;
    }
    Ok(())
}

/// A text of the caller.
pub(crate) fn text(from: *const c_char) -> Option<String> {
    if from.is_null() {
        return None;
    }
    // SAFETY: the caller of a C function passes null or a text that ends with NUL.
    Some(unsafe { std::ffi::CStr::from_ptr(from) }.to_string_lossy().into_owned())
}

/// Runs the body of an exported function, unless a knob says that it fails.
pub(crate) fn call(name: &'static str, body: impl FnOnce() -> Result<(), Code>) -> i32 {
    if let Some(code) = knobs::failure(name) {
        return code;
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

/// A row of a table of functions.
pub(crate) type Entry = (&'static str, *const c_void);

/// Exports functions of the driver API under their names, and makes `table()` of them.
macro_rules! api {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            // SAFETY: the name is the driver's, whose place this library takes on purpose.
            #[unsafe(no_mangle)]
            extern "C" fn $name($($arg: $type),*) -> i32 {
                $crate::ffi::call(stringify!($name), || $body)
            }
        )*

        /// The functions of this file.
        pub(crate) fn table() -> Vec<$crate::ffi::Entry> {
            vec![$((stringify!($name), $name as *const std::ffi::c_void)),*]
        }
    };
}
pub(crate) use api;
