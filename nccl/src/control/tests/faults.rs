//! Ranks that die, fall silent, leave or fail, and who learns of it.

use std::io::BufRead;
use std::io::BufReader;

use super::super::join::KEY;
use super::*;
use crate::desc::Kind;
use crate::desc::NO_ROOT;
use crate::desc::OpDesc;
use crate::wire::MeshHello;

const ENDED: &str = "its process ended without finalize (connection closed)";
const VAR: &str = "NCCL_RS_TEST_CONTROL_CHILD";

fn lost(rank: usize, peer: &Peer, why: &str) -> Option<Failure> {
    let (host, pid) = (peer.host.clone(), peer.pid);
    Some(Failure::PeerLost { rank, host, pid, why: why.into() })
}

#[test]
fn a_dead_rank_is_known_to_all_at_once_and_fails_only_its_groups() {
    let world = world(5);
    let all = group(&world, 1, &[0, 1, 2, 3, 4]);
    let with = group(&world, 2, &[4, 3, 1]);
    let without = group(&world, 3, &[0, 1, 4]);
    world[3].vanish();
    let took = until("all know", || {
        [0, 1, 2, 4]
            .iter()
            .all(|rank| all[*rank].has_failed() && world[*rank].peer_state(3) != PeerState::Alive)
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    let peer = &world[0].peers()[3];
    for rank in [0, 1, 2, 4] {
        assert_eq!(all[rank].failure(), lost(3, peer, ENDED));
        assert_eq!(world[rank].peer_state(3), PeerState::Lost(ENDED.into()));
    }
    assert_eq!(with[0].failure(), lost(1, peer, ENDED));
    assert_eq!(with[2].failure(), lost(1, peer, ENDED));
    assert!(without.iter().all(|state| !state.has_failed()));
    let later = group(&world[..1], 4, &[0]).remove(0);
    assert!(!later.has_failed());
    let with_dead = Arc::new(GroupState::new(5, "late".into(), 0, vec![0, 3]));
    world[0].register(Arc::clone(&with_dead));
    assert_eq!(with_dead.failure(), lost(1, peer, ENDED));
    assert_eq!(world[0].ask(1, SOON).iter().filter(|one| one.is_some()).count(), 4);
}

#[test]
fn two_ranks_that_die_together_are_both_known() {
    let world = world(4);
    group(&world, 1, &[0, 1, 2, 3]);
    world[1].vanish();
    world[2].vanish();
    until("both are known", || {
        [0, 3]
            .iter()
            .all(|at| [1, 2].iter().all(|dead| world[*at].peer_state(*dead) != PeerState::Alive))
    });
}

#[test]
fn the_death_of_rank_0_is_known_to_all_and_the_other_groups_live_on() {
    let world = world(4);
    let all = group(&world, 1, &[0, 1, 2, 3]);
    let others = group(&world, 2, &[1, 2, 3]);
    world[0].vanish();
    let took = until("all know", || (1..4).all(|rank| all[rank].has_failed()));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!((1..4).all(|rank| all[rank].failure() == lost(0, &world[1].peers()[0], ENDED)));
    assert!(others.iter().all(|state| !state.has_failed()));
    let begun = Instant::now();
    assert_eq!(doing(&world[1].ask(2, SOON)), [Some(others[0].status().desc), None, None]);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_silent_rank_is_named_after_the_heartbeat_timeout_and_learns_it_too() {
    for silent in [2, 0] {
        let timeout = Duration::from_secs(1);
        let world = world_with(3, timeout);
        let all = group(&world, 1, &[0, 1, 2]);
        let begun = Instant::now();
        world[silent].mute();
        until("all know", || (0..3).all(|rank| all[rank].has_failed()));
        let took = begun.elapsed();
        assert!(took > timeout * 7 / 10 && took < timeout * 2, "{took:?}");
        for state in &all {
            let Some(Failure::PeerLost { rank, why, .. }) = state.failure() else {
                panic!("{:?}", state.failure());
            };
            assert_eq!(rank, silent, "{why}");
            assert!(why.starts_with("has been silent for 1."), "{why}");
        }
    }
}

#[test]
fn nobody_is_lost_while_all_are_idle_for_twice_the_timeout() {
    let timeout = Duration::from_millis(700);
    let world = world_with(3, timeout);
    let all = group(&world, 1, &[0, 1, 2]);
    let begun = Instant::now();
    until("time passes", || begun.elapsed() > timeout * 2);
    assert!(all.iter().all(|state| !state.has_failed()), "{all:?}");
}

#[test]
fn a_failure_reaches_all_and_the_first_cause_stays() {
    for origin in [0, 2] {
        let world = world(4);
        let all = group(&world, 7, &[0, 1, 2, 3]);
        let other = group(&world, 8, &[0, 1, 2, 3]);
        let first = Failure::Aborted { rank: origin, reason: "first".into() };
        world[origin].fail(7, &first);
        assert_eq!(all[origin].failure(), Some(first.clone()));
        let took = until("all failed", || all.iter().all(|state| state.has_failed()));
        assert!(took < Duration::from_secs(1), "{took:?}");
        world[1].fail(7, &Failure::Aborted { rank: 1, reason: "second".into() });
        world[3].vanish();
        until("rank 3 is known to be gone", || world[1].peer_state(3) != PeerState::Alive);
        assert!(all.iter().all(|state| state.failure().as_ref() == Some(&first)));
        assert!(other[1].has_failed());
    }
}

#[test]
fn a_failure_the_caller_noted_itself_is_passed_on_all_the_same() {
    let world = world(2);
    let all = group(&world, 7, &[0, 1]);
    let failure = Failure::Protocol { reporter: 1, rank: 0, what: "x".into() };
    assert!(all[1].fail(failure.clone()));
    world[1].fail(7, &failure);
    until("rank 0 failed", || all[0].failure().as_ref() == Some(&failure));
}

#[test]
fn a_failure_that_comes_before_the_group_is_kept_for_it() {
    let world = world(3);
    let failure = Failure::Aborted { rank: 0, reason: "early".into() };
    let first = group(&world, 7, &[1]).remove(0);
    world[1].fail(7, &failure);
    assert!(first.has_failed());
    // What follows on the same way shows that the failure has arrived.
    world[1].leave(1);
    let marker = Arc::new(GroupState::new(1, "marker".into(), 0, vec![0, 1]));
    world[0].register(marker);
    until("rank 0 has heard", || world[0].left(1, 1));
    let late = Arc::new(GroupState::new(7, "late".into(), 0, vec![0, 1]));
    world[0].register(Arc::clone(&late));
    assert_eq!(late.failure(), Some(failure));
}

#[test]
fn every_rank_answers_what_it_does_even_when_it_is_stuck() {
    let world = world(4);
    let states = group(&world, 5, &[3, 0, 2]);
    let desc = |seq| OpDesc {
        seq,
        kind: Kind::AllReduce as u8,
        dtype: 7,
        op: 1,
        flags: 0,
        root: NO_ROOT,
        count: 10,
    };
    states[0].begin(&desc(4));
    states[1].begin(&desc(3));
    states[1].end();
    for asker in [0, 2, 3] {
        let answers = world[asker].ask(5, SOON);
        let short: Vec<_> =
            answers.iter().map(|one| one.map(|one| (one.desc.seq, one.busy))).collect();
        assert_eq!(
            short,
            [Some((4, true)), Some((3, false)), Some((0, false))],
            "asked by {asker}"
        );
    }
    assert!(world[1].ask(5, SOON).is_empty(), "rank 1 is not in the group");
    // A member that has not registered the group answers nothing, without a wait.
    world[2].unregister(5);
    let begun = Instant::now();
    assert_eq!(world[0].ask(5, SOON)[2], None);
    assert!(begun.elapsed() < Duration::from_secs(1));
    // One that cannot answer costs the timeout, not more.
    world[3].mute();
    let begun = Instant::now();
    let answers = world[0].ask(5, Duration::from_millis(200));
    assert_eq!(answers.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn leaving_in_order_is_no_failure_and_can_be_asked_for() {
    let mut world = world(4);
    let all = group(&world, 1, &[0, 1, 2, 3]);
    let some = group(&world, 2, &[3, 1]);
    world[1].leave(2);
    until("rank 3 knows", || world[3].left(2, 1));
    assert!(!world[3].left(2, 0) && !world[3].left(1, 1));
    world.remove(2);
    until("all know that rank 2 left", || {
        world.iter().all(|control| control.peer_state(2) == PeerState::Left && control.left(1, 2))
    });
    world.remove(0); // the hub
    until("the others know", || {
        world.iter().all(|control| control.peer_state(0) == PeerState::Left)
    });
    assert!(all.iter().chain(&some).all(|state| !state.has_failed()), "{all:?}");
    assert_eq!(world[0].peer_state(3), PeerState::Alive);
}

#[test]
fn groups_are_sampled_so_that_a_status_tells_since_when() {
    let world = world(2);
    let states = group(&world, 1, &[0, 1]);
    states[1].begin(&OpDesc { seq: 1, ..OpDesc::default() });
    until("the status grows old", || {
        world[0].ask(1, SOON)[1].is_some_and(|status| status.since > Duration::from_millis(200))
    });
}

#[test]
#[ignore = "a process that another test starts"]
fn child_rank() {
    let Ok(value) = std::env::var(VAR) else { return };
    let (rank, hub) = value.split_once('|').unwrap();
    let store = memory();
    let rank: usize = rank.parse().unwrap();
    if rank > 0 {
        store.set(KEY, hub.as_bytes()).unwrap();
    }
    let join = std::thread::spawn({
        let c = config(&store, rank, 3);
        || Control::join(c)
    });
    println!("\nhub={}", String::from_utf8(store.get_within(KEY, SOON).unwrap()).unwrap());
    let control = join.join().unwrap().unwrap();
    std::thread::sleep(Duration::from_secs(20)); // until it is killed
    drop(control);
}

#[test]
fn a_killed_process_is_known_to_all_within_a_second() {
    let name = "control::tests::faults::child_rank";
    for killed in [2, 0] {
        let store = memory();
        let join = |rank| {
            let config = config(&store, rank, 3);
            std::thread::spawn(move || Control::join(config))
        };
        let mut child;
        let joins: Vec<_> = match killed {
            0 => {
                child = process(name, VAR, "0|");
                let out = BufReader::new(child.stdout.take().unwrap());
                let mut lines = out.lines().map(Result::unwrap);
                let line = lines.find(|line| line.starts_with("hub="));
                store.set(KEY, line.unwrap().trim_start_matches("hub=").as_bytes()).unwrap();
                vec![join(1), join(2)]
            }
            _ => {
                let joins = vec![join(0), join(1)];
                let hub = String::from_utf8(store.get_within(KEY, SOON).unwrap()).unwrap();
                child = process(name, VAR, &format!("2|{hub}"));
                joins
            }
        };
        let world: Vec<_> = joins.into_iter().map(|join| join.join().unwrap().unwrap()).collect();
        let states: Vec<_> = world
            .iter()
            .map(|control| {
                let rank = control.member().rank;
                let state = Arc::new(GroupState::new(1, "world".into(), rank, vec![0, 1, 2]));
                control.register(Arc::clone(&state));
                state
            })
            .collect();
        assert_eq!(world[0].peers()[killed].pid, child.id());
        child.kill().unwrap();
        let took = until("both survivors know", || states.iter().all(|state| state.has_failed()));
        child.wait().unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
        for state in states {
            assert_eq!(state.failure(), lost(killed, &world[0].peers()[killed], ENDED));
        }
    }
}

/// Open descriptors and threads of this process.
fn counts() -> (usize, usize) {
    let count = |dir| std::fs::read_dir(dir).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[test]
#[ignore = "a process that another test starts"]
fn child_counts() {
    if std::env::var(VAR).is_err() {
        return;
    }
    drop(world(2));
    let before = counts();
    for _ in 0..20 {
        let world = world(4);
        let states = group(&world, 1, &[0, 1, 2, 3]);
        let hello = MeshHello { group: 1, ..world[1].hello(0) };
        let stream = world[1].dial_tcp(&hello, &Deadline::after(SOON)).unwrap();
        world[2].fail(1, &Failure::Aborted { rank: 2, reason: "x".into() });
        until("all failed", || states.iter().all(|state| state.has_failed()));
        assert!(counts().0 > before.0 && counts().1 > before.1, "nothing is counted");
        let begun = Instant::now();
        drop((world, stream));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let (store, timeout) = (memory(), Duration::from_millis(100));
    let failed =
        join_all([0, 1].map(|rank| JoinConfig { timeout, ..config(&store, rank, 3) }).into());
    assert!(failed.iter().all(Result::is_err));
    until("threads that are joined are gone", || counts() == before);
}

#[test]
fn descriptors_and_threads_are_back_after_twenty_worlds() {
    let child = process("control::tests::faults::child_counts", VAR, "1");
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}
