//! Messages between pairs, and several operations as one unit.

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use tests::processes::Rank;

use crate::all_say;
use crate::on_device;
use crate::read;
use crate::stream;
use crate::with_fake;

pub(crate) const CASES: [(&str, Rank); 3] =
    [("ring", ring), ("messages", messages), ("unit", unit)];

/// So many elements of 4 bytes that buffers of 4 KiB need many rounds, and not whole ones.
const COUNTS: [usize; 5] = [0, 1, 1021, 2048, 5003];

fn value(from: usize, index: usize) -> u32 {
    u32::try_from(from * 100_000 + index).unwrap()
}

fn values(from: usize, count: usize) -> Vec<u32> {
    (0..count).map(|index| value(from, index)).collect()
}

fn ring(group: ProcessGroup) -> Result<String> {
    let (rank, n) = (group.rank(), group.world_size());
    let stream = stream(&group)?;
    for count in COUNTS {
        let mine = on_device(&stream, &values(rank, count))?;
        let (mut left, mut right) =
            (on_device(&stream, &vec![0; count])?, on_device(&stream, &vec![0; count])?);
        let (before, after) = ((rank + n - 1) % n, (rank + 1) % n);
        let batch = group.on(&stream).batch().send(&mine, after)?.recv(&mut left, before)?;
        batch.send(&mine, before)?.recv(&mut right, after)?.run()?;
        assert_eq!(read(&stream, &left)?, values(before, count));
        assert_eq!(read(&stream, &right)?, values(after, count));
    }
    group.finalize()?;
    Ok("right".to_owned())
}

#[test]
fn fake_a_ring_of_messages_in_a_batch() {
    for world_size in [1, 2, 3, 5] {
        all_say(&with_fake(world_size).run("ring"), "right");
        all_say(&with_fake(world_size).with("NCCL_BUFFSIZE", "4096").run("ring"), "right");
    }
}

/// What one rank sends in one batch the other receives one by one, and the other way round.
fn messages(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let on = group.on(&stream);
    let sent: Vec<_> = COUNTS
        .iter()
        .map(|count| on_device(&stream, &values(*count, *count)))
        .collect::<Result<_>>()?;
    let mut got: Vec<_> =
        COUNTS.iter().map(|count| on_device(&stream, &vec![0; *count])).collect::<Result<_>>()?;
    for turn in 0..2 {
        if group.rank() == turn {
            let mut batch = on.batch();
            for buf in &sent {
                batch = batch.send(buf, 1 - turn)?;
            }
            batch.run()?;
            for buf in &sent {
                on.send(buf, 1 - turn)?;
            }
        } else {
            for buf in &mut got {
                on.recv(buf, turn)?;
            }
            let mut again: Vec<_> = COUNTS
                .iter()
                .map(|count| on_device(&stream, &vec![0; *count]))
                .collect::<Result<_>>()?;
            let mut batch = on.batch();
            for buf in &mut again {
                batch = batch.recv(buf, turn)?;
            }
            batch.run()?;
            for (buf, count) in got.iter().chain(&again).zip(COUNTS.iter().chain(&COUNTS)) {
                assert_eq!(read(&stream, buf)?, values(*count, *count));
            }
        }
    }
    group.finalize()?;
    Ok("right".to_owned())
}

#[test]
fn fake_messages_arrive_in_order_however_each_side_divides_them_into_batches() {
    all_say(&with_fake(2).run("messages"), "right");
    all_say(&with_fake(2).with("NCCL_BUFFSIZE", "4096").run("messages"), "right");
}

/// Collectives of every sort, and messages, in one unit.
fn unit(group: ProcessGroup) -> Result<String> {
    let (rank, n, count) = (group.rank(), group.world_size(), 3001);
    let stream = stream(&group)?;
    let mine = on_device(&stream, &values(rank, count))?;
    let mut sum = on_device(&stream, &values(rank, count))?;
    let mut all = on_device(&stream, &vec![0_u32; n * count])?;
    let mut seed = on_device(&stream, &values(rank, 7))?;
    let mut most = on_device(&stream, &values(rank, count))?;
    let mut got = on_device(&stream, &vec![0_u32; count])?;
    let counts: Vec<usize> = (0..n).map(|to| if to == 0 { count } else { 0 }).collect();
    let receives = if rank == 0 { vec![count; n] } else { vec![0; n] };
    let mut pairs = on_device(&stream, &vec![0_u32; receives.iter().sum()])?;
    group
        .on(&stream)
        .batch()
        .all_reduce_in_place(&mut sum, ReduceOp::Sum)?
        .all_gather(&mine, &mut all)?
        .send(&mine, (rank + 1) % n)?
        .broadcast(&mut seed, n - 1)?
        .all_to_all_v(&mine, &mut pairs, &counts, &receives)?
        .recv(&mut got, (rank + n - 1) % n)?
        .reduce_in_place(&mut most, ReduceOp::Max, 0)?
        .run()?;
    let expected: Vec<u32> = (0..n).flat_map(|from| values(from, count)).collect();
    assert_eq!(read(&stream, &all)?, expected);
    assert_eq!(read(&stream, &seed)?, values(n - 1, 7));
    assert_eq!(read(&stream, &got)?, values((rank + n - 1) % n, count));
    let expected: Vec<u32> =
        (0..count).map(|index| (0..n).map(|from| value(from, index)).sum()).collect();
    assert_eq!(read(&stream, &sum)?, expected);
    if rank == 0 {
        assert_eq!(read(&stream, &most)?, values(n - 1, count));
        assert_eq!(read(&stream, &pairs)?, read(&stream, &all)?);
    }
    group.on(&stream).batch().run()?;
    group.finalize()?;
    Ok("right".to_owned())
}

#[test]
fn fake_collectives_and_messages_run_as_one_unit() {
    for world_size in [1, 2, 3, 4] {
        all_say(&with_fake(world_size).run("unit"), "right");
        all_say(&with_fake(world_size).with("NCCL_BUFFSIZE", "4096").run("unit"), "right");
    }
}
