//! The calling thread's default stream, for communicators whose work is launched by other threads.
//!
//! From 2.23 on NCCL launches the work of a communicator that does not block from a thread of its
//! own. There the handle 2 names that thread's default stream, and not the caller's. So the work
//! goes to a stream of ours, between two events.

use core::ffi::c_void;
use core::ptr::null_mut;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::MutexGuard;

use nccl_sys::Version;

use crate::backend::nccl::shared::Shared;
use crate::config::Env;
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

/// The way across: work that is enqueued on its stream comes after what the caller's default
/// stream has, and before what that gets after [`Across::back`].
#[derive(Debug)]
pub(super) struct Across<'a> {
    device: &'a Device,
    /// Locked, as each way across records the same events.
    parts: MutexGuard<'a, Option<Parts>>,
}

impl Across<'_> {
    /// The stream to use instead.
    pub(super) fn stream(&self) -> *mut c_void {
        self.parts.as_ref().map_or(null_mut(), |parts| parts.stream.as_ref().as_raw())
    }

    /// Makes the caller's stream wait. Also if nothing was enqueued: a stream that is being
    /// captured must come back.
    pub(super) fn back(self) -> Result<()> {
        let Some(parts) = &*self.parts else { return Ok(()) };
        parts.after.record(&parts.stream)?;
        StreamRef::per_thread_default(self.device).wait_event(&parts.after)
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
        match self.across(stream)? {
            None => enqueue(stream),
            Some(across) => {
                let outcome = enqueue(across.stream());
                let back = across.back();
                outcome.and_then(|value| back.map(|()| value))
            }
        }
    }

    /// The way across, if the stream needs one.
    ///
    /// # Errors
    /// Those of the driver.
    #[inline]
    pub(super) fn across(&self, stream: *mut c_void) -> Result<Option<Across<'_>>> {
        if stream.addr() != PER_THREAD || !self.may_launch_elsewhere() {
            return Ok(None);
        }
        let device = self.device();
        let mut parts = lock(&self.bridge().0);
        let made = match &mut *parts {
            Some(made) => made,
            none => none.insert(Parts::new(device)?),
        };
        made.before.record(StreamRef::per_thread_default(device))?;
        made.stream.as_ref().wait_event(&made.before)?;
        Ok(Some(Across { device, parts }))
    }

    /// Whether NCCL may launch this communicator's work from a thread of its own.
    fn may_launch_elsewhere(&self) -> bool {
        let blocks = self.config().is_some_and(|config| config.raw.blocking == 1);
        self.nccl().version() >= SINCE && (!blocks || is_told_not_to_block())
    }
}

/// Whether the environment makes all communicators such that do not block; NCCL reads it once.
fn is_told_not_to_block() -> bool {
    static TOLD: LazyLock<bool> = LazyLock::new(|| {
        let env = Env::process();
        env.get("NCCL_COMM_BLOCKING").ok().flatten().is_some_and(|value| value.trim() == "0")
    });
    *TOLD
}
