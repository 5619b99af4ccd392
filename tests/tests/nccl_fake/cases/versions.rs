//! Everything once, by any version: done by those that have it, refused by name by the others.

use nccl::Member;
use nccl::ReduceOp;
use nccl::comm::CallConfig;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::comm::Group;
use nccl::comm::Signal;
use nccl::comm::WindowFlags;
use nccl::cuda::DeviceVec;
use nccl::f16;

use crate::world::LONG;
use crate::world::Rank;
use crate::world::by_version;
use crate::world::device;
use crate::world::nccl;
use crate::world::since;
use crate::world::sum_with;
use crate::world::world;
use crate::world::world_as;

pub(crate) fn all() {
    assert_eq!(nccl().version().to_string(), std::env::var("EXPECTED_VERSION").unwrap());
    world(2, |rank| {
        rank.sum();
        operations(&rank);
        memory(&rank);
        states(&rank);
        let one = rank.comm.split(Some([3, 7][rank.rank]), 0, None, LONG);
        let one = by_version(since(2, 18, 1), "split", one).unwrap().unwrap();
        sum_with(&one, &rank.stream).unwrap();
        one.finalize(LONG).unwrap();
        if rank.rank == 0 {
            let fewer = rank.comm.shrink(&[1], false, None, LONG);
            if let Some(fewer) = by_version(since(2, 27, 3), "shrink", fewer) {
                sum_with(&fewer, &rank.stream).unwrap();
            }
        }
        Some(rank.comm)
    });
    world_as(2, &CommConfig::new().blocking(true), |rank| {
        operations(&rank);
        Some(rank.comm)
    });
    process();
}

/// What older versions have not is done by messages; 8-bit floats cannot be.
fn operations(rank: &Rank) {
    let (on, own) = (rank.comm.on(&rank.stream, LONG), rank.rank as f32);
    let mine = DeviceVec::from_slice(&rank.stream, &[own, own + 10.0], LONG).unwrap();
    let mut out = rank.filled(0.0, 2);
    on.all_to_all(&mine, &mut out).unwrap();
    let other = own * 10.0;
    assert_eq!(out.to_vec(&rank.stream, LONG).unwrap(), [other, other + 1.0]);
    let mut all = rank.filled(0.0, 4);
    let root = rank.rank == 0;
    on.gather(&mine, root.then_some(&mut all), 0).unwrap();
    if root {
        assert_eq!(all.to_vec(&rank.stream, LONG).unwrap(), [0.0, 10.0, 1.0, 11.0]);
    }
    on.scatter(root.then_some(&all), &mut out, 0).unwrap();
    assert_eq!(out.to_vec(&rank.stream, LONG).unwrap(), [own, own + 10.0]);
    let mut half = DeviceVec::from_slice(&rank.stream, &[f16::from_f32(1.5)], LONG).unwrap();
    on.all_reduce_in_place(&mut half, ReduceOp::Avg).unwrap();
    assert_eq!(half.to_vec(&rank.stream, LONG).unwrap(), [f16::from_f32(1.5)]);
    let mut tiny = DeviceVec::<nccl::F8E4M3>::unset(&rank.device, 4).unwrap();
    by_version(since(2, 24, 3), "fp8", on.all_reduce_in_place(&mut tiny, ReduceOp::Max));
    let configured = rank.comm.with_call_config(&CallConfig::new().ctas(1, 2));
    if let Some(configured) = by_version(since(2, 31, 2), "with_call_config", configured) {
        configured.on(&rank.stream, LONG).all_reduce_in_place(&mut out, ReduceOp::Sum).unwrap();
    }
    let batch = on.batch().all_reduce_in_place(&mut out, ReduceOp::Sum).unwrap();
    let simulated = Group::new().add(&rank.comm, batch).unwrap().simulate(LONG);
    by_version(since(2, 22, 3), "simulate", simulated);
}

fn memory(rank: &Rank) {
    let registered = rank.comm.register(rank.filled(1.0, 8), LONG);
    if let Some(registered) = by_version(since(2, 19, 1), "register", registered) {
        registered.release(LONG).unwrap();
    }
    let memory = nccl().alloc::<f32>(&rank.device, 4096, LONG);
    let Some(memory) = by_version(since(2, 19, 1), "alloc", memory) else { return };
    let window = rank.comm.register_window(memory, WindowFlags::default(), LONG);
    let Some(window) = by_version(since(2, 27, 3), "register_window", window) else { return };
    let (signal, peer) = (Signal::default(), 1 - rank.rank);
    let own = window.slice(..4).unwrap();
    let put = window.put_signal(&rank.comm, &rank.stream, &own, (peer, 100), signal, LONG);
    by_version(since(2, 29, 2), "put_signal", put);
    let waited = rank.comm.wait_signal(&rank.stream, &[(peer, 1, signal)], LONG);
    by_version(since(2, 29, 2), "wait_signal", waited);
    // Nobody writes any more, on both ranks.
    rank.sum();
    window.release(LONG).unwrap();
}

fn states(rank: &Rank) {
    rank.comm.host_info().unwrap();
    by_version(since(2, 29, 7), "properties", rank.comm.properties());
    by_version(since(2, 29, 7), "memory_stats", rank.comm.memory_stats());
    if by_version(since(2, 29, 7), "suspend", rank.comm.suspend(LONG)).is_some() {
        rank.comm.resume(LONG).unwrap();
    } else {
        by_version(false, "resume", rank.comm.resume(LONG));
    }
    by_version(since(2, 29, 2), "grow_id", rank.comm.grow_id());
    let part = rank.comm.split(Some(0), 0, None, LONG).unwrap().unwrap();
    by_version(since(2, 28, 7), "revoke", part.revoke(LONG));
    part.finalize(LONG).unwrap();
}

fn process() {
    by_version(since(2, 30, 7), "params", nccl().params());
    by_version(since(2, 32, 3), "set_encryption", nccl().set_encryption(None));
    by_version(since(2, 24, 3), "reset_debug", nccl().reset_debug());
    let ids = [nccl().unique_id().unwrap(), nccl().unique_id().unwrap()];
    let several = |rank: usize| {
        let member = Member { rank, world_size: 2 };
        Communicator::new(nccl(), &device(rank), member, &ids, &CommConfig::new(), LONG)
    };
    crate::world::ranks(2, |rank| {
        let made = by_version(since(2, 23, 4), "several ids", several(rank));
        if let Some(made) = made {
            made.finalize(LONG).unwrap();
        }
    });
    let named = CommConfig::new().name("tp");
    let alone = Member { rank: 0, world_size: 1 };
    let made = crate::world::make(alone, nccl().unique_id().unwrap(), &named);
    by_version(since(2, 27, 3), "a name", made);
}
