//! Results that nobody knows, late errors, calls in progress.

use nccl::Error;
use nccl::Member;
use nccl::ReduceOp;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::comm::Group;
use nccl::comm::Signal;
use nccl::comm::WindowFlags;
use nccl::cuda::Stream;

use crate::cases::lifecycle::calls;
use crate::world::LONG;
use crate::world::SHORT;
use crate::world::device;
use crate::world::eventually;
use crate::world::make;
use crate::world::nccl;
use crate::world::sum_with;
use crate::world::within;
use crate::world::world;

/// Every call once, until one fails.
fn everything() -> nccl::Result<()> {
    let (gpu, config) = (device(0), CommConfig::new());
    let member = Member { rank: 0, world_size: 1 };
    let id = nccl().unique_id()?;
    let comm = Communicator::new(nccl(), &gpu, member, &[id], &config, LONG)?;
    let stream = Stream::new(&gpu)?;
    comm.check()?;
    comm.host_info()?;
    comm.properties()?;
    comm.memory_stats()?;
    comm.grow_id()?;
    sum_with(&comm, &stream)?;
    let on = comm.on(&stream, LONG);
    let mut memory = nccl().alloc::<f32>(&gpu, 4096, LONG)?;
    on.all_reduce_in_place(&mut memory, ReduceOp::PreMulSum(2.0))?;
    on.batch().all_reduce_in_place(&mut memory, ReduceOp::Max)?.run()?;
    let batch = on.batch().all_reduce_in_place(&mut memory, ReduceOp::Max)?;
    Group::new().add(&comm, batch)?.simulate(LONG)?;
    let memory = comm.register(memory, LONG)?.release(LONG)?;
    let window = comm.register_window(memory, WindowFlags::default(), LONG)?;
    comm.signal(&stream, 0, Signal::default(), LONG)?;
    comm.wait_signal(&stream, &[(0, 1, Signal::default())], LONG)?;
    assert!(stream.as_ref().wait(LONG)?);
    drop(window.release(LONG)?);
    if let Some(child) = comm.split(Some(0), 0, None, LONG)? {
        child.finalize(LONG)?;
    }
    comm.suspend(LONG)?;
    comm.resume(LONG)?;
    nccl().params()?;
    nccl().set_encryption(None)?;
    comm.revoke(LONG)?;
    comm.finalize(LONG)
}

/// The function that is named fails with a number: that is what comes out.
pub(crate) fn unknown_code() {
    let call = std::env::var("EXPECTED_CALL").unwrap();
    let error = everything().unwrap_err();
    let Error::Nccl(error) = &error else { panic!("{call}: {error}") };
    assert_eq!(error.call, call);
    assert_eq!(error.code.to_string(), std::env::var("EXPECTED_CODE").unwrap());
    assert!(error.to_string().contains(&format!("{call} failed: unknown result")), "{error}");
}

pub(crate) fn unknown_code_init() {
    let id = nccl().unique_id().unwrap();
    let made = make(Member { rank: 0, world_size: 1 }, id, &CommConfig::new());
    let error = made.unwrap_err();
    assert!(
        error.to_string().contains("ncclCommInitRankConfig failed: unknown result 9"),
        "{error}"
    );
}

/// An error that NCCL finds out later, by itself.
pub(crate) fn async_error() {
    let member = Member { rank: 0, world_size: 1 };
    let comm = make(member, nccl().unique_id().unwrap(), &CommConfig::new()).unwrap();
    let stream = Stream::new(&device(0)).unwrap();
    for _ in 0..2 {
        sum_with(&comm, &stream).unwrap();
    }
    comm.check().unwrap();
    let late = sum_with(&comm, &stream);
    let error = comm.check().unwrap_err();
    let is_six = |error: &Error| matches!(error, Error::Nccl(error) if error.code == 6);
    assert!(is_six(&error), "{error}");
    drop(late);
    // The next operation says it, too, and ends it.
    let error = sum_with(&comm, &stream).unwrap_err();
    assert!(is_six(&error), "{error}");
    assert!(is_six(&sum_with(&comm, &stream).unwrap_err()));
}

/// Every call is in progress for a while.
pub(crate) fn in_progress_everywhere() {
    everything().unwrap();
    world(2, |rank| {
        for _ in 0..3 {
            rank.sum();
        }
        let part = rank.comm.split(Some(1), 0, None, LONG).unwrap().unwrap();
        sum_with(&part, &rank.stream).unwrap();
        part.finalize(LONG).unwrap();
        Some(rank.comm)
    });
}

/// An init that fails for want of CUDA leaves NCCL inside of a group; not so our threads.
pub(crate) fn leaked_level() {
    let (gpu, id) = (device(0), nccl().unique_id().unwrap());
    let member = Member { rank: 0, world_size: 1 };
    let config = CommConfig::new();
    for _ in 0..2 {
        let made = Communicator::new(nccl(), &gpu, member, &[id], &config, LONG);
        let error = made.unwrap_err();
        assert!(matches!(&error, Error::Nccl(error) if error.code == 1), "{error}");
    }
    assert_eq!(calls("ncclGroupEnd"), 2);
}

/// Up to 2.21 a second id would never be made, after a first failure.
pub(crate) fn no_interface() {
    let first = nccl().unique_id().unwrap_err();
    let second = within(SHORT, || nccl().unique_id().unwrap_err());
    assert_eq!(first.to_string(), second.to_string());
    assert_eq!(calls("ncclGetUniqueId"), 1);
}

/// A thread has the communicator and does not give it back: others are told in time.
pub(crate) fn busy_comm() {
    let member = Member { rank: 0, world_size: 1 };
    let comm = make(member, nccl().unique_id().unwrap(), &CommConfig::new()).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    std::thread::scope(|scope| {
        let (entered, inside) = std::sync::mpsc::channel();
        let comm = &comm;
        scope.spawn(move || {
            comm.with_raw(|_| {
                entered.send(()).unwrap();
                held.lock().unwrap().recv().unwrap();
            })
            .unwrap();
        });
        inside.recv().unwrap();
        within(SHORT, || comm.check().unwrap());
        let stream = Stream::new(&device(0)).unwrap();
        let mut data = nccl::cuda::DeviceVec::<u8>::unset(&device(0), 4).unwrap();
        let on = comm.on(&stream, SHORT);
        let error = within(LONG, || on.all_reduce_in_place(&mut data, ReduceOp::Sum).unwrap_err());
        assert!(matches!(error, Error::NcclStuck { .. }), "{error}");
        release.send(()).unwrap();
    });
    eventually("the end", || comm.check().is_err());
}
