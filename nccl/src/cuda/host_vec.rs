//! Pinned host memory.
#![expect(unsafe_code, reason = "memory that the driver allocates has no safe type")]

use core::fmt;
use core::ops::Deref;
use core::ops::DerefMut;
use core::ptr::NonNull;

use crate::count;
use crate::cuda::device::Device;
use crate::cuda::device::Relaxed;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

/// `CU_MEMHOSTALLOC_PORTABLE`: pinned for all contexts.
const PORTABLE: u32 = 1;

/// Elements in pinned host memory, which a GPU copies from and to at full speed and without the
/// calling thread.
///
/// Its memory is given back when it is dropped, for which the driver may wait for the device.
pub struct HostVec<T: Element> {
    at: NonNull<T>,
    count: usize,
    device: Device,
    /// Bytes of an allocation that goes back to the device's stock, and not to the driver.
    stock: Option<usize>,
}

// SAFETY: it owns its elements as a `Vec` does, and elements are `Send`.
unsafe impl<T: Element> Send for HostVec<T> {}
// SAFETY: through a shared reference its elements can only be read, and they are `Sync`.
unsafe impl<T: Element> Sync for HostVec<T> {}

impl<T: Element> HostVec<T> {
    /// Allocates `count` elements, all bits zero.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver), as when there is not so much memory that can be
    /// pinned (`ulimit -l`); [`Error::Usage`](crate::Error::Usage) for more than an address space.
    ///
    /// # Source
    /// `cuMemHostAlloc` of cuda.h.
    pub fn zeroed(device: &Device, count: usize) -> Result<Self> {
        let bytes = count::bytes("HostVec::zeroed", count, T::DTYPE)?;
        if bytes == 0 {
            return Ok(Self {
                at: NonNull::dangling(),
                count,
                device: device.clone(),
                stock: None,
            });
        }
        let at = allocate::<T>(device, bytes)?;
        // SAFETY: the driver allocated `count` elements there, for nobody else.
        unsafe { at.write_bytes(0, count) };
        Ok(Self { at, count, device: device.clone(), stock: None })
    }

    /// Takes memory for a copy from the device's stock, which it goes back to: giving it back to
    /// the driver would wait for all work of the device, also for an operation that waits for
    /// another rank in this process. What is in it is left from before.
    pub(super) fn of_stock(device: &Device, count: usize) -> Result<Self> {
        let bytes = count::bytes("HostVec::of_stock", count, T::DTYPE)?;
        if bytes == 0 {
            return Self::zeroed(device, count);
        }
        let whole = bytes.next_power_of_two().max(SMALLEST_STAGE);
        let (at, stock) = match device.take_stage(bytes) {
            Some((at, stock)) => (at.cast(), stock),
            None => {
                let at = allocate::<T>(device, whole)?;
                // SAFETY: the driver allocated so many bytes there, for nobody else.
                unsafe { at.cast::<u8>().write_bytes(0, whole) };
                (at, whole)
            }
        };
        Ok(Self { at, count, device: device.clone(), stock: Some(stock) })
    }
}

/// The least that is allocated for the stock.
const SMALLEST_STAGE: usize = 4096;

/// Pinned memory, not set.
fn allocate<T>(device: &Device, bytes: usize) -> Result<NonNull<T>> {
    let _current = device.make_current()?;
    let _relaxed = Relaxed::new(device.driver());
    let mut at = core::ptr::null_mut();
    // SAFETY: the driver writes one pointer, to a live one.
    unsafe { device.driver().table().host_alloc(&raw mut at, bytes, PORTABLE) }.done()?;
    // Aligned to any element, as it may come back for elements of another type.
    let is_aligned = |at: &NonNull<T>| at.cast::<u64>().is_aligned();
    NonNull::new(at.cast::<T>()).filter(is_aligned).ok_or_else(|| {
        let problem = "the driver gave no usable address for pinned memory".to_owned();
        Error::Usage { op: "HostVec", problem }
    })
}

impl<T: Element> Deref for HostVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many elements were allocated there and set, aligned, of at most
        // `isize::MAX` bytes (`count::bytes`), which live as long as `self`; every bit pattern is
        // an element. Nobody writes while `self` is borrowed: the device only does for code that
        // has it exclusively.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.count) }
    }
}

impl<T: Element> DerefMut for HostVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr(), self.count) }
    }
}

impl<T: Element> Drop for HostVec<T> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        if let Some(bytes) = self.stock
            && self.device.keep_stage(self.at.cast(), bytes)
        {
            return;
        }
        let Ok(_current) = self.device.make_current() else { return };
        let _relaxed = Relaxed::new(self.device.driver());
        // SAFETY: allocated by `allocate`, freed once.
        unsafe { self.device.driver().table().host_free(self.at.as_ptr().cast()) }
            .freed("pinned memory");
    }
}

impl<T: Element> fmt::Debug for HostVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostVec").field("count", &self.count).finish_non_exhaustive()
    }
}
