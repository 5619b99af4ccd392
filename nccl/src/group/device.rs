//! The group's operations on device memory.
#![expect(unsafe_code, reason = "passes calls on whose buffers the caller vouches for")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::ProcessGroup;
use super::queue::Queue;
use crate::backend::staged::StagedBackend;
use crate::clock::Deadline;
use crate::cuda::Device;
use crate::cuda::DeviceStream;
use crate::cuda::Driver;
use crate::cuda::Event;
use crate::cuda::StreamRef;
use crate::device::DeviceBackend;
use crate::device::DeviceCall;
use crate::device::OnStream;
use crate::error::Error;
use crate::error::Result;

impl ProcessGroup {
    /// Names the stream for operations on device memory: the same operations, with buffers of a
    /// GPU, in the stream's order.
    ///
    /// The first call binds the group to the stream's device. Whatever is wrong with that, as
    /// where there is no CUDA driver, is returned by the operations. See [`OnStream`].
    ///
    /// # Examples
    /// ```no_run
    /// # use nccl::cuda::{DeviceVec, Stream};
    /// # fn example(group: &nccl::ProcessGroup, stream: &Stream, send: &DeviceVec<f32>,
    /// #            recv: &mut DeviceVec<f32>) -> nccl::Result<()> {
    /// group.on(stream).all_reduce(send, recv, nccl::ReduceOp::Sum)
    /// # }
    /// ```
    pub fn on<'a, S: DeviceStream + ?Sized>(&'a self, stream: &'a S) -> OnStream<'a, S> {
        let backend =
            self.usable("on").and_then(|()| self.inner.device_backend(stream.device_ordinal()));
        match backend {
            Ok(backend) => OnStream::new(backend, self.member(), self.timeout, stream),
            Err(why) => OnStream::failed(why, self.member(), stream),
        }
    }
}

impl ProcessGroup {
    /// Waits until the stream is done with all that was enqueued on it, at most for the group's
    /// timeout. A group that fails meanwhile ends the wait: `cudaStreamSynchronize` would wait for
    /// ever for an operation whose other ranks are gone.
    ///
    /// It must not be called while the stream is captured.
    ///
    /// # Errors
    /// The group's; [`Error::StreamTimeout`]; the driver's.
    pub fn synchronize<S: DeviceStream + ?Sized>(&self, stream: &S) -> Result<()> {
        /// Between two looks at the group.
        const SLICE: Duration = Duration::from_millis(5);
        let deadline = Deadline::after(self.timeout);
        let device = self.inner.device_backend(stream.device_ordinal())?.device();
        // SAFETY: the stream is borrowed, and so live, until this returns; it is of this device.
        let stream = unsafe { StreamRef::from_raw(stream.as_raw(), device) };
        let event = Event::new(device)?;
        event.record(stream)?;
        while !event.wait(deadline.left_at_most(SLICE))? {
            self.check()?;
            if deadline.passed() {
                let (what, device) = ("ProcessGroup::synchronize", device.ordinal());
                return Err(Error::StreamTimeout { what, device, waited: deadline.waited() });
            }
        }
        Ok(())
    }
}

impl Inner {
    /// What runs operations on device memory: made with the first stream, for its device. An
    /// error is not kept.
    fn device_backend(&self, ordinal: usize) -> Result<&dyn DeviceBackend> {
        if let Some(nccl) = self.nccl.get() {
            return Ok(nccl);
        }
        if let Some(backend) = self.device.get() {
            return Ok(&**backend);
        }
        let made = self.make_device_backend(Driver::get()?.device(ordinal)?);
        // Another thread may have been faster; then both use that one's.
        Ok(&**self.device.get_or_init(|| made))
    }

    /// The backend for a device: the CPU's, staged through host memory.
    fn make_device_backend(&self, device: Device) -> Arc<dyn DeviceBackend> {
        let staged =
            StagedBackend::new(self.backend.clone(), device, &self.state, self.world.stage_bytes);
        Arc::new(InOrder { staged, queue: self.queue.clone() })
    }
}

/// The staged backend behind the group's asynchronous work: both are operations of one sequence,
/// which must be the same on all ranks.
struct InOrder {
    staged: StagedBackend,
    queue: Arc<Queue>,
}

impl fmt::Debug for InOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.staged.fmt(f)
    }
}

impl DeviceBackend for InOrder {
    fn name(&self) -> &'static str {
        self.staged.name()
    }

    fn device(&self) -> &Device {
        self.staged.device()
    }

    unsafe fn enqueue(
        &self,
        calls: &[DeviceCall<'_>],
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()> {
        let mut left = timeout;
        if self.queue.is_busy() {
            let deadline = Deadline::after(timeout);
            self.queue.wait()?;
            left = deadline.left();
        }
        // SAFETY: passed on from the caller.
        unsafe { self.staged.enqueue(calls, stream, left) }
    }
}
