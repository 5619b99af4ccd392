//! Who gets in, who does not, and what is said about it.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use super::super::join::Announcement;
use super::super::join::KEY;
use super::*;
use crate::error::Error;
use crate::wire::control::CONTROL_MAGIC;

#[test]
fn worlds_of_1_2_3_and_8_join_and_all_have_the_same_table() {
    for world_size in [1, 2, 3, 8] {
        let world = world(world_size);
        for (rank, control) in world.iter().enumerate() {
            assert_eq!(control.member(), Member { rank, world_size });
            assert_eq!(control.peers(), world[0].peers());
            assert_eq!(control.hello(0).token, world[0].hello(0).token);
            assert_eq!(control.peers()[rank].rank, rank);
            assert_eq!(control.peers()[rank].pid, std::process::id());
            assert!((0..world_size).all(|other| control.peer_state(other) == PeerState::Alive));
        }
    }
}

#[test]
fn a_world_of_one_writes_nothing_into_the_store() {
    let store = memory();
    let control = Control::join(config(&store, 0, 1)).unwrap();
    assert_eq!(store.num_keys().unwrap(), 0);
    let state = group(&[Arc::clone(&control)], 4, &[0]).remove(0);
    assert_eq!(doing(&control.ask(4, SOON)), [Some(state.status().desc)]);
    control.fail(4, &Failure::Aborted { rank: 0, reason: "x".into() });
    assert!(state.has_failed());
}

#[test]
fn ranks_may_come_in_any_order_and_late() {
    let store = memory();
    let early = {
        std::thread::spawn({
            let c = config(&store, 1, 2);
            || Control::join(c)
        })
    };
    let begun = Instant::now();
    until("rank 1 waits", || begun.elapsed() > Duration::from_millis(150));
    let zero = Control::join(config(&store, 0, 2)).unwrap();
    assert_eq!(early.join().unwrap().unwrap().peers(), zero.peers());
}

#[test]
fn a_duplicate_of_rank_1_is_told_who_holds_the_rank_and_the_first_keeps_running() {
    let store = memory();
    let world: Vec<_> = join_all((0..2).map(|rank| config(&store, rank, 2)).collect())
        .into_iter()
        .flatten()
        .collect();
    let begun = Instant::now();
    let error = Control::join(config(&store, 1, 2)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let place = world[1].peers()[1].place();
    let expected = format!("rank 1 already runs: {place}; this one is {place}");
    assert!(
        matches!(&error, Error::Join { rank: 1, world_size: 2, why } if *why == expected),
        "{error}"
    );
    assert_eq!(world[0].peer_state(1), PeerState::Alive);
    let states = group(&world, 9, &[0, 1]);
    assert_eq!(doing(&world[0].ask(9, SOON)), [Some(states[0].status().desc); 2]);
}

#[test]
fn a_duplicate_of_rank_0_is_told_before_and_after_the_world_is_whole() {
    let store = memory();
    let zero = std::thread::spawn({
        let c = config(&store, 0, 2);
        || Control::join(c)
    });
    store.get_within(KEY, SOON).unwrap();
    for whole in [false, true] {
        let begun = Instant::now();
        let error = Control::join(config(&store, 0, 2)).unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(1));
        let pid = std::process::id();
        assert!(
            error.contains("rank 0 already runs: host ") && error.contains(&format!("pid {pid}")),
            "{error}"
        );
        if !whole {
            let one = Control::join(config(&store, 1, 2)).unwrap();
            assert_eq!(one.peers().len(), 2);
            std::mem::forget(one); // stays in the world; the process ends soon
        }
    }
    assert!(zero.join().unwrap().is_ok());
}

#[test]
fn different_world_sizes_are_told_to_everybody_at_once() {
    let store = memory();
    let begun = Instant::now();
    // Rank 2 believes in the larger world too and learns the same.
    let results = join_all(vec![config(&store, 0, 2), config(&store, 1, 3), config(&store, 2, 3)]);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    for (rank, result) in results.into_iter().enumerate() {
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(
                "rank {rank} of {} cannot join: rank ",
                3 - usize::from(rank == 0)
            )),
            "{error}"
        );
        assert!(error.contains(" says WORLD_SIZE 3, rank 0 says 2"), "{error}");
    }
}

#[test]
fn ranks_that_have_joined_learn_of_a_mismatch_from_one_that_comes_later() {
    let store = memory();
    let good: Vec<_> = [0, 1]
        .map(|rank| {
            std::thread::spawn({
                let c = config(&store, rank, 3);
                || Control::join(c)
            })
        })
        .into();
    store.get_within(KEY, SOON).unwrap();
    let late = Control::join(config(&store, 2, 5)).unwrap_err().to_string();
    assert!(late.contains("rank 2 says WORLD_SIZE 5, rank 0 says 3"), "{late}");
    for join in good {
        let error = join.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("rank 2 says WORLD_SIZE 5, rank 0 says 3"), "{error}");
    }
}

#[test]
fn missing_ranks_are_named_at_the_deadline_to_all_who_came() {
    let store = memory();
    let timeout = Duration::from_millis(700);
    let begun = Instant::now();
    let results =
        join_all([0, 1, 4].map(|rank| JoinConfig { timeout, ..config(&store, rank, 6) }).into());
    let took = begun.elapsed();
    assert!(took >= timeout && took < timeout + Duration::from_secs(1), "{took:?}");
    for result in results {
        let Error::Missing { ranks, world_size, waited, advice } = result.unwrap_err() else {
            panic!("another error");
        };
        assert_eq!((ranks, world_size), (vec![2, 3, 5], 6));
        assert!(
            waited >= Duration::from_millis(500) && waited < Duration::from_millis(1500),
            "{waited:?}"
        );
        assert!(advice.contains("same store"), "{advice}");
    }
}

#[test]
fn lines_tell_who_is_waited_for() {
    let lines = |rank| {
        let store = memory();
        let said = Arc::new(Mutex::new(Vec::new()));
        let progress = Box::new({
            let said = Arc::clone(&said);
            move |line: &str| lock(&said).push(line.to_owned())
        });
        let timeout = Duration::from_millis(1300);
        let config = JoinConfig { timeout, progress, ..config(&store, rank, 3) };
        assert!(Control::join(config).is_err());
        let first = lock(&said).first().cloned();
        first.unwrap()
    };
    let (zero, two) = (lines(0), lines(2));
    assert!(zero.starts_with("waiting for 2 of 3 ranks to join: rank 1, 2 (for "), "{zero}");
    assert!(two.starts_with("waiting for rank 0, which has not announced itself"), "{two}");
}

#[test]
fn without_rank_0_the_others_name_rank_0_and_the_store() {
    let store = memory();
    let timeout = Duration::from_millis(300);
    let error = Control::join(JoinConfig { timeout, ..config(&store, 1, 2) }).unwrap_err();
    assert!(matches!(&error, Error::Missing { ranks, .. } if *ranks == [0]), "{error}");
    assert!(error.to_string().contains("the store memory"), "{error}");
}

#[test]
fn a_rank_that_goes_away_while_joining_is_missing_again_and_mentioned() {
    let store = memory();
    let timeout = Duration::from_millis(900);
    let zero = std::thread::spawn({
        let config = JoinConfig { timeout, ..config(&store, 0, 3) };
        || Control::join(config)
    });
    store.get_within(KEY, SOON).unwrap();
    let hub = Announcement::decode(&store.get_within(KEY, SOON).unwrap()).unwrap();
    let peer = Box::new(Peer {
        rank: 1,
        ..Control::join(config(&memory(), 0, 1)).unwrap().peers()[0].clone()
    });
    let hello = Message::Hello { token: hub.token, world_size: 3, peer };
    let mut doomed = TcpStream::connect(hub.addrs[0]).unwrap();
    doomed.write_all(&[&CONTROL_MAGIC[..], &hello.encode()].concat()).unwrap();
    doomed.read_exact(&mut [0; 5]).unwrap(); // it is in
    drop(doomed);
    let Error::Missing { ranks, advice, .. } = zero.join().unwrap().unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(ranks, [1, 2]);
    assert!(advice.contains("rank 1 (host ") && advice.contains("had joined, but"), "{advice}");
}

#[test]
fn a_rank_whose_deadline_comes_first_ends_the_wait_of_all_and_is_not_counted_as_missing() {
    let store = memory();
    let begun = Instant::now();
    let results = join_all(
        [0, 1, 2]
            .map(|rank| {
                let timeout = Duration::from_millis(if rank == 1 { 300 } else { 9000 });
                JoinConfig { timeout, ..config(&store, rank, 4) }
            })
            .into(),
    );
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for (rank, result) in results.into_iter().enumerate() {
        let Error::Missing { ranks, advice, .. } = result.unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(ranks, [3]);
        assert!(rank == 1 || advice.contains("gave up after 3"), "{advice}");
    }
}

#[test]
fn keys_of_an_earlier_start_hinder_nobody() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts and never says anything
    let silent = other.local_addr().unwrap();
    for stale in [vec![dead], vec![silent], vec![]] {
        let store = memory();
        let old = Announcement { token: [1; 16], pid: 1, host: "old".into(), addrs: stale };
        store.set(KEY, old.encode().as_bytes()).unwrap();
        let early = std::thread::spawn({
            let c = config(&store, 1, 2);
            || Control::join(c)
        });
        let zero = Control::join(config(&store, 0, 2)).unwrap();
        assert_eq!(early.join().unwrap().unwrap().peers(), zero.peers());
    }
    let store = memory();
    store.set(KEY, b"what is this").unwrap();
    assert!(
        join_all((0..2).map(|rank| config(&store, rank, 2)).collect()).iter().all(Result::is_ok)
    );
}

#[test]
fn a_second_world_in_the_same_store_follows_the_first() {
    let store = memory();
    for _ in 0..3 {
        let world = join_all((0..3).map(|rank| config(&store, rank, 3)).collect());
        assert!(world.iter().all(Result::is_ok), "{world:?}");
    }
    assert_eq!(store.num_keys().unwrap(), 1);
}

#[test]
fn a_hub_of_another_world_at_the_same_address_is_not_joined() {
    let (ours, theirs) = (memory(), memory());
    let zero = std::thread::spawn({
        let c = config(&theirs, 0, 2);
        || Control::join(c)
    });
    let value = theirs.get_within(KEY, SOON).unwrap();
    let mut announcement = Announcement::decode(&value).unwrap();
    announcement.token[0] ^= 1;
    ours.set(KEY, announcement.encode().as_bytes()).unwrap();
    let timeout = Duration::from_millis(300);
    let error = Control::join(JoinConfig { timeout, ..config(&ours, 1, 2) }).unwrap_err();
    assert!(error.to_string().contains("another world's hub answers here"), "{error}");
    drop(Control::join(config(&theirs, 1, 2)).unwrap());
    assert!(zero.join().unwrap().is_ok());
}

#[test]
fn two_hundred_silent_strangers_and_some_loud_ones_do_not_hinder_joining() {
    let store = memory();
    let zero = std::thread::spawn({
        let c = config(&store, 0, 3);
        || Control::join(c)
    });
    let hub = Announcement::decode(&store.get_within(KEY, SOON).unwrap()).unwrap().addrs[0];
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(hub).unwrap()).collect();
    let loud: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 2, 0], b"SSH-2.0-x\r\n", &[0xff; 5000]];
    for words in loud {
        let mut stranger = TcpStream::connect(hub).unwrap();
        stranger.set_read_timeout(Some(SOON)).unwrap();
        stranger.write_all(words).unwrap();
        // Closed at once: the end, or a reset because words were left unread.
        let begun = Instant::now();
        assert!(!matches!(stranger.read(&mut [0]), Ok(1..)), "an answer");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
    let begun = Instant::now();
    let others = join_all(vec![config(&store, 1, 3), config(&store, 2, 3)]);
    assert!(others.iter().all(Result::is_ok));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(zero.join().unwrap().is_ok());
    drop(silent);
}

#[test]
fn an_address_that_all_cannot_use_is_refused() {
    let store = memory();
    let wild = JoinConfig { bind: "0.0.0.0".parse().unwrap(), ..config(&store, 0, 2) };
    assert!(matches!(Control::join(wild).unwrap_err(), Error::Bind { .. }));
    let error = Control::join(config(&store, 2, 2)).unwrap_err();
    assert!(matches!(error, Error::Rank { rank: 2, world_size: 2, .. }), "{error}");
}

#[test]
fn loopback_addresses_of_several_hosts_are_found() {
    use super::super::hub::unreachable;
    let peer = |rank: usize, host: &str, addr: &str| Peer {
        rank,
        host: host.into(),
        host_id: host.into(),
        process_id: [0; 16],
        pid: 7,
        uid: 0,
        tcp: vec![addr.parse().unwrap()],
        unix: String::new(),
        local_rank: None,
        node: host.into(),
        wants: crate::config::BackendChoice::Cpu,
        lacks: String::new(),
    };
    let (lo, eth) = ("127.0.1.1:4", "10.0.0.1:4");
    assert_eq!(unreachable(&[peer(0, "a", lo), peer(1, "a", lo)]), None);
    assert_eq!(unreachable(&[peer(0, "a", eth), peer(1, "b", eth)]), None);
    let why = unreachable(&[peer(0, "a", eth), peer(1, "b", lo)]).unwrap();
    assert!(why.contains("rank 1 (host b, pid 7) listens on 127.0.1.1:4"), "{why}");
    assert!(why.contains("NCCL_SOCKET_IFNAME"), "{why}");
}
