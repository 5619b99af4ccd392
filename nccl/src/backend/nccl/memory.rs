//! Memory of the GPU that NCCL allocates: what windows need, and what is quickest to register.
#![expect(unsafe_code, reason = "calls libnccl to allocate and free device memory")]

use core::ffi::c_void;
use core::ptr::null_mut;
use core::ptr::without_provenance_mut;
use std::time::Duration;

use crate::backend::nccl::bounded;
use crate::backend::nccl::library::Nccl;
use crate::clock::Deadline;
use crate::count;
use crate::cuda::Device;
use crate::cuda::DeviceVec;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

const CALL: &str = "ncclMemAlloc";

impl Nccl {
    /// Allocates `count` elements of unspecified value, so that they can be registered well and be
    /// in windows. It is used as any other [`DeviceVec`]; when it is dropped, a thread of its own
    /// waits for the device and frees it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.19, [`Error::Nccl`] as when the memory is full;
    /// [`Error::NcclStuck`] if it took longer than `timeout`.
    ///
    /// # Source
    /// `ncclMemAlloc` and `ncclMemFree` of nccl.h.
    pub fn alloc<T: Element>(
        &'static self,
        device: &Device,
        count: usize,
        timeout: Duration,
    ) -> Result<DeviceVec<T>> {
        let alloc = self.library().ncclMemAlloc().map_err(Error::Unsupported)?;
        let free = self.library().ncclMemFree().map_err(Error::Unsupported)?;
        let bytes = count::bytes("Nccl::alloc", count, T::DTYPE)?;
        if bytes == 0 {
            return DeviceVec::unset(device, 0);
        }
        let (deadline, here) = (Deadline::after(timeout), device.clone());
        let made = bounded::run("nccl-alloc", timeout, move || {
            let _current = here.make_current()?;
            let mut at: *mut c_void = null_mut();
            // SAFETY: the function writes one address, through a pointer to a live one.
            self.check(CALL, unsafe { alloc(&raw mut at, bytes) })?;
            let owner = here.clone();
            let free = move |at: u64| {
                let start = bounded::start("nccl-free", move || {
                    let Ok(_current) = owner.make_current() else { return };
                    // The driver waits for the whole device when it frees; NCCL does not.
                    let Ok(wait) = DeviceVec::<u8>::unset(&owner, 1) else { return };
                    drop(wait);
                    let at = without_provenance_mut(usize::try_from(at).unwrap_or(0));
                    // SAFETY: allocated by the same library, freed once, and no work that was
                    // enqueued before uses it any more.
                    if let Err(error) = self.check("ncclMemFree", unsafe { free(at) }) {
                        log::warn!(target: "nccl::comm", "{error}");
                    }
                });
                if let Err(error) = start {
                    log::warn!(target: "nccl::comm", "{bytes} bytes are not freed: {error}");
                }
            };
            // SAFETY: NCCL has allocated so many bytes, aligned to pages at least; `free` waits for
            // the device on another thread, and then gives them back.
            Ok(unsafe { DeviceVec::adopt(&here, at.addr() as u64, count, Box::new(free)) })
        })?;
        made.unwrap_or_else(|| {
            let (device, waited) = (device.ordinal(), deadline.waited());
            Err(Error::NcclStuck { call: CALL, device, waited })
        })
    }
}
