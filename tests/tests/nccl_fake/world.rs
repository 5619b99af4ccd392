//! A world of threads in a child, with a device each.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::Error;
use nccl::Member;
use nccl::ReduceOp;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::comm::Nccl;
use nccl::comm::UniqueId;
use nccl::comm::Version;
use nccl::cuda::Device;
use nccl::cuda::DeviceVec;
use nccl::cuda::Driver;
use nccl::cuda::Stream;

/// For what is not to time out.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// For what is.
pub(crate) const SHORT: Duration = Duration::from_millis(400);

/// One rank.
pub(crate) struct Rank {
    pub(crate) comm: Communicator,
    pub(crate) stream: Stream,
    pub(crate) device: Device,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
}

pub(crate) fn nccl() -> &'static Nccl {
    Nccl::get().unwrap()
}

pub(crate) fn device(ordinal: usize) -> Device {
    Driver::get().unwrap().device(ordinal).unwrap()
}

pub(crate) fn make(
    member: Member,
    id: UniqueId,
    config: &CommConfig,
) -> nccl::Result<Communicator> {
    Communicator::new(nccl(), &device(member.rank), member, &[id], config, LONG)
}

impl Rank {
    pub(crate) fn of(comm: Communicator) -> Self {
        let (device, member) = (comm.device().clone(), comm.member());
        let stream = Stream::new(&device).unwrap();
        Self { comm, stream, device, rank: member.rank, world_size: member.world_size }
    }

    /// Device memory with one value in all places.
    pub(crate) fn filled(&self, value: f32, count: usize) -> DeviceVec<f32> {
        DeviceVec::from_slice(&self.stream, &vec![value; count], LONG).unwrap()
    }

    /// Sums the ranks' numbers, from 1, and checks the result.
    pub(crate) fn sum(&self) {
        sum_with(&self.comm, &self.stream).unwrap();
    }
}

/// Sums the ranks' numbers, from 1, and checks the result.
pub(crate) fn sum_with(comm: &Communicator, stream: &Stream) -> nccl::Result<()> {
    let Member { rank, world_size } = comm.member();
    let mut data = DeviceVec::from_slice(stream, &[rank as f32 + 1.0; 33], LONG)?;
    comm.on(stream, LONG).all_reduce_in_place(&mut data, ReduceOp::Sum)?;
    let expected = (world_size * (world_size + 1)) as f32 / 2.0;
    assert_eq!(data.to_vec(stream, LONG)?, [expected; 33], "rank {rank} of {world_size}");
    Ok(())
}

/// Runs `body` on each rank, and finalizes what it returns.
pub(crate) fn world(world_size: usize, body: impl Fn(Rank) -> Option<Communicator> + Sync) {
    world_as(world_size, &CommConfig::new(), body);
}

pub(crate) fn world_as(
    world_size: usize,
    config: &CommConfig,
    body: impl Fn(Rank) -> Option<Communicator> + Sync,
) {
    let id = nccl().unique_id().unwrap();
    ranks(world_size, |rank| {
        let comm = make(Member { rank, world_size }, id, config).unwrap();
        if let Some(comm) = body(Rank::of(comm)) {
            comm.finalize(LONG).unwrap();
        }
    });
}

/// Runs `body` on as many threads.
pub(crate) fn ranks<T: Send>(count: usize, body: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let body = &body;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|rank| scope.spawn(move || body(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The library's version is at least this one.
pub(crate) fn since(major: u16, minor: u16, patch: u16) -> bool {
    nccl().version() >= Version::new(major, minor, patch)
}

/// Says no, as the version lacks it, or yes.
#[track_caller]
pub(crate) fn by_version<T>(has: bool, what: &str, result: nccl::Result<T>) -> Option<T> {
    match result {
        Ok(value) => {
            assert!(has, "{what} was done by {}", nccl().version());
            Some(value)
        }
        Err(Error::Unsupported(missing)) => {
            assert!(!has, "{what} in {}: {missing}", nccl().version());
            assert_eq!(missing.found, nccl().version());
            assert!(missing.needs > missing.found, "{missing}");
            None
        }
        Err(error) => panic!("{what} in {}: {error}", nccl().version()),
    }
}

/// Runs `call`, which must be over within `bound`.
#[track_caller]
pub(crate) fn within<T>(bound: Duration, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = call();
    assert!(begun.elapsed() < bound, "took {:?}, and not {bound:?}", begun.elapsed());
    value
}

/// Waits for something that a thread is about to do.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what} has not happened");
        thread::sleep(Duration::from_millis(2)); // for what is named
    }
}
