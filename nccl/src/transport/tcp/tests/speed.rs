//! How fast a link is here; printed, not judged. Run in release with `--nocapture`.

use super::*;

const MESSAGE_BYTES: usize = 16 << 20;
const ROUNDS: usize = 24;

/// Sends and receives `sends` and `takes` messages, spinning.
fn stream(link: &mut TcpLink, sends: usize, takes: usize) {
    let body = vec![1_u8; MESSAGE_BYTES];
    let mut place = vec![0_u8; MESSAGE_BYTES];
    let (mut sent, mut taken, mut got) = (0, 0, 0);
    let mut out = Outgoing::new(head(0, MESSAGE_BYTES), body.as_ptr());
    while sent < sends || taken < takes {
        let mut moved = false;
        if sent < sends {
            // SAFETY: `body` lives until the end.
            moved |= unsafe { link.push(&mut out) }.unwrap();
            if out.is_done() {
                sent += 1;
                out = Outgoing::new(head(sent, MESSAGE_BYTES), body.as_ptr());
            }
        }
        if taken < takes && link.head().unwrap().is_some() {
            // SAFETY: `place` has room for the rest of the message.
            let now = unsafe { link.pull_into(place.as_mut_ptr().add(got), MESSAGE_BYTES - got) };
            let now = now.unwrap();
            moved |= now > 0;
            got += now;
            if got == MESSAGE_BYTES {
                taken += 1;
                got = 0;
            }
        }
        if !moved {
            std::thread::yield_now();
        }
    }
}

fn streams(lanes: usize, there: usize, back: usize) -> f64 {
    let (mut a, mut b) = pair(lanes);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| stream(&mut a, there, back));
        scope.spawn(|| stream(&mut b, back, there));
    });
    ((there + back) * MESSAGE_BYTES) as f64 / 1e9 / begun.elapsed().as_secs_f64()
}

/// Sends a message of `bytes` bytes and takes one, or the other way round; spins.
fn ping_pong(link: &mut TcpLink, bytes: usize, first: bool, rounds: usize) {
    let body = vec![1_u8; bytes];
    let mut place = vec![0_u8; bytes];
    for round in 0..2 * rounds {
        if (round % 2 == 0) == first {
            let mut out = Outgoing::new(head(round, bytes), body.as_ptr());
            while !out.is_done() {
                // SAFETY: `body` lives until the end.
                unsafe { link.push(&mut out) }.unwrap();
            }
        } else {
            while link.head().unwrap().is_none() {}
            let mut got = 0;
            while got < bytes {
                // SAFETY: `place` has room for the rest of the message.
                let now = unsafe { link.pull_into(place.as_mut_ptr().add(got), bytes - got) };
                got += now.unwrap();
            }
        }
    }
}

#[test]
fn messages_of_16_mib_and_round_trips_in_figures() {
    for lanes in [1, 2, 4] {
        let (one, both) = (streams(lanes, ROUNDS, 0), streams(lanes, ROUNDS / 2, ROUNDS / 2));
        println!("{lanes} lanes: one way {one:.2} GB/s, both ways {both:.2} GB/s in sum");
    }
    for (bytes, rounds) in [(4, 2000), (4096, 1000), (65536, 400), (262_144, 100)] {
        let (mut a, mut b) = pair(1);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| ping_pong(&mut a, bytes, true, rounds));
            scope.spawn(|| ping_pong(&mut b, bytes, false, rounds));
        });
        let half_us = begun.elapsed().as_secs_f64() * 1e6 / (2 * rounds) as f64;
        println!("{bytes} bytes there and back: half of it {half_us:.1} us");
    }
}
