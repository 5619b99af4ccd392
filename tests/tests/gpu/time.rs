//! How long the host is busy with one `all_reduce`: ours against the bare C function.
//!
//! The aim is less than 100 ns more. All are called in turns in one process, in rounds; a round's
//! time is that of its calls divided by their number, and the median of the rounds counts. The
//! device is idle before each round, and a round is short enough not to wait for it.

#![expect(unsafe_code, reason = "calls NCCL as C does")]

use std::time::Instant;

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::comm::CommConfig;
use nccl::comm::Communicator;
use nccl::comm::Nccl;
use nccl::comm::UniqueId;
use nccl::cuda::DeviceVec;
use nccl::cuda::Stream;
use nccl_sys::ncclComm_t;
use nccl_sys::ncclDataType_t;
use nccl_sys::ncclRedOp_t;
use tests::processes::Rank;

use crate::PATIENCE;
use crate::stream;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 1] = [("host_time", host_time)];

const ROUNDS: usize = 200;
const CALLS: usize = 20;
const COUNT: usize = 1024;

#[test]
fn the_host_time_of_a_call_is_reported() {
    for size in [1, 2] {
        for blocking in ["0", "1"] {
            let Some(world) = World::new(How::Processes, size) else { return };
            let texts = world.with("NCCL_RS_NCCL_BLOCKING", blocking).run("host_time");
            assert!(texts.iter().all(|text| text.contains("ProcessGroup ")), "{texts:?}");
        }
    }
}

fn host_time(group: ProcessGroup) -> Result<String> {
    let blocking = std::env::var("NCCL_RS_NCCL_BLOCKING").is_ok_and(|value| value == "1");
    let stream = stream(&group)?;
    let mut buf = DeviceVec::from_slice(&stream, &[1.0_f32; COUNT], PATIENCE)?;
    let comm = communicator(&group, &stream, blocking)?;
    let bare = Bare::new()?;
    // As a program in C has it, which calls `cudaSetDevice` once.
    let _current = stream.device().make_current()?;
    let (mut of_bare, mut of_group) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 5 {
        let c = comm.with_raw(|raw| {
            // SAFETY: the communicator is live while it is lent, nobody else uses it, and the
            // buffer outlives its work, as the stream is waited for below.
            per_call(|| unsafe { bare.all_reduce(raw.cast(), &buf, &stream) })
        })?;
        group.synchronize(&stream)?;
        let ours = per_call(|| {
            group.on(&stream).all_reduce_in_place(&mut buf, ReduceOp::Max).expect("enqueued");
        });
        group.synchronize(&stream)?;
        if round >= 5 {
            of_bare.push(c);
            of_group.push(ours);
        }
    }
    assert_eq!(buf.to_vec(&stream, PATIENCE)?, [1.0; COUNT]);
    comm.finalize(PATIENCE)?;
    group.finalize()?;
    let (bare, ours) = (median(of_bare), median(of_group));
    let kind = if blocking { "blocking" } else { "nonblocking" };
    Ok(format!("{kind}: ncclAllReduce {bare} ns, ProcessGroup {ours} ns, {:+} ns", ours - bare))
}

/// A communicator of all ranks beside the group's.
fn communicator(group: &ProcessGroup, stream: &Stream, blocking: bool) -> Result<Communicator> {
    let nccl = Nccl::get()?;
    let mut bytes = Vec::new();
    if group.rank() == 0 {
        bytes = nccl.unique_id()?.to_bytes().to_vec();
    }
    group.broadcast_bytes(&mut bytes, 0)?;
    let id = UniqueId::try_from(&*bytes).expect("an id of rank 0");
    let config = CommConfig::new().blocking(blocking);
    Communicator::new(nccl, stream.device(), group.member(), &[id], &config, PATIENCE)
}

/// The function of the library, as C calls it.
struct Bare {
    all_reduce: nccl_sys::signatures::ncclAllReduce,
    state: nccl_sys::signatures::ncclCommGetAsyncError,
}

impl Bare {
    fn new() -> Result<Self> {
        // The library is open already, so this is the same one.
        let library = nccl_sys::Library::open().expect("libnccl");
        let all_reduce = library.ncclAllReduce().expect("a function of every version");
        let state = library.ncclCommGetAsyncError().expect("a function of every version");
        Ok(Self { all_reduce, state })
    }

    /// Enqueues a maximum in place, and asks until a communicator that does not block has done so.
    ///
    /// # Safety
    /// The communicator is live and used by nobody else, on the stream's device; the buffer lives
    /// until the stream is done.
    unsafe fn all_reduce(&self, comm: ncclComm_t, buf: &DeviceVec<f32>, stream: &Stream) {
        let at = core::ptr::with_exposed_provenance_mut(usize::try_from(buf.as_raw()).unwrap());
        let (dtype, op) = (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclMax);
        let stream = stream.as_ref().as_raw().cast();
        // SAFETY: the caller vouches for all arguments.
        let mut result = unsafe { (self.all_reduce)(at, at, buf.count(), dtype, op, comm, stream) };
        while result == nccl_sys::NcclResult::IN_PROGRESS {
            let mut state = result;
            // SAFETY: as above; NCCL writes one result, to a live one.
            let asked = unsafe { (self.state)(comm, &raw mut state) };
            assert_eq!(asked, nccl_sys::NcclResult::SUCCESS);
            result = state;
        }
        assert_eq!(result, nccl_sys::NcclResult::SUCCESS);
    }
}

/// Nanoseconds per call.
fn per_call(mut call: impl FnMut()) -> i64 {
    let begun = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    i64::try_from(begun.elapsed().as_nanos()).unwrap() / i64::try_from(CALLS).unwrap()
}

fn median(mut all: Vec<i64>) -> i64 {
    all.sort_unstable();
    all[all.len() / 2]
}
