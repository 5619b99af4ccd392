//! The same calls on device memory.

use std::time::Duration;

use nccl::Kind;
use nccl::ProcessGroup;
use nccl::Result;
use nccl::cuda::DeviceSlice;
use nccl::cuda::DeviceSliceMut;
use nccl::cuda::DeviceVec;
use nccl::cuda::Stream;

use super::Case;
use super::Guarded;
use super::difference;
use crate::oracle::Value;

const SECONDS: Duration = Duration::from_secs(60);

/// As [`super::check`], with buffers on the stream's device, which are parts of larger ones.
///
/// # Errors
/// Those of the group and of the driver.
pub fn check(group: &ProcessGroup, stream: &Stream, case: &Case) -> Result<Option<String>> {
    typed!(case.dtype, T => {
        let outcome = outcome::<T>(group, stream, case)?;
        Ok(difference(group, case, &outcome))
    })
}

/// Makes the calls, and compares all that this rank gets; gives the number of cases.
///
/// # Errors
/// Those of the group and of the driver.
///
/// # Panics
/// With the first differences, once all calls are made.
pub fn check_all(group: &ProcessGroup, stream: &Stream, cases: &[Case]) -> Result<usize> {
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(check(group, stream, case)?);
    }
    group.barrier()?;
    let shown = wrong.len().min(5);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..shown].join("\n"));
    Ok(cases.len())
}

/// A buffer among guards, on the device.
struct OnDevice<T: Value> {
    host: Guarded<T>,
    device: DeviceVec<T>,
}

impl<T: Value> OnDevice<T> {
    fn new(stream: &Stream, host: Guarded<T>) -> Result<Self> {
        let device = DeviceVec::from_slice(stream, &host.all, SECONDS)?;
        Ok(Self { host, device })
    }

    fn get(&self) -> Result<DeviceSlice<'_, T>> {
        self.device.slice(self.host.begin..self.host.end)
    }

    fn get_mut(&mut self) -> Result<DeviceSliceMut<'_, T>> {
        self.device.slice_mut(self.host.begin..self.host.end)
    }

    /// Back on the host.
    fn read(mut self, stream: &Stream) -> Result<Guarded<T>> {
        self.device.read(stream, &mut self.host.all, SECONDS)?;
        Ok(self.host)
    }
}

/// Makes the call.
fn outcome<T: Value>(group: &ProcessGroup, stream: &Stream, case: &Case) -> Result<Guarded<T>> {
    let counts = case.counts(group.world_size());
    let n = group.world_size();
    match case.kind {
        Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter if case.in_place => {
            reduced_in_place(group, stream, case)
        }
        Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter | Kind::ReduceScatterV => {
            reduced(group, stream, case, &counts)
        }
        Kind::Broadcast => {
            let mine = case.inputs(group.rank(), case.count);
            let junk = Guarded::junk(case.seed, case.count);
            let is_root = group.rank() == case.root;
            let host = if is_root { Guarded::new(case.seed, mine) } else { junk };
            let mut buf = OnDevice::<T>::new(stream, host)?;
            group.on(stream).broadcast(&mut buf.get_mut()?, case.root)?;
            buf.read(stream)
        }
        Kind::Gather | Kind::Scatter => with_root(group, stream, case),
        Kind::AllGather | Kind::AllGatherV => gathered(group, stream, case, &counts),
        Kind::AllToAll if case.in_place => {
            let host = Guarded::new(case.seed, case.inputs(group.rank(), n * case.count));
            let mut buf = OnDevice::<T>::new(stream, host)?;
            group.on(stream).all_to_all_in_place(&mut buf.get_mut()?)?;
            buf.read(stream)
        }
        Kind::AllToAll | Kind::AllToAllV => exchanged(group, stream, case),
        _ => {
            group.barrier()?;
            Ok(Guarded::junk(0, 0))
        }
    }
}

fn reduced_in_place<T: Value>(
    group: &ProcessGroup,
    stream: &Stream,
    case: &Case,
) -> Result<Guarded<T>> {
    let (rank, n, count) = (group.rank(), group.world_size(), case.count);
    let (on, op) = (group.on(stream), case.op_of(rank));
    let total = if case.kind == Kind::ReduceScatter { n * count } else { count };
    let mut buf =
        OnDevice::<T>::new(stream, Guarded::new(case.seed + 1, case.inputs(rank, total)))?;
    let part = match case.kind {
        Kind::AllReduce => {
            on.all_reduce_in_place(&mut buf.get_mut()?, op)?;
            0..count
        }
        Kind::Reduce => {
            on.reduce_in_place(&mut buf.get_mut()?, op, case.root)?;
            0..if rank == case.root { count } else { 0 }
        }
        _ => {
            on.reduce_scatter_in_place(&mut buf.get_mut()?, op)?;
            rank * count..(rank + 1) * count
        }
    };
    Ok(buf.read(stream)?.only(part))
}

fn reduced<T: Value>(
    group: &ProcessGroup,
    stream: &Stream,
    case: &Case,
    counts: &[usize],
) -> Result<Guarded<T>> {
    let (rank, n, count) = (group.rank(), group.world_size(), case.count);
    let (on, op) = (group.on(stream), case.op_of(rank));
    let (total, len) = match case.kind {
        Kind::ReduceScatter => (n * count, count),
        Kind::ReduceScatterV => (counts.iter().sum(), counts[rank]),
        Kind::Reduce if rank != case.root => (count, 0),
        _ => (count, count),
    };
    let send = OnDevice::<T>::new(stream, Guarded::new(case.seed + 1, case.inputs(rank, total)))?;
    let mut recv = OnDevice::<T>::new(stream, Guarded::junk(case.seed, len))?;
    let (from, mut into) = (send.get()?, recv.get_mut()?);
    match case.kind {
        Kind::AllReduce => on.all_reduce(&from, &mut into, op)?,
        Kind::Reduce => {
            on.reduce(&from, (rank == case.root).then_some(&mut into), op, case.root)?;
        }
        Kind::ReduceScatter => on.reduce_scatter(&from, &mut into, op)?,
        _ => on.reduce_scatter_v(&from, &mut into, counts, op)?,
    }
    recv.read(stream)
}

fn with_root<T: Value>(group: &ProcessGroup, stream: &Stream, case: &Case) -> Result<Guarded<T>> {
    let (rank, n, count) = (group.rank(), group.world_size(), case.count);
    let (on, is_root) = (group.on(stream), rank == case.root);
    let all = if is_root { n * count } else { 0 };
    let (sent, received) = if case.kind == Kind::Gather { (count, all) } else { (all, count) };
    let send = OnDevice::<T>::new(stream, Guarded::new(case.seed + 1, case.inputs(rank, sent)))?;
    let mut recv = OnDevice::<T>::new(stream, Guarded::junk(case.seed, received))?;
    let (from, mut into) = (send.get()?, recv.get_mut()?);
    match case.kind {
        Kind::Gather => on.gather(&from, is_root.then_some(&mut into), case.root)?,
        _ => on.scatter(is_root.then_some(&from), &mut into, case.root)?,
    }
    recv.read(stream)
}

fn gathered<T: Value>(
    group: &ProcessGroup,
    stream: &Stream,
    case: &Case,
    counts: &[usize],
) -> Result<Guarded<T>> {
    let (rank, n, count) = (group.rank(), group.world_size(), case.count);
    let on = group.on(stream);
    let (sent, received) = match case.kind {
        Kind::AllGather => (count, n * count),
        _ => (counts[rank], counts.iter().sum()),
    };
    let mut junk = Guarded::<T>::junk(case.seed, received);
    if case.in_place {
        for (index, value) in junk.whole()[rank * count..][..count].iter_mut().enumerate() {
            *value = case.input(rank, index);
        }
    }
    let mut recv = OnDevice::new(stream, junk)?;
    let send = OnDevice::<T>::new(stream, Guarded::new(case.seed + 1, case.inputs(rank, sent)))?;
    match case.kind {
        Kind::AllGather if case.in_place => on.all_gather_in_place(&mut recv.get_mut()?)?,
        Kind::AllGather => on.all_gather(&send.get()?, &mut recv.get_mut()?)?,
        _ => on.all_gather_v(&send.get()?, &mut recv.get_mut()?, counts)?,
    }
    recv.read(stream)
}

fn exchanged<T: Value>(group: &ProcessGroup, stream: &Stream, case: &Case) -> Result<Guarded<T>> {
    let (rank, n) = (group.rank(), group.world_size());
    let even = case.kind == Kind::AllToAll;
    let pair = |from, to| if even { case.count } else { case.pair_count(from, to) };
    let sends: Vec<usize> = (0..n).map(|to| pair(rank, to)).collect();
    let receives: Vec<usize> = (0..n).map(|from| pair(from, rank)).collect();
    let inputs = case.inputs(rank, sends.iter().sum());
    let send = OnDevice::<T>::new(stream, Guarded::new(case.seed + 1, inputs))?;
    let mut recv = OnDevice::<T>::new(stream, Guarded::junk(case.seed, receives.iter().sum()))?;
    let (from, mut into) = (send.get()?, recv.get_mut()?);
    if even {
        group.on(stream).all_to_all(&from, &mut into)?;
    } else {
        group.on(stream).all_to_all_v(&from, &mut into, &sends, &receives)?;
    }
    recv.read(stream)
}
