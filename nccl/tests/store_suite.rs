//! What every store does, asked of each kind of store.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::Error;
use nccl::store::FileStore;
use nccl::store::MemoryStore;
use nccl::store::PrefixStore;
use nccl::store::SharedStore;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);

/// One store, and a way to reach it again as another rank would.
struct Subject {
    name: &'static str,
    store: SharedStore,
    again: Box<dyn Fn() -> SharedStore>,
    _server: Option<TcpStoreServer>,
    _dir: Option<tempfile::TempDir>,
}

fn tcp() -> Subject {
    let server = TcpStoreServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = server.local_addr();
    let again = move || -> SharedStore { Arc::new(TcpStore::connect_addr(addr, LONG).unwrap()) };
    Subject {
        name: "tcp",
        store: again(),
        again: Box::new(again),
        _server: Some(server),
        _dir: None,
    }
}

fn file() -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let again = move || -> SharedStore { Arc::new(FileStore::new(&path, LONG).unwrap()) };
    Subject { name: "file", store: again(), again: Box::new(again), _server: None, _dir: Some(dir) }
}

fn memory() -> Subject {
    let base = MemoryStore::new(LONG);
    let store: SharedStore = Arc::new(base.clone());
    let again = move || -> SharedStore { Arc::new(base.clone()) };
    Subject { name: "memory", store, again: Box::new(again), _server: None, _dir: None }
}

fn prefixed(base: Subject) -> Subject {
    let wrap = |store: SharedStore| -> SharedStore { Arc::new(PrefixStore::new("job/7", store)) };
    let inner = base.again;
    Subject {
        name: "prefix",
        store: wrap(base.store),
        again: Box::new(move || wrap(inner())),
        _server: base._server,
        _dir: base._dir,
    }
}

fn each(test: impl Fn(&Subject)) {
    for subject in [tcp(), file(), memory(), prefixed(tcp()), prefixed(file()), prefixed(memory())]
    {
        test(&subject);
    }
}

fn is_timeout(error: &Error, keys: &str) -> bool {
    matches!(error, Error::StoreTimeout { keys: named, .. } if named == keys)
}

#[test]
fn a_value_comes_back_as_it_was_set() {
    each(|Subject { name, store, again, .. }| {
        for value in [&b""[..], b"v", b"\0\xff\n", &[7; 100_000]] {
            store.set("k", value).unwrap();
            assert_eq!(store.get("k").unwrap(), value, "{name}");
        }
        store.ping().unwrap();
        assert_eq!(again().get("k").unwrap().len(), 100_000, "{name}");
        for key in ["", "/", "a b", "\u{fc}\0\n", &"x".repeat(4000)] {
            store.set(key, key.as_bytes()).unwrap();
            assert_eq!(store.get(key).unwrap(), key.as_bytes(), "{name}");
        }
        let before = store.num_keys().unwrap();
        assert!(store.delete("k").unwrap() && !store.delete("k").unwrap(), "{name}");
        assert_eq!(store.num_keys().unwrap(), before - 1, "{name}");
        assert!(!store.check(&["k"]).unwrap() && store.check(&["", "/"]).unwrap(), "{name}");
        assert!(store.check(&[]).unwrap(), "{name}");
    });
}

#[test]
fn a_missing_key_is_named_when_its_time_is_up() {
    each(|Subject { name, store, .. }| {
        store.set("here", b"").unwrap();
        let begun = Instant::now();
        let error = store.get_within("gone", SHORT).unwrap_err();
        assert!(begun.elapsed() >= SHORT && begun.elapsed() < SHORT + Duration::from_secs(2));
        let prefix = if *name == "prefix" { "job/7/" } else { "" };
        assert!(is_timeout(&error, &format!("\"{prefix}gone\"")), "{name}: {error}");
        let error = store.wait(&["here", "a", "b"], SHORT).unwrap_err();
        let both = format!("\"{prefix}a\", \"{prefix}b\"");
        assert!(is_timeout(&error, &both), "{name}: {error}");
        assert!(error.to_string().contains("wait timed out after "), "{error}");
        let error = store.wait(&["gone"], Duration::ZERO).unwrap_err();
        assert!(is_timeout(&error, &format!("\"{prefix}gone\"")), "{name}: {error}");
        store.wait(&["here"], Duration::ZERO).unwrap();
        store.wait(&[], Duration::ZERO).unwrap();
    });
}

#[test]
fn a_wait_ends_soon_after_the_key_is_made_by_any_call() {
    type Make = fn(&SharedStore) -> Result<(), Error>;
    let makers: [(&str, Make); 6] = [
        ("set", |s| s.set("k", b"x")),
        ("add", |s| s.add("k", 1).map(drop)),
        ("append", |s| s.append("k", b"x")),
        ("compare_set", |s| s.compare_set("k", b"", b"x").map(drop)),
        ("multi_set", |s| s.multi_set(&[("j", b""), ("k", b"x")])),
        ("queue_push", |s| s.queue_push("k", b"x")),
    ];
    each(|Subject { name, store, again, .. }| {
        for (maker, make) in makers {
            let other = again();
            let (sent, got) = mpsc::channel();
            let waiter = thread::spawn(move || {
                sent.send(()).unwrap();
                let begun = Instant::now();
                other.wait(&["k"], LONG).map(|()| begun.elapsed())
            });
            got.recv().unwrap();
            thread::sleep(Duration::from_millis(30));
            make(store).unwrap();
            let waited = waiter.join().unwrap().unwrap();
            assert!(waited < Duration::from_secs(2), "{name} {maker}: {waited:?}");
            store.delete("k").unwrap();
            let _ = store.queue_pop("k", Duration::ZERO);
            assert!(!store.check(&["k"]).unwrap(), "{name} {maker}");
        }
    });
}

#[test]
fn numbers_add_up_and_text_does_not() {
    each(|Subject { name, store, .. }| {
        assert_eq!(store.add("n", 5).unwrap(), 5, "{name}");
        assert_eq!(store.add("n", -7).unwrap(), -2, "{name}");
        assert_eq!(store.get("n").unwrap(), b"-2", "{name}");
        store.set("n", b"10").unwrap();
        assert_eq!(store.add("n", 0).unwrap(), 10, "{name}");
        store.set("text", b"abc").unwrap();
        assert!(store.add("text", 1).is_err(), "{name}");
        assert_eq!(store.get("text").unwrap(), b"abc", "{name}: the store goes on");
        store.set("big", i64::MAX.to_string().as_bytes()).unwrap();
        assert!(store.add("big", 1).is_err(), "{name}");
        assert_eq!(store.add("big", -1).unwrap(), i64::MAX - 1, "{name}");
    });
}

#[test]
fn compare_set_lets_one_win() {
    each(|Subject { name, store, .. }| {
        assert_eq!(store.compare_set("c", b"no", b"z").unwrap(), b"no", "{name}");
        assert!(!store.check(&["c"]).unwrap(), "{name}");
        assert_eq!(store.compare_set("c", b"", b"x").unwrap(), b"x", "{name}");
        assert_eq!(store.compare_set("c", b"x", b"y").unwrap(), b"y", "{name}");
        assert_eq!(store.compare_set("c", b"no", b"z").unwrap(), b"y", "{name}");
        assert_eq!(store.compare_set("c", b"", b"z").unwrap(), b"y", "{name}");
        assert_eq!(store.get("c").unwrap(), b"y", "{name}");
    });
}

#[test]
fn several_keys_go_and_come_together() {
    each(|Subject { name, store, .. }| {
        store.multi_set(&[("a", b"1"), ("b", b""), ("c", b"333")]).unwrap();
        assert_eq!(
            store.multi_get(&["c", "a", "b", "c"]).unwrap(),
            [&b"333"[..], b"1", b"", b"333"]
        );
        assert_eq!(store.multi_get(&[]).unwrap(), Vec::<Vec<u8>>::new(), "{name}");
        store.multi_set(&[]).unwrap();
        store.append("a", b"2").unwrap();
        store.append("new", b"x").unwrap();
        assert_eq!(store.multi_get(&["a", "new"]).unwrap(), [&b"12"[..], b"x"], "{name}");
    });
}

#[test]
fn a_queue_is_first_in_first_out() {
    each(|Subject { name, store, .. }| {
        assert_eq!(store.queue_len("q").unwrap(), 0, "{name}");
        for value in [&b"1"[..], b"", b"3"] {
            store.queue_push("q", value).unwrap();
        }
        assert_eq!(store.queue_len("q").unwrap(), 3, "{name}");
        assert!(store.check(&["q"]).unwrap(), "{name}");
        for value in [&b"1"[..], b"", b"3"] {
            assert_eq!(store.queue_pop("q", LONG).unwrap(), value, "{name}");
        }
        for timeout in [Duration::ZERO, SHORT] {
            let error = store.queue_pop("q", timeout).unwrap_err();
            assert!(matches!(error, Error::StoreTimeout { .. }), "{name}: {error}");
        }
        store.set("q", b"a value is no queue").unwrap();
        assert!(store.queue_pop("q", SHORT).is_err(), "{name}");
    });
}

#[test]
fn every_value_of_a_queue_goes_to_one_of_its_readers() {
    each(|Subject { name, store, again, .. }| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let store = again();
                thread::spawn(move || {
                    (0..5).map(|_| store.queue_pop("q", LONG).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        for value in 0..20_u8 {
            store.queue_push("q", &[value]).unwrap();
        }
        let mut got: Vec<u8> =
            readers.into_iter().flat_map(|reader| reader.join().unwrap().concat()).collect();
        got.sort_unstable();
        assert_eq!(got, (0..20).collect::<Vec<u8>>(), "{name}");
    });
}

#[test]
fn sixty_four_threads_add_up_exactly() {
    each(|Subject { name, store, again, .. }| {
        let threads: Vec<_> = (0..64)
            .map(|at| {
                // Half of them share one client, the rest have their own.
                let store = if at % 2 == 0 { Arc::clone(store) } else { again() };
                thread::spawn(move || (0..10).map(|_| store.add("n", 3).unwrap()).max().unwrap())
            })
            .collect();
        let highest = threads.into_iter().map(|thread| thread.join().unwrap()).max();
        assert_eq!(highest, Some(64 * 10 * 3), "{name}");
        assert_eq!(store.add("n", 0).unwrap(), 64 * 10 * 3, "{name}");
    });
}

#[test]
fn a_waiting_thread_does_not_hold_up_the_others_of_its_store() {
    each(|Subject { name, store, .. }| {
        let waiters: Vec<_> = (0..3)
            .map(|at| {
                let store = Arc::clone(store);
                thread::spawn(move || store.get_within(&format!("late {at}"), LONG))
            })
            .collect();
        thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        for turn in 0..20 {
            store.set("k", &[turn]).unwrap();
            assert_eq!(store.get("k").unwrap(), [turn], "{name}");
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{name}: {:?}", begun.elapsed());
        for at in 0..3 {
            store.set(&format!("late {at}"), b"now").unwrap();
        }
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap(), b"now", "{name}");
        }
    });
}

#[test]
fn a_store_says_where_it_is() {
    each(|Subject { name, store, .. }| {
        let place = store.describe();
        assert!(
            place == "memory"
                || place.starts_with("tcp://127.0.0.1:")
                || place.starts_with("file:///"),
            "{name}: {place}"
        );
        assert_eq!(store.timeout(), LONG);
    });
}
