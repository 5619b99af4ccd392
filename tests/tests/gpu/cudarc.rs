//! cudarc's contexts, streams, buffers and graphs in a group.

#![expect(unsafe_code, reason = "turns cudarc's events off for a capture")]

use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUgraphInstantiate_flags;
use cudarc::driver::sys::CUstreamCaptureMode;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use tests::processes::Rank;

use crate::stream;
use crate::together;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 3] =
    [("cudarc", own), ("cudarc_default", default), ("cudarc_graph", graph)];

#[test]
fn slices_and_views_of_cudarc_are_summed_on_the_gpu() {
    for (how, size) in [(How::Threads, 2), (How::Processes, 2)] {
        for backend in ["nccl", "cpu"] {
            let Some(world) = World::new(how, size) else { return };
            let case = if how == How::Threads { "cudarc" } else { "cudarc_default" };
            let texts = world.with("NCCL_RS_BACKEND", backend).run(case);
            assert!(texts.iter().all(|text| text == backend), "{texts:?}");
        }
    }
}

#[test]
fn a_graph_that_cudarc_captures_is_replayed_on_the_gpu() {
    for (how, size) in [(How::Threads, 2), (How::Processes, 2)] {
        let Some(world) = World::new(how, size) else { return };
        world.run("cudarc_graph");
    }
}

/// Captured and launched by cudarc.
fn graph(group: ProcessGroup) -> Result<String> {
    let context = context(&group)?;
    // SAFETY: all buffers are used on one stream only. With its events cudarc would let the stream
    // wait for what was before the capture, which breaks it.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let mut buf = stream.clone_htod(&[1.0_f32; 100]).unwrap();
    together(&group, &stream, || group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum))?;
    let mut expected = group.world_size() as f32;
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    for _ in 0..4 {
        together(&group, &stream, || {
            graph.launch().unwrap();
            Ok(())
        })?;
        expected *= group.world_size() as f32;
    }
    assert_eq!(stream.clone_dtoh(&buf).unwrap(), [expected; 100]);
    drop(graph);
    group.finalize()?;
    Ok(format!("{expected}"))
}

/// On a stream of its own.
fn own(group: ProcessGroup) -> Result<String> {
    let context = context(&group)?;
    slices(group, &context.new_stream().unwrap())
}

/// On the default stream: threads would all have the same, in which one rank waits for another.
fn default(group: ProcessGroup) -> Result<String> {
    let context = context(&group)?;
    slices(group, &context.default_stream())
}

fn context(group: &ProcessGroup) -> Result<Arc<CudaContext>> {
    Ok(CudaContext::new(stream(group)?.device().ordinal()).unwrap())
}

/// Whole slices and views.
fn slices(group: ProcessGroup, stream: &Arc<CudaStream>) -> Result<String> {
    let (rank, size) = (group.rank(), group.world_size());
    let mine: Vec<f32> = (0..100).map(|at| (rank + at) as f32).collect();
    let sum: Vec<f32> = (0..100).map(|at| (0..size).map(|rank| (rank + at) as f32).sum()).collect();
    let send = stream.clone_htod(&mine).unwrap();
    let mut recv = stream.alloc_zeros::<f32>(100).unwrap();
    together(&group, stream, || group.on(stream).all_reduce(&send, &mut recv, ReduceOp::Sum))?;
    assert_eq!(stream.clone_dtoh(&recv).unwrap(), sum);
    together(&group, stream, || {
        let mut part = recv.slice_mut(10..20);
        group.on(&**stream).broadcast(&mut part, size - 1)?;
        group.on(stream).all_reduce(&send.slice(..10), &mut part, ReduceOp::Max)
    })?;
    let got = stream.clone_dtoh(&recv).unwrap();
    let max: Vec<f32> = (0..10).map(|at| (size - 1 + at) as f32).collect();
    assert_eq!(got[10..20], max);
    assert_eq!((&got[..10], &got[20..]), (&sum[..10], &sum[20..]));

    let ones = vec![1_i64; 64];
    let mut ones = stream.clone_htod(&ones).unwrap();
    together(&group, stream, || group.on(stream).all_reduce_in_place(&mut ones, ReduceOp::Sum))?;
    let all = stream.clone_dtoh(&ones).unwrap();
    assert_eq!(all, vec![i64::try_from(size).unwrap(); 64]);
    let name = group.backend_name().to_owned();
    group.finalize()?;
    Ok(name)
}
