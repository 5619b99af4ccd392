//! Memory that NCCL knows of: registrations and windows, until they are released.
#![expect(unsafe_code, reason = "calls libnccl to undo registrations")]

use core::ffi::c_void;
use std::sync::Mutex;

use nccl_sys::ncclWindow_t;

use crate::backend::nccl::shared::Entered;
use crate::clock::LazyDeadline;
use crate::error::Result;
use crate::trace::lock;

/// What was registered with a communicator, by handle. A handle is taken out before it is given
/// back to NCCL, so each is given back once.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Vec<Handle>>);

/// A registration or a window, as NCCL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handle {
    /// Of `ncclCommRegister`.
    Registration(*mut c_void),
    /// Of `ncclCommWindowRegister`.
    Window(ncclWindow_t),
}

// SAFETY: names that only NCCL looks behind.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Held {
    /// Notes what NCCL has registered.
    pub(super) fn add(&self, handle: Handle) {
        lock(&self.0).push(handle);
    }

    /// Undoes one registration, if that was not done before.
    pub(super) fn release(
        &self,
        handle: Handle,
        entered: &Entered<'_>,
        deadline: &LazyDeadline,
    ) -> Result<()> {
        let mut all = lock(&self.0);
        let Some(at) = all.iter().position(|other| *other == handle) else { return Ok(()) };
        all.swap_remove(at);
        drop(all);
        let library = entered.nccl().library();
        let (call, result) = match handle {
            Handle::Registration(handle) => {
                let Some(undo) = library.functions().ncclCommDeregister else { return Ok(()) };
                // SAFETY: NCCL gave the handle for this communicator, which is live and this
                // thread's for now, and it was taken out above: nobody undoes it again.
                let result = entered.call(|comm| unsafe { undo(comm, handle) });
                ("ncclCommDeregister", result)
            }
            Handle::Window(window) => {
                let Some(undo) = library.functions().ncclCommWindowDeregister else {
                    return Ok(());
                };
                // SAFETY: as above.
                let result = entered.call(|comm| unsafe { undo(comm, window) });
                ("ncclCommWindowDeregister", result)
            }
        };
        entered.finish(call, result, deadline)
    }

    /// Undoes all, as NCCL wants it before a communicator's end.
    pub(super) fn release_all(&self, entered: &Entered<'_>, deadline: &LazyDeadline) {
        let all = lock(&self.0).clone();
        for handle in all {
            if let Err(error) = self.release(handle, entered, deadline) {
                log::warn!(target: "nccl::comm", "{error}");
            }
        }
    }
}
