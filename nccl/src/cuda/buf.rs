//! What may be given to a collective on the GPU: ranges of device memory, and streams.
#![expect(unsafe_code, reason = "whoever implements these traits vouches for device memory")]

use core::ffi::c_void;
use core::marker::PhantomData;

use crate::cuda::device_vec::DeviceVec;
use crate::cuda::slices::DeviceSlice;
use crate::cuda::slices::DeviceSliceMut;
use crate::cuda::stream::Stream;
use crate::cuda::stream::StreamRef;
use crate::dtype::DataType;
use crate::dtype::Element;

/// A stream on which a collective can be enqueued.
///
/// [`Stream`] and [`StreamRef`] are, and with the feature `cudarc` `CudaStream` and
/// `Arc<CudaStream>`.
///
/// # Safety
/// As long as the value is borrowed, the handle is of a stream of the primary context of the
/// device, or that of a default stream of it, and does not change.
pub unsafe trait DeviceStream {
    /// Returns its handle: a `CUstream`, which is `cudaStream_t` of the runtime.
    fn as_raw(&self) -> *mut c_void;

    /// Returns the number of its device among those this process sees.
    fn device_ordinal(&self) -> usize;
}

/// Elements in device memory, that a collective may read on streams of type `S`.
///
/// [`DeviceVec`], its slices and [`RawDeviceSlice`] are, for all streams; with the feature
/// `cudarc`, `CudaSlice`, `CudaView` and `CudaViewMut` are for cudarc's streams.
///
/// # Safety
/// - `count`, `dtype` and `device_ordinal` do not change while the value is borrowed.
/// - While a lease lives, and for work that was enqueued on its stream before it was dropped also
///   after that until the work is done, the device has `count` elements of `dtype` at the leased
///   address, aligned to their size, in one allocation: whatever frees or reuses the memory is
///   ordered behind that work.
/// - Work that is enqueued on the stream once the lease is there comes after all that writes the
///   elements, as far as the type promises that to its users.
pub unsafe trait DeviceBuf<S: DeviceStream + ?Sized> {
    /// What is kept until the work that uses the address is enqueued.
    type Lease<'a>
    where
        Self: 'a,
        S: 'a;

    /// Returns the type of its elements.
    fn dtype(&self) -> DataType;

    /// Returns how many elements it has.
    fn count(&self) -> usize;

    /// Returns the number of its device among those this process sees.
    fn device_ordinal(&self) -> usize;

    /// Gives its address to work that will be enqueued on the stream to read it.
    fn lease<'a>(&'a self, stream: &'a S) -> Leased<Self::Lease<'a>>;
}

/// Elements in device memory, that a collective may write on streams of type `S`.
///
/// # Safety
/// As of [`DeviceBuf`]; and nobody else has access to the elements while the value is borrowed
/// exclusively, but by work on the device, which is ordered as the type promises to its users.
pub unsafe trait DeviceBufMut<S: DeviceStream + ?Sized>: DeviceBuf<S> {
    /// What is kept until the work that uses the address is enqueued.
    type LeaseMut<'a>
    where
        Self: 'a,
        S: 'a;

    /// Gives its address to work that will be enqueued on the stream to read and write it.
    fn lease_mut<'a>(&'a mut self, stream: &'a S) -> Leased<Self::LeaseMut<'a>>;
}

/// The address of device memory, for as long as work that uses it is being enqueued.
#[derive(Debug)]
#[must_use = "the address may be used only while the lease lives"]
pub struct Leased<L> {
    at: u64,
    /// Dropped once the work is enqueued.
    _lease: L,
}

impl<L> Leased<L> {
    /// Lends an address until `lease` is dropped.
    pub fn new(at: u64, lease: L) -> Self {
        Self { at, _lease: lease }
    }

    /// Returns the address.
    #[must_use]
    pub fn as_raw(&self) -> u64 {
        self.at
    }
}

/// A range of device memory by address: what an engine has that uses other types than ours.
///
/// ```no_run
/// use nccl::DataType;
/// use nccl::cuda::Driver;
/// use nccl::cuda::RawDeviceSlice;
///
/// # let (address, count) = (0, 0);
/// let gpu = Driver::get()?.device(0)?;
/// // SAFETY: the engine's allocation of `count` elements lives until the stream is done.
/// let slice = unsafe { RawDeviceSlice::from_raw(address, count, DataType::BF16, gpu.ordinal()) };
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RawDeviceSlice<'a> {
    at: u64,
    count: usize,
    dtype: DataType,
    device: usize,
    memory: PhantomData<&'a [u8]>,
}

impl RawDeviceSlice<'_> {
    /// Names `count` elements of `dtype` at a device address (`CUdeviceptr`) on the device of this
    /// number among those this process sees.
    ///
    /// # Safety
    /// For `'a` and until all work is done that was given this value or a copy of it, the device
    /// has so many elements there, aligned to their size, in one allocation. Work that writes them
    /// and other work that uses them are ordered by streams and events.
    #[must_use]
    pub unsafe fn from_raw(at: u64, count: usize, dtype: DataType, device: usize) -> Self {
        Self { at, count, dtype, device, memory: PhantomData }
    }

    /// Returns the address.
    #[must_use]
    pub fn as_raw(&self) -> u64 {
        self.at
    }

    /// Returns how many elements it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the type of its elements.
    #[must_use]
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Returns the number of its device among those this process sees.
    #[must_use]
    pub fn device_ordinal(&self) -> usize {
        self.device
    }

    /// Returns how many bytes it has.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.count.saturating_mul(self.dtype.size_bytes())
    }

    /// Says whether both have a byte in common, on whatever devices: addresses are unique in a
    /// process.
    #[must_use]
    pub fn overlaps(&self, other: &RawDeviceSlice<'_>) -> bool {
        let end = |slice: &RawDeviceSlice<'_>| slice.at.saturating_add(slice.size_bytes() as u64);
        self.count > 0 && other.count > 0 && self.at < end(other) && other.at < end(self)
    }
}

// SAFETY: the handle is that of a stream which lives as long as the reference that `from_raw` got.
unsafe impl DeviceStream for StreamRef<'_> {
    fn as_raw(&self) -> *mut c_void {
        StreamRef::as_raw(self)
    }

    fn device_ordinal(&self) -> usize {
        self.device().ordinal()
    }
}

// SAFETY: the handle is that of a stream of its own, made in the primary context and destroyed
// with the value.
unsafe impl DeviceStream for Stream {
    fn as_raw(&self) -> *mut c_void {
        self.as_ref().as_raw()
    }

    fn device_ordinal(&self) -> usize {
        self.device().ordinal()
    }
}

macro_rules! reads {
    ($($buffer:ty),*) => {$(
        // SAFETY: a `DeviceVec` allocated the elements, with the driver's alignment of 256 bytes,
        // and freeing them waits for all work that was enqueued before (`cuMemFree`); a slice
        // borrows them. Work of different streams is ordered by whoever enqueues it.
        unsafe impl<T: Element, S: DeviceStream + ?Sized> DeviceBuf<S> for $buffer {
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
                self.device().ordinal()
            }

            fn lease<'a>(&'a self, _: &'a S) -> Leased<()> {
                Leased::new(self.as_raw(), ())
            }
        }
    )*};
}

macro_rules! writes {
    ($($buffer:ty),*) => {$(
        // SAFETY: as of `DeviceBuf`; the value owns its elements or borrows them exclusively.
        unsafe impl<T: Element, S: DeviceStream + ?Sized> DeviceBufMut<S> for $buffer {
            type LeaseMut<'a>
                = ()
            where
                Self: 'a,
                S: 'a;

            fn lease_mut<'a>(&'a mut self, _: &'a S) -> Leased<()> {
                Leased::new(self.as_raw(), ())
            }
        }
    )*};
}

reads! { DeviceVec<T>, DeviceSlice<'_, T>, DeviceSliceMut<'_, T> }
writes! { DeviceVec<T>, DeviceSliceMut<'_, T> }

// SAFETY: the caller of `from_raw` vouches for all of it.
unsafe impl<S: DeviceStream + ?Sized> DeviceBuf<S> for RawDeviceSlice<'_> {
    type Lease<'a>
        = ()
    where
        Self: 'a,
        S: 'a;

    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn count(&self) -> usize {
        self.count
    }

    fn device_ordinal(&self) -> usize {
        self.device
    }

    fn lease<'a>(&'a self, _: &'a S) -> Leased<()> {
        Leased::new(self.at, ())
    }
}

// SAFETY: the caller of `from_raw` vouches for all of it.
unsafe impl<S: DeviceStream + ?Sized> DeviceBufMut<S> for RawDeviceSlice<'_> {
    type LeaseMut<'a>
        = ()
    where
        Self: 'a,
        S: 'a;

    fn lease_mut<'a>(&'a mut self, _: &'a S) -> Leased<()> {
        Leased::new(self.at, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(at: u64, count: usize, dtype: DataType) -> RawDeviceSlice<'static> {
        // SAFETY: nothing is enqueued with it.
        unsafe { RawDeviceSlice::from_raw(at, count, dtype, 0) }
    }

    #[test]
    fn ranges_overlap_if_they_have_a_byte_in_common() {
        let a = raw(1000, 10, DataType::F32);
        assert_eq!(a.size_bytes(), 40);
        assert!(a.overlaps(&a));
        assert!(a.overlaps(&raw(1039, 1, DataType::U8)) && raw(990, 11, DataType::U8).overlaps(&a));
        assert!(!a.overlaps(&raw(1040, 1, DataType::U8)));
        assert!(!a.overlaps(&raw(990, 10, DataType::U8)));
        assert!(!a.overlaps(&raw(1000, 0, DataType::F32)));
        assert!(raw(0, usize::MAX, DataType::F64).overlaps(&a));
    }

    /// What a collective's front does with its arguments.
    fn front<S: DeviceStream, A: DeviceBuf<S>, B: DeviceBufMut<S>>(
        stream: &S,
        send: &A,
        recv: &mut B,
    ) -> (u64, u64) {
        let (send, recv) = (send.lease(stream), recv.lease_mut(stream));
        (send.as_raw(), recv.as_raw())
    }

    /// A stream of a device that does not exist.
    struct Nowhere;

    // SAFETY: nothing is enqueued with it.
    unsafe impl DeviceStream for Nowhere {
        fn as_raw(&self) -> *mut c_void {
            core::ptr::null_mut()
        }

        fn device_ordinal(&self) -> usize {
            7
        }
    }

    #[test]
    fn a_raw_slice_leases_its_address_to_any_stream() {
        let (send, mut recv) = (raw(16, 4, DataType::BF16), raw(32, 4, DataType::BF16));
        assert_eq!(front(&Nowhere, &send, &mut recv), (16, 32));
    }
}
