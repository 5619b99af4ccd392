//! Groups of several communicators, configurations of calls, default streams, graphs.

use std::time::Duration;

use nccl::Error;
use nccl::Family;
use nccl::Member;
use nccl::ReduceOp;
use nccl::comm::CallConfig;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::comm::Group;
use nccl::cuda::CaptureMode;
use nccl::cuda::DeviceVec;
use nccl::cuda::Stream;
use nccl::cuda::StreamRef;

use crate::world::LONG;
use crate::world::Rank;
use crate::world::device;
use crate::world::nccl;
use crate::world::ranks;
use crate::world::sum_with;
use crate::world::within;
use crate::world::world;
use crate::world::world_as;

/// The communicators of a world, for one thread.
fn all(count: usize) -> Vec<Rank> {
    let devices: Vec<_> = (0..count).map(device).collect();
    let config = CommConfig::new();
    let comms = Communicator::new_all(nccl(), &devices, &config, LONG).unwrap();
    comms.into_iter().map(Rank::of).collect()
}

fn filled(ranks: &[Rank]) -> Vec<DeviceVec<f32>> {
    ranks.iter().map(|rank| rank.filled(rank.rank as f32 + 1.0, 20)).collect()
}

fn end(ranks: Vec<Rank>) {
    // Each on a thread: they wait for one another.
    std::thread::scope(|scope| {
        for rank in ranks {
            scope.spawn(move || rank.comm.finalize(LONG).unwrap());
        }
    });
}

/// Buffers that do not go together, in every operation.
pub(crate) fn wrong_lengths() {
    world(2, |rank| {
        let on = rank.comm.on(&rank.stream, LONG);
        let (three, four) = (rank.filled(0.0, 3), rank.filled(0.0, 4));
        let (mut one, mut five) = (rank.filled(0.0, 1), rank.filled(0.0, 5));
        let errors = [
            on.all_reduce(&three, &mut five, ReduceOp::Sum),
            on.all_gather(&three, &mut five),
            on.all_gather_in_place(&mut five),
            on.reduce_scatter(&four, &mut one, ReduceOp::Sum),
            on.reduce_scatter_in_place(&mut five, ReduceOp::Sum),
            on.all_to_all(&four, &mut five),
            on.reduce(&three, Some(&mut five), ReduceOp::Sum, rank.rank),
            on.gather(&three, Some(&mut five), rank.rank),
            on.scatter(Some(&four), &mut one, rank.rank),
            on.all_gather_v(&three, &mut five, &[3, 3]),
            on.reduce_scatter_v(&four, &mut five, &[4, 4], ReduceOp::Sum),
            on.all_to_all_v(&three, &mut five, &[1, 1], &[2, 2]),
        ];
        for (at, error) in errors.into_iter().enumerate() {
            let error = error.unwrap_err();
            assert_eq!(error.family(), Family::Misuse, "{at}: {error}");
        }
        let errors = [
            on.broadcast(&mut five, 2),
            on.send(&four, 2),
            on.recv(&mut five, usize::MAX),
            on.reduce(&four, None::<&mut DeviceVec<f32>>, ReduceOp::Sum, 9),
        ];
        for (at, error) in errors.into_iter().enumerate() {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::Rank { world_size: 2, .. }), "{at}: {error}");
        }
        let log = std::fs::read_to_string(std::env::var("FAKE_NCCL_LOG").unwrap()).unwrap();
        for name in
            ["Reduce", "Gather", "Scatter", "Broadcast", "AlltoAll", "Send", "Recv", "Group"]
        {
            assert!(!log.contains(&format!("CALL nccl{name}")), "{name}: {log}");
        }
        Some(rank.comm)
    });
}

/// One thread drives three devices, with several operations on each.
pub(crate) fn grouped() {
    let ranks = all(3);
    let (mut data, factors) = (filled(&ranks), filled(&ranks));
    let mut scaled = filled(&ranks);
    let mut group = Group::new();
    let places = ranks.iter().zip(&mut data).zip(&factors).zip(&mut scaled);
    for (((rank, data), factors), scaled) in places {
        let batch = rank.comm.on(&rank.stream, LONG).batch();
        let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
        let batch = batch.all_reduce(factors, scaled, ReduceOp::PreMulSum(0.5)).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    assert_eq!(group.count(), 6);
    group.run(LONG).unwrap();
    for ((rank, data), scaled) in ranks.iter().zip(&data).zip(&scaled) {
        assert_eq!(data.to_vec(&rank.stream, LONG).unwrap(), [6.0; 20]);
        assert_eq!(scaled.to_vec(&rank.stream, LONG).unwrap(), [3.0; 20]);
    }
    // One that is dropped or leaked has done nothing.
    let mut group = Group::new();
    for (rank, data) in ranks.iter().zip(&mut data) {
        let batch = rank.comm.on(&rank.stream, LONG).batch();
        let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    std::mem::forget(group);
    assert_eq!(data[0].to_vec(&ranks[0].stream, LONG).unwrap(), [6.0; 20]);
    Group::new().run(LONG).unwrap();
    end(ranks);
}

pub(crate) fn grouped_misuse() {
    let ranks = all(2);
    let mut data = filled(&ranks);
    let [first, second] = &ranks[..] else { unreachable!() };
    let batch = first.comm.on(&first.stream, LONG).batch();
    let batch = batch.all_reduce_in_place(&mut data[0], ReduceOp::Sum).unwrap();
    let error = Group::new().add(&second.comm, batch).unwrap_err();
    assert!(error.to_string().contains("not begun with this communicator"), "{error}");
    // Bitwise reductions are no business of NCCL's: nothing begins.
    let mut whole = DeviceVec::<i32>::zeroed(&first.stream, 4).unwrap();
    let batch = first.comm.on(&first.stream, LONG).batch();
    let batch = batch.all_reduce_in_place(&mut whole, ReduceOp::BitXor).unwrap();
    let error = Group::new().add(&first.comm, batch).unwrap().run(LONG).unwrap_err();
    assert!(matches!(error, Error::Op { .. }), "{error}");
    // One of them has ended.
    second.comm.abort_handle().abort("for the test");
    let mut group = Group::new();
    for (rank, data) in ranks.iter().zip(&mut data) {
        let batch = rank.comm.on(&rank.stream, LONG).batch();
        let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    let error = group.run(LONG).unwrap_err();
    assert!(error.to_string().contains("for the test"), "{error}");
    // The other one may have heard that its peer is gone, and was not ended for it.
    assert!(!matches!(first.comm.check(), Err(Error::CommEnded { .. })));
}

/// A call inside of a group fails: the group is ended nevertheless, and the thread's next one runs.
pub(crate) fn grouped_failing() {
    let ranks = all(2);
    let mut data = filled(&ranks);
    let mut group = Group::new();
    for (rank, data) in ranks.iter().zip(&mut data) {
        let batch = rank.comm.on(&rank.stream, LONG).batch();
        let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    let error = group.run(LONG).unwrap_err();
    assert!(matches!(&error, Error::Nccl(error) if error.code == 4), "{error}");
    // An argument only: everything is as before, and the level of groups is that of the beginning.
    let streams: Vec<_> = ranks.iter().map(|rank| Stream::new(&rank.device).unwrap()).collect();
    let mut bytes: Vec<_> = streams
        .iter()
        .map(|stream| DeviceVec::from_slice(stream, &[3_u8; 4], LONG).unwrap())
        .collect();
    let mut group = Group::new();
    for ((rank, stream), bytes) in ranks.iter().zip(&streams).zip(&mut bytes) {
        let batch = rank.comm.on(stream, LONG).batch().broadcast(bytes, 0).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    group.run(LONG).unwrap();
    assert_eq!(bytes[1].to_vec(&streams[1], LONG).unwrap(), [3; 4]);
    end(ranks);
}

/// A call fails, and NCCL begins the others: that the other ranks wait for it ends them all.
pub(crate) fn grouped_torn() {
    let ranks = all(2);
    let mut data = filled(&ranks);
    let mut group = Group::new();
    for (rank, data) in ranks.iter().zip(&mut data) {
        let batch = rank.comm.on(&rank.stream, LONG).batch();
        let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    let error = within(LONG / 2, || group.run(LONG).unwrap_err());
    assert!(matches!(&error, Error::Nccl(error) if error.code == 4), "{error}");
    for rank in &ranks {
        assert_eq!(rank.comm.check().unwrap_err().to_string(), error.to_string());
        // What was begun is stopped.
        assert!(rank.stream.as_ref().wait(LONG).unwrap());
    }
}

pub(crate) fn simulated() {
    let ranks = all(2);
    let mut data = filled(&ranks);
    let mut group = Group::new();
    for (rank, data) in ranks.iter().zip(&mut data) {
        let batch = rank.comm.on(&rank.stream, LONG).batch();
        let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
        group = group.add(&rank.comm, batch).unwrap();
    }
    // What the fake says.
    assert_eq!(group.simulate(LONG).unwrap(), Duration::from_micros(10));
    assert_eq!(data[1].to_vec(&ranks[1].stream, LONG).unwrap(), [2.0; 20]);
    end(ranks);
}

/// The eight operations that have a configuration, and one that has none.
pub(crate) fn call_config() {
    world(2, |rank| {
        let config = CallConfig::new().ctas(1, 2).algorithms("ring").profiler_tag(5);
        let configured = rank.comm.with_call_config(&config).unwrap();
        let on = configured.on(&rank.stream, LONG);
        let mut buf = rank.filled(rank.rank as f32 + 1.0, 4);
        on.all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap();
        assert_eq!(buf.to_vec(&rank.stream, LONG).unwrap(), [3.0; 4]);
        let own = rank.filled(rank.rank as f32, 2);
        on.all_gather(&own, &mut buf).unwrap();
        assert_eq!(buf.to_vec(&rank.stream, LONG).unwrap(), [0.0, 0.0, 1.0, 1.0]);
        let mut half = rank.filled(0.0, 2);
        on.reduce_scatter(&buf, &mut half, ReduceOp::Sum).unwrap();
        let expected = 2.0 * rank.rank as f32;
        assert_eq!(half.to_vec(&rank.stream, LONG).unwrap(), [expected; 2]);
        on.reduce_scatter_in_place(&mut buf, ReduceOp::Sum).unwrap();
        on.all_gather_in_place(&mut buf).unwrap();
        assert_eq!(buf.to_vec(&rank.stream, LONG).unwrap(), [0.0, 0.0, 2.0, 2.0]);
        on.broadcast(&mut half, 1).unwrap();
        assert_eq!(half.to_vec(&rank.stream, LONG).unwrap(), [2.0; 2]);
        let mut out = rank.filled(0.0, 4);
        on.all_to_all(&buf, &mut out).unwrap();
        assert_eq!(out.to_vec(&rank.stream, LONG).unwrap(), [expected; 4]);
        on.reduce_in_place(&mut half, ReduceOp::Max, 0).unwrap();
        let root = rank.rank == 1;
        on.gather(&own, root.then_some(&mut out), 1).unwrap();
        on.scatter(root.then_some(&out), &mut half, 1).unwrap();
        assert_eq!(half.to_vec(&rank.stream, LONG).unwrap(), [rank.rank as f32; 2]);
        let error = on.send(&half, 1 - rank.rank).unwrap_err();
        assert!(error.to_string().contains("no configuration"), "{error}");
        let log = std::fs::read_to_string(std::env::var("FAKE_NCCL_LOG").unwrap()).unwrap();
        for name in [
            "AllReduce",
            "AllGather",
            "ReduceScatter",
            "Broadcast",
            "AlltoAll",
            "Reduce",
            "Gather",
            "Scatter",
        ] {
            assert!(log.contains(&format!("CALL nccl{name}Config\n")), "{name}");
            assert!(!log.contains(&format!("CALL nccl{name}\n")), "{name}");
        }
        Some(rank.comm)
    });
}

/// On the calling thread's default stream, as candle has it.
fn on_default(rank: &Rank) {
    let stream = StreamRef::per_thread_default(&rank.device);
    for round in 0..5 {
        let mut data = DeviceVec::from_slice(stream, &[round as f32; 40], LONG).unwrap();
        rank.comm.on(&stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
        let mut copy = rank.filled(0.0, 40);
        rank.comm.on(&stream, LONG).all_reduce(&data, &mut copy, ReduceOp::Max).unwrap();
        let expected = (rank.world_size * round) as f32;
        // Read on the same stream: it comes after both.
        assert_eq!(copy.to_vec(stream, LONG).unwrap(), [expected; 40], "round {round}");
    }
}

pub(crate) fn per_thread() {
    world(2, |rank| {
        on_default(&rank);
        // Another thread has another one.
        ranks(1, |_| on_default(&rank));
        Some(rank.comm)
    });
    world_as(2, &CommConfig::new().blocking(true), |rank| {
        on_default(&rank);
        Some(rank.comm)
    });
}

pub(crate) fn per_thread_group() {
    let ranks = all(2);
    let streams: Vec<_> =
        ranks.iter().map(|rank| StreamRef::per_thread_default(&rank.device)).collect();
    let (mut one, mut two) = (filled(&ranks), filled(&ranks));
    let mut group = Group::new();
    for (((rank, stream), one), two) in ranks.iter().zip(&streams).zip(&mut one).zip(&mut two) {
        // Twice the same communicator, on two streams.
        let batch = rank.comm.on(stream, LONG).batch();
        group =
            group.add(&rank.comm, batch.all_reduce_in_place(one, ReduceOp::Sum).unwrap()).unwrap();
        let batch = rank.comm.on(stream, LONG).batch();
        group =
            group.add(&rank.comm, batch.all_reduce_in_place(two, ReduceOp::Max).unwrap()).unwrap();
    }
    group.run(LONG).unwrap();
    for (at, stream) in streams.iter().enumerate() {
        assert_eq!(one[at].to_vec(*stream, LONG).unwrap(), [3.0; 20]);
        assert_eq!(two[at].to_vec(*stream, LONG).unwrap(), [2.0; 20]);
    }
    end(ranks);
}

#[expect(unsafe_code, reason = "launches a graph whose buffers and communicator are there")]
fn capture_on(rank: &Rank, stream: StreamRef<'_>) {
    let mut data = DeviceVec::from_slice(stream, &[1.0_f32; 16], LONG).unwrap();
    // Once outside, as connections cannot be made while capturing.
    rank.comm.on(&stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
    assert!(stream.wait(LONG).unwrap());
    stream.begin_capture(CaptureMode::ThreadLocal).unwrap();
    rank.comm.on(&stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
    let mut graph = stream.end_capture().unwrap();
    assert_eq!(data.to_vec(stream, LONG).unwrap(), [2.0; 16], "captured, and not run");
    for round in 2..5 {
        // SAFETY: data and communicator live until the stream is done, below.
        unsafe { graph.launch(stream) }.unwrap();
        let expected = 2_f32.powi(round);
        assert_eq!(data.to_vec(stream, LONG).unwrap(), [expected; 16]);
    }
}

pub(crate) fn captured() {
    world(2, |rank| {
        capture_on(&rank, rank.stream.as_ref());
        Some(rank.comm)
    });
}

pub(crate) fn captured_per_thread() {
    world(2, |rank| {
        capture_on(&rank, StreamRef::per_thread_default(&rank.device));
        Some(rank.comm)
    });
}

/// Two communicators of one device, used by two threads each: nobody meets inside NCCL.
pub(crate) fn shared_device() {
    let ids = [nccl().unique_id().unwrap(), nccl().unique_id().unwrap()];
    ranks(2, |rank| {
        let member = Member { rank, world_size: 2 };
        let make = |id| crate::world::make(member, id, &CommConfig::new()).unwrap();
        let comms = ids.map(make);
        std::thread::scope(|scope| {
            for comm in &comms {
                scope.spawn(move || {
                    let stream = Stream::new(comm.device()).unwrap();
                    for _ in 0..20 {
                        sum_with(comm, &stream).unwrap();
                    }
                });
            }
        });
        for comm in comms {
            comm.finalize(LONG).unwrap();
        }
    });
    // And in groups whose communicators stand in different orders.
    let first = all(2);
    within(LONG, || {
        std::thread::scope(|scope| {
            for order in [[0, 1], [1, 0]] {
                let first = &first;
                scope.spawn(move || {
                    let streams: Vec<_> =
                        order.map(|at| Stream::new(&first[at].device).unwrap()).into();
                    for _ in 0..10 {
                        let mut data: Vec<_> = streams
                            .iter()
                            .map(|stream| DeviceVec::from_slice(stream, &[1_i32; 3], LONG).unwrap())
                            .collect();
                        let mut group = Group::new();
                        for ((at, stream), data) in order.iter().zip(&streams).zip(&mut data) {
                            let comm = &first[*at].comm;
                            let batch = comm.on(stream, LONG).batch();
                            let batch = batch.all_reduce_in_place(data, ReduceOp::Sum).unwrap();
                            group = group.add(comm, batch).unwrap();
                        }
                        group.run(LONG).unwrap();
                        assert_eq!(data[0].to_vec(&streams[0], LONG).unwrap(), [2; 3]);
                        assert!(streams[1].as_ref().wait(LONG).unwrap());
                    }
                });
            }
        });
    });
    end(first);
}
