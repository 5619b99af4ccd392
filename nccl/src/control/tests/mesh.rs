//! Data connections: who comes through, and who does not.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;

use super::super::accept::Acceptor;
use super::super::accept::Door;
use super::super::conn;
use super::super::inbox::Inbox;
use super::*;
use crate::wire::MeshHello;

fn soon() -> Deadline {
    Deadline::after(SOON)
}

fn key(hello: &MeshHello) -> LinkKey {
    LinkKey::of(hello)
}

/// Whether the other side closes without a word, within a second.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let begun = Instant::now();
    let got = stream.read(&mut [0]);
    begun.elapsed() < Duration::from_secs(1) && !matches!(got, Ok(1..))
}

#[test]
fn a_dialed_connection_arrives_with_its_hello_and_carries_bytes() {
    let world = world(3);
    let hello = MeshHello { group: 5, channel: 2, lane: 1, lanes: 2, kind: 9, ..world[2].hello(1) };
    assert!(world[1].take(&key(&hello)).is_none());
    let mut ours = world[2].dial_tcp(&hello, &soon()).unwrap();
    ours.write_all(b"after the hello").unwrap();
    let theirs = world[1].wait_for(&key(&hello), SOON).unwrap();
    assert_eq!(theirs.hello, hello);
    let Stream::Tcp(mut stream) = theirs.stream else { panic!("{:?}", theirs.stream) };
    assert!(stream.nodelay().unwrap() && ours.nodelay().unwrap());
    let mut got = Vec::new();
    drop(ours);
    until("the bytes are here", || {
        let mut piece = [0; 64];
        !matches!(stream.peek(&mut piece), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    });
    let ended = stream.read_to_end(&mut got);
    assert_eq!((ended.is_ok(), got.as_slice()), (true, &b"after the hello"[..]));
    assert!(world[1].wait_for(&key(&hello), Duration::from_millis(10)).is_none(), "taken once");
}

#[cfg(target_os = "linux")]
#[test]
fn descriptors_pass_over_the_unix_socket_and_more_than_two_do_not() {
    let world = world(2);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"shared").unwrap();
    let fds = [file.as_fd(), file.as_fd(), file.as_fd()];
    for count in 0..=2 {
        let hello = MeshHello { group: 1, channel: count, ..world[0].hello(1) };
        world[0].dial_unix(&hello, &fds[..usize::from(count)], &soon()).unwrap();
        let accepted = world[1].wait_for(&key(&hello), SOON).unwrap();
        assert!(matches!(accepted.stream, Stream::Unix(_)));
        assert_eq!(accepted.fds.len(), usize::from(count));
        for fd in accepted.fds {
            let mut passed = File::from(fd);
            passed.rewind().unwrap();
            let mut text = String::new();
            passed.read_to_string(&mut text).unwrap();
            assert_eq!(text, "shared");
        }
    }
    let error = world[0].dial_unix(&world[0].hello(1), &fds, &soon()).unwrap_err().to_string();
    assert!(error.contains("at most two descriptors"), "{error}");
}

#[test]
fn hellos_that_do_not_fit_are_closed_and_the_first_of_two_wins() {
    let world = world(3);
    let good = MeshHello { group: 1, lanes: 1, ..world[2].hello(1) };
    let bad = [
        ("token", MeshHello { token: [0; 16], ..good }),
        ("to another", MeshHello { to: 0, ..good }),
        ("from nobody", MeshHello { from: 3, ..good }),
        ("from itself", MeshHello { from: 1, ..good }),
        ("lane", MeshHello { lane: 1, ..good }),
        ("no lanes", MeshHello { lanes: 0, ..good }),
    ];
    let port = world[0].peers()[1].tcp[0];
    for (what, hello) in bad {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.write_all(&hello.encode()).unwrap();
        assert!(is_closed(stream), "{what}");
        assert!(world[1].take(&key(&hello)).is_none(), "{what}");
    }
    let first = world[2].dial_tcp(&good, &soon()).unwrap();
    let accepted = || world[1].shared.inbox.take(&key(&good));
    until("the first is here", || {
        accepted().is_some_and(|one| world[1].shared.inbox.put(one).is_ok())
    });
    let second = world[2].dial_tcp(&good, &soon()).unwrap();
    assert!(is_closed(second), "the second is closed");
    let Stream::Tcp(stream) = accepted().unwrap().stream else { panic!("not TCP") };
    assert_eq!(stream.peer_addr().unwrap(), first.local_addr().unwrap());
    // A group that is no more takes its connections with it.
    let third = world[2].dial_tcp(&good, &soon()).unwrap();
    until("the third is here", || {
        accepted().is_some_and(|one| world[1].shared.inbox.put(one).is_ok())
    });
    world[1].unregister(1);
    assert!(is_closed(third));
}

#[test]
fn strangers_are_closed_at_once_and_hinder_nobody() {
    let world = world(2);
    let port = world[0].peers()[1].tcp[0];
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(port).unwrap()).collect();
    let loud: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 2, 0], b"NCCLRSM9", &[7; 100]];
    for words in loud {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.write_all(words).unwrap();
        assert!(is_closed(stream), "{words:?}");
    }
    // A hello in pieces of one byte is as good as a whole one.
    let hello = MeshHello { group: 3, ..world[0].hello(1) };
    let mut slow = TcpStream::connect(port).unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in hello.encode() {
        slow.write_all(&[byte]).unwrap();
    }
    assert!(world[1].wait_for(&key(&hello), SOON).is_some());
    drop(silent);
}

#[test]
fn who_is_too_slow_or_too_many_is_closed() {
    let patience = Duration::from_millis(600);
    let mut acceptor = Acceptor::bind("127.0.0.1".parse().unwrap(), patience).unwrap();
    let port = acceptor.tcp_addrs().unwrap()[0];
    let inbox = Inbox::default();
    let token = [3; 16];
    let door = Door { token: &token, me: 0, world_size: 2, inbox: &inbox };
    let mut turns = |time: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let mut set = Vec::new();
            acceptor.poll_fds(&mut set);
            let flags = conn::wait(&mut set, Duration::from_millis(10));
            drop(set);
            acceptor.ready(&flags, &door);
        }
    };
    let mut half = TcpStream::connect(port).unwrap();
    half.write_all(b"NCCL").unwrap();
    turns(patience / 2);
    half.set_nonblocking(true).unwrap();
    assert!(half.read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
    turns(patience);
    assert!(is_closed(half), "too slow");
    // The oldest goes when one more than 64, and one for each rank, is listened to.
    let many: Vec<_> = (0..67).map(|_| TcpStream::connect(port).unwrap()).collect();
    turns(patience / 3);
    let mut many = many.into_iter();
    assert!(is_closed(many.next().unwrap()), "the oldest");
    let mut rest = many.next_back().unwrap();
    rest.set_nonblocking(true).unwrap();
    assert!(rest.read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
}

#[test]
fn dialing_says_who_cannot_be_reached_and_does_not_wait_for_the_dead() {
    let world = world(3);
    let error = world[0].dial_tcp(&world[0].hello(7), &soon()).unwrap_err().to_string();
    assert_eq!(error, "rank 7 is no rank of this world");
    world[2].vanish();
    let begun = Instant::now();
    for result in [
        world[0].dial_tcp(&world[0].hello(2), &soon()).map(drop),
        world[0].dial_unix(&world[0].hello(2), &[], &soon()).map(drop),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with("rank 2 (host ") && error.contains("its process ended"),
            "{error}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
