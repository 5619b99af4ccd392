//! Graphs: work that is captured once and launched often.
#![expect(unsafe_code, reason = "calls the driver with handles that it gave")]

use core::ffi::c_int;
use core::fmt;

use crate::cuda::device::Device;
use crate::cuda::device::Relaxed;
use crate::cuda::stream::StreamRef;
use crate::cuda::table::Handle;
use crate::error::Result;

/// Which calls break a capture that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaptureMode {
    /// Calls of any thread that are not safe then, as an allocation.
    Global,
    /// Such calls of the capturing thread.
    ThreadLocal,
    /// None.
    Relaxed,
}

impl CaptureMode {
    fn code(self) -> c_int {
        match self {
            Self::Global => 0,
            Self::ThreadLocal => 1,
            Self::Relaxed => 2,
        }
    }
}

impl StreamRef<'_> {
    /// Begins to capture what is enqueued on it, instead of running it.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver), as for the legacy default stream.
    ///
    /// # Source
    /// `cuStreamBeginCapture` of cuda.h.
    pub fn begin_capture(&self, mode: CaptureMode) -> Result<()> {
        let _current = self.device().make_current()?;
        let table = self.device().driver().table();
        // SAFETY: the handle is of a live stream, `from_raw`.
        unsafe { table.stream_begin_capture(self.as_raw(), mode.code()) }.done()
    }

    /// Ends the capture, and makes what was captured ready for launches.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver): also if a call broke the capture. The stream is
    /// not captured any more in any case.
    ///
    /// # Source
    /// `cuStreamEndCapture` and `cuGraphInstantiate` of cuda.h.
    pub fn end_capture(&self) -> Result<Graph> {
        let device = self.device();
        let _current = device.make_current()?;
        let table = device.driver().table();
        let mut graph = core::ptr::null_mut();
        // SAFETY: the handle is of a live stream, `from_raw`; the driver writes one pointer, to a
        // live one.
        unsafe { table.stream_end_capture(self.as_raw(), &raw mut graph) }.done()?;
        let _relaxed = Relaxed::new(device.driver());
        let mut exec = core::ptr::null_mut();
        // SAFETY: the graph was made above; the driver writes one pointer, to a live one.
        let made = unsafe { table.graph_instantiate(&raw mut exec, graph, 0) }.done();
        // SAFETY: made above and destroyed once; what is launched is a copy.
        unsafe { table.graph_destroy(graph) }.freed("a graph");
        made.map(|()| Graph { exec, device: device.clone() })
    }
}

/// Captured work, ready to be launched.
pub struct Graph {
    exec: Handle,
    device: Device,
}

// SAFETY: the driver lets any thread use it, one at a time: `launch` and the drop are exclusive.
unsafe impl Send for Graph {}

impl Graph {
    /// Enqueues the captured work on a stream.
    ///
    /// # Safety
    /// All that the captured work uses, as buffers and communicators, still exists where it was,
    /// until the launched work is done, and may be used by it then.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver); nothing was enqueued.
    ///
    /// # Source
    /// `cuGraphLaunch` of cuda.h.
    pub unsafe fn launch<'a>(&mut self, stream: impl Into<StreamRef<'a>>) -> Result<()> {
        let stream = stream.into();
        let _current = self.device.make_current()?;
        let table = self.device.driver().table();
        // SAFETY: both handles are live; the caller vouches for what the work uses.
        unsafe { table.graph_launch(self.exec, stream.as_raw()) }.done()
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let Ok(_current) = self.device.make_current() else { return };
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: made by `end_capture`, destroyed once; launches that still run go on.
        unsafe { self.device.driver().table().graph_exec_destroy(self.exec) }.freed("a graph");
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("device", &self.device).finish_non_exhaustive()
    }
}
