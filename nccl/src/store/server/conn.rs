//! One client of the server: its socket, and the bytes on their way in and out.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Instant;

use crate::net::Interest;
use crate::store::server::ServerLimits;
use crate::store::server::engine::Engine;
use crate::store::server::stranger;
use crate::wire::RequestParser;
use crate::wire::store::STOP_WAITING;

/// Requests of one connection between two looks at the others.
const REQUESTS_PER_TURN: usize = 64;

/// Answers that may wait before further requests are left where they are.
const BACKLOG_BYTES: usize = 1 << 20;

/// What an idle connection keeps of its memory.
const KEPT_BYTES: usize = 16 * 1024;

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it, or it broke.
    Gone,
    /// The client did what it must not; the text says what.
    Fault(String),
}

/// One client.
#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    /// Who it is.
    pub(super) peer: SocketAddr,
    token: u64,
    parser: RequestParser,
    /// Bytes that were read and not yet understood.
    pending: Vec<u8>,
    out: Vec<u8>,
    out_sent: usize,
    /// How many bytes of the hello were right.
    hello: usize,
    opened: Instant,
    frame_since: Option<Instant>,
    stalled_since: Option<Instant>,
    /// What of it is in the sum over all connections.
    pub(super) counted_bytes: usize,
    /// What the poller was told last.
    pub(super) interest: Interest,
}

impl Conn {
    /// A connection that has said nothing yet.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, token: u64) -> Self {
        Self {
            stream,
            peer,
            token,
            parser: RequestParser::new(),
            pending: Vec::new(),
            out: Vec::new(),
            out_sent: 0,
            hello: 0,
            opened: Instant::now(),
            frame_since: None,
            stalled_since: None,
            counted_bytes: 0,
            interest: Interest { read: true, write: false },
        }
    }

    /// Its socket.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What it is to be watched for.
    pub(super) fn wanted(&self) -> Interest {
        Interest {
            read: !self.is_backlogged() && self.pending.is_empty(),
            write: self.unsent() > 0,
        }
    }

    /// Corrects `sum`, the memory of all connections, by what this one takes now.
    pub(super) fn recount(&mut self, sum: &mut usize) {
        let held = self.parser.held_bytes() + self.pending.capacity() + self.out.capacity();
        *sum = sum.saturating_sub(self.counted_bytes).saturating_add(held);
        self.counted_bytes = held;
    }

    /// Memory that its unfinished request takes.
    pub(super) fn request_bytes(&self) -> usize {
        self.parser.held_bytes()
    }

    /// Whether a clock runs for it.
    pub(super) fn is_timed(&self) -> bool {
        self.hello < stranger::HELLO.len()
            || self.frame_since.is_some()
            || self.stalled_since.is_some()
    }

    /// Moves bytes and answers requests, a bounded number; says whether there are more requests
    /// that need no further byte.
    pub(super) fn turn(
        &mut self,
        engine: &mut Engine,
        scratch: &mut [u8],
        readable: bool,
    ) -> Result<bool, End> {
        self.flush()?;
        if self.is_backlogged() {
            return Ok(false);
        }
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.take(engine, &pending)?;
        } else if readable {
            match self.stream.read(scratch) {
                Ok(0) => return Err(End::Gone),
                Ok(count) => self.take(engine, scratch.get(..count).unwrap_or_default())?,
                Err(error) if is_again(&error) => {}
                Err(_) => return Err(End::Gone),
            }
        }
        self.flush()?;
        Ok(!self.pending.is_empty() && !self.is_backlogged())
    }

    /// Tells it that its wait is over.
    pub(super) fn stop_waiting(&mut self) -> Result<(), End> {
        self.out.push(STOP_WAITING);
        self.flush()
    }

    /// Which deadline has passed.
    pub(super) fn overdue(&self, limits: &ServerLimits, now: Instant) -> Result<(), End> {
        let late = |since: Option<Instant>, limit| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
        };
        let hello_since = (self.hello < stranger::HELLO.len()).then_some(self.opened);
        if late(hello_since, limits.handshake) {
            let timeout = limits.handshake;
            return Err(End::Fault(format!("it did not begin as a store client in {timeout:?}")));
        }
        if late(self.frame_since, limits.frame) {
            let timeout = limits.frame;
            return Err(End::Fault(format!("a request was not whole after {timeout:?}")));
        }
        if late(self.stalled_since, limits.stall) {
            let (timeout, unsent) = (limits.stall, self.unsent());
            return Err(End::Fault(format!(
                "it took no byte of {unsent} answered ones for {timeout:?}"
            )));
        }
        Ok(())
    }

    /// Understands `input`; keeps what must wait for the next turn.
    fn take(&mut self, engine: &mut Engine, input: &[u8]) -> Result<(), End> {
        let mut input = self.check_hello(input)?;
        let mut requests = 0;
        while !input.is_empty() {
            if requests == REQUESTS_PER_TURN || self.is_backlogged() {
                self.pending = input.to_vec();
                break;
            }
            match self.parser.next(&mut input) {
                Ok(Some(request)) => {
                    self.frame_since = None;
                    requests += 1;
                    let answered = self.out.len();
                    let done = engine.handle(self.token, request, &mut self.out);
                    if let Err(closed) = done {
                        // Answers to earlier requests still count, half a one does not.
                        self.out.truncate(answered);
                        let _ = self.flush();
                        return Err(End::Fault(closed.to_string()));
                    }
                }
                Ok(None) => {}
                Err(violation) => {
                    let _ = self.flush();
                    return Err(End::Fault(violation.to_string()));
                }
            }
        }
        if self.parser.is_inside() {
            self.frame_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Compares the first bytes with those of a store client; returns what is behind them.
    fn check_hello<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], End> {
        for (at, byte) in input.iter().enumerate() {
            match stranger::HELLO.get(self.hello) {
                None => return Ok(input.get(at..).unwrap_or_default()),
                Some(expected) if expected == byte => self.hello += 1,
                Some(_) => {
                    let mut first: Vec<u8> = stranger::HELLO
                        .iter()
                        .copied()
                        .take(self.hello - at.min(self.hello))
                        .collect();
                    first.extend_from_slice(input);
                    return Err(End::Fault(format!("it is {}", stranger::describe(&first))));
                }
            }
        }
        Ok(&[])
    }

    fn unsent(&self) -> usize {
        self.out.len().saturating_sub(self.out_sent)
    }

    fn is_backlogged(&self) -> bool {
        self.unsent() > BACKLOG_BYTES
    }

    /// Sends what fits.
    fn flush(&mut self) -> Result<(), End> {
        while let Some(rest) = self.out.get(self.out_sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(End::Gone),
                Ok(count) => {
                    self.out_sent += count;
                    self.stalled_since = None;
                }
                Err(error) if is_again(&error) => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    if self.out_sent > BACKLOG_BYTES {
                        self.out.drain(..self.out_sent);
                        self.out_sent = 0;
                    }
                    return Ok(());
                }
                Err(_) => return Err(End::Gone),
            }
        }
        self.stalled_since = None;
        self.out_sent = 0;
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        Ok(())
    }
}

/// Whether the call can be made again later.
pub(super) fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
