//! Streams that are being captured.

#![expect(unsafe_code, reason = "launches graphs")]

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::CaptureMode;
use nccl::cuda::CaptureStatus;
use tests::processes::Rank;
use tests::threads::Threads;

use crate::SECONDS;
use crate::on_device;
use crate::read;
use crate::stream;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 2] = [("captured", captured), ("alone", alone)];

/// All of two ranks are refused, in each mode, and the capture goes on.
fn captured(_: ProcessGroup) -> Result<String> {
    let said = Threads::new(2).timeout(SECONDS).run(|group| {
        let stream = stream(&group)?;
        let mut buf = on_device(&stream, &[1.0_f32; 3])?;
        let mut texts = Vec::new();
        for mode in [CaptureMode::ThreadLocal, CaptureMode::Relaxed] {
            stream.as_ref().begin_capture(mode)?;
            let error = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
            assert!(!error.poisons_group());
            texts.push(error.to_string());
            let error = group.on(&stream).batch().send(&buf, 0)?.run().unwrap_err();
            texts.push(error.to_string().replace("send: ", "all_reduce: "));
            assert_eq!(stream.as_ref().capture_status()?, CaptureStatus::Active);
            stream.as_ref().end_capture()?;
        }
        texts.dedup();
        group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
        assert_eq!(read(&stream, &buf)?, [2.0; 3]);
        group.finalize()?;
        Ok(texts.join("\n"))
    })?;
    assert_eq!(said[0], said[1]);
    Ok(said[0].clone())
}

#[test]
fn fake_the_cpu_backend_refuses_a_captured_stream_and_leaves_the_capture_good() {
    let text = "all_reduce: the stream is being captured, and the cpu backend, which copies \
                through host memory, cannot be: call it before or after, or use the nccl backend";
    assert_eq!(with_fake(1).run("captured"), [text]);
}

/// A group of one exchanges nothing, so it can be captured.
fn alone(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let (a, mut b) = (on_device(&stream, &[1, 2, 3])?, on_device(&stream, &[0, 0, 0])?);
    let mut c = on_device(&stream, &[7_i32; 3])?;
    stream.as_ref().begin_capture(CaptureMode::Global)?;
    group.on(&stream).all_reduce(&a, &mut b, ReduceOp::Sum)?;
    group.on(&stream).all_gather(&b, &mut c)?;
    let mut graph = stream.as_ref().end_capture()?;
    assert_eq!(read(&stream, &c)?, [7; 3]);
    // SAFETY: the buffers live until the graph is done, for which `read` waits.
    unsafe { graph.launch(&stream) }?;
    assert_eq!(read(&stream, &c)?, [1, 2, 3]);
    group.abort("enough");
    let error = group.on(&stream).all_gather(&b, &mut c).unwrap_err();
    Ok(error.to_string())
}

#[test]
fn fake_a_group_of_one_is_captured_and_replayed() {
    let text = "group \"world\" is no longer usable since it failed: group \"world\", rank 0: rank \
                0 aborted the group: enough";
    assert_eq!(with_fake(1).run("alone"), [text]);
}
