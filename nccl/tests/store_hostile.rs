//! A server among clients that do what they must not.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::Error;
use nccl::store::ServerLimits;
use nccl::store::Store;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

const HELLO: [u8; 5] = [0x00, 0xce, 0xf7, 0x85, 0x3c];
const TIMEOUT: Duration = Duration::from_secs(10);

fn server() -> TcpStoreServer {
    TcpStoreServer::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn limited(limits: ServerLimits) -> TcpStoreServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStoreServer::with_limits(listener, limits).unwrap()
}

fn stranger(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn client(addr: SocketAddr) -> TcpStream {
    let mut stream = stranger(addr);
    stream.write_all(&HELLO).unwrap();
    stream
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// How long it takes until the server closes the connection without a byte.
fn closes(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
    begun.elapsed()
}

/// Whether the server still serves.
fn serves(addr: SocketAddr) {
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    store.set("alive", b"yes").unwrap();
    assert_eq!(store.get("alive").unwrap(), b"yes");
}

#[test]
fn what_is_no_store_client_is_closed_at_once() {
    let server = server();
    let addr = server.local_addr();
    let mut beginnings: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        vec![0x0d, 1, 2, 3, 4],
        vec![0x00, 0x3c, 0x85, 0xf7, 0xce],
        [&HELLO[..], &HELLO[..]].concat(),
        vec![0xff; 100_000],
    ];
    beginnings.extend((1..=255).map(|first| vec![first]));
    for bytes in beginnings {
        let mut stream = stranger(addr);
        // A reset can come while a long one is on its way.
        let _ = stream.write_all(&bytes);
        assert!(closes(&mut stream) < Duration::from_secs(2), "{:02x?}", &bytes[..1]);
    }
    serves(addr);
}

#[test]
fn a_beginning_in_pieces_is_taken() {
    let server = server();
    let mut stream = stranger(server.local_addr());
    for byte in HELLO.iter().chain(&[0x0d, 1, 2, 3, 4]) {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [1, 2, 3, 4]);
}

#[test]
fn every_command_after_the_beginning_is_answered_awaited_or_closed() {
    let server = server();
    for code in 0..=255_u8 {
        let mut stream = client(server.local_addr());
        stream.write_all(&[code]).unwrap();
        match code {
            7 | 12 | 17 => assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1, "{code}"),
            0..=18 => {
                stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
                let kind = stream.read(&mut [0]).unwrap_err().kind();
                assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{code}");
            }
            _ => assert!(closes(&mut stream) < Duration::from_secs(2), "{code}"),
        }
    }
    serves(server.local_addr());
}

#[test]
fn lengths_beyond_the_limits_are_refused_and_the_limits_are_taken() {
    let server = server();
    let addr = server.local_addr();
    let huge = [1_u64 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX];
    let fields: [(Vec<u8>, u64); 4] = [
        (vec![3], 8192),
        ([vec![1], text(b"/k")].concat(), 8 << 20),
        (vec![6], 131_072),
        ([vec![11], 1_u64.to_le_bytes().to_vec()].concat(), 8192),
    ];
    for (before, max) in fields {
        for length in huge.into_iter().chain([max + 1]) {
            let mut stream = client(addr);
            stream.write_all(&before).unwrap();
            stream.write_all(&length.to_le_bytes()).unwrap();
            assert!(closes(&mut stream) < Duration::from_secs(2), "{before:?} {length}");
        }
    }
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    let (key, value) = ("k".repeat(8191), vec![3; 8 << 20]);
    store.set(&key, &value).unwrap();
    assert!(store.get(&key).unwrap() == value);
    let keys = vec![key.as_str(); 2000];
    assert!(store.check(&keys).unwrap());
    for refused in [
        store.set(&format!("{key}k"), b"").unwrap_err(),
        store.set("k", &[0; (8 << 20) + 1]).unwrap_err(),
        store.check(&vec!["k"; 131_073]).map(drop).unwrap_err(),
    ] {
        assert!(matches!(refused, Error::StoreRefused { .. }), "{refused}");
    }
    assert!(store.check(&vec!["k"; 131_072]).is_ok());
}

#[test]
fn a_request_cut_anywhere_is_not_applied_however_it_ends() {
    let server = server();
    let addr = server.local_addr();
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    let pairs = [text(b"/a"), text(b"1"), text(b"/b"), text(b"2")].concat();
    let whole = [vec![11], 2_u64.to_le_bytes().to_vec(), pairs].concat();
    for cut in 0..whole.len() {
        let mut stream = client(addr);
        stream.write_all(&whole[..cut]).unwrap();
        match cut % 3 {
            0 => {}
            1 => stream.shutdown(Shutdown::Write).unwrap(),
            _ => stream.shutdown(Shutdown::Both).unwrap(),
        }
        if cut % 3 == 1 {
            assert!(closes(&mut stream) < Duration::from_secs(2));
        }
    }
    assert_eq!(store.num_keys().unwrap(), 0);
    let mut stream = client(addr);
    stream.write_all(&whole).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    closes(&mut stream);
    assert_eq!(store.multi_get(&["a", "b"]).unwrap(), [b"1", b"2"]);
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let server = server();
    let mut stream = client(server.local_addr());
    stream.write_all(&[7; 300]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).unwrap();
    assert_eq!(answers, [0; 2400]);
}

#[test]
fn ten_thousand_requests_in_one_go_are_answered_in_order() {
    let server = server();
    let mut stream = client(server.local_addr());
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let requests: Vec<u8> =
            (0..10_000_u32).flat_map(|at| [&[13][..], &at.to_le_bytes()].concat()).collect();
        writer.write_all(&requests).unwrap();
    });
    let mut answers = vec![0; 40_000];
    stream.read_exact(&mut answers).unwrap();
    let expected: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(answers == expected);
    sender.join().unwrap();
}

#[test]
fn silent_strangers_delay_nobody_and_are_closed() {
    let limits = ServerLimits::default().handshake_timeout(Duration::from_millis(1500));
    let server = limited(limits);
    let addr = server.local_addr();
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = Vec::new();
    for at in 0..1000 {
        // Where descriptors are few, fewer strangers must do.
        match TcpStream::connect(addr) {
            Ok(stream) => silent.push(stream),
            Err(error) => {
                assert!(at >= 200, "{at}: {error}");
                break;
            }
        }
        if at >= 400 && rlimit_is_small(at) {
            break;
        }
    }
    let join = Instant::now();
    serves(addr);
    assert!(join.elapsed() < Duration::from_secs(1), "{:?}", join.elapsed());
    let mut late = 0;
    for stream in &mut silent {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        closes(stream);
        late += 1;
    }
    assert_eq!(late, silent.len());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    serves(addr);
}

/// Both ends are in this process: with the usual limit of 1024, 400 strangers are enough.
fn rlimit_is_small(at: usize) -> bool {
    let limit = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limit.lines().find(|line| line.starts_with("Max open files"));
    let soft = files.and_then(|line| line.split_whitespace().nth(3)).and_then(|n| n.parse().ok());
    soft.is_none_or(|soft: usize| soft < 2 * at + 300)
}

#[test]
fn an_unfinished_request_of_ten_megabytes_costs_little_and_its_time_is_bounded() {
    let server = limited(ServerLimits::default().frame_timeout(Duration::from_millis(1200)));
    let addr = server.local_addr();
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    let mut bytes = vec![11];
    bytes.extend_from_slice(&100_001_u64.to_le_bytes());
    for at in 0..100_000 {
        bytes.extend(text(format!("/{at}").as_bytes()));
        bytes.extend(text(&[7; 80]));
    }
    assert!(bytes.len() > 10_000_000);
    let mut stream = client(addr);
    let begun = Instant::now();
    stream.write_all(&bytes).unwrap();
    store.ping().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    closes(&mut stream);
    assert!(begun.elapsed() >= Duration::from_millis(1200));
    assert_eq!(store.num_keys().unwrap(), 0);
}

#[test]
fn a_client_that_takes_no_answer_is_dropped_and_others_are_served() {
    let server = limited(ServerLimits::default().stall_timeout(Duration::from_millis(700)));
    let addr = server.local_addr();
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    store.set("big", &vec![1; 8 << 20]).unwrap();
    store.ping().unwrap();
    let mut stream = client(addr);
    let request = [vec![3], text(b"/big")].concat();
    for _ in 0..20 {
        stream.write_all(&request).unwrap();
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        store.ping().unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    let mut got = Vec::new();
    // The end, or a reset; not the silence of a client that is still served.
    if let Err(error) = stream.read_to_end(&mut got) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert!(got.len() < 160 << 20, "the rest was dropped: {}", got.len());
    // An answer that could never be taken is not even made.
    let mut stream = client(addr);
    let many = [vec![10], 9_u64.to_le_bytes().to_vec(), text(b"/big").repeat(9)].concat();
    stream.write_all(&many).unwrap();
    assert!(closes(&mut stream) < Duration::from_secs(3));
    store.ping().unwrap();
}

#[test]
fn a_full_store_refuses_its_setter_and_serves_the_rest() {
    let server = limited(ServerLimits::default().max_bytes(1 << 20));
    let addr = server.local_addr();
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    store.set("a", &vec![0; 900_000]).unwrap();
    store.ping().unwrap(); // a set is not acknowledged, and the next one takes another connection
    let setter = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    setter.set("b", &vec![0; 200_000]).unwrap();
    let error = setter.ping().unwrap_err();
    assert!(matches!(error, Error::StoreLost { .. }), "{error}");
    assert!(error.to_string().contains("may be lost"), "{error}");
    assert!(!store.check(&["b"]).unwrap());
    assert_eq!(store.get("a").unwrap().len(), 900_000);
    assert!(store.delete("a").unwrap());
    setter.set("b", &vec![0; 200_000]).unwrap();
    setter.ping().unwrap();
    // Requests under way are bounded like what is stored.
    let mut hoarders: Vec<TcpStream> = (0..20).map(|_| client(addr)).collect();
    let part = [[vec![1], text(b"/k")].concat(), (8_u64 << 20).to_le_bytes().to_vec()].concat();
    let mut refused = 0;
    for stream in &mut hoarders {
        let sent = stream.write_all(&part).and_then(|()| stream.write_all(&vec![0; 100_000]));
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let is_closed = match stream.read(&mut [0]) {
            Ok(0) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
            Ok(_) => panic!("an answer to half a request"),
        };
        refused += usize::from(sent.is_err() || is_closed);
    }
    assert!((5..20).contains(&refused), "{refused}");
    store.ping().unwrap();
}

#[test]
fn a_waiter_that_dies_is_forgotten() {
    let server = server();
    let addr = server.local_addr();
    let store = TcpStore::connect_addr(addr, TIMEOUT).unwrap();
    let wait = [vec![6], 1_u64.to_le_bytes().to_vec(), text(b"/q")].concat();
    for turn in 0..200 {
        let mut stream = client(addr);
        stream.write_all(&wait).unwrap();
        if turn % 2 == 0 {
            stream.write_all(&[12]).unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [1]);
        }
    }
    let mut living = client(addr);
    living.write_all(&wait).unwrap();
    living.write_all(&[13, 1, 0, 0, 0]).unwrap();
    living.read_exact(&mut [0; 4]).unwrap();
    // Some of the dead may still look alive: their share comes back when they are found dead.
    store.queue_push("q", b"x").unwrap();
    let mut answer = [9];
    living.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0]);
}
