//! Messages out of a stream of bytes that comes in pieces.

use crate::wire::Malformed;
use crate::wire::control::Message;

/// The bytes of a message's length.
const LENGTH_BYTES: usize = 4;

/// Collects bytes and cuts them into messages. It takes as much memory as bytes have come, not
/// as a length promises.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    begin: usize,
    limit: usize,
}

impl Frames {
    /// Nothing yet; messages longer than `limit` are refused.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), begin: 0, limit }
    }

    /// Changes the longest message allowed.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes more bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Malformed> {
        let rest = self.bytes.get(self.begin..).unwrap_or_default();
        let Some((length, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            self.forget_read();
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length))
            .map_err(|_| Malformed("a message is too long"))?;
        if length > self.limit {
            return Err(Malformed("a message is too long"));
        }
        let Some(body) = body.get(..length) else {
            self.forget_read();
            return Ok(None);
        };
        let message = Message::decode(body)?;
        self.begin += LENGTH_BYTES + length;
        Ok(Some(message))
    }

    /// Gives back the memory of messages already read.
    fn forget_read(&mut self) {
        if self.begin == self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..self.begin);
        }
        self.begin = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::FRAME_BYTES;
    use proptest::prelude::*;

    fn some() -> Vec<Message> {
        let lost = |rank| Message::Lost { rank, why: "x".repeat(rank * 30) };
        vec![Message::Heartbeat, lost(1), Message::Accepted, lost(9), lost(0), Message::Heartbeat]
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(cuts in proptest::collection::vec(1..40_usize, 1..60)) {
            let bytes: Vec<u8> = some().iter().flat_map(Message::encode).collect();
            let mut frames = Frames::new(FRAME_BYTES);
            let mut got = Vec::new();
            let mut rest = &bytes[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                frames.push(piece);
                rest = after;
                while let Some(message) = frames.next().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, some());
            prop_assert_eq!(frames.bytes.capacity(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut frames = Frames::new(FRAME_BYTES);
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.next() {}
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_once() {
        for length in [101_u32, 1 << 20, u32::MAX] {
            let mut frames = Frames::new(100);
            frames.push(&length.to_le_bytes());
            assert_eq!(frames.next(), Err(Malformed("a message is too long")));
        }
        let mut frames = Frames::new(100);
        frames.push(&100_u32.to_le_bytes());
        assert_eq!(frames.next(), Ok(None));
    }
}
