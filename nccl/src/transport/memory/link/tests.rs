#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "patterns of bytes")]

use super::*;

fn pair(read: RemoteRead, threshold_bytes: usize) -> (MemoryLink, MemoryLink) {
    let geometry = Geometry::new(1024).unwrap();
    let region = Arc::new(Region::heap(geometry.region_bytes()).unwrap());
    let bell = Doorbell::local().unwrap();
    let end =
        |side| MemoryLink::new(region.clone(), geometry, side, bell.clone(), read, threshold_bytes);
    (end(Side::Low), end(Side::High))
}

fn head(seq: u32, bytes: usize) -> Head {
    let desc = OpDesc { seq, kind: 1, dtype: 7, op: 1, flags: 0, root: 3, count: 1 << 40 };
    Head { desc, factor: 0.25, bytes: bytes as u64 }
}

/// Sends `data` while the other side pulls it, in one thread; returns what arrived.
fn carry(from: &mut MemoryLink, to: &mut MemoryLink, seq: u32, data: &[u8], sink: bool) -> Vec<u8> {
    let mut out = Outgoing::new(head(seq, data.len()), data.as_ptr());
    let mut got = Vec::new();
    let mut told = false;
    for _ in 0..100_000 {
        // SAFETY: `data` outlives the loop.
        unsafe { from.push(&mut out) }.unwrap();
        if !told && let Some(seen) = to.head().unwrap() {
            assert_eq!(seen, head(seq, data.len()));
            told = true;
            if data.is_empty() {
                to.skip_empty();
            }
        }
        while told && got.len() < data.len() {
            let limit = 48.max(data.len() / 3 / 16 * 16);
            let taken = if sink {
                to.pull(limit, &mut |piece| got.extend_from_slice(piece)).unwrap()
            } else {
                let mut part = vec![0; limit];
                // SAFETY: `part` is `limit` bytes long.
                let taken = unsafe { to.pull_into(part.as_mut_ptr(), limit) }.unwrap();
                got.extend_from_slice(&part[..taken]);
                taken
            };
            if taken == 0 {
                break;
            }
        }
        if out.is_done() && told && got.len() == data.len() {
            return got;
        }
    }
    panic!("nothing moves: {from:?} {to:?}");
}

#[test]
fn messages_of_all_sizes_arrive_whole_by_every_way() {
    let pid = i32::try_from(std::process::id()).unwrap();
    for read in [RemoteRead::No, RemoteRead::Direct, RemoteRead::Cma(pid)] {
        let (mut low, mut high) = pair(read, 2000);
        let mut seq = 0;
        for bytes in [0, 1, 23, 24, 25, 1023, 1024, 1025, 1999, 2000, 8191, 8192, 8193, 300_001] {
            let data: Vec<u8> = (0..bytes).map(|i| (i * 7 + bytes) as u8).collect();
            for sink in [false, true] {
                seq += 1;
                assert_eq!(carry(&mut low, &mut high, seq, &data, sink), data, "{read:?} {bytes}");
                assert_eq!(carry(&mut high, &mut low, seq, &data, sink), data, "{read:?} {bytes}");
            }
        }
    }
}

#[test]
fn the_frame_counter_wraps() {
    let (mut low, mut high) = pair(RemoteRead::Direct, 2000);
    for link in [&mut low, &mut high] {
        link.tx_frame = u32::MAX - 5;
        link.tx_freed = u32::MAX - 5;
        link.rx_frame = u32::MAX - 5;
    }
    for seq in 0..40 {
        let data = vec![seq as u8; 1 + 300 * seq as usize];
        assert_eq!(carry(&mut low, &mut high, seq, &data, true), data);
    }
}

#[test]
fn a_buffer_taken_back_is_an_error_for_its_reader() {
    let (mut low, mut high) = pair(RemoteRead::Direct, 100);
    let data = vec![1; 300_000];
    let mut out = Outgoing::new(head(1, data.len()), data.as_ptr());
    // SAFETY: `data` lives until the end of the test.
    unsafe { low.push(&mut out) }.unwrap();
    high.head().unwrap().unwrap();
    let mut got = 0;
    assert!(high.pull(1600, &mut |piece| got += piece.len()).unwrap() > 0);
    low.cancel();
    drop(data);
    assert!(matches!(high.pull(1600, &mut |_| panic!("read after free")), Err(LinkError::Lost(_))));
}

#[test]
fn two_threads_exchange_many_messages_both_ways() {
    for read in [RemoteRead::No, RemoteRead::Direct] {
        let (low, high) = pair(read, 5000);
        let run = |mut link: MemoryLink, salt: usize| {
            for round in 0..2_000_usize {
                let bytes = (round * 37) % 9000;
                let data: Vec<u8> = (0..bytes).map(|i| (i + round + salt) as u8).collect();
                let seq = u32::try_from(round).unwrap();
                let mut out = Outgoing::new(head(seq, bytes), data.as_ptr());
                let (mut got, mut told) = (Vec::new(), false);
                while !(out.is_done() && told && got.len() == bytes) {
                    if !out.is_done() {
                        // SAFETY: `data` outlives the loop.
                        unsafe { link.push(&mut out) }.unwrap();
                    }
                    if !told && let Some(seen) = link.head().unwrap() {
                        assert_eq!(seen.desc.seq, seq);
                        told = true;
                        if bytes == 0 {
                            link.skip_empty();
                        }
                    }
                    if told && got.len() < bytes {
                        link.pull(1 << 20, &mut |piece| got.extend_from_slice(piece)).unwrap();
                    }
                    std::thread::yield_now();
                }
                assert!(
                    (0..bytes).all(|i| got[i] == (i + round + 1 - salt) as u8),
                    "round {round}"
                );
            }
        };
        let other = std::thread::spawn(move || run(high, 1));
        run(low, 0);
        other.join().unwrap();
    }
}

#[test]
fn nonsense_in_the_region_is_an_error() {
    let (mut low, mut high) = pair(RemoteRead::No, 5000);
    let data = [0; 100];
    let mut out = Outgoing::new(head(1, 100), data.as_ptr());
    // SAFETY: `data` lives until the end of the test.
    unsafe { low.push(&mut out) }.unwrap();
    low.tx.cell(0).info.store((SLOT << 30) | 1_000_000, Ordering::Relaxed);
    high.head().unwrap().unwrap();
    assert!(matches!(high.pull(4096, &mut |_| ()), Err(LinkError::Protocol(_))));

    let (mut low, mut high) = pair(RemoteRead::No, 5000);
    let mut out = Outgoing::new(head(1, 100), data.as_ptr());
    // SAFETY: as above.
    unsafe { low.push(&mut out) }.unwrap();
    low.tx.cell(0).info.store(REMOTE << 30, Ordering::Relaxed);
    assert!(matches!(high.head(), Err(LinkError::Protocol(_))));
}

#[test]
fn a_word_is_made_of_the_bytes_that_are_left_and_of_no_other() {
    let bytes: Vec<u8> = (1..=9).map(|byte| byte * 0x1b).collect();
    for left in 1..=9 {
        let here = &bytes[..left];
        let mut expected = [0; 8];
        expected[..left.min(8)].copy_from_slice(&here[..left.min(8)]);
        // SAFETY: `here` has `left` bytes.
        let word = unsafe { word_of(here.as_ptr(), left) };
        assert_eq!(word, u64::from_le_bytes(expected), "{left} bytes");
    }
}
