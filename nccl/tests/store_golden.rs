//! Recorded exchanges between torch and torch, with each side replaced by ours.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nccl::store::PrefixStore;
use nccl::store::Store;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

const TIMEOUT: Duration = Duration::from_secs(10);

struct Exchange {
    op: &'static str,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

fn exchanges() -> Vec<Exchange> {
    let text = include_str!("data/tcpstore_golden.txt");
    let parse = |line: &'static str| {
        let mut parts = line.split(" | ").map(str::trim);
        let op = parts.next().unwrap();
        let mut hex = || {
            let text = parts.next().unwrap_or("").trim_end_matches(" |");
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect::<Vec<u8>>()
        };
        Exchange { op, to_server: hex(), to_client: hex() }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

/// The keys of a list, which has no order.
fn sorted_list(answer: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &answer[8..];
    let mut keys = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<8>() {
        let (key, more) = more.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
        keys.push(key.to_vec());
        rest = more;
    }
    keys.sort();
    keys
}

fn replay(mut send: impl FnMut(&mut TcpStream, &[u8])) {
    let server = TcpStoreServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = TcpStream::connect(server.local_addr()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let all = exchanges();
    assert_eq!(all.len(), 31);
    for Exchange { op, to_server, to_client } in &all {
        send(&mut client, to_server);
        let mut got = vec![0; to_client.len()];
        client.read_exact(&mut got).unwrap_or_else(|error| panic!("{op}: {error}"));
        if *op == "list_keys" {
            assert_eq!(sorted_list(&got), sorted_list(to_client));
        } else {
            assert_eq!(&got, to_client, "{op}");
        }
    }
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let silence = client.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
}

#[test]
fn the_server_answers_as_torchs_does() {
    replay(|client, bytes| client.write_all(bytes).unwrap());
}

#[test]
fn the_server_answers_as_torchs_does_when_every_byte_comes_alone() {
    replay(|client, bytes| {
        for byte in bytes {
            client.write_all(&[*byte]).unwrap();
            // Let the byte leave on its own, most of the time.
            thread::yield_now();
        }
    });
}

/// A server that expects bytes and answers bytes, one byte at a time if `slowly`, on whichever
/// connection the next request comes; checks the beginning of each connection.
fn scripted(slowly: bool) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (failed, failures) = mpsc::channel();
    let script = Arc::new(std::sync::Mutex::new(exchanges().into_iter().skip(1)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script, failed) =
                (stream.unwrap(), Arc::clone(&script), failed.clone());
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut hello = [0; 10];
                stream.read_exact(&mut hello).unwrap();
                assert_eq!(hello[..6], [0x00, 0xce, 0xf7, 0x85, 0x3c, 0x0d]);
                stream.write_all(&hello[6..]).unwrap();
                serve(&mut stream, slowly, &script, &failed);
            });
        }
    });
    (port, failures)
}

fn serve(
    stream: &mut TcpStream,
    slowly: bool,
    script: &std::sync::Mutex<impl Iterator<Item = Exchange>>,
    failed: &mpsc::Sender<String>,
) {
    let mut first = [0];
    while stream.peek(&mut first).is_ok_and(|count| count > 0) {
        let Some(exchange) = script.lock().unwrap().next() else { return };
        let mut got = Vec::new();
        let mut answer = &exchange.to_client[..];
        while got.len() < exchange.to_server.len() {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            got.push(byte[0]);
            // The answer to a wait comes before the request that follows it.
            let is_wait = exchange.to_server[0] == 6 && exchange.to_client.first() == Some(&0);
            if is_wait && got.len() == wait_length(&exchange.to_server) {
                let (now, later) = answer.split_at(1);
                stream.write_all(now).unwrap();
                answer = later;
            }
        }
        if got != exchange.to_server {
            let _ = failed.send(format!("{}: {got:02x?}", exchange.op));
            return;
        }
        let size = if slowly { 1 } else { answer.len().max(1) };
        for part in answer.chunks(size) {
            stream.write_all(part).unwrap();
            thread::yield_now();
        }
    }
}

/// How long the wait at the front of some requests is.
fn wait_length(bytes: &[u8]) -> usize {
    let number = |at: usize| {
        let bytes = bytes[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    (0..number(1)).fold(9, |at, _| at + 8 + number(at))
}

fn play(slowly: bool) {
    let (port, failures) = scripted(slowly);
    let store = Arc::new(TcpStore::connect("127.0.0.1", port, TIMEOUT).unwrap());
    let short = Duration::from_millis(50);
    store.set("k", b"v").unwrap();
    assert_eq!(store.get("k").unwrap(), b"v");
    store.set("e", b"").unwrap();
    assert_eq!(store.get("e").unwrap(), b"");
    assert_eq!(store.add("n", 5).unwrap(), 5);
    assert_eq!(store.add("n", -7).unwrap(), -2);
    assert_eq!(store.get("n").unwrap(), b"-2");
    assert_eq!(store.compare_set("c", b"", b"x").unwrap(), b"x");
    assert_eq!(store.compare_set("c", b"x", b"y").unwrap(), b"y");
    assert_eq!(store.compare_set("c", b"no", b"z").unwrap(), b"y");
    assert_eq!(store.compare_set("none", b"exp", b"z").unwrap(), b"exp");
    assert!(store.check(&["k"]).unwrap());
    assert!(!store.check(&["k", "zz"]).unwrap());
    store.wait(&["k", "n"], TIMEOUT).unwrap();
    let late = store.wait(&["zz"], short).unwrap_err().to_string();
    assert!(late.ends_with("waiting for \"zz\""), "{late}");
    assert_eq!(store.num_keys().unwrap(), 5);
    store.append("k", b"w").unwrap();
    store.multi_set(&[("m1", b"1"), ("m2", b"22")]).unwrap();
    assert_eq!(store.multi_get(&["m2", "m1"]).unwrap(), [&b"22"[..], b"1"]);
    assert!(store.delete("e").unwrap());
    assert!(!store.delete("e").unwrap());
    store.queue_push("q", b"1").unwrap();
    assert_eq!(store.queue_len("q").unwrap(), 1);
    assert_eq!(store.queue_pop("q", TIMEOUT).unwrap(), b"1");
    store.queue_pop("q", Duration::ZERO).unwrap_err();
    let mut keys = store.list_keys().unwrap();
    keys.sort();
    assert_eq!(keys, ["c", "k", "m1", "m2", "n"]);
    store.barrier("b", 1, TIMEOUT).unwrap();
    store.barrier("b2", 2, short).unwrap_err();
    let prefixed = PrefixStore::new("pre", store);
    prefixed.set("k", b"v").unwrap();
    assert_eq!(prefixed.add("n", 1).unwrap(), 1);
    assert_eq!(failures.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[test]
fn the_client_asks_as_torchs_does() {
    play(false);
}

#[test]
fn the_client_understands_answers_that_come_byte_by_byte() {
    play(true);
}
