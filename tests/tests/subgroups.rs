//! Subgroups, their stores and names, several worlds in one process, and what outlives what.

#![expect(clippy::cast_possible_truncation, reason = "ranks and turns are small numbers")]

use std::collections::BTreeSet;
use std::time::Duration;

use nccl::Error;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::run_threads;
use tests::threads::Threads;

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
