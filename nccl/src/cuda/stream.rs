//! Streams: others' by handle, and our own.
#![expect(unsafe_code, reason = "calls the driver with handles that it or the caller gave")]

use core::ffi::c_int;
use core::ffi::c_void;
use core::fmt;
use std::time::Duration;

use crate::cuda::device::Device;
use crate::cuda::device::Relaxed;
use crate::cuda::event::Event;
use crate::cuda::table::Handle;
use crate::error::Result;

/// `CU_STREAM_LEGACY`.
const LEGACY: usize = 1;
/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: usize = 2;
/// `CU_STREAM_NON_BLOCKING`: it does not wait for the legacy default stream.
const NON_BLOCKING: u32 = 1;

/// A stream that somebody owns: an engine's, a [`Stream`], or one of the default streams.
///
/// It stays on the thread that made it, as the per-thread default stream is another one on each
/// thread.
///
/// # Source
/// `CUstream` of cuda.h, which is `cudaStream_t` of the runtime.
#[derive(Clone, Copy)]
pub struct StreamRef<'a> {
    handle: Handle,
    device: &'a Device,
}

/// Whether what is enqueued on a stream is being captured into a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaptureStatus {
    /// It runs.
    None,
    /// It is captured.
    Active,
    /// It was being captured, until something was called that is not allowed then. The capture
    /// must be ended, which fails.
    Invalidated,
}

impl<'a> StreamRef<'a> {
    /// Names a stream by its handle: a `CUstream` or `cudaStream_t`, or zero, 1 and 2 for the
    /// default streams.
    ///
    /// # Safety
    /// For `'a`, the handle is of a stream of this device's primary context that is not
    /// destroyed, or that of a default stream.
    #[must_use]
    pub unsafe fn from_raw(handle: *mut c_void, device: &'a Device) -> Self {
        Self { handle, device }
    }

    /// Names the legacy default stream, which waits for all others that do not refuse it. It
    /// cannot be captured.
    #[must_use]
    pub fn legacy_default(device: &'a Device) -> Self {
        Self { handle: core::ptr::without_provenance_mut(LEGACY), device }
    }

    /// Names the calling thread's default stream: the one that candle uses.
    #[must_use]
    pub fn per_thread_default(device: &'a Device) -> Self {
        Self { handle: core::ptr::without_provenance_mut(PER_THREAD), device }
    }

    /// Returns its handle.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        self.handle
    }

    /// Returns the device it is of.
    #[must_use]
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// Says whether everything that was enqueued on it is done.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver): also that of a kernel that failed before.
    ///
    /// # Source
    /// `cuStreamQuery` of cuda.h.
    pub fn is_done(&self) -> Result<bool> {
        let _current = self.device.make_current()?;
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: the handle is of a live stream, `from_raw`, in the context that is current.
        unsafe { self.device.driver().table().stream_query(self.handle) }.ready()
    }

    /// Says whether it is being captured.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    ///
    /// # Source
    /// `cuStreamIsCapturing` of cuda.h.
    pub fn capture_status(&self) -> Result<CaptureStatus> {
        let _current = self.device.make_current()?;
        let mut status: c_int = 0;
        let table = self.device.driver().table();
        // SAFETY: the handle is of a live stream, `from_raw`; the driver writes one int, to a live
        // one.
        unsafe { table.stream_is_capturing(self.handle, &raw mut status) }.done()?;
        Ok(match status {
            0 => CaptureStatus::None,
            1 => CaptureStatus::Active,
            _ => CaptureStatus::Invalidated,
        })
    }

    /// Makes what is enqueued on it from now on wait for an event; the calling thread does not
    /// wait.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    ///
    /// # Source
    /// `cuStreamWaitEvent` of cuda.h.
    pub fn wait_event(&self, event: &Event) -> Result<()> {
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: the handle is of a live stream, `from_raw`; the event's is of a live event.
        unsafe { table.stream_wait_event(self.handle, event.as_raw(), 0) }.done()
    }

    /// Waits until everything that was enqueued on it before is done, at most `timeout`; returns
    /// whether it is.
    ///
    /// It looks instead of sleeping in the driver, which knows no timeout. It must not be called
    /// while the stream is captured.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let event = Event::new(self.device)?;
        event.record(*self)?;
        event.wait(timeout)
    }

    /// Says whether the handle is of a stream of the device's primary context, where the driver
    /// can tell: a debugging aid for [`StreamRef::from_raw`].
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver), as for a handle that is of no stream.
    ///
    /// # Source
    /// `cuStreamGetCtx` of cuda.h.
    pub fn is_of_primary_context(&self) -> Result<bool> {
        let _current = self.device.make_current()?;
        let mut context = core::ptr::null_mut();
        let table = self.device.driver().table();
        // SAFETY: the handle is of a live stream, `from_raw`; the driver writes one pointer, to a
        // live one.
        unsafe { table.stream_context(self.handle, &raw mut context) }.done()?;
        Ok(context == self.device.context()?)
    }

    /// Enqueues a copy of host memory to the device.
    ///
    /// # Safety
    /// Until the copy is done, or the stream's work failed for good, `from` is readable for
    /// `bytes` and nobody writes there; `to` is device memory of `bytes` that is accessible from
    /// this device.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver); nothing was enqueued.
    ///
    /// # Source
    /// `cuMemcpyHtoDAsync` of cuda.h.
    pub unsafe fn copy_to_device(&self, to: u64, from: *const c_void, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: the caller has what the function asks for; the stream's handle is live.
        unsafe { table.copy_to_device(to, from, bytes, self.handle) }.done()
    }

    /// Enqueues a copy of device memory to the host.
    ///
    /// # Safety
    /// Until the copy is done, or the stream's work failed for good, `to` is writable for `bytes`
    /// and nobody else reads or writes there; `from` is device memory of `bytes` that is
    /// accessible from this device.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver); nothing was enqueued.
    ///
    /// # Source
    /// `cuMemcpyDtoHAsync` of cuda.h.
    pub unsafe fn copy_to_host(&self, to: *mut c_void, from: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: the caller has what the function asks for; the stream's handle is live.
        unsafe { table.copy_to_host(to, from, bytes, self.handle) }.done()
    }

    /// Enqueues a copy from device memory to device memory.
    ///
    /// # Safety
    /// Until the copy is done, or the stream's work failed for good, `to` and `from` are device
    /// memory of `bytes` that is accessible from this device, and do not overlap.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver); nothing was enqueued.
    ///
    /// # Source
    /// `cuMemcpyDtoDAsync` of cuda.h.
    pub unsafe fn copy_on_device(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: the caller has what the function asks for; the stream's handle is live.
        unsafe { table.copy_on_device(to, from, bytes, self.handle) }.done()
    }

    /// Enqueues the setting of bytes.
    ///
    /// # Safety
    /// As of [`StreamRef::copy_on_device`], for `to`.
    pub(super) unsafe fn set(&self, to: u64, value: u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: the caller has what the function asks for; the stream's handle is live.
        unsafe { table.memory_set(to, value, bytes, self.handle) }.done()
    }
}

impl fmt::Debug for StreamRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, device } = self;
        f.debug_struct("StreamRef").field("handle", handle).field("device", device).finish()
    }
}

/// A stream of our own. It does not wait for the legacy default stream.
///
/// Dropped, it is given back once its work is done; nobody waits for that.
pub struct Stream {
    handle: Handle,
    device: Device,
}

// SAFETY: the driver's streams may be used by all threads, at the same time.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// Makes a stream on a device.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    ///
    /// # Source
    /// `cuStreamCreate` of cuda.h.
    pub fn new(device: &Device) -> Result<Self> {
        let _current = device.make_current()?;
        let _relaxed = Relaxed::new(device.driver());
        let mut handle = core::ptr::null_mut();
        // SAFETY: the driver writes one pointer, to a live one; the device's context is current.
        unsafe { device.driver().table().stream_create(&raw mut handle, NON_BLOCKING) }.done()?;
        Ok(Self { handle, device: device.clone() })
    }

    /// Names it.
    #[must_use]
    pub fn as_ref(&self) -> StreamRef<'_> {
        StreamRef { handle: self.handle, device: &self.device }
    }

    /// Returns the device it is of.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl<'a> From<&'a Stream> for StreamRef<'a> {
    fn from(stream: &'a Stream) -> Self {
        stream.as_ref()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Ok(_current) = self.device.make_current() else { return };
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: made by `new`, destroyed once; every `StreamRef` of it borrowed it.
        unsafe { self.device.driver().table().stream_destroy(self.handle) }.freed("a stream");
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}
