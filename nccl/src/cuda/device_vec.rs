//! Device memory of our own.
#![expect(unsafe_code, reason = "allocates device memory and copies from and to it")]

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Deadline;
use crate::count;
use crate::cuda::device::Device;
use crate::cuda::device::Relaxed;
use crate::cuda::host_vec::HostVec;
use crate::cuda::stream::CaptureStatus;
use crate::cuda::stream::StreamRef;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

const READ: &str = "DeviceVec::read";
/// The most bytes that are staged in pinned memory for a copy.
const STAGE_BYTES: usize = 16 << 20;

/// Elements in the memory of a GPU.
///
/// A buffer for programs that have none of an engine, and for tests. When it is dropped, the
/// driver waits until the device is done with what was enqueued before (`cuMemFree` does, for all
/// memory but that of the stream-ordered allocator); so drop it after its work, not in the middle.
/// After a [`Error::StreamTimeout`] nobody waits: then its memory stays allocated for good.
pub struct DeviceVec<T: Element> {
    at: u64,
    count: usize,
    device: Device,
    /// A copy from or to it was given up, so freeing it could wait without end.
    given_up: AtomicBool,
    /// Who frees it, if not the driver by `cuMemFree`.
    free: Option<Free>,
    elements: PhantomData<T>,
}

/// Frees memory that somebody else has allocated.
pub(crate) type Free = Box<dyn FnOnce(u64) + Send + Sync>;

impl<T: Element> DeviceVec<T> {
    /// Takes over `count` elements of unspecified value, which `free` gives back; not called for
    /// none.
    ///
    /// # Safety
    /// The device has so many elements at the address, aligned to 256 bytes, until `free` is
    /// called, and nobody else uses them. `free` gives them back once all work is done that was
    /// enqueued before it was called, and does not wait for that itself.
    pub(crate) unsafe fn adopt(device: &Device, at: u64, count: usize, free: Free) -> Self {
        let given_up = AtomicBool::new(false);
        let free = Some(free);
        Self { at, count, device: device.clone(), given_up, free, elements: PhantomData }
    }

    /// Allocates `count` elements of unspecified value.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver), as when the memory is full;
    /// [`Error::Usage`](crate::Error::Usage) for more than an address space.
    ///
    /// # Source
    /// `cuMemAlloc` of cuda.h.
    pub fn unset(device: &Device, count: usize) -> Result<Self> {
        let bytes = count::bytes("DeviceVec", count, T::DTYPE)?;
        let mut at = 0;
        if bytes > 0 {
            let _current = device.make_current()?;
            let _relaxed = Relaxed::new(device.driver());
            // SAFETY: the driver writes one address, to a live one.
            unsafe { device.driver().table().memory_alloc(&raw mut at, bytes) }.done()?;
        }
        let given_up = AtomicBool::new(false);
        Ok(Self { at, count, device: device.clone(), given_up, free: None, elements: PhantomData })
    }

    /// Allocates `count` elements on the stream's device, all bits zero for whatever is enqueued
    /// on this stream from now on.
    ///
    /// # Errors
    /// As of [`DeviceVec::unset`].
    ///
    /// # Source
    /// `cuMemAlloc` and `cuMemsetD8Async` of cuda.h.
    pub fn zeroed<'a>(stream: impl Into<StreamRef<'a>>, count: usize) -> Result<Self> {
        let stream = stream.into();
        let new = Self::unset(stream.device(), count)?;
        // SAFETY: the memory was just allocated, with so many bytes; freeing it waits for this.
        unsafe { stream.set(new.at, 0, new.size_bytes()) }?;
        Ok(new)
    }

    /// Allocates elements on the stream's device and copies them there; waits for that, at most
    /// `timeout`.
    ///
    /// # Errors
    /// As of [`DeviceVec::unset`] and [`DeviceVec::write`].
    pub fn from_slice<'a>(
        stream: impl Into<StreamRef<'a>>,
        elements: &[T],
        timeout: Duration,
    ) -> Result<Self> {
        let stream = stream.into();
        let mut new = Self::unset(stream.device(), elements.len())?;
        new.write(stream, elements, timeout)?;
        Ok(new)
    }

    /// Copies all its elements from the host, behind what is enqueued on the stream; waits for
    /// that, at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of elements; [`Error::StreamTimeout`];
    /// [`Error::Driver`](crate::Error::Driver).
    pub fn write<'a>(
        &mut self,
        stream: impl Into<StreamRef<'a>>,
        from: &[T],
        timeout: Duration,
    ) -> Result<()> {
        const OP: &str = "DeviceVec::write";
        let (stream, deadline) = (stream.into(), Deadline::after(timeout));
        self.check(OP, "from", from.len(), stream)?;
        let mut stage = self.stage()?;
        let mut at = self.at;
        for part in from.chunks(stage.len().max(1)) {
            // The parts are as long as the stage, but for the last one.
            for (to, from) in stage.iter_mut().zip(part) {
                *to = *from;
            }
            let bytes = size_of_val(part);
            // SAFETY: the stage is at least as long as the part, and is neither changed nor freed
            // before the copy is done: `settle` keeps it for good otherwise. The device memory is
            // that of this part, and freeing it waits for the copy.
            unsafe { stream.copy_to_device(at, stage.as_ptr().cast(), bytes) }?;
            stage = self.settle(OP, stage, stream, &deadline)?;
            at = at.saturating_add(bytes as u64);
        }
        Ok(())
    }

    /// Copies all its elements to the host, behind what is enqueued on the stream; waits for
    /// that, at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of elements; [`Error::StreamTimeout`];
    /// [`Error::Driver`](crate::Error::Driver).
    pub fn read<'a>(
        &self,
        stream: impl Into<StreamRef<'a>>,
        into: &mut [T],
        timeout: Duration,
    ) -> Result<()> {
        let stream = stream.into();
        self.check(READ, "into", into.len(), stream)?;
        let mut into = into.iter_mut();
        self.each_part(stream, timeout, |part| {
            // The part comes first, as the end of the first ends both.
            for (from, to) in part.iter().zip(into.by_ref()) {
                *to = *from;
            }
        })
    }

    /// Returns a copy of its elements, as [`DeviceVec::read`].
    ///
    /// # Errors
    /// As of [`DeviceVec::read`].
    pub fn to_vec<'a>(
        &self,
        stream: impl Into<StreamRef<'a>>,
        timeout: Duration,
    ) -> Result<Vec<T>> {
        let stream = stream.into();
        self.check(READ, "self", self.count, stream)?;
        let mut elements = Vec::with_capacity(self.count);
        self.each_part(stream, timeout, |part| elements.extend_from_slice(part))?;
        Ok(elements)
    }

    /// Copies its elements to the host in parts, in order.
    fn each_part(
        &self,
        stream: StreamRef<'_>,
        timeout: Duration,
        mut take: impl FnMut(&[T]),
    ) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let mut stage = self.stage()?;
        let (mut at, mut left) = (self.at, self.count);
        while left > 0 {
            let count = left.min(stage.len());
            let bytes = count.saturating_mul(size_of::<T>());
            // SAFETY: the stage is at least as long as the part, and is neither used nor freed
            // before the copy is done: `settle` keeps it for good otherwise. The device memory is
            // that of this part, and freeing it waits for the copy.
            unsafe { stream.copy_to_host(stage.as_mut_ptr().cast(), at, bytes) }?;
            stage = self.settle(READ, stage, stream, &deadline)?;
            take(stage.get(..count).unwrap_or_default());
            at = at.saturating_add(bytes as u64);
            left -= count;
        }
        Ok(())
    }

    /// Returns how many elements it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns how many bytes that are.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.count.saturating_mul(size_of::<T>())
    }

    /// Returns its address on the device; zero if it has no elements.
    #[must_use]
    pub fn as_raw(&self) -> u64 {
        self.at
    }

    /// Returns the device it is on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What must hold before a copy.
    fn check(
        &self,
        op: &'static str,
        buffer: &'static str,
        got: usize,
        stream: StreamRef<'_>,
    ) -> Result<()> {
        if got != self.count {
            return Err(Error::Count { op, buffer, expected: self.count, got });
        }
        let usage = |problem| Err(Error::Usage { op, problem });
        if !stream.device().is_same(&self.device) {
            return usage(format!(
                "the buffer is on device {} and the stream on device {}",
                self.device.ordinal(),
                stream.device().ordinal()
            ));
        }
        if self.count > 0 && stream.capture_status()? != CaptureStatus::None {
            return usage("the stream is being captured, so nobody can wait for it".to_owned());
        }
        Ok(())
    }

    /// Waits until a copy from or to the stage is done. If it is not, it may still happen, so the
    /// memory of both stays allocated for good.
    fn settle(
        &self,
        what: &'static str,
        stage: HostVec<T>,
        stream: StreamRef<'_>,
        deadline: &Deadline,
    ) -> Result<HostVec<T>> {
        let error = match stream.wait(deadline.left()) {
            Ok(true) => return Ok(stage),
            Ok(false) => {
                let device = stream.device().ordinal();
                Error::StreamTimeout { what, device, waited: deadline.waited() }
            }
            Err(error) => error,
        };
        self.given_up.store(true, Ordering::Relaxed);
        core::mem::forget(stage);
        Err(error)
    }

    /// Pinned memory for one part of a copy.
    fn stage(&self) -> Result<HostVec<T>> {
        HostVec::of_stock(&self.device, self.count.min(STAGE_BYTES / size_of::<T>()))
    }
}

impl<T: Element> Drop for DeviceVec<T> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        if *self.given_up.get_mut() {
            log::warn!(
                target: "nccl::cuda",
                "{} bytes of device memory are not freed: a copy of them was given up",
                self.size_bytes()
            );
            return;
        }
        if let Some(free) = self.free.take() {
            free(self.at);
            return;
        }
        let Ok(_current) = self.device.make_current() else { return };
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: allocated by `unset`, freed once; every slice of it borrowed it, and the driver
        // waits for the work that was enqueued with its address.
        unsafe { self.device.driver().table().memory_free(self.at) }.freed("device memory");
    }
}

impl<T: Element> fmt::Debug for DeviceVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, count, device, .. } = self;
        f.debug_struct("DeviceVec")
            .field("dtype", &T::DTYPE)
            .field("at", at)
            .field("count", count)
            .field("device", device)
            .finish()
    }
}
