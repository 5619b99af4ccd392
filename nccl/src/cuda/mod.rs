//! GPUs through the CUDA driver, which is found and opened at run time.
//!
//! Nothing is linked, so a program that uses this also starts where there is no driver; then
//! [`Driver::get`] returns an error that lists every place where libcuda was looked for, and
//! nothing here panics. Nothing of the CUDA toolkit is needed.
//!
//! A program that has buffers and streams already, of its engine, hands them over as they are:
//! [`RawDeviceSlice::from_raw`] and [`StreamRef::from_raw`], or with the feature `cudarc` the
//! types of that crate. For all others there are [`DeviceVec`], [`HostVec`] and [`Stream`].
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use nccl::cuda::DeviceVec;
//! use nccl::cuda::Driver;
//! use nccl::cuda::Stream;
//!
//! let gpu = Driver::get()?.device(0)?;
//! println!("{} {} sm_{}", gpu.name()?, gpu.uuid()?, gpu.compute_capability()?);
//! let stream = Stream::new(&gpu)?;
//! let timeout = Duration::from_secs(10);
//! let buffer = DeviceVec::from_slice(&stream, &[1.0_f32, 2.0, 3.0], timeout)?;
//! assert_eq!(buffer.to_vec(&stream, timeout)?, [1.0, 2.0, 3.0]);
//! # Ok::<(), nccl::Error>(())
//! ```

mod buf;
mod choose;
#[cfg(feature = "cudarc")]
mod cudarc;
mod device;
mod device_vec;
mod driver;
mod elf;
mod event;
mod graph;
mod host_vec;
mod load;
mod pointer;
mod search;
mod slices;
mod stream;
mod table;

pub use buf::DeviceBuf;
pub use buf::DeviceBufMut;
pub use buf::DeviceStream;
pub use buf::Leased;
pub use buf::RawDeviceSlice;
pub use choose::choose;
pub use device::ComputeCapability;
pub use device::Current;
pub use device::Device;
pub use device::PciAddress;
pub use device::Uuid;
pub use device_vec::DeviceVec;
pub use driver::Driver;
pub use driver::DriverVersion;
pub use event::Event;
pub use graph::CaptureMode;
pub use graph::Graph;
pub use host_vec::HostVec;
pub use pointer::MemoryKind;
pub use pointer::PointerInfo;
pub use slices::DeviceSlice;
pub use slices::DeviceSliceMut;
pub use stream::CaptureStatus;
pub use stream::Stream;
pub use stream::StreamRef;
