//! Links over loopback connections.

use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ptr;
use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use super::frame::FrameHead;
use super::*;
use crate::desc::OpDesc;

mod faults;
mod speed;

/// No exchange of a test takes this long; one that does has lost a byte.
const LIMIT: Duration = Duration::from_secs(20);

fn sockets(lanes: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (0..lanes).map(|_| (TcpStream::connect(addr).unwrap(), listener.accept().unwrap().0)).unzip()
}

fn pair(lanes: usize) -> (TcpLink, TcpLink) {
    let (a, b) = sockets(lanes);
    (TcpLink::new(a).unwrap(), TcpLink::new(b).unwrap())
}

/// The head of the message number `at` with `bytes` bytes.
fn head(at: usize, bytes: usize) -> Head {
    let seq = u32::try_from(at).unwrap();
    let count = bytes as u64;
    let desc = OpDesc { seq, kind: 1, dtype: 7, count, ..OpDesc::default() };
    Head { desc, factor: 1.0 / (at + 1) as f64, bytes: bytes as u64 }
}

/// Bytes that differ from message to message and from place to place.
fn payload(at: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i as u64 * 0x9e37_79b9 + at as u64 * 77_777).to_le_bytes()[2]).collect()
}

/// How a party takes its messages in.
#[derive(Clone, Copy, Debug)]
enum Taking {
    Into,
    Sink,
    Mixed,
}

/// One end: sends all of `sends`, expects all of `expects`.
struct Party {
    link: TcpLink,
    sends: Vec<Vec<u8>>,
    out: Option<Outgoing>,
    sent: usize,
    expects: Vec<usize>,
    got: Vec<u8>,
    received: usize,
    taking: Taking,
    random: u64,
}

impl Party {
    fn new(link: TcpLink, sends: &[usize], expects: &[usize], taking: Taking) -> Self {
        let sends = sends.iter().enumerate().map(|(at, bytes)| payload(at, *bytes)).collect();
        let expects = expects.to_vec();
        let random = 0x1234_5678_9abc_def1;
        Self { link, sends, out: None, sent: 0, expects, got: vec![], received: 0, taking, random }
    }

    fn is_done(&self) -> bool {
        self.sent == self.sends.len() && self.received == self.expects.len()
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn push(&mut self) {
        let Some(bytes) = self.sends.get(self.sent) else { return };
        let data = if bytes.is_empty() { ptr::null() } else { bytes.as_ptr() };
        let head = head(self.sent, bytes.len());
        let out = self.out.get_or_insert_with(|| Outgoing::new(head, data));
        let before = out.moved;
        // SAFETY: `sends` is not touched until the test ends.
        let moved = unsafe { self.link.push(out) }.unwrap();
        assert!(out.moved >= before && out.moved <= bytes.len());
        assert!(moved || out.moved == before);
        if out.is_done() {
            assert_eq!(out.moved, bytes.len());
            self.out = None;
            self.sent += 1;
        }
    }

    fn pull(&mut self) {
        let Some(told) = self.link.head().unwrap() else { return };
        let bytes = self.expects[self.received];
        assert_eq!(told, head(self.received, bytes), "message {}", self.received);
        if bytes == 0 {
            self.link.skip_empty();
        } else {
            let random = self.next_random();
            let left = bytes - self.got.len();
            // Limits from a few bytes to all, mostly in between.
            let most = 16 << (random % 20);
            let limit = if left <= most { left } else { most };
            let into = match self.taking {
                Taking::Into => true,
                Taking::Sink => false,
                Taking::Mixed => random & (1 << 40) != 0,
            };
            if into { self.take_into(limit, random) } else { self.take_sink(limit) }
        }
        if self.got.len() == bytes {
            assert!(self.got == payload(self.received, bytes), "message {}", self.received);
            self.got.clear();
            self.received += 1;
        }
    }

    fn take_into(&mut self, limit: usize, random: u64) {
        // Any limit will do here, not only multiples of 16; guard bytes behind it stay.
        let limit = (limit - (random >> 50) as usize % 16 % limit).max(1);
        let mut place = vec![0xa5; limit + 8];
        // SAFETY: `place` has `limit` bytes and nobody else knows it.
        let moved = unsafe { self.link.pull_into(place.as_mut_ptr(), limit) }.unwrap();
        assert!(moved <= limit);
        assert!(place[moved..].iter().all(|byte| *byte == 0xa5), "wrote past what it told");
        self.got.extend_from_slice(&place[..moved]);
    }

    fn take_sink(&mut self, limit: usize) {
        let left = self.expects[self.received] - self.got.len();
        let got = &mut self.got;
        let mut sum = 0;
        let moved = self
            .link
            .pull(limit, &mut |piece| {
                assert!(!piece.is_empty());
                assert!(piece.len().is_multiple_of(16) || sum + piece.len() == left);
                sum += piece.len();
                got.extend_from_slice(piece);
            })
            .unwrap();
        assert_eq!(moved, sum);
        assert!(sum <= limit);
    }
}

/// Lets two parties talk until both have everything.
fn talk(mut a: Party, mut b: Party) -> (TcpLink, TcpLink) {
    let begun = Instant::now();
    while !(a.is_done() && b.is_done()) {
        for party in [&mut a, &mut b] {
            party.push();
            party.pull();
        }
        assert!(begun.elapsed() < LIMIT, "a got {}, b got {}", a.received, b.received);
    }
    (a.link, b.link)
}

const SIZES: [usize; 13] = [
    0,
    1,
    15,
    16,
    17,
    4095,
    4096,
    4097,
    65535,
    65536,
    frame::STRIPE_MIN_BYTES + 1,
    (1 << 20) + 3,
    (8 << 20) + 5,
];

#[test]
fn every_size_arrives_both_ways_at_once_over_one_and_several_lanes() {
    for lanes in [1, 2, 4] {
        for taking in [Taking::Into, Taking::Sink, Taking::Mixed] {
            let (a, b) = pair(lanes);
            let back: Vec<usize> = SIZES.iter().rev().copied().collect();
            talk(Party::new(a, &SIZES, &back, taking), Party::new(b, &back, &SIZES, taking));
        }
    }
}

#[test]
fn thousands_of_small_messages_in_a_row_stay_apart() {
    let sizes: Vec<usize> = (0..5000).map(|at| at * 7 % 130).collect();
    for taking in [Taking::Into, Taking::Sink] {
        let (a, b) = pair(2);
        talk(Party::new(a, &sizes, &[], taking), Party::new(b, &[], &sizes, taking));
    }
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_the_same_message() {
    let (mut raw, far) = sockets(1);
    let mut raw = raw.remove(0);
    raw.set_nodelay(true).unwrap();
    let mut party = Party::new(TcpLink::new(far).unwrap(), &[], &[37, 0, 5], Taking::Sink);
    for (at, bytes) in [37, 0, 5].into_iter().enumerate() {
        let frame = FrameHead { head: head(at, bytes), number: at as u64, lanes: 1 };
        for byte in frame.encode().into_iter().chain(payload(at, bytes)) {
            raw.write_all(&[byte]).unwrap();
            party.pull();
        }
    }
    let begun = Instant::now();
    while !party.is_done() {
        party.pull();
        assert!(begun.elapsed() < LIMIT);
    }
}

#[test]
fn the_next_message_is_not_read_into_the_memory_for_this_one() {
    let (a, mut b) = pair(1);
    let sizes = [100_000, 200_000, 300_000];
    let mut a = Party::new(a, &sizes, &[], Taking::Into);
    let begun = Instant::now();
    for (at, bytes) in sizes.into_iter().enumerate() {
        let mut place = vec![0; 1 << 20];
        let mut got = 0;
        while got < bytes {
            a.push();
            if b.head().unwrap().is_some() {
                // SAFETY: `place` has that many bytes and nobody else knows it.
                let moved = unsafe { b.pull_into(place.as_mut_ptr().add(got), place.len() - got) };
                got += moved.unwrap();
            }
            assert!(begun.elapsed() < LIMIT);
        }
        assert_eq!(got, bytes);
        assert!(place[..got] == payload(at, bytes));
        assert!(place[got..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_small_message_that_the_kernel_takes_in_two_parts_is_whole() {
    // Small buffers make small segments, and the last one that fits ends inside a message.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    rustix::net::sockopt::set_socket_send_buffer_size(&near, 4096).unwrap();
    let sizes: Vec<usize> = (0..12).map(|at| 4096 - at % 97).collect();
    let mut a = Party::new(TcpLink::new(vec![near]).unwrap(), &sizes, &[], Taking::Into);
    let mut b = Party::new(TcpLink::new(vec![far]).unwrap(), &[], &sizes, Taking::Into);
    let (begun, mut partial) = (Instant::now(), 0);
    while !b.is_done() {
        a.push();
        partial += usize::from(a.out.as_ref().is_some_and(|out| out.moved > 0));
        b.pull();
        assert!(begun.elapsed() < LIMIT, "a sent {}, b got {}", a.sent, b.received);
    }
    assert!(partial > 0, "the kernel took every message whole");
}

#[test]
fn the_descriptor_tells_of_the_lane_that_is_needed_and_no_other() {
    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    use rustix::event::Timespec;
    let ready = |link: &TcpLink, wait_s| {
        let mut fds = [PollFd::from_borrowed_fd(link.socket().unwrap(), PollFlags::IN)];
        let wait = Timespec { tv_sec: wait_s, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&wait)).unwrap() == 1
    };
    let (near, mut raw) = sockets(2);
    let mut link = TcpLink::new(near).unwrap();
    assert!(!ready(&link, 0));
    let bytes = 3 * frame::BLOCK_BYTES;
    let head = FrameHead { head: head(0, bytes), number: 0, lanes: 2 };
    let lane_0 = [&head.encode()[..], &payload(0, 2 * frame::BLOCK_BYTES)].concat();
    let writer = {
        let mut lane = raw.remove(0);
        std::thread::spawn(move || lane.write_all(&lane_0).map(|()| lane).unwrap())
    };
    assert!(ready(&link, 5));
    let (begun, mut got) = (Instant::now(), 0);
    while got < frame::BLOCK_BYTES {
        assert!(begun.elapsed() < LIMIT);
        if link.head().unwrap().is_some() {
            got += link.pull(frame::BLOCK_BYTES - got, &mut |_| {}).unwrap();
        }
    }
    let _lane_0 = writer.join().unwrap();
    assert!(!ready(&link, 0), "lane 0 has bytes, but those of lane 1 are next");
    raw[0].write_all(&[1]).unwrap();
    assert!(ready(&link, 5));
}

/// Sleeps until the link's descriptor is readable (or writable, with one lane).
fn sleep(link: &TcpLink) {
    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    use rustix::event::Timespec;
    let socket = link.socket().unwrap();
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN | PollFlags::OUT)];
    let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "slept 5 s");
}

#[test]
fn both_sides_may_sleep_on_the_descriptor_between_steps() {
    for lanes in [1, 2, 4] {
        let sizes = [(3 << 20) + 1, 5, 0, 20 << 20];
        let (a, b) = pair(lanes);
        std::thread::scope(|scope| {
            for (link, taking) in [(a, Taking::Into), (b, Taking::Sink)] {
                scope.spawn(move || {
                    let mut party = Party::new(link, &sizes, &sizes, taking);
                    while !party.is_done() {
                        let before = (party.sent, party.received, party.got.len());
                        let moved = party.out.as_ref().map_or(0, |out| out.moved);
                        party.push();
                        party.pull();
                        let idle = before == (party.sent, party.received, party.got.len())
                            && moved == party.out.as_ref().map_or(0, |out| out.moved);
                        if idle {
                            sleep(&party.link);
                        }
                    }
                });
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_messages_arrives_as_sent(
        there in prop::collection::vec(0..40_000_usize, 0..12),
        long in prop::collection::vec(0..900_000_usize, 0..4),
        back in prop::collection::vec(0..300_usize, 0..40),
        lanes in 1..5_usize,
        taking in prop_oneof![Just(Taking::Into), Just(Taking::Sink), Just(Taking::Mixed)],
    ) {
        let (a, b) = pair(lanes);
        let there: Vec<usize> = there.into_iter().chain(long).collect();
        talk(Party::new(a, &there, &back, taking), Party::new(b, &back, &there, taking));
    }
}
