//! Inputs that lie in the output's memory exactly where they may.

#![expect(unsafe_code, reason = "names device memory by address")]

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::DeviceVec;
use nccl::cuda::RawDeviceSlice;
use tests::processes::Rank;

use crate::F32;
use crate::all_say;
use crate::on_device;
use crate::read;
use crate::stream;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 1] = [("places", places)];

/// Elements of each part; with buffers of 4 KiB that is more than one round.
const COUNT: usize = 1500;

fn part(buf: &DeviceVec<f32>, at: usize, count: usize) -> RawDeviceSlice<'static> {
    let address = buf.as_raw() + 4 * at as u64;
    // SAFETY: inside of the buffer, which outlives all that is enqueued; the stream orders it.
    unsafe { RawDeviceSlice::from_raw(address, count, F32, buf.device().ordinal()) }
}

/// What `rank` has at `index`.
fn value(rank: usize, index: usize) -> f32 {
    (1000 * rank + index % 997) as f32
}

fn places(group: ProcessGroup) -> Result<String> {
    let (rank, n) = (group.rank(), group.world_size());
    let stream = stream(&group)?;
    let on = group.on(&stream);
    let mine: Vec<f32> = (0..n * COUNT).map(|index| value(rank, index)).collect();
    let own = rank * COUNT..(rank + 1) * COUNT;
    let fresh = || on_device(&stream, &mine);

    let buf = fresh()?;
    on.all_reduce(&part(&buf, 0, n * COUNT), &mut part(&buf, 0, n * COUNT), ReduceOp::Sum)?;
    let sum = |index| (0..n).map(|from| value(from, index)).sum::<f32>();
    let got = read(&stream, &buf)?;
    assert!((0..n * COUNT).all(|index| got[index] == sum(index)));

    let buf = fresh()?;
    on.all_gather(&part(&buf, own.start, COUNT), &mut part(&buf, 0, n * COUNT))?;
    let got = read(&stream, &buf)?;
    assert!((0..n * COUNT).all(|index| got[index] == value(index / COUNT, index)));

    let buf = fresh()?;
    on.reduce_scatter(&part(&buf, 0, n * COUNT), &mut part(&buf, own.start, COUNT), ReduceOp::Sum)?;
    let got = read(&stream, &buf)?;
    assert!(own.clone().all(|index| got[index] == sum(index)));

    let buf = fresh()?;
    on.all_to_all(&part(&buf, 0, n * COUNT), &mut part(&buf, 0, n * COUNT))?;
    let got = read(&stream, &buf)?;
    let from = |index: usize| value(index / COUNT, own.start + index % COUNT);
    assert!((0..n * COUNT).all(|index| got[index] == from(index)));

    let (root, buf) = (n - 1, fresh()?);
    let mut all = part(&buf, 0, n * COUNT);
    on.gather(&part(&buf, own.start, COUNT), (rank == root).then_some(&mut all), root)?;
    let got = read(&stream, &buf)?;
    let of = |index| if rank == root { index / COUNT } else { rank };
    assert!((0..n * COUNT).all(|index| got[index] == value(of(index), index)));

    let buf = fresh()?;
    let all = part(&buf, 0, n * COUNT);
    on.scatter((rank == root).then_some(&all), &mut part(&buf, own.start, COUNT), root)?;
    let got = read(&stream, &buf)?;
    let of = |index| if own.contains(&index) { root } else { rank };
    assert!((0..n * COUNT).all(|index| got[index] == value(of(index), index)));

    let buf = fresh()?;
    let send = part(&buf, 0, COUNT);
    let mut recv = part(&buf, 0, COUNT);
    on.reduce(&send, (rank == root).then_some(&mut recv), ReduceOp::Sum, root)?;
    let got = read(&stream, &buf)?;
    let of = |index| if rank == root { sum(index) } else { value(rank, index) };
    assert!((0..COUNT).all(|index| got[index] == of(index)));
    group.finalize()?;
    Ok("right".to_owned())
}

#[test]
fn fake_an_input_at_its_place_in_the_output_is_in_place() {
    for world_size in [1, 2, 3] {
        all_say(&with_fake(world_size).run("places"), "right");
        all_say(&with_fake(world_size).with("NCCL_BUFFSIZE", "4096").run("places"), "right");
    }
}
