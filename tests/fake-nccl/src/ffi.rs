//! How the exported functions are made: one macro, and a type for the places that C passes.

#![expect(unsafe_code, reason = "C passes pointers")]

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use crate::fail::ARGUMENT;
use crate::fail::INTERNAL;
use crate::fail::Outcome;
use crate::fail::fail;
use crate::group;
use crate::knobs;
use crate::watch;

/// A place of the caller's. As in C, the caller answers for it being null, or valid for reads and
/// writes until the call is over; only null can be found out.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

// SAFETY: what is behind it belongs to the caller of NCCL, who by the contract of the functions
// that write later (split, shrink and grow without blocking) leaves it alone until they are done.
unsafe impl<T: Send> Send for Out<T> {}

impl<T: Copy> Out<T> {
    /// No place.
    pub(crate) const NULL: Self = Self(std::ptr::null_mut());

    /// Reads an element of an array that may be missing.
    pub(crate) fn at_if_any(self, index: usize) -> Option<T> {
        if self.is_null() { None } else { self.at(index).get() }
    }

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn address(self) -> usize {
        self.0.expose_provenance()
    }

    /// Writes the result; null is an error that names the function.
    pub(crate) fn set(self, function: &str, value: T) -> Outcome {
        if self.0.is_null() {
            return fail(ARGUMENT, format!("{function} : out argument is NULL"));
        }
        // SAFETY: not null, so valid for writes by the contract of the type.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Reads what is there.
    pub(crate) fn get(self) -> Option<T> {
        // SAFETY: if not null, valid for reads by the contract of the type.
        if self.0.is_null() { None } else { Some(unsafe { self.0.read_unaligned() }) }
    }

    /// The place `index` elements on, in an array of the caller that is so long.
    pub(crate) fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }

    pub(crate) fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

/// Runs the body of an exported function, unless a knob says that it fails or hangs.
pub(crate) fn call(name: &'static str, body: impl FnOnce() -> Outcome) -> i32 {
    watch::trace(name);
    knobs::hang_call(name, None);
    if let Some(code) = knobs::failure(name) {
        if ["ncclGroupEnd", "ncclGroupSimulateEnd"].contains(&name) {
            // Also a group that fails has ended.
            group::forget();
        }
        return code;
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => INTERNAL,
    }
}

/// Exports functions that give an `ncclResult_t` under NCCL's names.
macro_rules! api {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            // SAFETY: the name is NCCL's, whose place this library takes on purpose.
            #[unsafe(no_mangle)]
            extern "C" fn $name($($arg: $type),*) -> i32 {
                $crate::ffi::call(stringify!($name), || $body)
            }
        )*
    };
}
pub(crate) use api;
