//! The calling thread's default stream, for communicators whose work is launched by other threads.
//!
//! From 2.23 on NCCL launches the work of a communicator that does not block from a thread of its
//! own. There the handle 2 names that thread's default stream, and not the caller's. So the work
//! goes to a stream of ours, between two events.

use core::ffi::c_void;
use std::sync::Mutex;

use nccl_sys::Version;

use crate::backend::nccl::shared::Shared;
use crate::cuda::Device;
use crate::cuda::Event;
use crate::cuda::Stream;
use crate::cuda::StreamRef;
use crate::error::Result;
use crate::trace::lock;

/// `cudaStreamPerThread`.
const PER_THREAD: usize = 2;
/// Since when other threads launch.
const SINCE: Version = Version::new(2, 23, 0);

/// A stream between two events, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Bridge(Mutex<Option<Parts>>);

#[derive(Debug)]
struct Parts {
    stream: Stream,
    before: Event,
    after: Event,
}

impl Parts {
    fn new(device: &Device) -> Result<Self> {
        let stream = Stream::new(device)?;
        Ok(Self { stream, before: Event::new(device)?, after: Event::new(device)? })
    }
}

impl Shared {
    /// Gives `enqueue` a stream whose order is that of `stream`, whoever launches what is enqueued.
    ///
    /// # Errors
    /// Those of `enqueue`, and of the driver.
    #[inline]
    pub(super) fn on_stream<T>(
        &self,
        stream: *mut c_void,
        enqueue: impl FnOnce(*mut c_void) -> Result<T>,
    ) -> Result<T> {
        if stream.addr() != PER_THREAD || !self.may_launch_elsewhere() {
            return enqueue(stream);
        }
        // One at a time, since each records the same events.
        let mut parts = lock(&self.bridge().0);
        let parts = match &mut *parts {
            Some(parts) => parts,
            none => none.insert(Parts::new(self.device())?),
        };
        let callers = StreamRef::per_thread_default(self.device());
        parts.before.record(callers)?;
        parts.stream.as_ref().wait_event(&parts.before)?;
        let outcome = enqueue(parts.stream.as_ref().as_raw());
        // Also if it failed: a stream that is being captured must come back.
        parts.after.record(&parts.stream)?;
        callers.wait_event(&parts.after)?;
        outcome
    }

    /// Whether NCCL may launch this communicator's work from a thread of its own.
    fn may_launch_elsewhere(&self) -> bool {
        let blocks = self.config().is_some_and(|config| config.raw.blocking == 1);
        self.nccl().version() >= SINCE && !blocks
    }
}
