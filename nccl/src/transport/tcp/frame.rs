//! What precedes the payload on the wire, and which bytes of a message travel on which lane.
//!
//! Lane 0 carries a [`FrameHead`] and payload for every message. A message of more than
//! [`STRIPE_MIN_BYTES`] is cut into blocks that go round the lanes; each further lane that gets
//! any then carries a [`LaneHead`] before its first block. Blocks instead of one long part per
//! lane, because the receiver takes a message from its front to its end: with long parts it would
//! drain one lane after the other, with blocks all lanes move at once.

use core::ops::Range;

use crate::desc::OpDesc;
use crate::transport::Head;
use crate::transport::LinkError;

/// Messages longer than this are striped, if there are several lanes.
pub(super) const STRIPE_MIN_BYTES: usize = 256 * 1024;

/// Bytes of one block of a striped message. A multiple of 16, and not more than
/// [`STRIPE_MIN_BYTES`], so that the first block of a striped message is whole.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;

/// Bytes of a [`FrameHead`].
pub(super) const FRAME_HEAD_BYTES: usize = 64;

/// Bytes of a [`LaneHead`].
pub(super) const LANE_HEAD_BYTES: usize = 32;

/// The most lanes a link may have.
pub(super) const LANES_MAX: usize = 64;

/// First word of a frame head: `nccl-tcp` and the version of the layout.
const FRAME_MAGIC: u64 = u64::from_le_bytes(*b"nccltcp\x01");

/// First word of a lane head, with the lane's number in its last byte.
const LANE_MAGIC: u64 = u64::from_le_bytes(*b"nccllan\0");

/// The first 64 bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FrameHead {
    /// What the user of the link sends.
    pub(super) head: Head,
    /// 0 for the first message of the link in this direction, then one more each.
    pub(super) number: u64,
    /// How many lanes the sender has.
    pub(super) lanes: usize,
}

impl FrameHead {
    /// Its bytes.
    pub(super) fn encode(&self) -> [u8; FRAME_HEAD_BYTES] {
        let desc = &self.head.desc;
        let small = u32::from_le_bytes([desc.kind, desc.dtype, desc.op, desc.flags]);
        let words = [
            FRAME_MAGIC,
            self.number,
            u64::from(desc.seq) | (u64::from(small) << 32),
            u64::from(desc.root) | ((self.lanes as u64) << 32),
            desc.count,
            self.head.factor.to_bits(),
            self.head.bytes,
        ];
        seal(&words)
    }

    /// The head in `bytes`, checked for everything that does not depend on the receiver.
    pub(super) fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<Self, LinkError> {
        let words: [u64; 7] = unseal(bytes, "the head of a message is damaged or no head at all")?;
        let [magic, number, seq_and_small, root_and_lanes, count, factor, payload] = words;
        if magic != FRAME_MAGIC {
            return Err(LinkError::Protocol("the head of a message is of another version"));
        }
        if isize::try_from(payload).is_err() {
            return Err(LinkError::Protocol("a message claims more bytes than memory can hold"));
        }
        let [kind, dtype, op, flags] = high(seq_and_small).to_le_bytes();
        let desc = OpDesc {
            seq: low(seq_and_small),
            kind,
            dtype,
            op,
            flags,
            root: low(root_and_lanes),
            count,
        };
        let head = Head { desc, factor: f64::from_bits(factor), bytes: payload };
        let lanes = usize::try_from(high(root_and_lanes)).unwrap_or(usize::MAX);
        Ok(Self { head, number, lanes })
    }
}

/// What precedes a lane's blocks of a striped message, on every lane but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneHead {
    /// The number of the message.
    pub(super) number: u64,
    /// The number of the lane.
    pub(super) lane: usize,
    /// How many bytes of the message come on this lane.
    pub(super) bytes: usize,
}

impl LaneHead {
    /// Its bytes.
    pub(super) fn encode(&self) -> [u8; LANE_HEAD_BYTES] {
        seal(&[LANE_MAGIC | ((self.lane as u64) << 56), self.number, self.bytes as u64])
    }

    /// Whether `bytes` are this head.
    pub(super) fn verify(&self, bytes: &[u8; LANE_HEAD_BYTES]) -> Result<(), LinkError> {
        if *bytes == self.encode() {
            return Ok(());
        }
        let words: [u64; 3] = unseal(bytes, "the head of a lane is damaged or no head at all")?;
        Err(LinkError::Protocol(match words {
            [_, number, _] if number != self.number => "a lane carries another message",
            [_, _, bytes] if bytes != self.bytes as u64 => "a lane carries another length",
            _ => "a lane carries another lane's bytes",
        }))
    }
}

/// How many of a message's `bytes` travel on `lane` of `lanes`.
pub(super) fn bytes_on_lane(bytes: usize, lanes: usize, lane: usize) -> usize {
    if lanes < 2 || bytes <= STRIPE_MIN_BYTES {
        return if lane == 0 { bytes } else { 0 };
    }
    let round = BLOCK_BYTES * lanes;
    let rest = (bytes % round).saturating_sub(lane * BLOCK_BYTES).min(BLOCK_BYTES);
    bytes / round * BLOCK_BYTES + rest
}

/// Where in the message the bytes from `at` on of `lane` lie, up to the end of their block, for a
/// lane that carries `on_lane` bytes.
pub(super) fn range_on_lane(
    bytes: usize,
    lanes: usize,
    lane: usize,
    at: usize,
    on_lane: usize,
) -> Range<usize> {
    if lanes < 2 || bytes <= STRIPE_MIN_BYTES {
        return at..on_lane;
    }
    let inside = at % BLOCK_BYTES;
    let start = (at / BLOCK_BYTES * lanes + lane) * BLOCK_BYTES + inside;
    start..start + (BLOCK_BYTES - inside).min(on_lane - at)
}

/// The lane that carries the byte at `at`, and how many bytes follow on it before another lane's
/// turn.
pub(super) fn lane_of(bytes: usize, lanes: usize, at: usize) -> (usize, usize) {
    if lanes < 2 || bytes <= STRIPE_MIN_BYTES {
        return (0, bytes - at);
    }
    let run = (BLOCK_BYTES - at % BLOCK_BYTES).min(bytes - at);
    (at / BLOCK_BYTES % lanes, run)
}

/// The words of a frame head with their check word, as a sender that is wrong would have them.
#[cfg(fuzzing)]
pub(super) fn sealed(bytes: &[u8; FRAME_HEAD_BYTES - 8]) -> [u8; FRAME_HEAD_BYTES] {
    let mut words = [0; 7];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    seal(&words)
}

/// Words as bytes, with a check word behind them.
fn seal<const WORDS: usize, const BYTES: usize>(words: &[u64; WORDS]) -> [u8; BYTES] {
    const { assert!(BYTES == (WORDS + 1) * 8) };
    let mut bytes = [0; BYTES];
    let all = words.iter().copied().chain([check(words)]);
    for (slot, word) in bytes.chunks_exact_mut(8).zip(all) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The words again, if the check word fits.
fn unseal<const WORDS: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    problem: &'static str,
) -> Result<[u64; WORDS], LinkError> {
    const { assert!(BYTES == (WORDS + 1) * 8) };
    let mut words = [0; WORDS];
    let mut found = 0;
    for (at, chunk) in bytes.chunks_exact(8).enumerate() {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        match words.get_mut(at) {
            Some(slot) => *slot = u64::from_le_bytes(word),
            None => found = u64::from_le_bytes(word),
        }
    }
    if found == check(&words) { Ok(words) } else { Err(LinkError::Protocol(problem)) }
}

/// A sum of 64 bits. Every step is a bijection of the sum and of the word, so damage inside one
/// word never goes unseen, and other damage once in 2^64. It guards against accidents and
/// strangers, not against a forger.
fn check(words: &[u64]) -> u64 {
    words.iter().fold(0x243f_6a88_85a3_08d3, |sum, word| {
        let mixed = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> FrameHead {
        let desc = OpDesc { seq: 7, kind: 1, dtype: 9, op: 6, flags: 0, root: 3, count: 1 << 40 };
        FrameHead { head: Head { desc, factor: -0.25, bytes: 1 << 41 }, number: 1 << 33, lanes: 4 }
    }

    #[test]
    fn a_frame_head_survives_the_wire() {
        assert_eq!(FrameHead::decode(&frame().encode()).unwrap(), frame());
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_seen() {
        for bit in 0..FRAME_HEAD_BYTES * 8 {
            let mut bytes = frame().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHead::decode(&bytes).is_err(), "bit {bit}");
        }
        let lane = LaneHead { number: 9, lane: 3, bytes: 77 };
        lane.verify(&lane.encode()).unwrap();
        for bit in 0..LANE_HEAD_BYTES * 8 {
            let mut bytes = lane.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(lane.verify(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_sealed_head_with_impossible_values_is_refused() {
        let mut words: [u64; 7] = unseal(&frame().encode(), "").unwrap();
        words[0] ^= 1 << 56;
        assert!(FrameHead::decode(&seal(&words)).unwrap_err().to_string().contains("version"));
        for bytes in [1 << 63, u64::MAX] {
            let mut claim = frame();
            claim.head.bytes = bytes;
            let error = FrameHead::decode(&claim.encode()).unwrap_err();
            assert!(error.to_string().contains("more bytes"), "{error}");
        }
    }

    #[test]
    fn another_lane_head_is_told_apart() {
        let right = LaneHead { number: 9, lane: 3, bytes: 77 };
        let said = |wrong: LaneHead| right.verify(&wrong.encode()).unwrap_err().to_string();
        assert_eq!(said(LaneHead { number: 8, ..right }), "a lane carries another message");
        assert_eq!(said(LaneHead { bytes: 78, ..right }), "a lane carries another length");
        assert_eq!(said(LaneHead { lane: 2, ..right }), "a lane carries another lane's bytes");
    }

    #[test]
    fn the_lanes_ranges_tile_every_message() {
        let sizes = [
            0,
            1,
            STRIPE_MIN_BYTES,
            STRIPE_MIN_BYTES + 1,
            3 * BLOCK_BYTES,
            7 * BLOCK_BYTES + 5,
            64 * BLOCK_BYTES - 1,
        ];
        for bytes in sizes {
            for lanes in [1, 2, 3, 4, 64] {
                let mut pieces = Vec::new();
                for lane in 0..lanes {
                    let on_lane = bytes_on_lane(bytes, lanes, lane);
                    let mut at = 0;
                    while at < on_lane {
                        let range = range_on_lane(bytes, lanes, lane, at, on_lane);
                        assert_eq!(lane_of(bytes, lanes, range.start), (lane, range.len()));
                        at += range.len();
                        pieces.push(range);
                    }
                    assert_eq!(at, on_lane);
                }
                pieces.sort_by_key(|range| range.start);
                let end = pieces.iter().fold(0, |end, range| {
                    assert_eq!(range.start, end);
                    range.end
                });
                assert_eq!(end, bytes, "{bytes} bytes over {lanes} lanes");
            }
        }
    }
}
