//! The receiving half of a link: one message at a time, from its front to its end.

use std::mem::MaybeUninit;
use std::net::TcpStream;

use super::frame;
use super::frame::FRAME_HEAD_BYTES;
use super::frame::FrameHead;
use super::frame::LANE_HEAD_BYTES;
use super::frame::LaneHead;
use super::socket;
use super::stage::STAGE_BYTES;
use super::stage::Stage;
use crate::transport::Head;
use crate::transport::LinkError;

/// The most bytes of one call that receives into place, so that a caller who also sends gets to
/// it in time.
const CALL_BYTES: usize = 1024 * 1024;

/// After a message longer than this, the next is expected to be long too: only little is received
/// together with its head, since those bytes are copied once more.
const LONG_BYTES: usize = 32 * 1024;

/// What is received together with the head of a message that is expected to be long.
const SHORT_AHEAD_BYTES: usize = FRAME_HEAD_BYTES + 4096;

/// Pieces for a sink are multiples of this.
const PIECE_BYTES: usize = 16;

/// What has come in, and what the next bytes are.
pub(super) struct Receiver {
    stage: Stage,
    current: Option<Incoming>,
    /// The number of the current or the next message.
    number: u64,
    /// The heads of the current message's lanes, as far as they are here.
    lanes: Vec<LaneProgress>,
    /// How much to receive together with the next head.
    ahead: usize,
    /// Why nothing will come any more.
    broken: Option<LinkError>,
}

/// The message that is being received.
struct Incoming {
    head: Head,
    bytes: usize,
    taken: usize,
}

#[derive(Clone, Copy)]
struct LaneProgress {
    head: [u8; LANE_HEAD_BYTES],
    received: usize,
}

impl LaneProgress {
    const NONE: Self = Self { head: [0; LANE_HEAD_BYTES], received: 0 };
}

impl Receiver {
    /// A receiver over `lanes` lanes that has received nothing yet.
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            stage: Stage::new(),
            current: None,
            number: 0,
            lanes: vec![LaneProgress::NONE; lanes],
            ahead: STAGE_BYTES,
            broken: None,
        }
    }

    /// The head of the current message, or of the next if it is here.
    pub(super) fn head(&mut self, sockets: &[TcpStream]) -> Result<Option<Head>, LinkError> {
        if let Some(current) = &self.current {
            return Ok(Some(current.head));
        }
        self.guarded(|this| this.next_head(sockets))
    }

    /// Ends the current message if it has no bytes.
    pub(super) fn skip_empty(&mut self) {
        if self.current.as_ref().is_some_and(|current| current.bytes == 0) {
            self.finish();
        }
    }

    /// See [`Link::pull`](crate::transport::Link::pull).
    pub(super) fn pull(
        &mut self,
        sockets: &[TcpStream],
        limit: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, LinkError> {
        let left = self.left();
        let limit = if limit < left { limit - limit % PIECE_BYTES } else { left };
        if limit == 0 {
            return Ok(0);
        }
        if self.stage.len() < PIECE_BYTES.min(left) {
            self.guarded(|this| this.fill(sockets))?;
        }
        let here = self.stage.len().min(limit);
        let piece = if here == left { here } else { here - here % PIECE_BYTES };
        match self.stage.bytes().get(..piece) {
            None | Some([]) => Ok(0),
            Some(bytes) => {
                sink(bytes);
                self.stage.take(piece);
                self.advance(piece);
                Ok(piece)
            }
        }
    }

    /// See [`Link::pull_into`](crate::transport::Link::pull_into).
    pub(super) fn pull_into(
        &mut self,
        sockets: &[TcpStream],
        into: &mut [MaybeUninit<u8>],
    ) -> Result<usize, LinkError> {
        let limit = into.len().min(self.left());
        let Some(into) = into.get_mut(..limit).filter(|into| !into.is_empty()) else {
            return Ok(0);
        };
        let staged = self.stage.bytes();
        let moved = staged.len().min(limit);
        if moved > 0 {
            for (slot, byte) in into.iter_mut().zip(staged) {
                slot.write(*byte);
            }
            self.stage.take(moved);
        }
        let moved = match moved {
            0 => self.guarded(|this| this.receive_into(sockets, into))?,
            _ => moved,
        };
        self.advance(moved);
        Ok(moved)
    }

    /// The lane whose bytes are needed next.
    pub(super) fn lane(&self) -> usize {
        self.source().map_or(0, |(lane, _)| lane)
    }

    /// Bytes of the current message that were not taken.
    fn left(&self) -> usize {
        self.current.as_ref().map_or(0, |current| current.bytes - current.taken)
    }

    /// The lane with the first byte of the current message that is not here, and how many come on
    /// it in a row; none if all are here.
    fn source(&self) -> Option<(usize, usize)> {
        let current = self.current.as_ref()?;
        let at = current.taken + self.stage.len();
        (at < current.bytes).then(|| frame::lane_of(current.bytes, self.lanes.len(), at))
    }

    fn next_head(&mut self, sockets: &[TcpStream]) -> Result<Option<Head>, LinkError> {
        if self.stage.len() < FRAME_HEAD_BYTES
            && let Some(socket) = sockets.first()
        {
            self.stage.fill(socket, self.ahead)?;
        }
        let Some(bytes) = self.stage.bytes().first_chunk() else { return Ok(None) };
        let FrameHead { head, number, lanes } = FrameHead::decode(bytes)?;
        if number != self.number {
            return Err(LinkError::Protocol("a message is missing or came twice"));
        }
        if lanes != self.lanes.len() {
            return Err(LinkError::Protocol("the peer uses another number of sockets"));
        }
        let bytes = usize::try_from(head.bytes)
            .map_err(|_| LinkError::Protocol("a message claims more bytes than memory can hold"))?;
        self.stage.take(FRAME_HEAD_BYTES);
        self.ahead = if bytes > LONG_BYTES { SHORT_AHEAD_BYTES } else { STAGE_BYTES };
        self.current = Some(Incoming { head, bytes, taken: 0 });
        Ok(Some(head))
    }

    /// Receives into the stage: of a striped message up to the end of the block, else also what
    /// follows the message.
    fn fill(&mut self, sockets: &[TcpStream]) -> Result<usize, LinkError> {
        let Some((lane, run)) = self.source() else { return Ok(0) };
        if !self.lane_is_open(sockets, lane)? {
            return Ok(0);
        }
        let most = if self.is_striped() { run } else { STAGE_BYTES };
        sockets.get(lane).map_or(Ok(0), |socket| self.stage.fill(socket, most))
    }

    fn receive_into(
        &mut self,
        sockets: &[TcpStream],
        into: &mut [MaybeUninit<u8>],
    ) -> Result<usize, LinkError> {
        let Some((lane, run)) = self.source() else { return Ok(0) };
        if !self.lane_is_open(sockets, lane)? {
            return Ok(0);
        }
        let most = into.len().min(run).min(CALL_BYTES);
        match (sockets.get(lane), into.get_mut(..most)) {
            (Some(socket), Some(into)) => socket::receive(socket, into),
            _ => Ok(0),
        }
    }

    /// Whether the lane's head was received, where it has one, and is what it must be.
    fn lane_is_open(&mut self, sockets: &[TcpStream], lane: usize) -> Result<bool, LinkError> {
        let total = self.current.as_ref().map_or(0, |current| current.bytes);
        let count = self.lanes.len();
        let (Some(progress), Some(socket)) = (self.lanes.get_mut(lane), sockets.get(lane)) else {
            return Ok(false);
        };
        if lane == 0 || progress.received == LANE_HEAD_BYTES {
            return Ok(true);
        }
        if let Some(rest) = progress.head.get_mut(progress.received..) {
            progress.received += socket::receive_bytes(socket, rest)?;
        }
        if progress.received < LANE_HEAD_BYTES {
            return Ok(false);
        }
        let bytes = frame::bytes_on_lane(total, count, lane);
        LaneHead { number: self.number, lane, bytes }.verify(&progress.head)?;
        Ok(true)
    }

    fn is_striped(&self) -> bool {
        let total = self.current.as_ref().map_or(0, |current| current.bytes);
        frame::bytes_on_lane(total, self.lanes.len(), 0) < total
    }

    fn advance(&mut self, count: usize) {
        if let Some(current) = &mut self.current {
            current.taken += count;
            if current.taken == current.bytes {
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        self.current = None;
        self.number += 1;
        self.lanes.fill(LaneProgress::NONE);
    }

    /// Runs `step` unless one failed before; its error stays.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        if let Some(broken) = &self.broken {
            return Err(again(broken));
        }
        step(self).map_err(|error| {
            let error = self.located(error);
            self.broken = Some(again(&error));
            error
        })
    }

    /// The error, with how far the message was.
    fn located(&self, error: LinkError) -> LinkError {
        match (error, &self.current) {
            (LinkError::Lost(why), Some(Incoming { bytes, taken, .. })) => {
                LinkError::Lost(format!("{why}, {taken} bytes into a message of {bytes}"))
            }
            (LinkError::Lost(why), None) if self.stage.len() > 0 => {
                LinkError::Lost(format!("{why}, inside the head of a message"))
            }
            (error, _) => error,
        }
    }
}

/// The same error once more.
fn again(error: &LinkError) -> LinkError {
    match error {
        LinkError::Lost(why) => LinkError::Lost(why.clone()),
        LinkError::Protocol(what) => LinkError::Protocol(what),
    }
}
