//! Communicators out of communicators.

use std::sync::Mutex;
use std::sync::mpsc;

use nccl::Error;
use nccl::Member;
use nccl::ReduceOp;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::cuda::DeviceVec;

use crate::world::LONG;
use crate::world::SHORT;
use crate::world::device;
use crate::world::nccl;
use crate::world::ranks;
use crate::world::since;
use crate::world::sum_with;
use crate::world::within;
use crate::world::world;
use crate::world::world_as;

/// Even and odd ranks, the largest rank first; rank 3 in none.
fn split_of(config: &CommConfig) {
    world_as(4, config, |rank| {
        let (color, key) = [(Some(0), 10), (Some(1), 9), (Some(0), 8), (None, 7)][rank.rank];
        let made = rank.comm.split(color, key, None, LONG).unwrap();
        assert_eq!(made.is_none(), rank.rank == 3);
        if let Some(made) = made {
            let expected = [(1, 2), (0, 1), (0, 2)][rank.rank];
            assert_eq!(made.member(), Member { rank: expected.0, world_size: expected.1 });
            assert_eq!(made.device().ordinal(), rank.rank);
            sum_with(&made, &rank.stream).unwrap();
            // The parent is as good as before.
            made.finalize(LONG).unwrap();
        }
        rank.sum();
        Some(rank.comm)
    });
}

pub(crate) fn split() {
    split_of(&CommConfig::new());
}

pub(crate) fn split_blocking() {
    split_of(&CommConfig::new().blocking(true));
}

pub(crate) fn split_in_progress() {
    split_of(&CommConfig::new());
}

/// One rank does not come: the others are told in time.
pub(crate) fn split_alone() {
    world(2, |rank| {
        if rank.rank == 1 {
            // Not dropped before the other one has given up.
            std::thread::sleep(2 * SHORT);
            return None;
        }
        let error = within(LONG, || rank.comm.split(Some(0), 0, None, SHORT).unwrap_err());
        assert!(matches!(error, Error::NcclStuck { call: "ncclCommSplit", .. }), "{error}");
        let error = rank.comm.split(Some(0), 0, None, LONG).unwrap_err();
        assert!(matches!(error, Error::NcclStuck { .. }), "the reason stays: {error}");
        None
    });
}

pub(crate) fn shrink() {
    world(4, |rank| {
        if rank.rank == 0 || rank.rank == 2 {
            // Those that are left out keep their end until the others are done.
            return Some(rank.comm);
        }
        let config = CommConfig::new().name("fewer");
        let fewer = rank.comm.shrink(&[2, 0, 2], false, Some(&config), LONG).unwrap();
        assert_eq!(fewer.member(), Member { rank: rank.rank / 2, world_size: 2 });
        sum_with(&fewer, &rank.stream).unwrap();
        fewer.finalize(LONG).unwrap();
        Some(rank.comm)
    });
}

pub(crate) fn shrink_misuse() {
    world(2, |rank| {
        let usage = |list: &[usize]| rank.comm.shrink(list, false, None, LONG).unwrap_err();
        assert!(usage(&[]).to_string().contains("no rank is excluded"));
        assert!(usage(&[rank.rank]).to_string().contains("excludes itself"));
        assert!(matches!(usage(&[7]), Error::Rank { rank: 7, world_size: 2, .. }));
        rank.sum();
        Some(rank.comm)
    });
}

/// What was enqueued never ends, as a rank is gone; the others go on without it.
pub(crate) fn shrink_abort() {
    let gone = Mutex::new(None);
    world(3, |rank| {
        if rank.rank == 2 {
            *gone.lock().unwrap() = Some(rank.comm);
            return None;
        }
        let mut data = rank.filled(1.0, 9);
        rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
        let fewer = rank.comm.shrink(&[2], true, None, LONG).unwrap();
        sum_with(&fewer, &rank.stream).unwrap();
        fewer.finalize(LONG).unwrap();
        None
    });
}

pub(crate) fn grow() {
    let (tell, told) = mpsc::channel();
    let (tell, told) = (Mutex::new(Some(tell)), Mutex::new(told));
    let id = nccl().unique_id().unwrap();
    ranks(3, |rank| {
        if rank == 2 {
            let id = told.lock().unwrap().recv().unwrap();
            let member = Member { rank, world_size: 3 };
            let config = CommConfig::new();
            let grown =
                Communicator::join_grown(nccl(), &device(2), member, &id, &config, LONG).unwrap();
            let stream = nccl::cuda::Stream::new(&device(2)).unwrap();
            sum_with(&grown, &stream).unwrap();
            return grown.finalize(LONG).unwrap();
        }
        let member = Member { rank, world_size: 2 };
        let comm = crate::world::make(member, id, &CommConfig::new()).unwrap();
        let own = (rank == 0).then(|| comm.grow_id().unwrap());
        if let Some(id) = own {
            tell.lock().unwrap().take().unwrap().send(id).unwrap();
        }
        let error = comm.grow(2, None, None, LONG).unwrap_err();
        assert!(error.to_string().contains("cannot grow to 2"), "{error}");
        let grown = comm.grow(3, own.as_ref(), None, LONG).unwrap();
        assert_eq!(grown.member(), Member { rank, world_size: 3 });
        let stream = nccl::cuda::Stream::new(&device(rank)).unwrap();
        sum_with(&grown, &stream).unwrap();
        sum_with(&comm, &stream).unwrap();
        grown.finalize(LONG).unwrap();
        comm.finalize(LONG).unwrap();
    });
}

pub(crate) fn suspend() {
    world(2, |rank| {
        let error = rank.comm.resume(LONG).unwrap_err();
        assert!(error.to_string().contains("not suspended"), "{error}");
        assert!(!rank.comm.memory_stats().unwrap().is_suspended);
        rank.comm.suspend(LONG).unwrap();
        assert!(rank.comm.memory_stats().unwrap().is_suspended);
        let mut data = DeviceVec::<f32>::unset(&rank.device, 4).unwrap();
        let on = rank.comm.on(&rank.stream, LONG);
        let error = on.all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap_err();
        assert!(error.to_string().contains("suspended; resume it first"), "{error}");
        assert!(rank.comm.split(Some(0), 0, None, LONG).is_err());
        rank.comm.resume(LONG).unwrap();
        rank.sum();
        let stats = rank.comm.memory_stats().unwrap();
        assert_eq!(stats.total_bytes, stats.suspendable_bytes + stats.persistent_bytes);
        rank.comm.suspend(LONG).unwrap();
        Some(rank.comm)
    });
}

pub(crate) fn revoke() {
    world(2, |rank| {
        let mut data = rank.filled(1.0, 5);
        if rank.rank == 0 {
            // Never comes to its end by itself: the other rank does not call it.
            rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
        }
        rank.comm.revoke(LONG).unwrap();
        assert!(rank.stream.as_ref().wait(LONG).unwrap(), "what was in flight was not stopped");
        let on = rank.comm.on(&rank.stream, LONG);
        let error = on.all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap_err();
        assert!(error.to_string().contains("it was revoked"), "{error}");
        let again = rank.comm.split(Some(0), 0, None, LONG);
        let again = again.unwrap().unwrap();
        sum_with(&again, &rank.stream).unwrap();
        again.finalize(LONG).unwrap();
        Some(rank.comm)
    });
}

pub(crate) fn facts() {
    world(3, |rank| {
        let info = rank.comm.host_info().unwrap();
        assert_eq!((info.member, info.device), (rank.comm.member(), rank.rank));
        let properties = rank.comm.properties().unwrap();
        assert_eq!((properties.member, properties.device), (rank.comm.member(), rank.rank));
        assert_eq!(properties.hash.is_some(), since(2, 31, 0));
        Some(rank.comm)
    });
}

pub(crate) fn all_devices() {
    let devices: Vec<_> = (0..4).map(|at| device(3 - at)).collect();
    let comms = Communicator::new_all(nccl(), &devices, &CommConfig::new(), LONG).unwrap();
    for (rank, comm) in comms.iter().enumerate() {
        assert_eq!(comm.member(), Member { rank, world_size: 4 });
        assert_eq!(comm.device().ordinal(), 3 - rank);
    }
    ranks(4, |rank| {
        let stream = nccl::cuda::Stream::new(comms[rank].device()).unwrap();
        sum_with(&comms[rank], &stream).unwrap();
    });
    let none = Communicator::new_all(nccl(), &[], &CommConfig::new(), LONG).unwrap_err();
    assert!(none.to_string().contains("there is no device"), "{none}");
}

/// One rank fails at once: nobody waits for it.
pub(crate) fn all_devices_fail() {
    let devices: Vec<_> = (0..3).map(device).collect();
    let made = within(LONG / 4, || {
        Communicator::new_all(nccl(), &devices, &CommConfig::new(), LONG).unwrap_err()
    });
    assert!(matches!(&made, Error::Nccl(error) if error.code == 2), "{made}");
}
