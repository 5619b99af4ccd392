//! A buffer between the socket and whoever takes the bytes, in the order of the stream.

use std::net::TcpStream;

use super::socket;
use crate::transport::LinkError;

/// How many bytes a stage holds: few enough to stay in the cache between the kernel's copy and
/// the reader, many enough that a system call (about 1 us) does not count.
pub(super) const STAGE_BYTES: usize = 128 * 1024;

/// A cache line, and the widest vector register.
const ALIGN: usize = 64;

/// Bytes that were received and not taken yet.
pub(super) struct Stage {
    memory: Box<[u8]>,
    /// Where the aligned part of `memory` begins.
    base: usize,
    /// The first byte not taken, from `base`.
    start: usize,
    /// Behind the last byte received, from `base`.
    end: usize,
}

impl Stage {
    /// An empty stage; allocates its memory, which never grows.
    pub(super) fn new() -> Self {
        let memory = vec![0; STAGE_BYTES + ALIGN].into_boxed_slice();
        // `align_offset` may decline to answer; then alignment is lost, not correctness.
        let base = Some(memory.as_ptr().align_offset(ALIGN)).filter(|base| *base < ALIGN);
        Self { memory, base: base.unwrap_or(0), start: 0, end: 0 }
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.base + self.start..self.base + self.end).unwrap_or(&[])
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Forgets the first `count` bytes, at most all.
    pub(super) fn take(&mut self, count: usize) {
        self.start += count.min(self.len());
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Receives at most `limit` bytes behind those that wait: how many, 0 if none are here or
    /// there is no room.
    pub(super) fn fill(&mut self, lane: &TcpStream, limit: usize) -> Result<usize, LinkError> {
        if self.start > 0 {
            // Few bytes: the beginning of a head or less than 16 of a payload.
            let (from, to) = (self.base + self.start, self.base + self.end);
            self.memory.copy_within(from..to, self.base);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.end + limit.min(STAGE_BYTES - self.end);
        match self.memory.get_mut(self.base + self.end..self.base + room) {
            None | Some([]) => Ok(0),
            Some(into) => {
                let received = socket::receive_bytes(lane, into)?;
                self.end += received;
                Ok(received)
            }
        }
    }
}
