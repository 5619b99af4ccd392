//! Beginnings and ends.

#![expect(unsafe_code, reason = "takes over communicators by handle")]

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Barrier;
use std::time::Duration;

use nccl::Error;
use nccl::Member;
use nccl::ReduceOp;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::cuda::Stream;

use crate::world::LONG;
use crate::world::SHORT;
use crate::world::device;
use crate::world::eventually;
use crate::world::make;
use crate::world::nccl;
use crate::world::sum_with;
use crate::world::within;
use crate::world::world;

/// How often a function was called, by the fake's log.
pub(crate) fn calls(function: &str) -> usize {
    let log = std::fs::read_to_string(std::env::var("FAKE_NCCL_LOG").unwrap()).unwrap();
    log.lines().filter(|line| line.ends_with(&format!("CALL {function}"))).count()
}

fn alone() -> Communicator {
    let member = Member { rank: 0, world_size: 1 };
    make(member, nccl().unique_id().unwrap(), &CommConfig::new()).unwrap()
}

/// The other rank's init never ends, as its network does not work.
pub(crate) fn init_stuck() {
    let (member, config) = (Member { rank: 0, world_size: 1 }, CommConfig::new());
    let id = nccl().unique_id().unwrap();
    let error = within(LONG, || {
        Communicator::new(nccl(), &device(0), member, &[id], &config, SHORT).unwrap_err()
    });
    let Error::NcclStuck { call, device: 0, waited } = error else { panic!("{error}") };
    assert_eq!(call, "ncclCommInitRankConfig");
    assert!(waited >= SHORT, "{waited:?}");
    eventually("ncclCommAbort", || calls("ncclCommAbort") == 1);
}

/// The other rank never comes; blocking, and not.
pub(crate) fn never_comes() {
    for blocking in [false, true] {
        let (member, config) =
            (Member { rank: 1, world_size: 2 }, CommConfig::new().blocking(blocking));
        let id = nccl().unique_id().unwrap();
        let error = within(LONG, || {
            Communicator::new(nccl(), &device(0), member, &[id], &config, SHORT).unwrap_err()
        });
        assert!(matches!(error, Error::NcclStuck { .. }), "{error}");
    }
}

pub(crate) fn ends() {
    let comm = alone();
    let (first, second) = (comm.abort_handle(), comm.abort_handle());
    first.abort("the first reason");
    second.abort("the second reason");
    first.abort("the third reason");
    let stream = Stream::new(&device(0)).unwrap();
    for error in [
        sum_with(&comm, &stream).unwrap_err(),
        comm.split(Some(0), 0, None, LONG).unwrap_err(),
        comm.host_info().unwrap_err(),
        comm.memory_stats().unwrap_err(),
        comm.grow_id().unwrap_err(),
        comm.revoke(LONG).unwrap_err(),
        comm.check().unwrap_err(),
        second.check().unwrap_err(),
        comm.with_raw(|_| ()).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::CommEnded { why } if why == "the first reason"), "{error}");
    }
    drop(comm);
    eventually("ncclCommAbort", || calls("ncclCommAbort") == 1);

    let comm = alone();
    let handle = comm.abort_handle();
    sum_with(&comm, &stream).unwrap();
    comm.finalize(LONG).unwrap();
    handle.abort("too late");
    let error = handle.check().unwrap_err();
    assert!(matches!(&error, Error::CommEnded { why } if why == "it was finalized"), "{error}");
    assert_eq!((calls("ncclCommAbort"), calls("ncclCommDestroy")), (1, 1));
}

/// A panic takes the communicator with it, and the process goes on.
pub(crate) fn unwinding() {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let comm = alone();
        let handle = comm.abort_handle();
        handle.abort("once");
        let _other = alone();
        panic!("for the test");
    }));
    assert!(panicked.is_err());
    eventually("both aborts", || calls("ncclCommAbort") == 2);
    sum_with(&alone(), &Stream::new(&device(0)).unwrap()).unwrap();
}

pub(crate) fn abort_hangs() {
    let comm = alone();
    within(SHORT, || drop(comm));
    let comm = alone();
    within(SHORT, || comm.abort_handle().abort("for the test"));
    assert!(matches!(comm.check().unwrap_err(), Error::CommEnded { .. }));
}

pub(crate) fn destroy_hangs() {
    let comm = alone();
    let error = within(LONG, || comm.finalize(SHORT).unwrap_err());
    let Error::NcclStuck { call, .. } = error else { panic!("{error}") };
    assert_eq!(call, std::env::var("EXPECTED_CALL").unwrap());
}

/// One thread waits for a call that another rank does not make; another thread ends that.
pub(crate) fn abort_while_waiting() {
    let over = Barrier::new(2);
    world(2, |rank| {
        if rank.rank == 0 {
            let handle = rank.comm.abort_handle();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    within(LONG / 2, || rank.comm.split(Some(0), 0, None, LONG).unwrap_err())
                });
                eventually("the split", || calls("ncclCommSplit") == 1);
                within(SHORT, || handle.abort("by a watchdog"));
                let error = waiting.join().unwrap();
                assert!(error.to_string().contains("by a watchdog"), "{error}");
            });
        }
        over.wait();
        None
    });
}

/// An operation that waits for another rank is stopped by an abort, and the stream goes on.
pub(crate) fn abort_while_enqueued() {
    let over = Barrier::new(2);
    world(2, |rank| {
        if rank.rank == 0 {
            let mut data = rank.filled(1.0, 8);
            rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
            assert!(!rank.stream.as_ref().wait(Duration::from_millis(50)).unwrap());
            rank.comm.abort_handle().abort("by a watchdog");
            assert!(rank.stream.as_ref().wait(LONG).unwrap());
        }
        over.wait();
        None
    });
}

pub(crate) fn from_raw() {
    world(2, |rank| {
        let (member, device) = (rank.comm.member(), &rank.device);
        let null = core::ptr::null_mut();
        // SAFETY: null is refused.
        let error =
            unsafe { Communicator::from_raw(nccl(), device, member, null, true) }.unwrap_err();
        assert!(error.to_string().contains("the communicator is null"), "{error}");
        let raw = rank.comm.with_raw(|raw| raw).unwrap();
        let wrong = Member { rank: 1 - rank.rank, world_size: 3 };
        // SAFETY: a live communicator, of which NCCL is asked only.
        let error =
            unsafe { Communicator::from_raw(nccl(), device, wrong, raw, true) }.unwrap_err();
        let said = format!(
            "the communicator is {member} on device {0} according to NCCL, and {wrong} on device \
             {0} according to the caller",
            rank.rank
        );
        assert!(error.to_string().contains(&said), "{error}");
        // SAFETY: a live communicator, that is not used in any other way until this is dropped.
        let lent = unsafe { Communicator::from_raw(nccl(), device, member, raw, false) }.unwrap();
        sum_with(&lent, &rank.stream).unwrap();
        let error = lent.register(rank.filled(0.0, 4), LONG).unwrap_err();
        assert!(error.to_string().contains("another owner's"), "{error}");
        drop(lent);
        rank.sum();
        Some(rank.comm)
    });
}
