//! cudarc's buffers and streams as arguments.
//!
//! cudarc keeps two events per buffer, of its last read and its last write, and lets streams wait
//! for them; a lease here is cudarc's own guard, which records them once the work is enqueued.
#![expect(unsafe_code, reason = "vouches for the memory and the streams of cudarc")]

use core::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::CudaSlice;
use cudarc::driver::CudaStream;
use cudarc::driver::CudaView;
use cudarc::driver::CudaViewMut;
use cudarc::driver::DevicePtr;
use cudarc::driver::DevicePtrMut;
use cudarc::driver::DeviceSlice;
use cudarc::driver::SyncOnDrop;

use crate::cuda::buf::DeviceBuf;
use crate::cuda::buf::DeviceBufMut;
use crate::cuda::buf::DeviceStream;
use crate::cuda::buf::Leased;
use crate::dtype::DataType;
use crate::dtype::Element;

// SAFETY: the handle is that of a stream which the value owns, or of a default stream; contexts
// are primary ones, unless their maker says otherwise in `unsafe` or by a name that says so.
unsafe impl DeviceStream for CudaStream {
    fn as_raw(&self) -> *mut c_void {
        self.cu_stream().cast()
    }

    fn device_ordinal(&self) -> usize {
        self.context().ordinal()
    }
}

// SAFETY: as of the stream inside.
unsafe impl DeviceStream for Arc<CudaStream> {
    fn as_raw(&self) -> *mut c_void {
        CudaStream::cu_stream(self).cast()
    }

    fn device_ordinal(&self) -> usize {
        CudaStream::context(self).ordinal()
    }
}

/// A stream of cudarc's, or a shared one.
#[expect(unnameable_types, reason = "so that nobody can implement it")]
pub trait AsCudarc: DeviceStream {
    /// The stream.
    fn as_cudarc(&self) -> &CudaStream;
}

impl AsCudarc for CudaStream {
    fn as_cudarc(&self) -> &CudaStream {
        self
    }
}

impl AsCudarc for Arc<CudaStream> {
    fn as_cudarc(&self) -> &CudaStream {
        self
    }
}

macro_rules! reads {
    ($($buffer:ty),*) => {$(
        // SAFETY: cudarc allocated the elements, with the driver's alignment of 256 bytes, and a
        // view is a range of whole elements. Freeing them is ordered behind the events that the
        // lease records when it is dropped, after the work was enqueued, or, where cudarc keeps
        // no events, behind everything on the streams that can use the buffer then.
        unsafe impl<T: Element, S: AsCudarc> DeviceBuf<S> for $buffer {
            type Lease<'a>
                = SyncOnDrop<'a>
            where
                Self: 'a,
                S: 'a;

            fn dtype(&self) -> DataType {
                T::DTYPE
            }

            fn count(&self) -> usize {
                DeviceSlice::len(self)
            }

            fn device_ordinal(&self) -> usize {
                DeviceSlice::stream(self).context().ordinal()
            }

            fn lease<'a>(&'a self, stream: &'a S) -> Leased<SyncOnDrop<'a>> {
                let (at, guard) = self.device_ptr(stream.as_cudarc());
                Leased::new(at, guard)
            }
        }
    )*};
}

macro_rules! writes {
    ($($buffer:ty),*) => {$(
        // SAFETY: as of `DeviceBuf`; the value owns its elements or borrows them exclusively.
        unsafe impl<T: Element, S: AsCudarc> DeviceBufMut<S> for $buffer {
            type LeaseMut<'a>
                = SyncOnDrop<'a>
            where
                Self: 'a,
                S: 'a;

            fn lease_mut<'a>(&'a mut self, stream: &'a S) -> Leased<SyncOnDrop<'a>> {
                let (at, guard) = self.device_ptr_mut(stream.as_cudarc());
                Leased::new(at, guard)
            }
        }
    )*};
}

reads! { CudaSlice<T>, CudaView<'_, T>, CudaViewMut<'_, T> }
writes! { CudaSlice<T>, CudaViewMut<'_, T> }
