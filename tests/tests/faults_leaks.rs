//! What a process holds after many beginnings and ends is what it held before.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use nccl::Member;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::config::Env;
use nccl::config::TransportChoice;
use nccl::store::MemoryStore;
use nccl::store::SharedStore;
use tests::faults::Held;
use tests::faults::threads_of;

fn cycle(transport: Option<TransportChoice>) {
    threads_of(3, transport, Duration::from_secs(10), |group| {
        group.all_reduce_in_place(&mut vec![1.0_f32; 20_000], ReduceOp::Sum).unwrap();
        let (right, left) = ((group.rank() + 1) % 3, (group.rank() + 2) % 3);
        let (sent, mut got) = ([1_u8; 30], [0_u8; 30]);
        group.batch().send(&sent, right).unwrap().recv(&mut got, left).unwrap().run().unwrap();
        group.barrier_async().unwrap().wait().unwrap();
        group.finalize().unwrap();
    });
}

/// A start that fails: rank 2 of 3 does not come.
fn failed_start() {
    let store: SharedStore = Arc::new(MemoryStore::new(Duration::from_secs(5)));
    std::thread::scope(|scope| {
        for rank in 0..2 {
            let store = store.clone();
            scope.spawn(move || {
                let builder = ProcessGroup::builder()
                    .env(Env::empty())
                    .member(Member { rank, world_size: 3 })
                    .init_timeout(Duration::from_millis(30))
                    .store(store);
                assert!(builder.build().is_err());
            });
        }
    });
}

fn assert_back(before: &Held, what: &str) {
    let now = before.settled();
    assert!(now.is_within(before), "after {what}: {now:?}, before {before:?}");
}

/// One test, so that nothing else opens and closes in this process meanwhile.
#[test]
fn nothing_is_held_after_worlds_failed_starts_and_subgroups() {
    cycle(None);
    cycle(Some(TransportChoice::Tcp));
    failed_start();
    let before = Held::now();

    let begun = Instant::now();
    for turn in 0..100 {
        cycle(if turn % 2 == 0 { None } else { Some(TransportChoice::Tcp) });
    }
    assert_back(&before, "100 worlds");
    eprintln!("100 worlds of 3 threads begun and ended in {:.1?}", begun.elapsed());

    for _ in 0..20 {
        failed_start();
    }
    assert_back(&before, "20 failed starts");

    for transport in [None, Some(TransportChoice::Tcp)] {
        threads_of(3, transport, Duration::from_secs(10), |group| {
            let split = |group: &ProcessGroup| {
                let half = group.split(Some(0), 0).unwrap().unwrap();
                half.all_reduce_in_place(&mut [1_i32; 10], ReduceOp::Sum).unwrap();
                half.finalize().unwrap();
            };
            split(&group);
            group.barrier().unwrap();
            let baseline = Held::now();
            group.barrier().unwrap();
            for _ in 0..200 {
                split(&group);
            }
            group.barrier().unwrap();
            assert_back(&baseline, "200 subgroups");
            group.barrier().unwrap();
        });
    }
    assert_back(&before, "worlds with subgroups");
}
