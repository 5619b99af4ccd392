//! Buffers that NCCL knows beforehand.
#![expect(unsafe_code, reason = "tells libnccl of device memory, and lends it to operations")]

use core::ffi::c_void;
use core::fmt;
use core::ptr::null_mut;
use core::ptr::without_provenance_mut;
use std::sync::Arc;
use std::time::Duration;

use nccl_sys::NcclResult;

use crate::backend::nccl::bounded;
use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::held::Handle;
use crate::backend::nccl::shared::Shared;
use crate::clock::LazyDeadline;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceSlice;
use crate::cuda::DeviceSliceMut;
use crate::cuda::DeviceStream;
use crate::cuda::DeviceVec;
use crate::cuda::Leased;
use crate::dtype::DataType;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

const CALL: &str = "ncclCommRegister";
/// How long a thread that undoes a registration waits for another one's call.
const PATIENCE: Duration = Duration::from_secs(60);

/// A buffer that a communicator knows: operations with it need no copies on the way, where the
/// hardware allows that.
///
/// It is used as the buffer itself, with this communicator or any other. Dropped, it is
/// unregistered and freed by a thread of its own; [`Registered::release`] gives it back.
pub struct Registered<T: Element> {
    memory: Memory<T>,
}

/// Memory that NCCL knows of under a handle, and whose communicator that is.
pub(super) struct Memory<T: Element> {
    /// There until it is released or dropped.
    buffer: Option<DeviceVec<T>>,
    handle: Option<Handle>,
    shared: Arc<Shared>,
}

impl Communicator {
    /// Makes a buffer known to the communicator, until the value is dropped or the communicator
    /// ends. On one rank or on all, as one likes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.19, [`Error::Usage`] for another device's buffer, or a
    /// communicator that is not owned ([`Communicator::from_raw`]),
    /// [`Error::NcclStuck`], [`Error::Nccl`]. The buffer is freed then.
    ///
    /// # Source
    /// `ncclCommRegister` of nccl.h.
    pub fn register<T: Element>(
        &self,
        buffer: DeviceVec<T>,
        timeout: Duration,
    ) -> Result<Registered<T>> {
        let register = self.nccl().library().ncclCommRegister().map_err(Error::Unsupported)?;
        self.check_memory("Communicator::register", &buffer)?;
        let shared = self.shared().clone();
        let memory = self.shared().within(CALL, timeout, move |entered, deadline| {
            let (at, bytes) = (address(buffer.as_raw()), buffer.size_bytes());
            let mut memory = Memory { buffer: Some(buffer), handle: None, shared };
            if bytes == 0 {
                return Ok(memory);
            }
            let place = Box::into_raw(Box::new(null_mut()));
            // SAFETY: the handle is live and this thread's for now; so many bytes of the device are
            // at the address and stay until they are unregistered, as does the place for one handle
            // until the call is over.
            let result = entered.call(|comm| unsafe { register(comm, at, bytes, place) });
            if let Err(error) = entered.finish(CALL, result, deadline) {
                if result == NcclResult::IN_PROGRESS {
                    memory.leak();
                }
                return Err(error);
            }
            // SAFETY: made above, freed once; NCCL is done with it.
            let handle: *mut c_void = *unsafe { Box::from_raw(place) };
            if !handle.is_null() {
                memory.set(Handle::Registration(handle));
            }
            Ok(memory)
        })?;
        Ok(Registered { memory })
    }

    /// Whether memory can be registered here.
    pub(super) fn check_memory<T: Element>(
        &self,
        op: &'static str,
        buffer: &DeviceVec<T>,
    ) -> Result<()> {
        self.shared().check_usable(op)?;
        if !self.shared().is_owned() {
            // Its end would not be seen here, and so neither that of the registration.
            let problem = "the communicator is another owner's, who registers by its own means";
            return Err(Error::Usage { op, problem: problem.to_owned() });
        }
        if buffer.device().is_same(self.device()) {
            return Ok(());
        }
        let problem = format!(
            "the buffer is on device {} and the communicator on device {}",
            buffer.device().ordinal(),
            self.device().ordinal()
        );
        Err(Error::Usage { op, problem })
    }
}

/// An address as C takes it.
pub(super) fn address(at: u64) -> *mut c_void {
    without_provenance_mut(usize::try_from(at).unwrap_or(0))
}

impl<T: Element> Memory<T> {
    pub(super) fn new(buffer: DeviceVec<T>, shared: Arc<Shared>) -> Self {
        Self { buffer: Some(buffer), handle: None, shared }
    }

    /// Notes the handle, under which NCCL knows the memory from now on.
    pub(super) fn set(&mut self, handle: Handle) {
        self.shared.held().add(handle);
        self.handle = Some(handle);
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        self.handle
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn buffer(&self) -> Option<&DeviceVec<T>> {
        self.buffer.as_ref()
    }

    pub(super) fn buffer_mut(&mut self) -> Option<&mut DeviceVec<T>> {
        self.buffer.as_mut()
    }

    /// Keeps the memory for good: NCCL may still use it.
    pub(super) fn leak(mut self) {
        core::mem::forget(self.buffer.take());
    }

    /// Has it unregistered, and gives it back.
    pub(super) fn release(mut self, call: &'static str, timeout: Duration) -> Result<DeviceVec<T>> {
        let (handle, buffer) = (self.handle.take(), self.buffer.take());
        let Some(buffer) = buffer else {
            return Err(Error::Usage { op: call, problem: "there is no buffer".to_owned() });
        };
        let Some(handle) = handle.filter(|_| !self.shared.has_ended()) else { return Ok(buffer) };
        let shared = self.shared.clone();
        // The thread has the buffer until NCCL does not know it any more.
        self.shared.within(call, timeout, move |entered, deadline| {
            match shared.held().release(handle, entered, deadline) {
                Ok(()) => Ok(buffer),
                Err(error) => {
                    core::mem::forget(buffer);
                    Err(error)
                }
            }
        })
    }
}

impl<T: Element> Drop for Memory<T> {
    fn drop(&mut self) {
        let (Some(handle), Some(buffer)) = (self.handle.take(), self.buffer.take()) else { return };
        if self.shared.has_ended() {
            return;
        }
        let shared = self.shared.clone();
        // Nobody waits: another thread may be in a call with the communicator.
        let started = bounded::start("nccl-release", move || {
            let deadline = LazyDeadline::after(PATIENCE);
            let undo = || {
                let entered = shared.enter_by("ncclCommDeregister", &deadline)?;
                let _current = shared.device().make_current()?;
                shared.held().release(handle, &entered, &deadline)
            };
            match undo() {
                Ok(()) | Err(Error::CommEnded { .. }) => drop(buffer),
                Err(error) => {
                    log::warn!(target: "nccl::comm", "{buffer:?} stays registered: {error}");
                    core::mem::forget(buffer);
                }
            }
        });
        if let Err(error) = started {
            log::warn!(target: "nccl::comm", "a buffer stays registered: {error}");
        }
    }
}

/// What buffers that NCCL knows have in common.
macro_rules! lends {
    ($type:ident, $release:literal) => {
        impl<T: Element> $type<T> {
            /// Returns how many elements it has.
            #[must_use]
            pub fn count(&self) -> usize {
                self.memory.buffer().map_or(0, DeviceVec::count)
            }

            /// Borrows all elements.
            ///
            /// # Errors
            /// None; as of [`DeviceVec::slice`].
            pub fn slice(
                &self,
                range: impl core::ops::RangeBounds<usize>,
            ) -> Result<DeviceSlice<'_, T>> {
                let none = || Error::Usage { op: "slice", problem: "there is no buffer".into() };
                self.memory.buffer().ok_or_else(none)?.slice(range)
            }

            /// Borrows a range of elements to write to.
            ///
            /// # Errors
            /// As of [`DeviceVec::slice_mut`].
            pub fn slice_mut(
                &mut self,
                range: impl core::ops::RangeBounds<usize>,
            ) -> Result<DeviceSliceMut<'_, T>> {
                let none = || Error::Usage { op: "slice", problem: "there is no buffer".into() };
                self.memory.buffer_mut().ok_or_else(none)?.slice_mut(range)
            }

            /// Borrows the buffer, to read it.
            ///
            /// It cannot be borrowed to be changed: then it could be swapped with another one, and
            /// be freed while NCCL knows it.
            #[must_use]
            pub fn get(&self) -> Option<&DeviceVec<T>> {
                self.memory.buffer()
            }

            /// Copies all its elements from the host, as [`DeviceVec::write`].
            ///
            /// # Errors
            /// As of [`DeviceVec::write`].
            pub fn write<'a>(
                &mut self,
                stream: impl Into<crate::cuda::StreamRef<'a>>,
                from: &[T],
                timeout: Duration,
            ) -> Result<()> {
                let none = || Error::Usage { op: "write", problem: "there is no buffer".into() };
                self.memory.buffer_mut().ok_or_else(none)?.write(stream, from, timeout)
            }

            /// Undoes the registration, and gives the buffer back.
            ///
            /// # Errors
            /// [`Error::NcclStuck`], [`Error::Nccl`]: then the buffer stays allocated for good.
            #[doc = $release]
            pub fn release(self, timeout: Duration) -> Result<DeviceVec<T>> {
                self.memory.release(stringify!($type), timeout)
            }
        }

        // SAFETY: as of the `DeviceVec` inside, which is freed only after it was unregistered, and
        // is not lent in any other way that changes it.
        unsafe impl<T: Element, S: DeviceStream + ?Sized> DeviceBuf<S> for $type<T> {
            type Lease<'a>
                = ()
            where
                Self: 'a,
                S: 'a;

            fn dtype(&self) -> DataType {
                T::DTYPE
            }

            fn count(&self) -> usize {
                Self::count(self)
            }

            fn device_ordinal(&self) -> usize {
                self.memory.shared().device().ordinal()
            }

            fn lease<'a>(&'a self, _: &'a S) -> Leased<()> {
                Leased::new(self.memory.buffer().map_or(0, DeviceVec::as_raw), ())
            }
        }

        // SAFETY: as of `DeviceBuf`; the value owns its elements.
        unsafe impl<T: Element, S: DeviceStream + ?Sized> DeviceBufMut<S> for $type<T> {
            type LeaseMut<'a>
                = ()
            where
                Self: 'a,
                S: 'a;

            fn lease_mut<'a>(&'a mut self, _: &'a S) -> Leased<()> {
                Leased::new(self.memory.buffer().map_or(0, DeviceVec::as_raw), ())
            }
        }

        impl<T: Element> fmt::Debug for $type<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("buffer", &self.memory.buffer())
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(super) use lends;

lends!(Registered, "\n# Source\n`ncclCommDeregister` of nccl.h.");
