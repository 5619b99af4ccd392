//! Ranks that do not come, come late, leave, or end the group: every wait ends and says why.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use nccl::Error;
use nccl::Member;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::config::Env;
use nccl::config::TransportChoice;
use nccl::store::MemoryStore;
use nccl::store::SharedStore;
use tests::faults::World;
use tests::faults::threads_of;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);
const TRANSPORTS: [Option<TransportChoice>; 2] = [None, Some(TransportChoice::Tcp)];

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap().to_owned()
}

/// Waits until `key` is in the store of the group.
fn until(group: &ProcessGroup, key: &str) {
    group.store().get_within(key, PATIENCE).unwrap();
}

/// How `text` would be with another duration after "waited".
fn without_duration(text: &str) -> String {
    let Some((before, rest)) = text.split_once(" waited ") else { return text.to_owned() };
    let rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
    format!("{before} waited T {rest}")
}

/// As [`without_duration`], without the seconds that a rank has been idle either.
fn without_times(text: &str) -> String {
    let text = without_duration(text);
    match text.rsplit_once('(') {
        Some((before, last)) if last.ends_with(" s)") => format!("{before}(T s)"),
        _ => text,
    }
}

#[test]
fn a_rank_that_does_not_call_is_named_at_the_deadline_on_every_rank() {
    for transport in TRANSPORTS {
        let timeout = Duration::from_millis(700);
        let seen = threads_of(4, transport, timeout, |group| {
            group.broadcast(&mut [1_i32; 3], 2).unwrap();
            let begun = Instant::now();
            if group.rank() == 2 {
                // All of them: its next call would be a mismatch for one that still waits.
                [0, 1, 3].iter().for_each(|rank| until(&group, &format!("over {rank}")));
                return (group.barrier().unwrap_err(), begun.elapsed());
            }
            let error = group.all_reduce_in_place(&mut [1.0_f32; 40], ReduceOp::Sum).unwrap_err();
            group.store().set(&format!("over {}", group.rank()), b"").unwrap();
            (error, begun.elapsed())
        });
        // Whoever called first waited all of it, and told those that called later.
        assert!(seen.iter().any(|(_, took)| *took >= timeout), "{seen:?}");
        let (pid, host) = (std::process::id(), host());
        for (rank, (error, took)) in seen.iter().enumerate() {
            assert!(*took < timeout + SECOND, "rank {rank}: {took:?}");
            assert!(error.poisons_group());
            if matches!(error, Error::Mismatch { .. }) {
                // It called something else before the news was there.
                assert_eq!(rank, 2, "{error}");
                continue;
            }
            let text = without_times(&error.to_string());
            let call = "#2 all_reduce f32\u{d7}40 sum";
            // Rank 2 learns it as it calls, or before.
            let here = match rank {
                2 if text.contains("rank 2, #2 barrier:") => {
                    "group \"world\", rank 2, #2 barrier".to_owned()
                }
                2 => "group \"world\" is no longer usable since it failed: group \"world\", rank 2"
                    .to_owned(),
                _ => format!("group \"world\", rank {rank}, {call}"),
            };
            let says = |origin: usize| {
                let absent = format!(
                    "rank 2 (host {host}, pid {pid}): finished #1 broadcast i32\u{d7}3 root 2, \
                     called nothing since (T s)"
                );
                format!("{here}: rank {origin} waited T in {call}; not arrived: {absent}")
            };
            // A rank that asks a moment later finds rank 2 in its next call already.
            let later = format!("not arrived: rank 2 (host {host}, pid {pid}): in #2 barrier for");
            let said = [0, 1, 3].iter().any(|origin| text == says(*origin));
            assert!(said || text.contains(&later), "{text}\n{}", says(0));
        }
    }
}

#[test]
fn the_timeout_of_one_call_holds_for_that_call_and_late_ranks_are_fine() {
    for transport in TRANSPORTS {
        let seen = threads_of(3, transport, Duration::from_secs(10), |group| {
            if group.rank() == 1 {
                std::thread::sleep(Duration::from_millis(2000));
            }
            let mut sum = [1_i64; 5];
            group.all_reduce_in_place(&mut sum, ReduceOp::Sum).unwrap();
            let begun = Instant::now();
            if group.rank() == 1 {
                until(&group, "over");
                return (sum, begun.elapsed(), String::new());
            }
            let short = group.with_timeout(Duration::from_millis(200));
            let error = short.barrier().unwrap_err();
            let took = begun.elapsed();
            group.store().set("over", b"").unwrap();
            (sum, took, error.to_string())
        });
        for (rank, (sum, took, text)) in seen.iter().enumerate() {
            assert_eq!(*sum, [3; 5], "two seconds late is no error");
            if rank != 1 {
                let bounds = Duration::from_millis(200)..Duration::from_millis(1200);
                assert!(bounds.contains(took), "{took:?}");
                assert!(text.contains("not arrived: rank 1 (host "), "{text}");
            }
        }
    }
}

#[test]
fn messages_without_a_partner_end_at_the_deadline() {
    for transport in TRANSPORTS {
        let timeout = Duration::from_millis(300);
        let seen = threads_of(3, transport, timeout, |group| {
            let begun = Instant::now();
            if group.rank() != 0 {
                until(&group, "over");
                return (group.barrier().unwrap_err().to_string(), begun.elapsed());
            }
            let error = group.recv(&mut [0_u8; 4], 2).unwrap_err();
            let took = begun.elapsed();
            group.store().set("over", b"").unwrap();
            (error.to_string(), took)
        });
        let (pid, host) = (std::process::id(), host());
        let cause = format!(
            "rank 0 waited T in #0 recv u8\u{d7}4 tag 0; not arrived: rank 2 (host {host}, pid \
             {pid}): has not called a matching send; has called nothing in this group yet"
        );
        for (rank, (text, took)) in seen.iter().enumerate() {
            assert!(without_duration(text).ends_with(&cause), "rank {rank}: {text}\n{cause}");
            assert!(*took < timeout + SECOND, "rank {rank}: {took:?}");
        }
    }
}

#[test]
fn a_wait_that_gives_up_leaves_the_operation_and_the_group_good() {
    let seen = threads_of(2, None, Duration::from_secs(10), |group| {
        if group.rank() == 1 {
            until(&group, "gave up");
        }
        let work = group.all_reduce_async(vec![2_i32; 9], ReduceOp::Sum).unwrap();
        if group.rank() == 0 {
            assert!(!work.wait_timeout(Duration::from_millis(50)), "nobody else has called");
            assert!(!work.is_completed());
            group.store().set("gave up", b"").unwrap();
        }
        let sum = work.wait().unwrap();
        group.barrier().unwrap();
        sum
    });
    assert_eq!(seen, vec![vec![4; 9]; 2]);
}

#[test]
fn an_abort_ends_every_wait_on_every_rank() {
    for transport in TRANSPORTS {
        let seen = threads_of(4, transport, Duration::from_secs(10), |group| {
            group.barrier().unwrap();
            let begun = Instant::now();
            let error = match group.rank() {
                // Rank 3 waits in one thread and aborts in another.
                3 => std::thread::scope(|scope| {
                    let waiting = group.clone();
                    let waiter = scope.spawn(move || waiting.barrier().unwrap_err());
                    std::thread::sleep(Duration::from_millis(100));
                    group.abort("the test says so");
                    group.abort("twice does no harm");
                    waiter.join().unwrap()
                }),
                0 => group.recv(&mut [0_u8; 9], 1).unwrap_err(),
                1 => group.barrier().unwrap_err(),
                _ => group.barrier_async().unwrap().wait().unwrap_err(),
            };
            (error, begun.elapsed(), group.barrier().unwrap_err())
        });
        for (rank, (error, took, after)) in seen.iter().enumerate() {
            let cause = "rank 3 aborted the group: the test says so";
            let call = ["#0 recv u8\u{d7}9 tag 0", "#2 barrier"][rank.min(1)];
            assert_eq!(error.to_string(), format!("group \"world\", rank {rank}, {call}: {cause}"));
            assert!(matches!(error, Error::Aborted { rank: 3, .. }), "rank {rank}: {error:?}");
            assert!(*took < SECOND + Duration::from_millis(100), "rank {rank}: {took:?}");
            // The group is of no use any more, and says why.
            let used = format!(
                "group \"world\" is no longer usable since it failed: group \"world\", rank {rank}: {cause}"
            );
            assert_eq!(after.to_string(), used);
        }
    }
}

#[test]
fn all_ranks_that_wait_are_told_of_an_abort() {
    for transport in TRANSPORTS {
        let seen = threads_of(4, transport, Duration::from_secs(10), |group| {
            group.barrier().unwrap();
            let begun = Instant::now();
            if group.rank() == 2 {
                std::thread::sleep(Duration::from_millis(100));
                group.abort("enough");
                return (group.barrier().unwrap_err(), begun.elapsed());
            }
            let mut buf = vec![1.0_f64; 100_000];
            (group.all_reduce_in_place(&mut buf, ReduceOp::Sum).unwrap_err(), begun.elapsed())
        });
        for (rank, (error, took)) in seen.iter().enumerate() {
            let here = match rank {
                2 => "group \"world\" is no longer usable since it failed: group \"world\", rank 2"
                    .to_owned(),
                _ => format!("group \"world\", rank {rank}, #2 all_reduce f64\u{d7}100000 sum"),
            };
            assert_eq!(error.to_string(), format!("{here}: rank 2 aborted the group: enough"));
            assert!(*took < SECOND + Duration::from_millis(100), "rank {rank}: {took:?}");
        }
    }
}

#[test]
fn a_finalized_group_says_so() {
    threads_of(2, None, Duration::from_secs(5), |group| {
        let other = group.clone();
        group.finalize().unwrap();
        let begun = Instant::now();
        let usage = "group \"world\" was finalized";
        assert_eq!(other.barrier().unwrap_err().to_string(), format!("barrier: {usage}"));
        let work = other.barrier_async().unwrap_err();
        assert_eq!(work.to_string(), format!("barrier: {usage}"));
        let send = other.send(&[1_u8], 0).unwrap_err();
        assert_eq!(send.to_string(), format!("send or recv: {usage}"));
        assert!(begun.elapsed() < SECOND, "nobody is asked");
        // Aborting what is over is nothing.
        other.abort("late");
    });
}

#[test]
fn a_rank_that_drops_the_group_is_told_to_those_who_wait() {
    for transport in TRANSPORTS {
        let seen = threads_of(3, transport, Duration::from_secs(10), |group| {
            group.barrier().unwrap();
            if group.rank() == 1 {
                drop(group);
                return None;
            }
            let begun = Instant::now();
            let error = group.all_reduce_in_place(&mut [1_u32; 7], ReduceOp::Max).unwrap_err();
            Some((error.to_string(), begun.elapsed()))
        });
        let (host, pid) = (host(), std::process::id());
        for (rank, seen) in seen.iter().enumerate() {
            let Some((text, took)) = seen else { continue };
            let here = format!("group \"world\", rank {rank}, #2 all_reduce u32\u{d7}7 max");
            // A thread that comes late finds that the other one has failed the group already.
            let late = format!(
                "group \"world\" is no longer usable since it failed: group \"world\", rank {rank}"
            );
            let left = "left the group (finalized or dropped it)";
            let says = |here| format!("{here}: rank 1 (host {host}, pid {pid}) {left}");
            assert!([here, late].map(says).contains(text), "{text}");
            assert!(*took < SECOND, "rank {rank}: {took:?}");
        }
    }
}

#[test]
fn a_group_dropped_with_work_in_flight_ends_at_once_and_the_others_are_told() {
    for transport in TRANSPORTS {
        let seen = threads_of(3, transport, Duration::from_secs(10), |group| {
            group.barrier().unwrap();
            let store = group.store();
            let mut buf = vec![1_u32; 70_000];
            match group.rank() {
                0 => {
                    let error = group.all_reduce_in_place(&mut buf, ReduceOp::Max).unwrap_err();
                    (error.to_string(), Duration::ZERO)
                }
                // Rank 2 has not called: what rank 1 began cannot be over.
                1 => {
                    let work = group.all_reduce_async(buf, ReduceOp::Max).unwrap();
                    let begun = Instant::now();
                    drop(group);
                    let dropped = begun.elapsed();
                    store.set("dropped", b"").unwrap();
                    (work.wait().unwrap_err().to_string(), dropped)
                }
                _ => {
                    store.get_within("dropped", PATIENCE).unwrap();
                    let begun = Instant::now();
                    let error = group.all_reduce_in_place(&mut buf, ReduceOp::Max).unwrap_err();
                    (error.to_string(), begun.elapsed())
                }
            }
        });
        let cause = "rank 1 aborted the group: a rank dropped the group with work in flight";
        for (rank, (text, took)) in seen.iter().enumerate() {
            let here = format!("group \"world\", rank {rank}, #2 all_reduce u32\u{d7}70000 max");
            // What begins after the news finds that the group has failed already.
            let late = format!(
                "group \"world\" is no longer usable since it failed: group \"world\", rank {rank}"
            );
            let says = [here, late].map(|here| format!("{here}: {cause}"));
            assert!(says.contains(text), "rank {rank}: {text}");
            assert!(*took < SECOND, "rank {rank}: {took:?}");
        }
    }
}

/// Builds rank `rank` of `world_size` on a store, with what progress lines were written.
fn build(
    store: &SharedStore,
    rank: usize,
    world_size: usize,
    timeout: Duration,
) -> Result<ProcessGroup, Error> {
    let builder = ProcessGroup::builder().env(Env::empty()).init_timeout(timeout);
    builder.member(Member { rank, world_size }).store(store.clone()).build()
}

#[test]
fn a_rank_that_does_not_come_is_named_at_the_deadline_by_all() {
    let store: SharedStore = Arc::new(MemoryStore::new(PATIENCE));
    let timeout = Duration::from_millis(500);
    let begun = Instant::now();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let come = |rank| {
            let store = &store;
            scope.spawn(move || build(store, rank, 4, timeout).unwrap_err().to_string())
        };
        let threads: Vec<_> = [0, 1, 3].into_iter().map(come).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(begun.elapsed() < timeout + SECOND, "{:?}", begun.elapsed());
    for text in texts {
        let (before, rest) = text.split_once(" within ").unwrap();
        assert_eq!(before, "1 of 4 ranks did not join");
        let (took, rest) = rest.split_once(": ").unwrap();
        assert!(took.ends_with('s'), "{took}");
        let advice = "look at the output of the missing ranks, and whether they use the same store";
        // Whose deadline came first is told to the others.
        let rest = rest.strip_prefix(&format!("missing 2; {advice}")).unwrap();
        assert!(rest.is_empty() || rest.starts_with("; rank "), "{text}");
        assert!(rest.is_empty() || rest.contains(" gave up after "), "{text}");
    }
}

#[test]
fn who_is_waited_for_is_said_every_ten_seconds_and_at_the_end() {
    let mut world = World::empty(3);
    let port = tests::faults::free_port().to_string();
    for rank in [0, 1] {
        let number = rank.to_string();
        let env = [
            ("RANK", number.as_str()),
            ("WORLD_SIZE", "3"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", &port),
            ("NCCL_RS_INIT_TIMEOUT_MS", "11000"),
        ];
        world.spawn(rank, RANK, &env, &["build".to_owned()]);
    }
    for rank in [0, 1] {
        let line = world.expect(rank, "nccl: waiting for ", PATIENCE);
        let begin = "nccl: waiting for 1 of 3 ranks to join: rank 2 (for 10.";
        assert!(line.is_stderr && line.text.starts_with(begin), "{line:?}");
        let line = world.expect(rank, "refused ", PATIENCE);
        assert!(line.text.contains(" 1 of 3 ranks did not join within 1"), "{line:?}");
        assert!(line.text.contains(": missing 2; "), "{line:?}");
    }
    world.end();
}

#[test]
fn a_rank_number_used_twice_and_a_world_of_another_size_are_told() {
    let store: SharedStore = Arc::new(MemoryStore::new(PATIENCE));
    let timeout = Duration::from_secs(10);
    let (pid, host) = (std::process::id(), host());
    let groups: Mutex<Vec<ProcessGroup>> = Mutex::default();
    std::thread::scope(|scope| {
        for rank in 0..2 {
            let (store, groups) = (&store, &groups);
            scope.spawn(move || {
                let group = build(store, rank, 2, timeout).unwrap();
                groups.lock().unwrap().push(group);
            });
        }
    });
    // The world runs; a second rank 1, a second rank 0 and a rank of a larger world come.
    let begun = Instant::now();
    for rank in [1, 0] {
        let text = build(&store, rank, 2, timeout).unwrap_err().to_string();
        let place = format!("host {host}, pid {pid}");
        let runs = format!("rank {rank} already runs: {place}; this one is {place}");
        assert_eq!(text, format!("rank {rank} of 2 cannot join: {runs}"));
    }
    let larger = build(&store, 2, 3, timeout).unwrap_err().to_string();
    let places = format!("(rank 2: host {host}, pid {pid}; rank 0: host {host}, pid {pid})");
    let says = format!("rank 2 says WORLD_SIZE 3, rank 0 says 2 {places}");
    assert_eq!(larger, format!("rank 2 of 3 cannot join: {says}"));
    assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
    // The world goes on.
    let groups = groups.into_inner().unwrap();
    std::thread::scope(|scope| {
        for group in &groups {
            scope.spawn(move || group.barrier().unwrap());
        }
    });
}

#[test]
fn a_world_whose_ranks_were_told_different_sizes_ends_at_once() {
    let store: SharedStore = Arc::new(MemoryStore::new(PATIENCE));
    let begun = Instant::now();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let come = |(rank, world_size)| {
            let store = &store;
            let timeout = Duration::from_secs(10);
            scope.spawn(move || build(store, rank, world_size, timeout).unwrap_err().to_string())
        };
        let threads: Vec<_> = [(0, 3), (1, 3), (2, 4)].into_iter().map(come).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    let place = format!("host {}, pid {}", host(), std::process::id());
    let says =
        format!("rank 2 says WORLD_SIZE 4, rank 0 says 3 (rank 2: {place}; rank 0: {place})");
    let expected = [(0, 3), (1, 3), (2, 4)]
        .map(|(rank, of)| format!("rank {rank} of {of} cannot join: {says}"));
    assert_eq!(texts, expected);
}
