//! The order of the stream, and of the group's other work; and what a call allocates.

#![expect(unsafe_code, reason = "copies between buffers by address, and asks the fake driver")]

use std::ffi::CString;
use std::ffi::c_char;

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::StreamRef;
use tests::processes::Rank;

use crate::all_say;
use crate::allocator;
use crate::on_device;
use crate::read;
use crate::stream;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 3] =
    [("order", order), ("asynchronous", asynchronous), ("allocations", allocations)];

fn copy(stream: StreamRef<'_>, to: u64, from: u64, bytes: usize) -> Result<()> {
    // SAFETY: the callers name buffers of so many bytes, which live until the stream is done.
    unsafe { stream.copy_on_device(to, from, bytes) }
}

/// Nothing waits between the operations but the stream itself.
fn order(group: ProcessGroup) -> Result<String> {
    let n = group.world_size();
    let own = stream(&group)?;
    let device = own.device().clone();
    let streams =
        [own.as_ref(), StreamRef::per_thread_default(&device), StreamRef::legacy_default(&device)];
    for (count, stream) in [3_usize, 1000, 3001].into_iter().zip(streams) {
        let bytes = 4 * count;
        let first: Vec<u32> = (0..count).map(|index| u32::try_from(index).unwrap()).collect();
        let a = on_device(&own, &first)?;
        let mut b = on_device(&own, &vec![7_u32; count])?;
        let mut c = on_device(&own, &vec![7_u32; count])?;
        let d = on_device(&own, &vec![7_u32; count])?;
        let zero = on_device(&own, &vec![0_u32; count])?;
        let on = group.on(&stream);
        copy(stream, b.as_raw(), a.as_raw(), bytes)?;
        on.all_reduce(&b, &mut c, ReduceOp::Sum)?;
        copy(stream, b.as_raw(), zero.as_raw(), bytes)?;
        copy(stream, d.as_raw(), c.as_raw(), bytes)?;
        for _ in 0..5 {
            on.all_reduce_in_place(&mut c, ReduceOp::Max)?;
            on.all_reduce(&c, &mut b, ReduceOp::Max)?;
        }
        assert!(stream.wait(crate::SECONDS)?);
        let times: Vec<u32> = first.iter().map(|value| value * u32::try_from(n).unwrap()).collect();
        for buffer in [&b, &c, &d] {
            assert_eq!(read(&own, buffer)?, times);
        }
    }
    group.finalize()?;
    Ok("right".to_owned())
}

#[test]
fn fake_an_operation_comes_after_what_is_before_and_before_what_is_after_on_the_stream() {
    let slow = || with_fake(2).with("FAKE_CUDA_SLOW_US", "500");
    all_say(&slow().run("order"), "right");
    all_say(&slow().with("NCCL_BUFFSIZE", "4096").run("order"), "right");
}

/// Asynchronous work of the group and operations on streams are one sequence.
fn asynchronous(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let n = u64::try_from(group.world_size()).unwrap();
    for turn in 0..20 {
        let work = group.all_reduce_async(vec![1_u64; 100_000], ReduceOp::Sum)?;
        let mut buf = on_device(&stream, &[turn; 9])?;
        group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
        let mut host = [1_u64];
        group.all_reduce_in_place(&mut host, ReduceOp::Sum)?;
        assert_eq!(read(&stream, &buf)?, [n * turn; 9]);
        assert_eq!((work.wait()?[99_999], host), (n, [n]));
    }
    group.finalize()?;
    Ok("right".to_owned())
}

#[test]
fn fake_operations_on_streams_come_behind_asynchronous_work() {
    all_say(&with_fake(3).run("asynchronous"), "right");
}

/// Bytes of a pinned buffer.
fn stage_bytes() -> usize {
    std::env::var("NCCL_BUFFSIZE").map_or(4 << 20, |text| text.parse().unwrap())
}

/// How often the fake driver was called for what must not happen in a call.
fn made() -> Vec<u64> {
    let path = std::env::var("NCCL_RS_CUDA_LIB").unwrap();
    // SAFETY: the fake driver, which is open already.
    let library = unsafe { libloading::Library::new(path) }.unwrap();
    // SAFETY: the fake's function has this type.
    let calls: libloading::Symbol<'_, extern "C" fn(*const c_char) -> u64> =
        unsafe { library.get(b"fakeCudaCalls") }.unwrap();
    let names = ["cuMemHostAlloc", "cuMemFreeHost", "cuEventCreate", "cuStreamCreate"];
    names.iter().map(|name| calls(CString::new(*name).unwrap().as_ptr())).collect()
}

fn allocations(group: ProcessGroup) -> Result<String> {
    let n = group.world_size();
    let stream = stream(&group)?;
    let count = 5000;
    let send = on_device(&stream, &vec![1.0_f32; count * n])?;
    let mut recv = on_device(&stream, &vec![0.0_f32; count * n])?;
    let on = group.on(&stream);
    let counts = vec![count; n];
    let mut all = || -> Result<()> {
        on.all_reduce(&send, &mut recv, ReduceOp::Sum)?;
        on.all_gather(&send.slice(..count)?, &mut recv)?;
        on.reduce_scatter(&send, &mut recv.slice_mut(..count)?, ReduceOp::Sum)?;
        on.all_to_all_v(&send, &mut recv, &counts, &counts)?;
        on.broadcast(&mut recv, 0)?;
        on.batch()
            .send(&send, (group.rank() + 1) % n)?
            .recv(&mut recv, (group.rank() + n - 1) % n)?
            .run()
    };
    for _ in 0..3 {
        all()?;
    }
    let before = made();
    for _ in 0..20 {
        all()?;
    }
    let after = made();
    // Two of the buffers of these tests themselves, and those of the group: a buffer for inputs
    // and one for outputs in each of three slots, made anew while they grow.
    assert!(before[0] <= 2 + 6 * 4, "{before:?}");
    // Two events for each slot and one mark; those of the tests' own copies.
    assert!((7..=20).contains(&before[2]) && before[3] == 2, "{before:?}");
    assert_eq!(before, after);
    // Nor does it take more of the heap than the same call on host slices.
    let (host, mut sum) = (vec![1.0_f32; count], vec![0.0_f32; count]);
    let own = send.slice(..count)?;
    let of = |call: &mut dyn FnMut() -> Result<()>| -> Result<u64> {
        for _ in 0..9 {
            call()?;
        }
        let before = allocator::count();
        for _ in 0..20 {
            call()?;
        }
        Ok(allocator::count() - before)
    };
    let on_host = of(&mut || group.all_reduce(&host, &mut sum, ReduceOp::Sum))?;
    let mut result = recv.slice_mut(..count)?;
    let on_device = of(&mut || on.all_reduce(&own, &mut result, ReduceOp::Sum))?;
    // Lists that still grow now and then are not one in every call; several rounds of different
    // counts are planned anew.
    let is_single = 4 * count <= stage_bytes();
    assert!(!is_single || on_device < on_host + 5, "{on_device}, {on_host} on the host");
    group.finalize()?;
    Ok("nothing".to_owned())
}

#[test]
fn fake_after_the_first_calls_nothing_is_allocated() {
    let counted = || with_fake(2).with("FAKE_CUDA_COUNT", "1");
    all_say(&counted().run("allocations"), "nothing");
    all_say(&counted().with("NCCL_BUFFSIZE", "4096").run("allocations"), "nothing");
}
