//! The client among servers that are late, old, gone, or no store.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::Error;
use nccl::store::Store;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

const TIMEOUT: Duration = Duration::from_secs(10);

fn server() -> TcpStoreServer {
    TcpStoreServer::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// An address that nobody listens on, and that the system gives to none of the other tests.
fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + u16::try_from(std::process::id() * 37 % 18_000).unwrap();
    let addr = || SocketAddr::from(([127, 0, 0, 1], base + NEXT.fetch_add(1, Ordering::Relaxed)));
    let mut addrs = std::iter::repeat_with(addr).take(1000);
    addrs.find(|addr| TcpListener::bind(addr).is_ok()).unwrap()
}

/// A server that does `serve` with each connection.
fn custom(serve: impl Fn(TcpStream, usize) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            serve(stream.unwrap(), at);
        }
    });
    addr
}

/// Reads the beginning and answers the ping.
fn greet(stream: &mut TcpStream) {
    let mut hello = [0; 10];
    stream.read_exact(&mut hello).unwrap();
    stream.write_all(&hello[6..]).unwrap();
}

#[test]
fn a_client_waits_for_a_server_that_starts_later() {
    let addr = free();
    let starter = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        TcpStoreServer::bind(addr).unwrap()
    });
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    store.set("k", b"v").unwrap();
    assert_eq!(store.get("k").unwrap(), b"v");
    drop(starter.join().unwrap());
}

#[test]
fn where_nobody_listens_the_client_gives_up_at_its_deadline_and_says_so() {
    let addr = free();
    let begun = Instant::now();
    let error = TcpStore::connect_addr(addr, Duration::from_millis(400)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let text = error.to_string();
    assert!(matches!(error, Error::Connect { .. }), "{text}");
    assert!(
        text.starts_with(&format!("cannot connect to the store at {addr}: {addr}: ")),
        "{text}"
    );
    assert!(text.contains("refused") && text.contains("MASTER_PORT"), "{text}");
}

#[test]
fn a_host_without_an_address_is_refused_by_name() {
    let error = TcpStore::connect("no such host", 1, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error}");
    assert!(error.to_string().contains("\"no such host\""), "{error}");
    assert!(TcpStore::connect("127.0.0.1", 0, TIMEOUT).is_err());
}

#[test]
fn a_name_with_several_addresses_reaches_the_one_that_listens() {
    let server = server();
    let store = TcpStore::connect("localhost", server.local_addr().port(), TIMEOUT).unwrap();
    store.ping().unwrap();
    if let Ok(server) = TcpStoreServer::bind("[::1]:0".parse().unwrap()) {
        for host in ["::1", "[::1]", "localhost"] {
            let port = server.local_addr().port();
            match TcpStore::connect(host, port, Duration::from_secs(1)) {
                Ok(store) => store.ping().unwrap(),
                // The hosts file of this machine may not know localhost as ::1.
                Err(error) => assert!(host == "localhost", "{error}"),
            }
        }
    }
}

#[test]
fn a_web_server_is_no_store() {
    let addr = custom(|mut stream, _| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    let begun = Instant::now();
    let error = TcpStore::connect_addr(addr, Duration::from_secs(60)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3));
    let expected = format!("server at {addr} is not a store (got 'HTTP/1.1 400 Bad Request')");
    assert!(error.to_string().contains(&expected), "{error}");
}

#[test]
fn a_silent_server_is_no_store() {
    let (keep, kept) = mpsc::channel();
    let addr = custom(move |stream, _| keep.send(stream).unwrap());
    let begun = Instant::now();
    let error = TcpStore::connect_addr(addr, Duration::from_millis(700)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(error.to_string().contains("is not a store"), "{error}");
    assert!(error.to_string().contains("says nothing"), "{error}");
    drop(kept);
}

#[test]
fn a_server_that_ends_every_connection_is_given_up_on() {
    let addr = custom(|stream, _| drop(stream));
    let error = TcpStore::connect_addr(addr, Duration::from_millis(500)).unwrap_err();
    assert!(error.to_string().contains("takes the connection and ends it"), "{error}");
}

#[test]
fn a_server_that_knows_no_ping_is_met_without_one() {
    // As torch 2.4: the ping ends the connection, everything else works.
    let addr = custom(|mut stream, _| {
        let mut hello = [0; 6];
        stream.read_exact(&mut hello).unwrap();
        if hello[5] != 7 {
            return;
        }
        stream.write_all(&3_i64.to_le_bytes()).unwrap();
        thread::spawn(move || {
            while matches!(stream.read(&mut [0]), Ok(1)) {
                stream.write_all(&5_i64.to_le_bytes()).unwrap();
            }
        });
    });
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    store.ping().unwrap();
    assert_eq!(store.num_keys().unwrap(), 5);
}

#[test]
fn a_server_that_ends_wakes_its_waiting_clients_and_frees_its_port() {
    let server = server();
    let addr = server.local_addr();
    let store = Arc::new(TcpStore::connect_addr(addr, TIMEOUT).unwrap());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&store);
            thread::spawn(move || store.get("never").unwrap_err())
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    drop(server);
    for waiter in waiters {
        let error = waiter.join().unwrap();
        assert!(matches!(error, Error::StoreLost { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("store tcp://{addr}: get failed: ")));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let error = store.add("n", 1).unwrap_err();
    assert!(matches!(error, Error::StoreLost { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // The port is free at once, and a client goes on with the server that took it.
    let server = TcpStoreServer::bind(addr).unwrap();
    assert_eq!(store.add("n", 1).unwrap(), 1);
    drop(server);
}

#[test]
fn only_reads_are_made_again_over_a_new_connection() {
    let (asked, requests) = mpsc::channel();
    let addr = custom(move |mut stream, at| {
        greet(&mut stream);
        let mut request = [0; 64];
        let count = stream.read(&mut request).unwrap_or(0);
        // Every other connection ends in the middle of its first exchange.
        if at % 2 == 1 && count > 0 {
            stream.write_all(&7_i64.to_le_bytes()).unwrap();
        }
        // Who hears of the request finds the connection ended: the next one takes a new one.
        drop(stream);
        asked.send((at, request[0])).unwrap();
    });
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    assert_eq!(store.num_keys().unwrap(), 7, "asked twice");
    assert_eq!(requests.recv_timeout(TIMEOUT).unwrap(), (0, 7));
    assert_eq!(requests.recv_timeout(TIMEOUT).unwrap(), (1, 7));
    let error = store.add("n", 1).unwrap_err();
    assert!(matches!(error, Error::StoreLost { .. }), "{error}");
    assert_eq!(requests.recv_timeout(TIMEOUT).unwrap(), (2, 4));
    assert!(requests.recv_timeout(Duration::from_millis(50)).is_err(), "asked once");
    assert_eq!(store.add("n", 1).unwrap(), 7);
    assert_eq!(requests.recv_timeout(TIMEOUT).unwrap(), (3, 4));
}

#[test]
fn a_stopped_server_costs_no_more_than_the_timeout() {
    let (keep, kept) = mpsc::channel();
    let addr = custom(move |mut stream, _| {
        greet(&mut stream);
        keep.send(stream).unwrap();
    });
    let timeout = Duration::from_millis(300);
    let store = TcpStore::connect_addr(addr, timeout).unwrap();
    for call in [
        |store: &TcpStore| store.add("n", 1).map(drop),
        |store: &TcpStore| store.get("k").map(drop),
        |store: &TcpStore| store.wait(&["k"], Duration::from_millis(200)),
        |store: &TcpStore| store.check(&["k"]).map(drop),
    ] {
        let begun = Instant::now();
        let error = call(&store).unwrap_err();
        assert!(matches!(error, Error::StoreTimeout { .. }), "{error}");
        assert!(begun.elapsed() < timeout + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    drop(kept);
}

#[test]
fn a_worker_is_counted_where_torch_counts_it() {
    let server = server();
    let store = TcpStore::connect_addr(server.local_addr(), TIMEOUT).unwrap();
    assert_eq!(store.add_worker().unwrap(), 1);
    assert_eq!(store.add_worker().unwrap(), 2);
    assert_eq!(store.num_keys().unwrap(), 1);
    assert_eq!(store.list_keys().unwrap(), Vec::<String>::new());
}

#[test]
fn a_barrier_lets_nobody_through_alone() {
    let server = server();
    let addr = server.local_addr();
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    let error = store.barrier("alone", 2, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::StoreTimeout { op: "barrier", .. }), "{error}");
    let others: Vec<_> = (0..3)
        .map(|rank: u8| {
            thread::spawn(move || {
                let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
                store.set(&format!("rank {rank}"), &[rank]).unwrap();
                store.barrier("all", 4, TIMEOUT).unwrap();
            })
        })
        .collect();
    store.barrier("all", 4, TIMEOUT).unwrap();
    assert!(store.check(&["rank 0", "rank 1", "rank 2"]).unwrap());
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn a_port_in_use_is_refused_with_what_to_change() {
    let server = server();
    let error = TcpStoreServer::bind(server.local_addr()).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error}");
    assert!(error.to_string().contains("MASTER_PORT"), "{error}");
}

#[test]
fn a_server_survives_running_out_of_descriptors() {
    if std::env::var_os("STORE_TEST_FEW_DESCRIPTORS").is_some() {
        return few_descriptors();
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" a_server_survives --test-threads 1"])
        .arg(exe)
        .env("STORE_TEST_FEW_DESCRIPTORS", "1")
        .status()
        .unwrap();
    assert!(status.success());
}

fn few_descriptors() {
    let server = server();
    let addr = server.local_addr();
    let early = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    // Both ends are in this process: the server runs out while strangers connect.
    let mut strangers = Vec::new();
    while let Ok(stream) = TcpStream::connect(addr) {
        strangers.push(stream);
        assert!(strangers.len() < 64);
    }
    early.set("k", b"v").unwrap();
    early.ping().unwrap();
    drop(strangers);
    let late = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    assert_eq!(late.get("k").unwrap(), b"v");
}
