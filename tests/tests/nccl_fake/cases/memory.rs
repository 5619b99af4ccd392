//! Registered buffers, memory of NCCL, windows.

use std::sync::Barrier;

use nccl::Error;
use nccl::ReduceOp;
use nccl::comm::Signal;
use nccl::comm::WindowFlags;
use nccl::cuda::DeviceVec;

use crate::world::LONG;
use crate::world::SHORT;
use crate::world::device;
use crate::world::nccl;
use crate::world::within;
use crate::world::world;

pub(crate) fn registered() {
    world(2, |rank| {
        let mut data = rank.comm.register(rank.filled(2.0, 100), LONG).unwrap();
        rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
        let mut out = DeviceVec::<f32>::unset(&rank.device, 50).unwrap();
        let half = data.slice(50..).unwrap();
        rank.comm.on(&rank.stream, LONG).all_reduce(&half, &mut out, ReduceOp::Max).unwrap();
        assert_eq!(out.to_vec(&rank.stream, LONG).unwrap(), [4.0; 50]);
        let data = data.release(LONG).unwrap();
        assert_eq!(data.to_vec(&rank.stream, LONG).unwrap(), [4.0; 100]);
        // One that is dropped, one that is still there at the end, and an empty one.
        drop(rank.comm.register(data, LONG).unwrap());
        let empty = DeviceVec::<u8>::unset(&rank.device, 0).unwrap();
        assert_eq!(rank.comm.register(empty, LONG).unwrap().release(LONG).unwrap().count(), 0);
        let left = rank.comm.register(rank.filled(0.0, 3), LONG).unwrap();
        rank.comm.finalize(LONG).unwrap();
        assert_eq!(left.release(LONG).unwrap().count(), 3);
        None
    });
    let other = device(7);
    let buffer = DeviceVec::<f32>::unset(&other, 4).unwrap();
    let alone = nccl::Member { rank: 0, world_size: 1 };
    let config = nccl::comm::CommConfig::new();
    let comm = crate::world::make(alone, nccl().unique_id().unwrap(), &config).unwrap();
    let error = comm.register(buffer, LONG).unwrap_err();
    assert!(error.to_string().contains("the buffer is on device 7"), "{error}");
}

/// A registration may be dropped in any order with its communicator, or be leaked.
pub(crate) fn registered_outlives() {
    let all = Barrier::new(2);
    world(2, |rank| {
        let data = rank.comm.register(rank.filled(2.0, 100), LONG).unwrap();
        let leaked = rank.comm.register(rank.filled(2.0, 100), LONG).unwrap();
        std::mem::forget(leaked);
        let late = rank.comm.register(rank.filled(2.0, 100), LONG).unwrap();
        all.wait();
        rank.comm.abort_handle().abort("for the test");
        drop(data);
        drop(rank.comm);
        assert_eq!(late.release(LONG).unwrap().count(), 100);
        None
    });
}

pub(crate) fn allocated() {
    world(2, |rank| {
        let mut data = nccl().alloc::<f32>(&rank.device, 1000, LONG).unwrap();
        data.write(&rank.stream, &[1.5; 1000], LONG).unwrap();
        rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
        assert_eq!(data.to_vec(&rank.stream, LONG).unwrap(), [3.0; 1000]);
        // While an operation on it is under way: it is freed behind that.
        rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap();
        drop(data);
        assert!(nccl().alloc::<f64>(&rank.device, usize::MAX / 2, LONG).is_err());
        assert_eq!(nccl().alloc::<u8>(&rank.device, 0, LONG).unwrap().count(), 0);
        assert!(rank.stream.as_ref().wait(LONG).unwrap());
        Some(rank.comm)
    });
}

pub(crate) fn alloc_hangs() {
    let error = within(LONG, || nccl().alloc::<f32>(&device(0), 10, SHORT).unwrap_err());
    assert!(matches!(error, Error::NcclStuck { call: "ncclMemAlloc", .. }), "{error}");
}

/// Each rank writes its number to the next one's window, which waits for it.
pub(crate) fn window() {
    let all = Barrier::new(3);
    world(3, |rank| {
        let mut memory = nccl().alloc::<f32>(&rank.device, 4096, LONG).unwrap();
        memory.write(&rank.stream, &[rank.rank as f32; 4096], LONG).unwrap();
        let window = rank.comm.register_window(memory, WindowFlags::default(), LONG).unwrap();
        assert!(window.is_supported());
        all.wait();
        let next = (rank.rank + 1) % 3;
        let before = (rank.rank + 2) % 3;
        let own = window.slice(..10).unwrap();
        let signal = Signal::default();
        window.put_signal(&rank.comm, &rank.stream, &own, (next, 4000), signal, LONG).unwrap();
        rank.comm.wait_signal(&rank.stream, &[(before, 1, signal)], LONG).unwrap();
        rank.comm.signal(&rank.stream, before, signal, LONG).unwrap();
        rank.comm.wait_signal(&rank.stream, &[(next, 1, signal)], LONG).unwrap();
        let got = window.get().unwrap().to_vec(&rank.stream, LONG).unwrap();
        assert_eq!(got[4000..4010], [before as f32; 10]);
        assert_eq!((got[3999], got[4010]), (rank.rank as f32, rank.rank as f32));
        all.wait();
        if rank.rank == 1 {
            assert_eq!(window.release(LONG).unwrap().count(), 4096);
        } else if rank.rank == 2 {
            drop(window);
        } else {
            // At the end it is released all the same.
            std::mem::forget(window);
        }
        Some(rank.comm)
    });
}

pub(crate) fn window_unsupported() {
    world(2, |rank| {
        let memory = nccl().alloc::<f32>(&rank.device, 4096, LONG).unwrap();
        let mut window = rank.comm.register_window(memory, WindowFlags::default(), LONG).unwrap();
        assert!(!window.is_supported());
        let own = rank.filled(1.0, 4);
        let (signal, to) = (Signal::default(), (0, 0));
        let error =
            window.put_signal(&rank.comm, &rank.stream, &own, to, signal, LONG).unwrap_err();
        assert!(error.to_string().contains("no windows here"), "{error}");
        // It is memory as any other.
        window.write(&rank.stream, &[1.0; 4096], LONG).unwrap();
        rank.comm.on(&rank.stream, LONG).all_reduce_in_place(&mut window, ReduceOp::Sum).unwrap();
        let data = window.release(LONG).unwrap();
        assert_eq!(data.to_vec(&rank.stream, LONG).unwrap(), [2.0; 4096]);
        Some(rank.comm)
    });
}

pub(crate) fn window_misuse() {
    world(2, |rank| {
        let memory = nccl().alloc::<f32>(&rank.device, 4096, LONG).unwrap();
        let window = rank.comm.register_window(memory, WindowFlags::default(), LONG).unwrap();
        let (signal, own) = (Signal::default(), rank.filled(1.0, 4));
        let put = |from: &DeviceVec<f32>, to, signal| {
            window.put_signal(&rank.comm, &rank.stream, from, to, signal, LONG).unwrap_err()
        };
        assert!(put(&own, (0, 4093), signal).to_string().contains("beyond the window's 4096"));
        assert!(put(&own, (0, usize::MAX), signal).to_string().contains("beyond the window's"));
        assert!(matches!(put(&own, (5, 0), signal), Error::Rank { rank: 5, .. }));
        let high = Signal { index: u32::MAX, context: 0 };
        assert!(put(&own, (0, 0), high).to_string().contains("more than NCCL takes"));
        let wrong = DeviceVec::<i64>::unset(&rank.device, 4).unwrap();
        let error =
            window.put_signal(&rank.comm, &rank.stream, &wrong, (0, 0), signal, LONG).unwrap_err();
        assert!(error.to_string().contains("the window f32"), "{error}");
        let elsewhere = nccl::cuda::Stream::new(&device(6)).unwrap();
        let error = rank.comm.signal(&elsewhere, 0, signal, LONG).unwrap_err();
        assert!(error.to_string().contains("the stream is on device 6"), "{error}");
        let empty = DeviceVec::<f32>::unset(&rank.device, 0).unwrap();
        assert!(rank.comm.register_window(empty, WindowFlags::default(), LONG).is_err());
        rank.sum();
        Some(rank.comm)
    });
}

/// A rank does not register: NCCL waits for it, and we do not.
pub(crate) fn window_stuck() {
    let over = Barrier::new(2);
    world(2, |rank| {
        if rank.rank == 0 {
            let memory = nccl().alloc::<f32>(&rank.device, 4096, LONG).unwrap();
            let flags = WindowFlags::default();
            let error =
                within(LONG, || rank.comm.register_window(memory, flags, SHORT).unwrap_err());
            assert!(
                matches!(error, Error::NcclStuck { call: "ncclCommWindowRegister", .. }),
                "{error}"
            );
            let after = within(LONG, || rank.comm.memory_stats().unwrap_err());
            assert!(matches!(after, Error::NcclStuck { .. }), "{after}");
        }
        over.wait();
        None
    });
}
