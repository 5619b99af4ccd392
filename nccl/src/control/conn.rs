//! One control connection: messages in and out without ever blocking.

use core::fmt;
use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;

use super::frames::Frames;
use crate::wire::control::Message;

/// What may wait for a peer that does not read, before it is given up.
const WAITING_BYTES: usize = 16 << 20;
/// What is read from one peer before the others have their turn.
const TURN_BYTES: usize = 64 << 10;

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// The other side closed or reset it.
    Closed,
    /// The other side sent what it must not.
    Nonsense(&'static str),
    /// The other side does not read.
    Stuffed,
    /// Nothing came for too long.
    Silent(String),
    /// The system reports something else.
    System(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "its process ended without finalize (connection closed)"),
            Self::Nonsense(what) => write!(f, "sent nonsense on its control connection: {what}"),
            Self::Stuffed => {
                write!(f, "does not read its control connection ({} MiB wait)", WAITING_BYTES >> 20)
            }
            Self::Silent(why) => f.write_str(why),
            Self::System(error) => write!(f, "cannot be reached any more ({error})"),
        }
    }
}

/// A connection with its queues.
#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    frames: Frames,
    out: VecDeque<Arc<[u8]>>,
    /// Bytes of the first queued message that are sent.
    sent: usize,
    /// Bytes queued in all.
    waiting: usize,
    heard: Instant,
}

impl Conn {
    /// Takes over a stream; messages over `limit` bytes are refused.
    pub(super) fn new(stream: TcpStream, limit: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            frames: Frames::new(limit),
            out: VecDeque::new(),
            sent: 0,
            waiting: 0,
            heard: Instant::now(),
        })
    }

    /// Changes the longest message allowed.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.frames.set_limit(limit);
    }

    /// For how long nothing has come.
    pub(super) fn silent(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Excuses a silence of `time`: this process itself did not run.
    pub(super) fn excuse(&mut self, time: Duration) {
        let now = Instant::now();
        self.heard = self.heard.checked_add(time).unwrap_or(now).min(now);
    }

    /// What to wait for.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let out = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        PollFd::new(&self.stream, PollFlags::IN | out)
    }

    /// What to wait for when only sending matters.
    pub(super) fn poll_out(&self) -> PollFd<'_> {
        PollFd::new(&self.stream, PollFlags::OUT)
    }

    /// Whether everything was handed to the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Queues a message and sends what fits.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), End> {
        self.send_bytes(message.encode().into())
    }

    /// Queues bytes, of which other connections may share the memory, and sends what fits.
    pub(super) fn send_bytes(&mut self, bytes: Arc<[u8]>) -> Result<(), End> {
        if self.waiting > 0 && self.waiting.saturating_add(bytes.len()) > WAITING_BYTES {
            return Err(End::Stuffed);
        }
        self.waiting += bytes.len();
        self.out.push_back(bytes);
        self.flush()
    }

    /// Sends what fits.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        while let Some(first) = self.out.front() {
            let rest = first.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                self.out.pop_front();
                self.sent = 0;
                continue;
            }
            match self.stream.write(rest) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    self.sent += count;
                    self.waiting -= count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(end_of(error)),
            }
        }
        Ok(())
    }

    /// Reads what is here, up to a turn's share; messages that came before an end are kept.
    pub(super) fn read(&mut self) -> Result<(), End> {
        let mut piece = [0; 16 << 10];
        let mut read = 0;
        while read < TURN_BYTES {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    read += count;
                    self.heard = Instant::now();
                    self.frames.push(piece.get(..count).unwrap_or_default());
                    if count < piece.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(end_of(error)),
            }
        }
        Ok(())
    }

    /// Exactly the bytes that fit into `to`, or fewer if fewer are here: for what precedes the
    /// messages.
    pub(super) fn read_into(&mut self, to: &mut [u8]) -> Result<usize, End> {
        loop {
            match self.stream.read(to) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(end_of(error)),
            }
        }
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<Message>, End> {
        self.frames.next().map_err(|malformed| End::Nonsense(malformed.0))
    }

    /// Says that no more will be sent.
    pub(super) fn finish(&self) {
        drop(self.stream.shutdown(std::net::Shutdown::Write));
    }

    /// Reads and forgets; says whether the other side has closed.
    pub(super) fn drain(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

fn end_of(error: io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            End::Closed
        }
        _ => End::System(error),
    }
}

/// Waits until one of `set` is ready or `timeout` has passed; what each is ready for.
pub(super) fn wait(set: &mut [PollFd<'_>], timeout: Duration) -> Vec<PollFlags> {
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match rustix::event::poll(set, Some(&timeout)) {
        Ok(_) => set.iter().map(PollFd::revents).collect(),
        // A signal, or no memory for a moment: the caller looks again.
        Err(_) => vec![PollFlags::empty(); set.len()],
    }
}
