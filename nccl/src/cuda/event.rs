//! Events: marks in a stream.
#![expect(unsafe_code, reason = "calls the driver with handles that it gave")]

use core::ffi::c_void;
use core::fmt;
use std::time::Duration;

use crate::clock::Deadline;
use crate::cuda::device::Device;
use crate::cuda::device::Relaxed;
use crate::cuda::stream::StreamRef;
use crate::cuda::table::Handle;
use crate::error::Result;

/// `CU_EVENT_DISABLE_TIMING`, which makes waiting cheaper.
const DISABLE_TIMING: u32 = 2;
/// How often a waiting thread looks before it begins to sleep in between.
const LOOKS: u32 = 200;
/// The longest sleep between two looks.
const LONGEST_SLEEP: Duration = Duration::from_micros(500);

/// A mark in a stream, which is reached when everything enqueued before it is done.
pub struct Event {
    handle: Handle,
    device: Device,
}

// SAFETY: the driver's events may be used by all threads, at the same time.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// Makes an event, which counts as reached until it is recorded.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    ///
    /// # Source
    /// `cuEventCreate` of cuda.h.
    pub fn new(device: &Device) -> Result<Self> {
        let _current = device.make_current()?;
        let _relaxed = Relaxed::new(device.driver());
        let mut handle = core::ptr::null_mut();
        // SAFETY: the driver writes one pointer, to a live one; the device's context is current.
        unsafe { device.driver().table().event_create(&raw mut handle, DISABLE_TIMING) }.done()?;
        Ok(Self { handle, device: device.clone() })
    }

    /// Puts the mark behind everything that is enqueued on a stream.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver), as when the stream is of another device.
    ///
    /// # Source
    /// `cuEventRecord` of cuda.h.
    pub fn record<'a>(&self, stream: impl Into<StreamRef<'a>>) -> Result<()> {
        let stream = stream.into();
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: both handles are live: the stream's by `StreamRef::from_raw`.
        unsafe { table.event_record(self.handle, stream.as_raw()) }.done()
    }

    /// Says whether it is reached.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver): also that of a kernel that failed before.
    ///
    /// # Source
    /// `cuEventQuery` of cuda.h.
    pub fn is_reached(&self) -> Result<bool> {
        let _current = self.device.make_current()?;
        // Otherwise the call would break off whatever another thread is capturing.
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: the handle is of a live event.
        unsafe { self.device.driver().table().event_query(self.handle) }.ready()
    }

    /// Waits until it is reached, at most `timeout`; returns whether it is.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        let mut looks = 0_u32;
        while !self.is_reached()? {
            if deadline.passed() {
                return Ok(false);
            }
            looks = looks.saturating_add(1);
            if looks < LOOKS {
                std::thread::yield_now();
            } else {
                let sleep = Duration::from_micros(u64::from(looks - LOOKS)).min(LONGEST_SLEEP);
                std::thread::sleep(deadline.left_at_most(sleep));
            }
        }
        Ok(true)
    }

    /// Returns its handle, a `CUevent`.
    #[must_use]
    pub fn as_raw(&self) -> *mut c_void {
        self.handle
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(_current) = self.device.make_current() else { return };
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: made by `new`, destroyed once. A stream that waits for it goes on waiting.
        unsafe { self.device.driver().table().event_destroy(self.handle) }.freed("an event");
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("handle", &self.handle).finish_non_exhaustive()
    }
}
