//! Collectives that are captured into a graph and replayed.

#![expect(unsafe_code, reason = "launches graphs")]

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::CaptureMode;
use nccl::cuda::CaptureStatus;
use nccl::cuda::DeviceVec;

use super::PATIENCE;
use super::stream;
use super::world;

/// A captured all-reduce is replayed; between the replays the group works on as ever.
pub(super) fn replayed(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let (rank, size) = (group.rank(), group.world_size());
    let send = DeviceVec::<f32>::zeroed(&stream, 5)?;
    let mut recv = DeviceVec::from_slice(&stream, &[-1.0_f32; 5], PATIENCE)?;
    let mut eager = DeviceVec::from_slice(&stream, &[1_i64; 3], PATIENCE)?;
    // The first operation connects the ranks, which need not be captured.
    group.on(&stream).all_reduce_in_place(&mut eager, ReduceOp::Sum)?;
    group.synchronize(&stream)?;

    stream.as_ref().begin_capture(CaptureMode::ThreadLocal)?;
    group.on(&stream).all_reduce(&send, &mut recv, ReduceOp::Sum)?;
    group.on(&stream).all_reduce_in_place(&mut recv, ReduceOp::Max)?;
    let mut graph = stream.as_ref().end_capture()?;
    assert_eq!(recv.to_vec(&stream, PATIENCE)?, [-1.0; 5], "what is captured does not run yet");

    let mut send = send;
    for replay in 0..3 {
        let mine: Vec<f32> =
            (0..5).map(|at| ((replay + 1) * (rank + 1) * (at + 1)) as f32).collect();
        send.write(&stream, &mine, PATIENCE)?;
        // SAFETY: both buffers and the group live until the stream is done, which `to_vec` awaits.
        unsafe { graph.launch(&stream) }?;
        let ranks = size * (size + 1) / 2;
        let sum: Vec<f32> = (0..5).map(|at| ((replay + 1) * ranks * (at + 1)) as f32).collect();
        assert_eq!(recv.to_vec(&stream, PATIENCE)?, sum, "replay {replay}");
        group.on(&stream).all_reduce_in_place(&mut eager, ReduceOp::Sum)?;
        group.synchronize(&stream)?;
        group.check()?;
    }
    let eager = eager.to_vec(&stream, PATIENCE)?;
    drop(graph);
    group.finalize()?;
    Ok(format!("{eager:?}"))
}

/// Wrong calls while capturing are refused, and the capture goes on.
pub(super) fn wrong_while_capturing(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let send = DeviceVec::from_slice(&stream, &[2.0_f32; 4], PATIENCE)?;
    let mut short = DeviceVec::from_slice(&stream, &[0.0_f32; 3], PATIENCE)?;
    let mut recv = DeviceVec::from_slice(&stream, &[0.0_f32; 4], PATIENCE)?;
    stream.as_ref().begin_capture(CaptureMode::ThreadLocal)?;
    let error = group.on(&stream).all_reduce(&send, &mut short, ReduceOp::Sum).unwrap_err();
    assert_eq!(stream.as_ref().capture_status()?, CaptureStatus::Active);
    group.on(&stream).all_reduce(&send, &mut recv, ReduceOp::Sum)?;
    let mut graph = stream.as_ref().end_capture()?;
    // SAFETY: the buffers and the group live until the stream is done, which `to_vec` awaits.
    unsafe { graph.launch(&stream) }?;
    assert_eq!(recv.to_vec(&stream, PATIENCE)?, [2.0 * group.world_size() as f32; 4]);
    drop(graph);
    group.finalize()?;
    Ok(error.to_string())
}

/// The backend that copies through host memory refuses, and the capture stays valid.
pub(super) fn refused_where_staged(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let mut buf = DeviceVec::from_slice(&stream, &[1.0_f32; 4], PATIENCE)?;
    stream.as_ref().begin_capture(CaptureMode::ThreadLocal)?;
    let error = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
    assert_eq!(stream.as_ref().capture_status()?, CaptureStatus::Active);
    drop(stream.as_ref().end_capture()?);
    // The group is as good as before.
    group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
    assert_eq!(buf.to_vec(&stream, PATIENCE)?, [group.world_size() as f32; 4]);
    group.finalize()?;
    Ok(error.to_string())
}

#[test]
fn a_captured_sum_of_the_fake_nccl_is_replayed_with_eager_calls_between() {
    for blocking in ["0", "1"] {
        for version in ["2.18.3", "2.32.3"] {
            let library = tests::fakes::nccl_as(version).display().to_string();
            let (world, _folder) = world(3);
            let world = world
                .with("NCCL_RS_NCCL_LIB", &library)
                .with("NCCL_RS_NCCL_BLOCKING", blocking)
                .with("NCCL_RS_TIMEOUT_MS", "20000");
            assert_eq!(world.run("replayed"), ["[81, 81, 81]"; 3], "{version} {blocking}");
        }
    }
}

#[test]
fn a_call_refused_while_capturing_leaves_the_capture_valid_on_the_fake_nccl() {
    let (world, _folder) = world(2);
    let text = "all_reduce: `recv` holds 3 elements, expected 4";
    assert_eq!(world.run("wrong_while_capturing"), [text; 2]);
}

#[test]
fn the_cpu_backend_refuses_capture_and_leaves_it_valid_on_the_fake_driver() {
    let (world, _folder) = world(2);
    for text in world.with("NCCL_RS_BACKEND", "cpu").run("refused_where_staged") {
        assert!(text.contains("the stream is being captured, and the cpu backend"), "{text}");
    }
}
