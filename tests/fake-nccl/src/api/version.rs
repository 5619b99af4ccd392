//! Version, texts, unique ids, and what only the fake has.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use std::cell::RefCell;
use std::ffi::CString;
use std::ffi::c_char;

use crate::fail;
use crate::fail::ARGUMENT;
use crate::ffi::Out;
use crate::ffi::api;
use crate::rendezvous;
use crate::rendezvous::UniqueId;
use crate::version;
use crate::watch;

api! {
    fn ncclGetVersion(version: Out<i32>) {
        if version.is_null() {
            return fail::fail(ARGUMENT, "GetVersion : version argument is NULL");
        }
        version.set("GetVersion", version::code())
    }

    fn ncclGetUniqueId(id: Out<UniqueId>) {
        if id.is_null() {
            return fail::fail(ARGUMENT, "GetUniqueId : out argument is NULL");
        }
        id.set("GetUniqueId", rendezvous::unique_id()?)
    }
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(code: i32) -> *const c_char {
    let text = match code {
        0 => c"no error",
        1 => c"unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        2 => c"unhandled system error (run with NCCL_DEBUG=INFO for details)",
        3 => c"internal error - please report this issue to the NCCL developers",
        4 => c"invalid argument (run with NCCL_DEBUG=WARN for details)",
        5 => c"invalid usage (run with NCCL_DEBUG=WARN for details)",
        6 => c"remote process exited or there was a network error",
        7 => c"NCCL operation in progress",
        8 if version::code() >= 23003 => c"timeout",
        _ => c"unknown result code",
    };
    text.as_ptr()
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_comm: usize) -> *const c_char {
    thread_local! {
        static TEXT: RefCell<CString> = RefCell::new(CString::default());
    }
    // Valid until the thread asks again; NCCL's own buffer lives on, but changes under the reader.
    TEXT.with_borrow_mut(|kept| {
        *kept = CString::new(fail::last_text()).unwrap_or_default();
        kept.as_ptr()
    })
}

// SAFETY: the name is NCCL's, whose place this library takes on purpose.
#[unsafe(no_mangle)]
extern "C" fn ncclResetDebugInit() {}

/// How many violations the checker has seen in this process. NCCL has no such function.
// SAFETY: nobody else exports this name.
#[unsafe(no_mangle)]
extern "C" fn fakeNcclViolations() -> u64 {
    watch::violations()
}
