//! cudarc's types as arguments: that they fit, the way engines hold them, and, against a driver of
//! host memory, that a lease is cudarc's guard. What happens on a GPU is not shown here.

#![cfg(feature = "cudarc")]
#![expect(unsafe_code, reason = "cudarc allocates memory that is not set")]

use std::fs;
use std::process::Command;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::CudaSlice;
use cudarc::driver::CudaStream;
use cudarc::driver::CudaView;
use cudarc::driver::CudaViewMut;
use nccl::DataType;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::bf16;
use nccl::cuda::DeviceBuf;
use nccl::cuda::DeviceBufMut;
use nccl::cuda::DeviceStream;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::RawDeviceSlice;
use nccl::cuda::StreamRef;

/// What a collective's front does: the types, the addresses, and guards until the end.
fn front<S, A, B>(stream: &S, send: &A, recv: &mut B) -> (DataType, u64, u64, usize)
where
    S: DeviceStream,
    A: DeviceBuf<S>,
    B: DeviceBufMut<S>,
{
    let (dtype, device) = (recv.dtype(), stream.device_ordinal());
    let (send, recv) = (send.lease(stream), recv.lease_mut(stream));
    (dtype, send.as_raw(), recv.as_raw(), device)
}

/// candle: whole slices of bf16 and the shared stream of its device.
fn as_candle(stream: &Arc<CudaStream>, send: &CudaSlice<bf16>, recv: &mut CudaSlice<bf16>) {
    front(stream, send, recv);
}

/// An engine with workspaces: views, in place or not, and a stream by reference.
fn as_engine(stream: &CudaStream, send: &CudaView<'_, f32>, recv: &mut CudaViewMut<'_, f32>) {
    front(stream, send, recv);
    front(stream, &send.slice(..4), &mut recv.slice_mut(4..8));
}

/// Buffers of ours on cudarc's streams, and memory by address.
fn mixed(stream: &CudaStream, send: &RawDeviceSlice<'_>, recv: &mut DeviceVec<u8>) {
    front(stream, send, recv);
}

/// What another crate of cudarc's version holds, by handle and address.
fn by_address(stream: StreamRef<'_>, mut buf: RawDeviceSlice<'_>) -> u64 {
    let send = buf;
    front(&stream, &send, &mut buf).1
}

/// candle's tensors in a group's collectives, on the shared stream of its device.
fn group_as_candle(
    group: &ProcessGroup,
    stream: &Arc<CudaStream>,
    send: &CudaSlice<f32>,
    recv: &mut CudaSlice<f32>,
) -> Result<()> {
    group.on(stream).all_reduce(send, recv, ReduceOp::Sum)?;
    group.on(stream).all_reduce_in_place(recv, ReduceOp::Max)?;
    group.on(stream).reduce(send, (group.rank() == 0).then_some(recv), ReduceOp::Sum, 0)
}

/// Views of an engine's workspaces, alone and in a batch whose guards last until it is enqueued.
fn group_as_engine(
    group: &ProcessGroup,
    stream: &CudaStream,
    send: &CudaView<'_, f32>,
    recv: &mut CudaViewMut<'_, f32>,
) -> Result<()> {
    group.on(stream).all_gather(&send.slice(..4), recv)?;
    group.on(stream).broadcast(&mut recv.slice_mut(4..8), 0)?;
    let (mut left, mut right) = recv.split_at_mut(4);
    let on = group.on(stream);
    on.batch().send(send, 0)?.recv(&mut left, 0)?.all_reduce(send, &mut right, ReduceOp::Avg)?.run()
}

/// The rank's stream on its thread, with buffers of ours and by address.
fn group_mixed(
    group: &ProcessGroup,
    stream: &CudaStream,
    send: &RawDeviceSlice<'_>,
    recv: &mut DeviceVec<u8>,
) -> Result<()> {
    group.on(stream).reduce_scatter(send, recv, ReduceOp::Sum)
}

#[test]
fn collectives_of_a_group_take_what_engines_hold() {
    type Of<S, A, B> = fn(&ProcessGroup, &S, &A, &mut B) -> Result<()>;
    let _: Of<Arc<CudaStream>, CudaSlice<f32>, CudaSlice<f32>> = group_as_candle;
    let _: Of<CudaStream, CudaView<'_, f32>, CudaViewMut<'_, f32>> = group_as_engine;
    let _: Of<CudaStream, RawDeviceSlice<'_>, DeviceVec<u8>> = group_mixed;
}

#[test]
fn the_types_that_engines_hold_are_arguments() {
    // Coerced to their types, so that nothing of it can be left out.
    let _: fn(&Arc<CudaStream>, &CudaSlice<bf16>, &mut CudaSlice<bf16>) = as_candle;
    let _: fn(&CudaStream, &CudaView<'_, f32>, &mut CudaViewMut<'_, f32>) = as_engine;
    let _: fn(&CudaStream, &RawDeviceSlice<'_>, &mut DeviceVec<u8>) = mixed;
    let _: fn(StreamRef<'_>, RawDeviceSlice<'_>) -> u64 = by_address;
}

/// In a child whose linker finds the driver of host memory.
#[test]
fn leases_in_a_child() {
    if std::env::var("TEST_CUDARC_CHILD").is_err() {
        return;
    }
    let context = CudaContext::new(1).unwrap();
    let (stream, other) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    // SAFETY: the elements are not looked at.
    let send: CudaSlice<f32> = unsafe { stream.alloc(8) }.unwrap();
    // SAFETY: as above.
    let mut recv: CudaSlice<f32> = unsafe { stream.alloc(8) }.unwrap();
    let gpu = Driver::get().unwrap().device(1).unwrap();
    let recorded = || gpu.pci_address().unwrap().domain;

    let before = recorded();
    let lease = send.lease(&other);
    let lease_mut = recv.lease_mut(&other);
    assert_eq!(recorded(), before, "the work is not enqueued yet");
    let info = gpu.driver().pointer_info(lease.as_raw()).unwrap().unwrap();
    assert_eq!(info.range, Some((lease.as_raw(), 32)));
    assert_ne!(lease.as_raw(), lease_mut.as_raw());
    drop((lease, lease_mut));
    assert_eq!(recorded(), before + 2, "the read of one and the write of the other");

    let (dtype, from, to, device) = front(&other, &send.slice(4..), &mut recv.slice_mut(..4));
    assert_eq!((dtype, device), (DataType::F32, 1));
    assert_eq!(recorded(), before + 4);
    assert_eq!(from, info.range.unwrap().0 + 16);
    assert_ne!(from, to);
    let view = send.slice(2..5);
    assert_eq!((DeviceBuf::<CudaStream>::count(&view), send.len()), (3, 8));
    assert_eq!(DeviceBuf::<CudaStream>::device_ordinal(&view), 1);
    assert_eq!(other.as_raw(), other.cu_stream().cast());
    println!("leases are guards");
}

#[test]
fn with_a_fake_driver_a_lease_records_cudarcs_events_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("driver.c");
    fs::write(&source, include_str!("../../tests/tests/cuda_driver.c")).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("libcuda.so.1")).arg(&source);
    let Ok(compiled) = command.output() else {
        let words = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
        assert!(!words.split([',', ' ']).any(|word| word == "cc"), "there is no C compiler (cc)");
        println!("skipped: there is no C compiler (cc)");
        return;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "leases_in_a_child", "--nocapture"]).env("TEST_CUDARC_CHILD", "1");
    child.env("LD_LIBRARY_PATH", folder.path()).env_remove("NCCL_RS_CUDA_LIB");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("leases are guards"), "{said}{errors}");
}
