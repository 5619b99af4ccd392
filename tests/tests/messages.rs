//! Messages between pairs: every type, tags, batches, two threads at once.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::cast_possible_truncation, reason = "ranks and turns are small numbers")]

use std::time::Duration;

use nccl::DataType;
use nccl::F8E4M3;
use nccl::F8E5M2;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::bf16;
use nccl::f16;
use tests::oracle::Flavour;
use tests::oracle::Value;
use tests::oracle::pattern;
use tests::processes;
use tests::processes::Processes;
use tests::threads::Threads;

const MIB: usize = 1 << 20;

#[test]
fn a_rank_of_a_world_of_processes() {
    processes::serve(&[
        ("pairs", pairs),
        ("batches", batches),
        ("tags", tags),
        ("farewell", farewell),
    ]);
}

/// The worlds in which messages are tested: every transport.
fn everywhere(world_size: usize, case: &str, rank: processes::Rank) {
    for world in [
        Threads::new(world_size),
        Threads::new(world_size).with("NCCL_P2P_DISABLE", "1"),
        Threads::new(world_size).tcp(),
        Threads::new(world_size).tcp().with("NCCL_NSOCKS_PERTHREAD", "4"),
    ] {
        world.run(rank).unwrap();
    }
    for disable in ["NCCL_RS_NOTHING", "NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE"] {
        let said = Processes::new(world_size).with(disable, "1").run(case);
        assert_eq!(said, vec!["done"; world_size]);
    }
}

/// Sends every length in the ring, of every type; then the same to itself.
fn pairs(group: ProcessGroup) -> Result<String> {
    every_type::<i8>(&group)?;
    every_type::<u8>(&group)?;
    every_type::<i32>(&group)?;
    every_type::<u32>(&group)?;
    every_type::<i64>(&group)?;
    every_type::<u64>(&group)?;
    every_type::<f16>(&group)?;
    every_type::<f32>(&group)?;
    every_type::<f64>(&group)?;
    every_type::<bf16>(&group)?;
    every_type::<F8E4M3>(&group)?;
    every_type::<F8E5M2>(&group)?;
    group.finalize()?;
    Ok("done".to_owned())
}

fn every_type<T: Value>(group: &ProcessGroup) -> Result<()> {
    let (rank, n) = (group.rank(), group.world_size());
    let (right, left) = ((rank + 1) % n, (rank + n - 1) % n);
    let input = |rank, len| -> Vec<T> {
        (0..len).map(|index| T::input(Flavour::OddNans, rank, index, 5)).collect()
    };
    let large = (MIB + 3) / size_of::<T>();
    for len in [0, 1, 2, 7, 1001, 8192, 65537 / size_of::<T>(), large] {
        let (mine, theirs) = (input(rank, len), input(left, len));
        let mut got = vec![T::of_bits(0); len];
        // Even ranks send first; a ring of odd length has one pair that is out of turn.
        if rank.is_multiple_of(2) {
            group.send(&mine, right)?;
            group.recv(&mut got, left)?;
        } else {
            group.recv(&mut got, left)?;
            group.send(&mine, right)?;
        }
        let same = got.iter().zip(&theirs).all(|(a, b)| a.bits() == b.bits());
        assert!(same, "{} x {len} from rank {left}", T::DTYPE);
        group.send(&mine, rank)?;
        group.recv(&mut got, rank)?;
        let same = got.iter().zip(&mine).all(|(a, b)| a.bits() == b.bits());
        assert!(same, "{} x {len} to itself", T::DTYPE);
    }
    Ok(())
}

#[test]
fn every_type_and_length_arrives_as_it_was_sent() {
    assert_eq!(DataType::ALL.len(), 12);
    everywhere(2, "pairs", pairs);
    Threads::new(3).run(pairs).unwrap();
}

/// Tags in another order than sent, small and large; then from any source; then many in order.
fn tags(group: ProcessGroup) -> Result<String> {
    let (rank, n) = (group.rank(), group.world_size());
    let lens = [1, 100_000, 0, 3000, 700_001];
    if rank == 0 {
        for peer in 1..n {
            for tag in [3, 1, 4, 0, 2] {
                let mut got = vec![0; lens[tag as usize]];
                group.recv_tagged(&mut got, peer, tag)?;
                assert_eq!(got, pattern(peer, got.len(), u64::from(tag)), "{peer}, tag {tag}");
            }
        }
    } else {
        // All at once: each waits until rank 0 asks for it.
        std::thread::scope(|scope| {
            let send = |tag: u32| {
                let group = &group;
                let data = pattern(rank, lens[tag as usize], u64::from(tag));
                scope.spawn(move || group.send_tagged(&data, 0, tag))
            };
            let threads: Vec<_> = (0..5).map(send).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap())
        })?;
    }
    any_source(&group)?;
    many_in_order(&group)?;
    group.finalize()?;
    Ok("done".to_owned())
}

fn any_source(group: &ProcessGroup) -> Result<()> {
    const EACH: usize = 5;
    let (rank, n) = (group.rank(), group.world_size());
    if rank != 0 {
        return (0..EACH).try_for_each(|turn| group.send_tagged(&[(rank, turn)].map(number), 0, 9));
    }
    let mut next = vec![0; n];
    for _ in 0..EACH * (n - 1) {
        let mut got = [0_u64];
        let from = group.recv_any_tagged(&mut got, 9)?;
        assert_eq!(got[0], number((from, next[from])), "each once, in order");
        next[from] += 1;
    }
    assert!(next[1..].iter().all(|turns| *turns == EACH), "{next:?}");
    Ok(())
}

fn number((rank, turn): (usize, usize)) -> u64 {
    (rank * 1000 + turn) as u64
}

fn many_in_order(group: &ProcessGroup) -> Result<()> {
    const MANY: u64 = 10_000;
    if group.rank() == 0 {
        (0..MANY).try_for_each(|turn| group.send(&[turn], 1))?;
    } else if group.rank() == 1 {
        for turn in 0..MANY {
            let mut got = [0];
            group.recv(&mut got, 0)?;
            assert_eq!(got, [turn]);
        }
    }
    group.barrier()
}

#[test]
fn tags_choose_and_order_holds() {
    everywhere(3, "tags", tags);
}

/// Messages sent by a rank that then leaves; the receiver takes the second once it has left.
fn farewell(group: ProcessGroup) -> Result<String> {
    for turn in 0..10_u64 {
        let pair = group.split(Some(0), 0)?.unwrap();
        let store = group.store();
        let key = format!("left in turn {turn}");
        if pair.rank() == 0 {
            pair.send(&[turn], 1)?;
            pair.send(&[turn + 1; 20], 1)?;
            drop(pair);
            store.set(&key, b"")?;
        } else {
            let (mut first, mut second) = ([0], [0; 20]);
            pair.recv(&mut first, 0)?;
            store.get_within(&key, Duration::from_secs(20))?;
            pair.recv(&mut second, 0)?;
            assert_eq!((first, second), ([turn], [turn + 1; 20]));
        }
    }
    group.finalize()?;
    Ok("done".to_owned())
}

#[test]
fn what_a_rank_sent_before_it_left_arrives() {
    everywhere(2, "farewell", farewell);
}

/// The ring, and everyone to everyone both ways with messages larger than any buffer.
fn batches(group: ProcessGroup) -> Result<String> {
    let (rank, n) = (group.rank(), group.world_size());
    for len in [0, 1, 4096, 70_000, MIB + 3] {
        let (right, left) = ((rank + 1) % n, (rank + n - 1) % n);
        let mine = pattern(rank, len, 1);
        let mut got = vec![0; len];
        group.batch().send(&mine, right)?.recv(&mut got, left)?.run()?;
        assert_eq!(got, pattern(left, len, 1));

        let out: Vec<Vec<u8>> = (0..n).map(|to| pattern(rank, len, 10 + to as u64)).collect();
        let mut back: Vec<Vec<u8>> = vec![vec![0; len]; n];
        let mut batch = group.batch();
        for (peer, buf) in out.iter().enumerate() {
            batch = batch.send(buf, peer)?;
        }
        for (peer, buf) in back.iter_mut().enumerate() {
            batch = batch.recv(buf, peer)?;
        }
        batch.run()?;
        for (peer, buf) in back.iter().enumerate() {
            assert!(*buf == pattern(peer, len, 10 + rank as u64), "{len} bytes from {peer}");
        }
    }
    group.batch().run()?;
    group.finalize()?;
    Ok("done".to_owned())
}

#[test]
fn batches_do_not_wait_for_one_another() {
    everywhere(4, "batches", batches);
}

#[test]
fn messages_and_collectives_of_two_threads_do_not_disturb_each_other() {
    for world in [Threads::new(3), Threads::new(3).tcp()] {
        let run = |group: ProcessGroup| {
            let other = group.clone();
            std::thread::scope(|scope| {
                let sums = scope.spawn(move || {
                    (0..300_u64).try_for_each(|turn| {
                        let mut sum = vec![turn; 1 + 37 * turn as usize];
                        other.all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
                        assert!(sum.iter().all(|value| *value == 3 * turn));
                        Ok(())
                    })
                });
                let (rank, n) = (group.rank(), group.world_size());
                for turn in 0..300 {
                    let mine = pattern(rank, 13 * turn, turn as u64);
                    let mut got = vec![0; mine.len()];
                    let (right, left) = ((rank + 1) % n, (rank + n - 1) % n);
                    group.batch().send(&mine, right)?.recv(&mut got, left)?.run()?;
                    assert_eq!(got, pattern(left, got.len(), turn as u64));
                }
                sums.join().unwrap()
            })
        };
        world.run(run).unwrap();
    }
}
