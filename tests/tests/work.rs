//! Asynchronous work, scopes that wait, and lists of operations.

#![expect(clippy::cast_possible_truncation, reason = "ranks and turns are small numbers")]

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use nccl::Family;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::run_threads;

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
