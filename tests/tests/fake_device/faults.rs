//! What goes wrong on one rank is known on all.

use std::time::Duration;
use std::time::Instant;

use nccl::Error;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use tests::processes::Rank;

use crate::all_say;
use crate::on_device;
use crate::read;
use crate::stream;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 6] = [
    ("copy", copy),
    ("late stream", late_stream),
    ("other counts", other_counts),
    ("other message", other_message),
    ("other pairs", other_pairs),
    ("missing", missing),
];

/// The error without what differs between ranks: which of them reports, and whether it was in the
/// operation or came to it later.
fn cause(error: &Error) -> String {
    let text = error.to_string();
    let at = text.rfind("group \"world\", rank ").unwrap_or(0);
    let start = text[at..].find(": ").map_or(0, |found| at + found + 2);
    text[start..].to_owned()
}

/// From its 20th copy to the host on, the driver fails; rank 1 makes some before.
fn copy(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let mut buf = on_device(&stream, &vec![1.0_f32; 3000])?;
    if group.rank() == 1 {
        for _ in 0..16 {
            read(&stream, &on_device(&stream, &[0_u8])?)?;
        }
    }
    let begun = Instant::now();
    for _ in 0..6 {
        let Err(error) = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum) else {
            continue;
        };
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(error.poisons_group(), "{error:?}");
        let later = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
        assert!(matches!(later, Error::Poisoned { .. }), "{later:?}");
        let host = group.barrier().unwrap_err();
        assert!(matches!(host, Error::Poisoned { .. }), "{host:?}");
        return Ok(cause(&error));
    }
    Ok("no error".to_owned())
}

#[test]
fn fake_a_copy_that_fails_on_one_rank_is_an_error_on_all_that_names_it() {
    for bytes in ["4194304", "4096"] {
        let world = with_fake(3)
            .with("FAKE_CUDA_FAIL", "cuMemcpyDtoHAsync_v2=700@20")
            .with("NCCL_BUFFSIZE", bytes);
        for said in world.run("copy") {
            let expected = "rank 1 aborted the group: all_reduce on device 1: \
                            cuMemcpyDtoHAsync_v2 failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)";
            assert!(said.starts_with(expected), "{said}");
        }
    }
}

/// What is before on rank 1's stream takes longer than its timeout.
fn late_stream(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let mut buf = on_device(&stream, &[1.0_f32])?;
    group.barrier()?;
    let group = if group.rank() == 1 {
        for _ in 0..20 {
            core::mem::forget(nccl::cuda::DeviceVec::<u8>::zeroed(&stream, 8)?);
        }
        group.with_timeout(Duration::from_millis(500))
    } else {
        group
    };
    let begun = Instant::now();
    let error = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(1600), "{:?}", begun.elapsed());
    core::mem::forget(buf); // it would wait for the stream
    Ok(cause(&error))
}

#[test]
fn fake_a_stream_that_is_not_done_in_time_is_an_error_on_all_that_names_its_rank() {
    for said in with_fake(3).with("FAKE_CUDA_SLOW_US", "100000").run("late stream") {
        let expected = "rank 1 aborted the group: all_reduce on device 1: all_reduce: the work on \
                        the stream of device 1 was not done after";
        assert!(said.starts_with(expected), "{said}");
    }
}

/// Counts that differ, though the first rounds would fit.
fn other_counts(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let count = if group.rank() == 0 { 4096 } else { 2048 };
    let mut buf = on_device(&stream, &vec![1.0_f32; count])?;
    let error = group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
    Ok(cause(&error))
}

#[test]
fn fake_counts_that_differ_by_whole_rounds_are_a_mismatch_of_the_whole_counts() {
    for said in with_fake(2).with("NCCL_BUFFSIZE", "4096").run("other counts") {
        assert!(said.contains("rank 0 called #1 all_reduce f32\u{d7}4096 sum"), "{said}");
        assert!(said.contains("rank 1 called #1 all_reduce f32\u{d7}2048 sum"), "{said}");
    }
}

/// As `other_counts`, for a message.
fn other_message(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let count = if group.rank() == 0 { 4096 } else { 2048 };
    let mut buf = on_device(&stream, &vec![1.0_f32; count])?;
    let on = group.on(&stream);
    let outcome = if group.rank() == 0 {
        // A message may be under way when `send` returns; then the next call knows.
        on.send(&buf, 1).and_then(|()| group.barrier())
    } else {
        on.recv(&mut buf, 0)
    };
    Ok(cause(&outcome.unwrap_err()))
}

#[test]
fn fake_a_message_longer_by_whole_rounds_is_a_mismatch() {
    for said in with_fake(2).with("NCCL_BUFFSIZE", "4096").run("other message") {
        assert!(said.contains("f32\u{d7}4096"), "{said}");
        assert!(said.contains("f32\u{d7}2048"), "{said}");
    }
}

/// Counts of pairs that do not match, which all ranks learn before anything moves.
fn other_pairs(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let send = on_device(&stream, &[1_u8; 3])?;
    let mut recv = on_device(&stream, &[0_u8; 3])?;
    let receives = if group.rank() == 2 { [0, 2, 1] } else { [1; 3] };
    let on = group.on(&stream);
    let error = on.all_to_all_v(&send, &mut recv, &[1; 3], &receives).unwrap_err();
    assert!(!error.poisons_group());
    on.all_to_all_v(&send, &mut recv, &[1; 3], &[1; 3])?;
    assert_eq!(read(&stream, &recv)?, [1; 3]);
    group.finalize()?;
    Ok(error.to_string())
}

#[test]
fn fake_counts_of_pairs_that_do_not_match_are_named_on_all_and_the_group_stays_good() {
    let text = "all_to_all_v: rank 0 sends 1 elements to rank 2, which expects 0 from it (group \
                \"world\")";
    all_say(&with_fake(3).run("other pairs"), text);
}

/// A rank that does not come.
fn missing(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let mut buf = on_device(&stream, &vec![1.0_f32; 5000])?;
    if group.rank() == 2 {
        // It hears of it in its next call.
        while group.store().get_within("over", Duration::from_secs(10)).is_err() {}
        return Ok(cause(&group.barrier().unwrap_err()));
    }
    let late = group.with_timeout(Duration::from_millis(700));
    let error = late.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    group.store().set("over", b"")?;
    Ok(cause(&error))
}

#[test]
fn fake_a_rank_that_does_not_come_is_named() {
    for said in with_fake(3).with("NCCL_BUFFSIZE", "4096").run("missing") {
        assert!(said.contains("all_reduce f32\u{d7}5000 sum; not arrived: rank 2"), "{said}");
    }
}
