//! Captured collectives.

#![expect(unsafe_code, reason = "launches graphs")]

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::CaptureMode;
use nccl::cuda::CaptureStatus;
use nccl::cuda::DeviceVec;
use tests::processes::Rank;

use crate::PATIENCE;
use crate::stream;
use crate::together;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 2] = [("replayed", replayed), ("refused", refused)];

#[test]
fn a_captured_sum_is_replayed_on_the_gpu() {
    for (how, size) in [(How::Processes, 1), (How::Threads, 2), (How::Processes, 2)] {
        let Some(world) = World::new(how, size) else { return };
        world.run("replayed");
    }
    let Some(world) = World::new(How::Threads, 2) else { return };
    world.with("NCCL_RS_NCCL_BLOCKING", "1").run("replayed");
}

#[test]
fn the_cpu_backend_refuses_capture_and_leaves_it_valid_on_the_gpu() {
    let Some(world) = World::new(How::Threads, 2) else { return };
    for text in world.with("NCCL_RS_BACKEND", "cpu").run("refused") {
        assert!(text.contains("the stream is being captured"), "{text}");
    }
}

/// With calls between the replays that are not captured.
fn replayed(group: ProcessGroup) -> Result<String> {
    const REPLAYS: usize = 20;
    let stream = stream(&group)?;
    let (rank, size) = (group.rank(), group.world_size());
    let mut send = DeviceVec::<f32>::zeroed(&stream, 1000)?;
    let mut recv = DeviceVec::from_slice(&stream, &[-1.0_f32; 1000], PATIENCE)?;
    let mut eager = DeviceVec::from_slice(&stream, &[1_i64; 3], PATIENCE)?;
    together(&group, &stream, || group.on(&stream).all_reduce_in_place(&mut eager, ReduceOp::Max))?;
    stream.as_ref().begin_capture(CaptureMode::ThreadLocal)?;
    group.on(&stream).all_reduce(&send, &mut recv, ReduceOp::Sum)?;
    let mut graph = stream.as_ref().end_capture()?;
    assert_eq!(recv.to_vec(&stream, PATIENCE)?[0], -1.0, "what is captured does not run yet");
    for replay in 1..=REPLAYS {
        send.write(&stream, &[(replay * (rank + 1)) as f32; 1000], PATIENCE)?;
        together(&group, &stream, || {
            // SAFETY: the buffers and the group live until the stream is done, which is awaited.
            unsafe { graph.launch(&stream) }
        })?;
        let sum = (replay * size * (size + 1) / 2) as f32;
        assert_eq!(recv.to_vec(&stream, PATIENCE)?, [sum; 1000], "replay {replay}");
        together(&group, &stream, || {
            group.on(&stream).all_reduce_in_place(&mut eager, ReduceOp::Max)
        })?;
    }
    assert_eq!(eager.to_vec(&stream, PATIENCE)?, [1; 3]);
    drop(graph);
    group.finalize()?;
    Ok(format!("{REPLAYS} replays"))
}

fn refused(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let mut buf = DeviceVec::from_slice(&stream, &[1.0_f32; 4], PATIENCE)?;
    stream.as_ref().begin_capture(CaptureMode::ThreadLocal)?;
    let error = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
    assert_eq!(stream.as_ref().capture_status()?, CaptureStatus::Active);
    drop(stream.as_ref().end_capture()?);
    group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
    assert_eq!(buf.to_vec(&stream, PATIENCE)?, [group.world_size() as f32; 4]);
    group.finalize()?;
    Ok(error.to_string())
}
