//! The sending half of a link: one message at a time, on all lanes at once.

use std::io::IoSlice;
use std::net::TcpStream;

use super::frame;
use super::frame::BLOCK_BYTES;
use super::frame::FRAME_HEAD_BYTES;
use super::frame::FrameHead;
use super::frame::LANE_HEAD_BYTES;
use super::frame::LaneHead;
use super::socket;
use crate::transport::LinkError;
use crate::transport::Outgoing;

/// Payloads up to this size are copied behind their head, so that one plain `send` takes both.
const SMALL_BYTES: usize = 4096;

/// The most payload offered to the kernel in one call, so that a caller who also receives gets to
/// it in time.
const CALL_BYTES: usize = 1024 * 1024;

/// The most parts of one call: the head, whole blocks, and the pieces at both ends.
const PARTS: usize = 2 + CALL_BYTES / BLOCK_BYTES;

/// What is on its way, lane by lane.
pub(super) struct Sender {
    /// The number of the next or the current message.
    number: u64,
    /// Whether a message is on its way.
    active: bool,
    lanes: Vec<Progress>,
    small: Box<[u8; FRAME_HEAD_BYTES + SMALL_BYTES]>,
}

/// How far one lane is with its share of the message.
#[derive(Clone, Copy)]
struct Progress {
    head: [u8; FRAME_HEAD_BYTES],
    /// Bytes of `head` that count: those of a frame head, of a lane head, or none.
    head_bytes: usize,
    /// Bytes of the message on this lane.
    payload_bytes: usize,
    /// Bytes of both that the kernel has.
    sent: usize,
}

impl Progress {
    const IDLE: Self =
        Self { head: [0; FRAME_HEAD_BYTES], head_bytes: 0, payload_bytes: 0, sent: 0 };

    fn is_over(&self) -> bool {
        self.sent >= self.head_bytes + self.payload_bytes
    }

    fn payload_sent(&self) -> usize {
        self.sent.saturating_sub(self.head_bytes)
    }
}

impl Sender {
    /// A sender over `lanes` lanes that has sent nothing yet.
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            number: 0,
            active: false,
            lanes: vec![Progress::IDLE; lanes],
            small: Box::new([0; FRAME_HEAD_BYTES + SMALL_BYTES]),
        }
    }

    /// Moves what fits of `out`, whose bytes are `payload`; says whether anything moved.
    pub(super) fn push(
        &mut self,
        sockets: &[TcpStream],
        out: &mut Outgoing,
        payload: &[u8],
    ) -> Result<bool, LinkError> {
        if out.done {
            return Ok(false);
        }
        if out.phase == 0 && !self.active {
            self.begin(out, payload.len());
        } else if out.phase != self.number + 1 || !self.active {
            return Err(LinkError::Protocol("this rank mixed two messages of its own"));
        }
        let mut sent = 0;
        for (lane, (progress, socket)) in self.lanes.iter_mut().zip(sockets).enumerate() {
            if progress.is_over() {
                continue;
            }
            let now = if lane == 0 && progress.sent == 0 && payload.len() <= SMALL_BYTES {
                send_small(socket, progress, payload, &mut self.small)?
            } else {
                send_parts(socket, progress, payload, sockets.len(), lane)?
            };
            progress.sent += now;
            sent += now;
        }
        out.moved = self.lanes.iter().map(Progress::payload_sent).sum();
        if self.lanes.iter().all(Progress::is_over) {
            out.done = true;
            self.active = false;
            self.number += 1;
        }
        Ok(sent > 0)
    }

    /// Whether `lane` has more to send than the kernel took.
    pub(super) fn wants(&self, lane: usize) -> bool {
        self.active && self.lanes.get(lane).is_some_and(|progress| !progress.is_over())
    }

    fn begin(&mut self, out: &mut Outgoing, bytes: usize) {
        let count = self.lanes.len();
        for (lane, progress) in self.lanes.iter_mut().enumerate() {
            let payload_bytes = frame::bytes_on_lane(bytes, count, lane);
            *progress = Progress { payload_bytes, ..Progress::IDLE };
            if lane == 0 {
                progress.head_bytes = FRAME_HEAD_BYTES;
                progress.head =
                    FrameHead { head: out.head, number: self.number, lanes: count }.encode();
            } else if payload_bytes > 0 {
                progress.head_bytes = LANE_HEAD_BYTES;
                let head = LaneHead { number: self.number, lane, bytes: payload_bytes }.encode();
                for (slot, byte) in progress.head.iter_mut().zip(head) {
                    *slot = byte;
                }
            }
        }
        self.active = true;
        out.phase = self.number + 1;
    }
}

/// Offers head and payload, copied together.
fn send_small(
    socket: &TcpStream,
    progress: &Progress,
    payload: &[u8],
    small: &mut [u8; FRAME_HEAD_BYTES + SMALL_BYTES],
) -> Result<usize, LinkError> {
    let (head, rest) = small.split_at_mut(FRAME_HEAD_BYTES);
    head.copy_from_slice(&progress.head);
    if let Some(body) = rest.get_mut(..payload.len()) {
        body.copy_from_slice(payload);
    }
    match small.get(..FRAME_HEAD_BYTES + payload.len()) {
        Some(message) => socket::send_one(socket, message),
        None => Ok(0),
    }
}

/// Offers what is left of the head and up to [`CALL_BYTES`] of the payload, from where they lie.
fn send_parts(
    socket: &TcpStream,
    progress: &Progress,
    payload: &[u8],
    lanes: usize,
    lane: usize,
) -> Result<usize, LinkError> {
    let mut parts = [IoSlice::new(&[]); PARTS];
    let mut slots = parts.iter_mut();
    let mut used = 0;
    if let Some(head) = progress.head.get(progress.sent..progress.head_bytes)
        && !head.is_empty()
        && let Some(slot) = slots.next()
    {
        *slot = IoSlice::new(head);
        used += 1;
    }
    let mut at = progress.payload_sent();
    let end = progress.payload_bytes.min(at + CALL_BYTES);
    while at < end {
        let range = frame::range_on_lane(payload.len(), lanes, lane, at, progress.payload_bytes);
        let (Some(part), Some(slot)) = (payload.get(range), slots.next()) else { break };
        let part = part.get(..end - at).unwrap_or(part);
        *slot = IoSlice::new(part);
        used += 1;
        at += part.len();
    }
    socket::send(socket, parts.get(..used).unwrap_or(&[]))
}
