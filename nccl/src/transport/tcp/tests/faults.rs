//! What a link says when the other side misbehaves or is gone.

use std::io::Read;

use super::*;
use crate::transport::tcp::frame::LaneHead;

/// A link and the bare sockets at its other end.
fn link_and_raw(lanes: usize) -> (TcpLink, Vec<TcpStream>) {
    let (near, far) = sockets(lanes);
    (TcpLink::new(near).unwrap(), far)
}

/// Asks for a head, and takes all bytes of whatever comes, until there is an error.
fn error_of(link: &mut TcpLink) -> LinkError {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < LIMIT);
        let head = match link.head() {
            Err(error) => return error,
            Ok(None) => continue,
            Ok(Some(head)) => head,
        };
        if head.bytes == 0 {
            link.skip_empty();
        }
        // A hostile length is a limit like any other: no memory is taken for it.
        if let Err(error) = link.pull(usize::try_from(head.bytes).unwrap(), &mut |_| {}) {
            return error;
        }
    }
}

fn protocol_error_of(bytes: &[u8]) -> &'static str {
    let (mut link, mut raw) = link_and_raw(1);
    raw[0].write_all(bytes).unwrap();
    let first = error_of(&mut link);
    let LinkError::Protocol(what) = first else { panic!("{first}") };
    // It stays so: nothing after a wrong head can be trusted.
    assert!(matches!(link.head(), Err(LinkError::Protocol(again)) if again == what));
    what
}

#[test]
fn wrong_heads_are_told_apart_and_end_the_link() {
    let good = FrameHead { head: head(0, 4), number: 0, lanes: 1 };
    let mut damaged = good.encode();
    damaged[50] ^= 4;
    assert!(protocol_error_of(&damaged).contains("damaged"));
    assert!(protocol_error_of(&[0; 64]).contains("no head at all"));
    let http =
        b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: a browser\r\nAccept: */*\r\n\r\n";
    assert!(protocol_error_of(http).contains("no head at all"));
    let late = FrameHead { number: 1, ..good };
    assert!(protocol_error_of(&late.encode()).contains("missing or came twice"));
    let lanes = FrameHead { lanes: 2, ..good };
    assert!(protocol_error_of(&lanes.encode()).contains("number of sockets"));
    let mut huge = good;
    for bytes in [u64::MAX, 1 << 63] {
        huge.head.bytes = bytes;
        assert!(protocol_error_of(&huge.encode()).contains("more bytes than memory"));
    }
}

#[test]
fn a_message_sent_twice_is_refused() {
    let frame = FrameHead { head: head(0, 0), number: 0, lanes: 1 }.encode();
    assert!(protocol_error_of(&[frame, frame].concat()).contains("missing or came twice"));
}

#[test]
fn a_large_claim_takes_no_memory_and_ends_with_the_connection() {
    let (mut link, mut raw) = link_and_raw(1);
    let claim = 1 << 62;
    let frame = FrameHead { head: head(0, claim), number: 0, lanes: 1 };
    raw[0].write_all(&frame.encode()).unwrap();
    raw[0].write_all(&[1; 1000]).unwrap();
    drop(raw);
    let error = error_of(&mut link).to_string();
    assert_eq!(error, "closed the connection, 992 bytes into a message of 4611686018427387904");
}

#[test]
fn random_bytes_never_do_more_than_end_the_link() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let (mut link, mut raw) = link_and_raw(1);
        let mut bytes = FrameHead { head: head(0, 32), number: 0, lanes: 1 }.encode().to_vec();
        bytes.extend([0; 96]);
        for _ in 0..1 + round % 8 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let at = (seed >> 40) as usize % bytes.len();
            bytes[at] ^= seed.to_le_bytes()[4];
        }
        raw[0].write_all(&bytes).unwrap();
        drop(raw);
        error_of(&mut link);
    }
}

#[test]
fn a_lane_with_the_wrong_head_is_refused() {
    let bytes = frame::STRIPE_MIN_BYTES + 1;
    let right = LaneHead { number: 0, lane: 1, bytes: frame::bytes_on_lane(bytes, 2, 1) };
    let wrong = [
        (LaneHead { number: 5, ..right }.encode(), "another message"),
        (LaneHead { bytes: 5, ..right }.encode(), "another length"),
        ([7; 32], "damaged"),
    ];
    for (lane_head, expected) in wrong {
        let (mut link, mut raw) = link_and_raw(2);
        let frame = FrameHead { head: head(0, bytes), number: 0, lanes: 2 };
        raw[0].set_nonblocking(false).unwrap();
        raw[0].write_all(&frame.encode()).unwrap();
        raw[1].write_all(&lane_head).unwrap();
        let first = vec![3; frame::BLOCK_BYTES];
        let writer = std::thread::spawn(move || {
            // Fails when the link is dropped first.
            let _ = raw[0].write_all(&first);
            raw
        });
        let error = error_of(&mut link);
        assert!(error.to_string().contains(expected), "{error}");
        writer.join().unwrap();
    }
}

#[test]
fn a_closed_connection_says_so_and_how_far_the_message_was() {
    let frame = FrameHead { head: head(0, 100), number: 0, lanes: 1 };
    let all = [&frame.encode()[..], &payload(0, 100)].concat();
    for kept in [0, 1, 63, 64, 65, 100, 163] {
        let (mut link, mut raw) = link_and_raw(1);
        raw[0].write_all(&all[..kept]).unwrap();
        drop(raw);
        let error = error_of(&mut link);
        let expected = match kept {
            0 => "closed the connection".to_owned(),
            1..64 => "closed the connection, inside the head of a message".to_owned(),
            _ => format!(
                "closed the connection, {} bytes into a message of 100",
                (kept - 64) / 16 * 16
            ),
        };
        assert_eq!(error.to_string(), expected);
        if kept < 64 {
            assert_eq!(link.head().unwrap_err().to_string(), expected);
        }
    }
}

#[test]
fn what_was_sent_before_the_end_is_still_received() {
    let (mut link, mut raw) = link_and_raw(1);
    let frame = FrameHead { head: head(0, 100), number: 0, lanes: 1 };
    raw[0].write_all(&frame.encode()).unwrap();
    raw[0].write_all(&payload(0, 100)).unwrap();
    drop(raw);
    let mut got = Vec::new();
    let begun = Instant::now();
    while got.len() < 100 {
        assert_eq!(link.head().unwrap().unwrap_or(frame.head), frame.head);
        link.pull(100 - got.len(), &mut |piece| got.extend_from_slice(piece)).unwrap();
        assert!(begun.elapsed() < LIMIT);
    }
    assert_eq!(got, payload(0, 100));
    assert_eq!(error_of(&mut link).to_string(), "closed the connection");
}

#[test]
fn a_reset_connection_says_so_to_sender_and_receiver() {
    let (mut link, raw) = link_and_raw(1);
    // Unread bytes make the kernel answer the close with a reset.
    let body = [5_u8; 64];
    let mut out = Outgoing::new(head(0, 64), body.as_ptr());
    while !out.is_done() {
        // SAFETY: `body` outlives the link's use of it.
        unsafe { link.push(&mut out) }.unwrap();
    }
    drop(raw);
    let error = error_of(&mut link).to_string();
    assert!(error.starts_with("reset the connection: "), "{error}");
    let begun = Instant::now();
    let error = loop {
        let mut out = Outgoing::new(head(1, 64), body.as_ptr());
        // SAFETY: as above.
        match unsafe { link.push(&mut out) } {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(begun.elapsed() < LIMIT),
        }
    };
    assert!(error.contains("closed the connection"), "{error}");
}

#[test]
fn a_peer_that_dies_while_much_is_sent_is_noticed() {
    let (mut link, raw) = link_and_raw(2);
    let body = vec![5_u8; 64 << 20];
    let mut out = Outgoing::new(head(0, body.len()), body.as_ptr());
    // SAFETY: `body` outlives the link's use of it.
    while unsafe { link.push(&mut out) }.unwrap() {}
    assert!(!out.is_done() && out.moved > 0);
    drop(raw);
    let begun = Instant::now();
    // SAFETY: as above.
    while unsafe { link.push(&mut out) }.is_ok() {
        assert!(begun.elapsed() < LIMIT);
    }
}

#[test]
fn a_cancelled_link_is_over_for_both_sides_at_once() {
    let (mut a, mut b) = pair(2);
    let body = vec![5_u8; 32 << 20];
    let mut out = Outgoing::new(head(0, body.len()), body.as_ptr());
    // SAFETY: `body` outlives the link's use of it.
    while unsafe { a.push(&mut out) }.unwrap() {}
    a.cancel();
    drop(body);
    // SAFETY: nobody reads the memory after `cancel`, which is what is tested.
    let error = unsafe { a.push(&mut out) }.unwrap_err().to_string();
    assert_eq!(error, "was given up by this rank");
    assert!(a.head().is_err());
    assert!(a.pull(16, &mut |_| {}).is_err());
    let error = error_of(&mut b).to_string();
    assert!(error.starts_with("closed the connection") || error.starts_with("reset"), "{error}");
    a.cancel();
}

#[test]
fn a_second_message_before_the_first_is_over_is_refused() {
    let (mut link, _raw) = link_and_raw(1);
    let body = vec![5_u8; 32 << 20];
    let mut first = Outgoing::new(head(0, body.len()), body.as_ptr());
    let mut second = Outgoing::new(head(1, 8), body.as_ptr());
    // SAFETY: `body` outlives the link's use of it.
    unsafe {
        while link.push(&mut first).unwrap() {}
        assert!(matches!(link.push(&mut second), Err(LinkError::Protocol(_))));
    }
}

#[test]
fn the_number_of_sockets_is_checked() {
    assert!(TcpLink::new(Vec::new()).is_err());
    let (many, _far) = sockets(65);
    assert!(TcpLink::new(many).unwrap_err().to_string().contains("not 65"));
}

#[test]
fn a_link_leaves_other_traffic_of_its_sockets_alone() {
    // Nothing is sent before the first message, and exactly head and payload with it.
    let (mut link, mut raw) = link_and_raw(1);
    let body = payload(0, 10);
    let mut out = Outgoing::new(head(0, 10), body.as_ptr());
    while !out.is_done() {
        // SAFETY: `body` outlives the link's use of it.
        unsafe { link.push(&mut out) }.unwrap();
    }
    drop(link);
    let mut got = Vec::new();
    raw[0].read_to_end(&mut got).unwrap();
    let frame = FrameHead { head: head(0, 10), number: 0, lanes: 1 };
    assert_eq!(got, [&frame.encode()[..], &body].concat());
}
