//! Wrong arguments: exact texts, nothing is sent, and the group stays good.

#![expect(unsafe_code, reason = "names device memory by address")]

use std::ffi::c_void;

use nccl::DataType;
use nccl::Error;
use nccl::Family;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::DeviceStream;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::RawDeviceSlice;
use nccl::cuda::Stream;
use tests::processes::Processes;
use tests::processes::Rank;
use tests::threads::Threads;

use crate::F32;
use crate::SECONDS;
use crate::on_device;
use crate::read;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 2] =
    [("wrong arguments", wrong_arguments), ("no driver", no_driver)];

/// All ranks on device 0.
fn stream_on(device: usize) -> Result<Stream> {
    Stream::new(&Driver::get()?.device(device)?)
}

/// A part of a buffer by address, counted in elements; several may be the same memory.
fn raw(buf: &DeviceVec<f32>, at: usize, count: usize) -> RawDeviceSlice<'static> {
    let address = buf.as_raw() + 4 * at as u64;
    // SAFETY: inside of the buffer, which outlives all that is enqueued.
    unsafe { RawDeviceSlice::from_raw(address, count, F32, buf.device().ordinal()) }
}

#[track_caller]
fn refused(result: Result<()>, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), text);
    assert_eq!(error.family(), Family::Misuse);
    assert!(!error.poisons_group());
}

fn lengths_and_roots(group: &ProcessGroup, stream: &Stream) -> Result<()> {
    let on = group.on(stream);
    let sum = ReduceOp::Sum;
    let (two, three) = (on_device(stream, &[1.0_f32; 2])?, on_device(stream, &[1.0_f32; 3])?);
    let (mut a, mut b) = (on_device(stream, &[0.0_f32; 2])?, on_device(stream, &[0.0_f32; 3])?);
    let is_root = group.rank() == 0;
    let text = "all_reduce: `recv` holds 3 elements, expected 2";
    refused(on.all_reduce(&two, &mut b, sum), text);
    refused(on.all_gather(&two, &mut b), "all_gather: `recv` holds 3 elements, expected 4");
    let text = "reduce_scatter: `send` holds 3 elements, expected 4";
    refused(on.reduce_scatter(&three, &mut a, sum), text);
    let odd = |name: &str, buf: &str| {
        format!(
            "{name}: `{buf}` holds 3 elements, which do not divide into equal parts for 2 ranks; \
             give a multiple of 2"
        )
    };
    refused(on.all_gather_in_place(&mut b), &odd("all_gather", "buf"));
    refused(on.reduce_scatter_in_place(&mut b, sum), &odd("reduce_scatter", "buf"));
    refused(on.all_to_all_in_place(&mut b), &odd("all_to_all", "buf"));
    let mut c = on_device(stream, &[0.0_f32; 3])?;
    refused(on.all_to_all(&three, &mut c), &odd("all_to_all", "send"));
    let text = "broadcast: root 2 is not a rank of this group of 2 (0..2)";
    refused(on.broadcast(&mut a, 2), text);
    let text = "reduce: root 7 is not a rank of this group of 2 (0..2)";
    refused(on.reduce(&two, Some(&mut a), sum, 7), text);
    refused(on.reduce_in_place(&mut a, sum, 7), text);
    let expected = if is_root { 2 } else { 0 };
    let text = format!("reduce: `recv` holds 3 elements, expected {expected}");
    refused(on.reduce(&two, Some(&mut b), sum, 0), &text);
    let text = if is_root {
        "gather: `recv` holds 0 elements, expected 4"
    } else {
        "gather: `recv` holds 2 elements, expected 0"
    };
    refused(on.gather(&two, (!is_root).then_some(&mut a), 0), text);
    let text = if is_root {
        "scatter: `send` holds 0 elements, expected 4"
    } else {
        "scatter: `send` holds 2 elements, expected 0"
    };
    refused(on.scatter((!is_root).then_some(&two), &mut a, 0), text);
    let text = "all_gather_v: `recv_counts` holds 3 elements, expected 2";
    refused(on.all_gather_v(&two, &mut b, &[1, 1, 1]), text);
    let text = "reduce_scatter_v: `send` holds 2 elements, expected 3";
    refused(on.reduce_scatter_v(&two, &mut b, &[1, 2], sum), text);
    let text = "all_to_all_v: `send_counts` holds 1 elements, expected 2";
    refused(on.all_to_all_v(&two, &mut b, &[2], &[2, 1]), text);
    refused(on.send(&two, 5), "send: peer 5 is not a rank of this group of 2 (0..2)");
    refused(on.recv(&mut a, 2), "recv: peer 2 is not a rank of this group of 2 (0..2)");
    Ok(())
}

fn types_and_devices(group: &ProcessGroup, stream: &Stream) -> Result<()> {
    let on = group.on(stream);
    let (floats, ints) = (on_device(stream, &[1.0_f32; 2])?, on_device(stream, &[1_i32; 2])?);
    let mut recv = on_device(stream, &[0.0_f32; 2])?;
    let text = "all_reduce: `send` holds i32 elements and `recv` f32";
    refused(on.all_reduce(&ints, &mut recv, ReduceOp::Sum), text);
    let text = "all_reduce: the reduction `bor` does not exist for f32: bitwise operations are for \
                integers; send the bits as u8, u32 or u64";
    refused(on.all_reduce(&floats, &mut recv, ReduceOp::BitOr), text);
    refused(on.all_reduce_in_place(&mut recv, ReduceOp::BitOr), text);
    let other = stream_on(1)?;
    let elsewhere = on_device(&other, &[1.0_f32; 2])?;
    let text = "all_reduce: `send` is on device 1 and the stream on device 0";
    refused(on.all_reduce(&elsewhere, &mut recv, ReduceOp::Sum), text);
    let text = "on: the group works on device 0 and the stream is on device 1; make a group of its \
                own for each device";
    refused(group.on(&other).all_reduce_in_place(&mut recv, ReduceOp::Sum), text);
    // SAFETY: refused, so nothing is enqueued with it.
    let mut nowhere = unsafe { RawDeviceSlice::from_raw(0, 2, F32, 0) };
    let text = "broadcast: `buf` is at address 0, where no device memory is";
    refused(on.broadcast(&mut nowhere, 0), text);
    // SAFETY: as above.
    let huge = unsafe { RawDeviceSlice::from_raw(8, usize::MAX / 4, DataType::F64, 0) };
    let text =
        format!("send: {} elements of f64 are more bytes than memory can hold", usize::MAX / 4);
    refused(on.send(&huge, 0), &text);
    Ok(())
}

fn overlaps(group: &ProcessGroup, stream: &Stream) -> Result<()> {
    let on = group.on(stream);
    let sum = ReduceOp::Sum;
    let buf = on_device(stream, &[1.0_f32; 32])?;
    let start = buf.as_raw();
    let part = |at, count| raw(&buf, at, count);
    let spans = |s: (u64, u64), r: (u64, u64)| {
        let [a, b, c, d] = [s.0, s.1, r.0, r.1].map(|at| start + 4 * at);
        format!("`send` ({a:#x}..{b:#x}) and `recv` ({c:#x}..{d:#x}) overlap; ")
    };
    let text = format!(
        "all_reduce: {}give separate buffers, or the same for both",
        spans((0, 8), (4, 12))
    );
    refused(on.all_reduce(&part(0, 8), &mut part(4, 8), sum), &text);
    // The other rank's part.
    let (element, at) = if group.rank() == 0 { (4, 4) } else { (0, 0) };
    let text = format!(
        "all_gather: {}give separate buffers, or as `send` this rank's part of `recv`",
        spans((at, at + 4), (0, 8))
    );
    refused(on.all_gather(&part(element, 4), &mut part(0, 8)), &text);
    let text = format!(
        "reduce_scatter: {}give separate buffers, or as `recv` this rank's part of `send`",
        spans((0, 8), (at, at + 4))
    );
    refused(on.reduce_scatter(&part(0, 8), &mut part(element, 4), sum), &text);
    let text = format!("all_gather_v: {}give separate buffers", spans((0, 4), (0, 8)));
    refused(on.all_gather_v(&part(0, 4), &mut part(0, 8), &[4, 4]), &text);

    let spans = |one: &str, a: u64, b: u64, two: &str, c: u64, d: u64| {
        let [a, b, c, d] = [a, b, c, d].map(|at| start + 4 * at);
        format!("`{one}` ({a:#x}..{b:#x}) overlaps `{two}` ({c:#x}..{d:#x})")
    };
    let tail = "operations of a batch do not wait for one another";
    let (one, mut two) = (part(0, 8), part(7, 2));
    let text = format!(
        "recv: {} of operation 0 of the batch (send); {tail}",
        spans("buf", 7, 9, "buf", 0, 8)
    );
    let batch = on.batch().send(&one, 0)?;
    refused(batch.recv(&mut two, 0).map(|_| ()), &text);
    let (mut out, mut again) = (part(8, 4), part(11, 8));
    let text = format!(
        "all_reduce_in_place: {} of operation 1 of the batch (all_reduce); {tail}",
        spans("buf", 11, 19, "recv", 8, 12)
    );
    let (first, second) = (part(20, 4), part(0, 4));
    let batch = on.batch().send(&first, 0)?.all_reduce(&second, &mut out, sum)?;
    assert_eq!(batch.count(), 2);
    refused(batch.all_reduce_in_place(&mut again, sum).map(|_| ()), &text);
    // Two that read the same get along.
    let batch = on.batch().send(&one, 0)?.send(&one, 1)?;
    assert_eq!(batch.count(), 2);
    drop(batch);
    core::mem::forget(on.batch().send(&one, 0)?);
    Ok(())
}

fn wrong_arguments(_: ProcessGroup) -> Result<String> {
    Threads::new(2)
        .timeout(SECONDS)
        .run(|group| {
            let stream = stream_on(0)?;
            let mut good = on_device(&stream, &[1_i64])?;
            group.on(&stream).all_reduce_in_place(&mut good, ReduceOp::Sum)?;
            lengths_and_roots(&group, &stream)?;
            types_and_devices(&group, &stream)?;
            overlaps(&group, &stream)?;
            // Had anything been sent, this would meet it.
            group.on(&stream).all_reduce_in_place(&mut good, ReduceOp::Sum)?;
            assert_eq!(read(&stream, &good)?, [4]);
            let other = group.clone();
            group.finalize()?;
            let text = "on: group \"world\" was finalized";
            refused(other.on(&stream).all_reduce_in_place(&mut good, ReduceOp::Sum), text);
            Ok(())
        })
        .map(|_| "checked".to_owned())
}

#[test]
fn fake_wrong_arguments_are_named_before_anything_is_enqueued() {
    assert_eq!(with_fake(1).run("wrong arguments"), ["checked"]);
}

/// A stream of a process without a driver: what an engine's type would be.
struct Handle;

// SAFETY: nothing can be enqueued where there is no driver.
unsafe impl DeviceStream for Handle {
    fn as_raw(&self) -> *mut c_void {
        std::ptr::null_mut()
    }

    fn device_ordinal(&self) -> usize {
        0
    }
}

fn no_driver(group: ProcessGroup) -> Result<String> {
    // SAFETY: nothing can be enqueued where there is no driver.
    let mut buf = unsafe { RawDeviceSlice::from_raw(64, 2, F32, 0) };
    let error = group.on(&Handle).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
    assert!(matches!(error, Error::DriverMissing(_)), "{error:?}");
    let batch = group.on(&Handle).batch().broadcast(&mut buf, 0).unwrap_err();
    assert_eq!(batch.to_string(), error.to_string());
    group.barrier()?;
    Ok(error.to_string())
}

#[test]
fn without_a_driver_the_operations_return_its_error_and_the_group_stays_good() {
    let world = Processes::new(2).with("NCCL_RS_CUDA_LIB", "/nowhere/libcuda.so.1");
    for said in world.run("no driver") {
        assert!(said.starts_with("no usable CUDA driver"), "{said}");
        assert!(said.contains("/nowhere/libcuda.so.1"), "{said}");
    }
}
