//! Entries for `fuzz/`.

use crate::transport::tcp::frame::FRAME_HEAD_BYTES;
use crate::transport::tcp::frame::FrameHead;
use crate::transport::tcp::frame::LANE_HEAD_BYTES;
use crate::transport::tcp::frame::LANES_MAX;
use crate::transport::tcp::frame::LaneHead;
use crate::transport::tcp::frame::bytes_on_lane;
use crate::transport::tcp::frame::lane_of;
use crate::transport::tcp::frame::range_on_lane;
use crate::transport::tcp::frame::sealed;

/// Heads of messages and of lanes, as they are and with the right check word; then where the bytes of
/// a message of that length travel.
pub fn frame_heads(bytes: &[u8]) {
    let Some(words) = bytes.first_chunk::<{ FRAME_HEAD_BYTES - 8 }>() else { return };
    if let Some(as_it_is) = bytes.first_chunk::<FRAME_HEAD_BYTES>() {
        let _ = FrameHead::decode(as_it_is);
    }
    if let Some(as_it_is) = bytes.first_chunk::<LANE_HEAD_BYTES>() {
        let lane = LaneHead { number: 1, lane: 2, bytes: 3 };
        assert_eq!(lane.verify(as_it_is).is_ok(), *as_it_is == lane.encode());
    }
    let Ok(head) = FrameHead::decode(&sealed(words)) else { return };
    assert_eq!(head.encode().get(..words.len()), Some(words.as_slice()));
    let length = usize::try_from(head.head.bytes).unwrap_or(usize::MAX) % (1 << 26);
    let lanes = head.lanes % LANES_MAX + 1;
    let on_lanes: Vec<usize> = (0..lanes).map(|lane| bytes_on_lane(length, lanes, lane)).collect();
    assert_eq!(on_lanes.iter().sum::<usize>(), length);
    if length > 0 {
        let at = usize::from(words[0]) * 1009 % length;
        let (lane, run) = lane_of(length, lanes, at);
        assert!(lane < lanes && run > 0 && run <= length - at);
    }
    for (lane, on_lane) in on_lanes.iter().enumerate().filter(|(_, on_lane)| **on_lane > 0) {
        let last = range_on_lane(length, lanes, lane, on_lane - 1, *on_lane);
        assert!(last.start < last.end && last.end <= length);
    }
}
