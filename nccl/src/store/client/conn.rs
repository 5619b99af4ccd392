//! One connection of a client: whole messages before a deadline.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;

use crate::clock::Deadline;
use crate::net::timespec;

/// Longest value that is believed.
const MAX_ANSWER_BYTES: u64 = 1 << 30;

/// How far a value's memory grows ahead of its bytes.
const GROW_BYTES: usize = 1 << 20;

/// Why an exchange ended in its middle. The connection is of no use any more.
#[derive(Debug)]
pub(super) enum Broken {
    /// The deadline passed.
    Timeout,
    /// The connection ended, or what came cannot be: the text says which.
    Lost(String),
}

/// Why a wait for an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Bytes are here, or the end.
    Readable,
    /// Another thread wants the connection.
    Wanted,
    /// The deadline passed.
    Timeout,
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    buffer: [u8; 512],
    from: usize,
    until: usize,
    /// Whether something was sent that the server does not answer, and nothing answered since.
    pub(super) is_dirty: bool,
}

impl Conn {
    /// A connection over a stream that does not block.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: [0; 512], from: 0, until: 0, is_dirty: false }
    }

    /// Whether it is as it should be between exchanges: open, and silent.
    pub(super) fn is_quiet(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        self.from == self.until && matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(0))
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, mut bytes: &[u8], deadline: &Deadline) -> Result<(), Broken> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.poll(PollFlags::OUT, deadline)?;
                }
                Err(error) => return Err(Broken::Lost(error.to_string())),
            }
        }
        Ok(())
    }

    /// Receives exactly as many bytes as `into` has.
    pub(super) fn receive(&mut self, into: &mut [u8], deadline: &Deadline) -> Result<(), Broken> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let buffered = self.buffer.get(self.from..self.until).unwrap_or_default();
            if !buffered.is_empty() {
                let count = buffered.len().min(rest.len());
                for (to, from) in rest.iter_mut().zip(buffered) {
                    *to = *from;
                }
                self.from += count;
                done += count;
            } else if rest.len() >= self.buffer.len() {
                done += self.read_some(Some(rest), deadline)?;
            } else {
                self.until = self.read_some(None, deadline)?;
                self.from = 0;
            }
        }
        Ok(())
    }

    /// Receives one byte.
    pub(super) fn receive_u8(&mut self, deadline: &Deadline) -> Result<u8, Broken> {
        let mut byte = [0];
        self.receive(&mut byte, deadline)?;
        Ok(u8::from_le_bytes(byte))
    }

    /// Receives a number.
    pub(super) fn receive_i64(&mut self, deadline: &Deadline) -> Result<i64, Broken> {
        let mut bytes = [0; 8];
        self.receive(&mut bytes, deadline)?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// Receives a number that counts something.
    pub(super) fn receive_count(&mut self, deadline: &Deadline) -> Result<usize, Broken> {
        let number = self.receive_i64(deadline)?;
        usize::try_from(number)
            .map_err(|_| Broken::Lost(format!("the server answers the impossible count {number}")))
    }

    /// Receives a value; its memory grows as its bytes come.
    pub(super) fn receive_value(&mut self, deadline: &Deadline) -> Result<Vec<u8>, Broken> {
        let mut length = [0; 8];
        self.receive(&mut length, deadline)?;
        let length = u64::from_le_bytes(length);
        let total =
            usize::try_from(length).ok().filter(|_| length <= MAX_ANSWER_BYTES).ok_or_else(
                || Broken::Lost(format!("the server answers a value of {length} bytes, too long")),
            )?;
        let mut value = Vec::new();
        while value.len() < total {
            let done = value.len();
            let now = (total - done).min(GROW_BYTES);
            value.resize(done + now, 0);
            self.receive(value.get_mut(done..).unwrap_or_default(), deadline)?;
        }
        Ok(value)
    }

    /// Receives what comes within `deadline`, at most a little: for messages about strangers.
    pub(super) fn receive_some(&mut self, deadline: &Deadline) -> Vec<u8> {
        let mut some = Vec::new();
        while some.len() < 64 {
            let mut byte = [0];
            if self.receive(&mut byte, deadline).is_err() {
                break;
            }
            some.extend_from_slice(&byte);
        }
        some
    }

    /// Waits until something comes, `wanted` becomes readable, or `deadline`.
    pub(super) fn wait(
        &self,
        wanted: Option<&UnixStream>,
        deadline: &Deadline,
    ) -> Result<Wake, Broken> {
        if self.from < self.until {
            return Ok(Wake::Readable);
        }
        loop {
            let mut fds = vec![PollFd::new(&self.stream, PollFlags::IN)];
            fds.extend(wanted.map(|wanted| PollFd::new(wanted, PollFlags::IN)));
            match poll(&mut fds, Some(&timespec(deadline.left()))) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Broken::Lost(error.to_string())),
            }
            let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            if is_ready(0) {
                return Ok(Wake::Readable);
            }
            if is_ready(1) {
                return Ok(Wake::Wanted);
            }
            if deadline.passed() {
                return Ok(Wake::Timeout);
            }
        }
    }

    /// One read that got something, into `into` or else into the buffer.
    fn read_some(&mut self, into: Option<&mut [u8]>, deadline: &Deadline) -> Result<usize, Broken> {
        let into = match into {
            Some(into) => into,
            None => &mut self.buffer,
        };
        loop {
            match self.stream.read(into) {
                Ok(0) => return Err(Broken::Lost("the server closed the connection".to_owned())),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_stream(&self.stream, PollFlags::IN, deadline)?;
                }
                Err(error) => return Err(Broken::Lost(error.to_string())),
            }
        }
    }

    fn poll(&self, flags: PollFlags, deadline: &Deadline) -> Result<(), Broken> {
        poll_stream(&self.stream, flags, deadline)
    }
}

fn poll_stream(stream: &TcpStream, flags: PollFlags, deadline: &Deadline) -> Result<(), Broken> {
    if deadline.passed() {
        return Err(Broken::Timeout);
    }
    let mut fds = [PollFd::new(stream, flags)];
    match poll(&mut fds, Some(&timespec(deadline.left()))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Broken::Lost(error.to_string())),
    }
}
