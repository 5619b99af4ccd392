//! Messages between pairs, asynchronous work, objects, and subgroups.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::cast_possible_truncation, reason = "ranks and turns are small numbers")]

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use nccl::DataType;
use nccl::Error;
use nccl::F8E4M3;
use nccl::F8E5M2;
use nccl::Family;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::bf16;
use nccl::f16;
use nccl::run_threads;
use tests::oracle::Flavour;
use tests::oracle::Value;
use tests::oracle::mix;
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

fn pattern(rank: usize, len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|index| mix(rank, index, seed).to_le_bytes()[3]).collect()
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

#[test]
fn work_gives_its_buffer_back_in_order() {
    run_threads(3, |group| {
        let n = group.world_size() as u64;
        let many: Vec<_> = (0..200_u64)
            .map(|turn| group.all_reduce_async(vec![turn; 500], ReduceOp::Sum))
            .collect::<Result<_>>()?;
        // A blocking call waits behind all of them.
        let mut after = [1_u32];
        group.all_reduce_in_place(&mut after, ReduceOp::Sum)?;
        assert_eq!(after, [3]);
        for (turn, work) in (0..).zip(many) {
            assert!(work.is_completed(), "the blocking call was behind number {turn}");
            assert!(work.wait_timeout(Duration::ZERO));
            assert_eq!(work.wait()?, vec![n * turn; 500]);
        }
        let boxed: Box<[f32]> = vec![0.5; 10].into();
        assert_eq!(&*group.all_reduce_async(boxed, ReduceOp::Sum)?.wait()?, &[1.5; 10]);
        every_kind_of_work(&group)
    })
    .unwrap();
}

fn every_kind_of_work(group: &ProcessGroup) -> Result<()> {
    let rank = group.rank() as u64;
    let sent = group.broadcast_async(vec![rank; 4], 2)?;
    let reduced = group.reduce_async(vec![rank; 4], ReduceOp::Max, 1)?;
    let gathered = group.all_gather_async(vec![rank; 3])?;
    let scattered = group.reduce_scatter_async(vec![1, 2, 3_u64], ReduceOp::Sum)?;
    let exchanged = group.all_to_all_async((0..3).map(|to| 10 * rank + to).collect::<Vec<_>>())?;
    let barrier = group.barrier_async()?;
    assert_eq!(sent.wait()?, [2; 4]);
    let reduced = reduced.wait()?;
    assert!(rank != 1 || reduced == [2; 4]);
    assert_eq!(gathered.wait()?, [0, 1, 2]);
    assert_eq!(scattered.wait()?[group.rank()], 3 * (rank + 1));
    assert_eq!(exchanged.wait()?, [rank, 10 + rank, 20 + rank]);
    barrier.wait()
}

#[test]
fn work_can_be_waited_for_in_time_and_dropped() {
    run_threads(2, |group| {
        if group.rank() == 0 {
            let work = group.all_reduce_async(vec![1_i64; 10], ReduceOp::Sum)?;
            assert!(!work.is_completed() && !work.wait_timeout(Duration::from_millis(20)));
            group.store().set("begun", b"yes")?;
            assert!(work.wait_timeout(Duration::from_secs(20)));
            assert_eq!(work.wait()?, [2; 10]);
        } else {
            group.store().get_within("begun", Duration::from_secs(20))?;
            group.all_reduce_in_place(&mut [1_i64; 10], ReduceOp::Sum)?;
        }
        // Dropped work goes on: nobody else notices.
        drop(group.all_reduce_async(vec![1_u8; 100_000], ReduceOp::Sum)?);
        std::mem::forget(group.all_reduce_async(vec![1_u8; 100_000], ReduceOp::Sum)?);
        let mut sum = [1_u16; 3].map(f32::from);
        group.all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
        assert_eq!(sum, [2.0; 3]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_scope_borrows_and_waits_even_after_a_panic() {
    run_threads(2, |group| {
        let rank = group.rank() as u32;
        let (mut sum, mut all, mut part, mut seed) = ([rank; 900], [0; 2], [0], [rank]);
        let (mine, pair) = ([rank + 5], [1_u32, 10]);
        let (out, mut back) = ([rank, rank + 10], [0; 2]);
        let value = group.scope(|scope| {
            scope.all_reduce(&mut sum, ReduceOp::Sum)?;
            scope.all_gather(&mine, &mut all)?;
            scope.reduce_scatter(&pair, &mut part, ReduceOp::Sum)?;
            scope.broadcast(&mut seed, 1)?;
            scope.all_to_all(&out, &mut back)?;
            Ok(7)
        })?;
        assert_eq!((value, sum, all, seed), (7, [1; 900], [5, 6], [1]));
        assert_eq!((part[0], back), ([2, 20][group.rank()], [10 * rank, 10 * rank + 1]));

        let mut large = vec![1_u64; 300_000];
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            group.scope(|scope| -> Result<()> {
                scope.all_reduce(&mut large, ReduceOp::Sum)?;
                panic!("in the scope");
            })
        }));
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "in the scope");
        assert!(large.iter().all(|value| *value == 2), "the scope waited");
        let refused = group.scope(|scope| scope.broadcast(&mut seed, 2)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "broadcast: root 2 is not a rank of this group of 2 (0..2)"
        );
        group.barrier()
    })
    .unwrap();
}

#[test]
fn a_coalesced_list_runs_in_order() {
    run_threads(3, |group| {
        let rank = group.rank() as f32;
        let (mut sum, mut seed, mut all, mut part) = ([rank; 40], [rank; 3], [0.0; 6], [0.0]);
        let (mine, parts) = ([rank, -rank], [1.0, 2.0, 3.0]);
        let list = group.coalesce().all_reduce(&mut sum, ReduceOp::Avg)?.broadcast(&mut seed, 2)?;
        let list = list.all_gather(&mine, &mut all)?;
        list.reduce_scatter(&parts, &mut part, ReduceOp::Sum)?.run()?;
        assert_eq!((sum, seed), ([1.0; 40], [2.0; 3]));
        assert_eq!((all, part), ([0.0, 0.0, 1.0, -1.0, 2.0, -2.0], [3.0 * (rank + 1.0)]));
        let refused = group.coalesce().broadcast(&mut seed, 3).unwrap_err();
        assert_eq!(refused.family(), Family::Misuse);
        group.coalesce().run()
    })
    .unwrap();
}

#[test]
fn byte_strings_of_different_lengths_come_whole() {
    run_threads(4, |group| {
        let rank = group.rank();
        for lens in [[0, 0, 0, 0], [0, 1, 70_000, 5], [3 * MIB, 0, 2, 3]] {
            let all: Vec<_> = (0..4).map(|rank| pattern(rank, lens[rank], 2)).collect();
            for root in [0, 3] {
                let mut bytes = all[rank].clone();
                group.broadcast_bytes(&mut bytes, root)?;
                assert!(bytes == all[root]);
                let gathered = group.gather_bytes(&all[rank], root)?;
                assert!(gathered == (rank == root).then(|| all.clone()));
                let parts = if rank == root { &all[..] } else { &[] };
                assert!(group.scatter_bytes(parts, root)? == all[rank]);
            }
            assert!(group.all_gather_bytes(&all[rank])? == all);
        }
        let refused = group.scatter_bytes(&[Vec::new()], 0).unwrap_err();
        let expected = if rank == 0 { 4 } else { 0 };
        let text = format!("scatter_bytes: `parts` holds 1 elements, expected {expected}");
        assert_eq!(refused.to_string(), text);
        group.barrier()
    })
    .unwrap();
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Plan {
    name: String,
    layers: Vec<u32>,
    scale: Option<f64>,
}

#[test]
fn values_of_serde_types_come_whole() {
    run_threads(3, |group| {
        let plan = |rank: usize| Plan {
            name: "é".repeat(rank),
            layers: (0..rank as u32 * 1000).collect(),
            scale: (rank != 1).then_some(0.1),
        };
        let (rank, all) = (group.rank(), vec![plan(0), plan(1), plan(2)]);
        assert_eq!(group.broadcast_object((rank == 2).then(|| &all[2]), 2)?, all[2]);
        assert_eq!(group.all_gather_object(&all[rank])?, all);
        assert_eq!(group.gather_object(&all[rank], 1)?, (rank == 1).then(|| all.clone()));
        let parts = if rank == 0 { &all[..] } else { &[] };
        assert_eq!(group.scatter_object(parts, 0)?, all[rank]);
        // What is no value of the asked type is an error that names its sender.
        if rank == 0 {
            group.broadcast_object(Some(&7_u8), 0)?;
        } else {
            let error = group.broadcast_object::<Plan>(None, 0).unwrap_err().to_string();
            let text = "broadcast_object: what rank 0 sent is no value of this type: ";
            assert!(error.starts_with(text), "{error}");
        }
        group.barrier()
    })
    .unwrap();
}

#[test]
fn subgroups_split_by_color_in_the_order_of_keys() {
    run_threads(6, |group| {
        let rank = group.rank();
        let color = (rank != 5).then_some(rank as u32 % 2);
        // Later ranks first.
        let half = group.split(color, -(rank as i64))?;
        let Some(half) = half else {
            assert_eq!(rank, 5);
            return group.barrier();
        };
        let members: &[usize] = if rank.is_multiple_of(2) { &[4, 2, 0] } else { &[3, 1] };
        assert_eq!((half.world_ranks(), members[half.rank()]), (members, rank));
        let mut all = vec![0; members.len()];
        half.all_gather(&[rank as u64], &mut all)?;
        assert!(all.iter().map(|rank| *rank as usize).eq(members.iter().copied()));
        group.barrier()
    })
    .unwrap();
}

#[test]
fn subgroups_of_subgroups_and_two_at_once() {
    run_threads(8, |group| {
        let rank = group.rank() as u32;
        let row = group.split(Some(rank / 4), 0)?.unwrap();
        let column = group.split(Some(rank % 4), 0)?.unwrap();
        let pair = row.split(Some(row.rank() as u32 / 2), 0)?.unwrap();
        let first = rank as usize / 2 * 2;
        assert_eq!(pair.world_ranks(), [first, first + 1]);
        assert_ne!(row.name(), column.name());
        // Two groups used by two threads at the same time.
        std::thread::scope(|scope| {
            let rows = scope.spawn(|| sums(&row, rank));
            sums(&column, rank)?;
            rows.join().unwrap()
        })?;
        sums(&pair, rank)?;
        let reversed = group.subgroup_of(&[7, 3, 1])?;
        assert_eq!(reversed.is_some(), [7, 3, 1].contains(&rank));
        if let Some(reversed) = reversed {
            assert_eq!([7, 3, 1][reversed.rank()], rank);
            sums(&reversed, rank)?;
        }
        let alone = group.split(Some(rank), 0)?.unwrap();
        assert_eq!((alone.rank(), alone.world_size()), (0, 1));
        sums(&alone, rank)?;
        group.barrier()
    })
    .unwrap();
}

/// Sums of what the members know of each other.
fn sums(group: &ProcessGroup, world_rank: u32) -> Result<()> {
    let total: u64 = group.world_ranks().iter().map(|rank| *rank as u64).sum();
    for count in [1, 100, 9000] {
        let mut buf = vec![u64::from(world_rank); count];
        group.all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
        assert!(buf.iter().all(|value| *value == total), "{group:?}");
    }
    Ok(())
}

#[test]
fn lists_that_cannot_be_are_refused_with_nothing_sent() {
    run_threads(3, |group| {
        let text = |list: &[usize]| group.subgroup_of(list).unwrap_err().to_string();
        assert_eq!(text(&[0, 3]), "subgroup_of: rank 3 is not a rank of this group of 3 (0..3)");
        assert_eq!(text(&[1, 2, 1]), "subgroup_of: rank 1 is twice in the list");
        assert_eq!(text(&[]), "subgroup_of: the list of ranks is empty");
        group.barrier()
    })
    .unwrap();
}

#[test]
fn different_lists_are_an_error_on_every_rank_and_the_group_goes_on() {
    let errors = run_threads(3, |group| {
        let list: &[usize] = if group.rank() == 2 { &[0, 1] } else { &[0, 2] };
        let error = group.subgroup_of(list).unwrap_err();
        assert!(matches!(error, Error::Usage { .. }) && !error.poisons_group());
        group.barrier()?;
        let all = group.subgroup_of(&[2, 1, 0])?;
        sums(&all.unwrap(), group.rank() as u32)?;
        Ok(error.to_string())
    })
    .unwrap();
    let text = |rank, list, others| {
        format!(
            "subgroup_of: rank {rank} gave the list [{list}], but not so the ranks {others}; give \
             the same list on all ranks of the group"
        )
    };
    assert_eq!(errors, [text(0, "0, 2", "2"), text(1, "0, 2", "2"), text(2, "0, 1", "0, 1")]);
}

#[test]
fn stores_of_groups_do_not_see_each_others_keys() {
    run_threads(4, |group| {
        let half = group.split(Some(group.rank() as u32 % 2), 0)?.unwrap();
        let (own, whole) = (half.store(), group.store());
        if half.rank() == 0 {
            own.set("key", half.name().as_bytes())?;
        }
        half.barrier()?;
        assert_eq!(own.get("key")?, half.name().as_bytes());
        group.barrier()?;
        assert!(!whole.check(&["key"])?);
        assert!((1..=4).contains(&whole.add("count", 1)?));
        group.barrier()?;
        assert_eq!(whole.add("count", 0)?, 4);
        assert!(!own.check(&["count"])?);
        group.barrier()
    })
    .unwrap();
}

#[test]
fn a_handle_has_its_own_timeout() {
    run_threads(2, |group| {
        let short = group.with_timeout(Duration::from_millis(1234));
        assert_eq!(short.timeout(), Duration::from_millis(1234));
        assert_ne!(group.timeout(), short.timeout());
        assert_eq!((short.rank(), short.name()), (group.rank(), group.name()));
        // Both are one group: calls through them are in one order.
        let mut buf = [1_u8];
        short.all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
        group.all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
        assert_eq!(buf, [4]);
        let half = short.split(Some(0), 0)?.unwrap();
        assert_eq!(half.timeout(), short.timeout());
        Ok(())
    })
    .unwrap();
}

#[test]
fn several_worlds_live_in_one_process() {
    std::thread::scope(|scope| {
        let start = |size: usize| {
            scope.spawn(move || {
                let world = if size.is_multiple_of(2) {
                    Threads::new(size)
                } else {
                    Threads::new(size).tcp()
                };
                let all = world.run(|group| {
                    (0..50).try_for_each(|_| sums(&group, group.rank() as u32))?;
                    Ok(group.world_size())
                });
                assert_eq!(all.unwrap(), vec![size; size]);
            })
        };
        let worlds: Vec<_> = [2, 3, 4, 5].into_iter().map(start).collect();
        worlds.into_iter().for_each(|world| world.join().unwrap());
    });
}

#[test]
fn what_belongs_to_a_group_can_go_in_any_order() {
    for order in 0..6 {
        run_threads(3, |group| {
            let store = group.store();
            let half = group.split(Some(0), 0)?.unwrap();
            let work = half.all_reduce_async(vec![1_u8; 1000], ReduceOp::Sum)?;
            match order {
                0 => {
                    assert_eq!(work.wait()?, [3; 1000]);
                    drop((group, half, store));
                }
                1 => {
                    drop((group, store));
                    assert_eq!(work.wait()?, [3; 1000]);
                    half.barrier()?;
                }
                2 => {
                    drop(store);
                    let whole = group.clone();
                    drop(group);
                    whole.barrier()?;
                    assert_eq!(work.wait()?, [3; 1000]);
                    half.finalize()?;
                }
                3 => {
                    assert_eq!(work.wait()?, [3; 1000]);
                    half.finalize()?;
                    sums(&group, group.rank() as u32)?;
                    group.finalize()?;
                    drop(store);
                }
                4 => {
                    assert_eq!(work.wait()?, [3; 1000]);
                    group.finalize()?;
                    // The subgroup outlives the group it was made of.
                    let mut sum = [1_u64];
                    half.all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
                    assert_eq!(sum, [3]);
                    store.set("still", b"there")?;
                }
                _ => {
                    let buf = work.wait()?;
                    drop((half, group, store));
                    assert_eq!(buf, [3; 1000]);
                }
            }
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn many_worlds_end_in_order_although_some_ranks_leave_first() {
    let seen: BTreeSet<usize> = (0..60)
        .map(|turn| {
            let world = if turn % 3 == 0 { Threads::new(8).tcp() } else { Threads::new(8) };
            let ranks = world.run(|group| {
                let rank = group.rank();
                group.barrier()?;
                group.finalize()?;
                Ok(rank)
            });
            ranks.unwrap().len()
        })
        .collect();
    assert_eq!(seen, BTreeSet::from([8]));
}
