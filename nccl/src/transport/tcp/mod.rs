//! A link over TCP: one or more sockets (lanes) to one peer, driven by the calling thread.
//!
//! Nothing here blocks and nothing runs in the background. Payload goes from the sender's memory
//! into the kernel and from there into the receiver's memory; only short messages and the few
//! bytes that were received together with a head are copied once more.

#![expect(unsafe_code, reason = "forms slices from the pointers that links are given")]

use core::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use crate::transport::Head;
use crate::transport::Link;
use crate::transport::LinkError;
use crate::transport::Outgoing;

mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod receive;
mod send;
mod socket;
mod stage;
#[cfg(target_os = "linux")]
mod wait;

#[cfg(test)]
mod tests;

/// A [`Link`] over TCP.
pub(crate) struct TcpLink {
    lanes: Vec<TcpStream>,
    sender: send::Sender,
    receiver: receive::Receiver,
    cancelled: bool,
    #[cfg(target_os = "linux")]
    waiter: Option<wait::Waiter>,
}

impl TcpLink {
    /// A link over `lanes`, 1 to 64 connections to one peer, which has them in the same order.
    ///
    /// # Errors
    /// When there are none or too many, or the kernel refuses an option.
    pub(crate) fn new(lanes: Vec<TcpStream>) -> io::Result<Self> {
        if lanes.is_empty() || lanes.len() > frame::LANES_MAX {
            let text = format!("a link has 1 to {} sockets, not {}", frame::LANES_MAX, lanes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for lane in &lanes {
            socket::prepare(lane)?;
        }
        Ok(Self {
            sender: send::Sender::new(lanes.len()),
            receiver: receive::Receiver::new(lanes.len()),
            cancelled: false,
            #[cfg(target_os = "linux")]
            waiter: if lanes.len() > 1 { Some(wait::Waiter::new(&lanes)?) } else { None },
            lanes,
        })
    }

    fn check(&self) -> Result<(), LinkError> {
        if self.cancelled {
            return Err(LinkError::Lost("was given up by this rank".to_owned()));
        }
        Ok(())
    }
}

impl fmt::Debug for TcpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpLink")
            .field("lanes", &self.lanes)
            .field("cancelled", &self.cancelled)
            .finish_non_exhaustive()
    }
}

impl Link for TcpLink {
    fn name(&self) -> &'static str {
        "NET/Socket/0"
    }

    unsafe fn push(&mut self, out: &mut Outgoing) -> Result<bool, LinkError> {
        self.check()?;
        let bytes = match usize::try_from(out.head.bytes) {
            Ok(0) => return self.sender.push(&self.lanes, out, &[]),
            Ok(bytes) if isize::try_from(bytes).is_ok() && !out.data.is_null() => bytes,
            _ => return Err(LinkError::Protocol("this rank sends what cannot be in memory")),
        };
        if out.done {
            return Ok(false);
        }
        // SAFETY: the caller of `push` guarantees that `data` is valid for `head.bytes` bytes and
        // that nobody writes them until `done`, which was checked above; not null and not longer
        // than `isize::MAX` were checked too. The slice lives only for this call.
        let payload = unsafe { std::slice::from_raw_parts(out.data, bytes) };
        self.sender.push(&self.lanes, out, payload)
    }

    fn head(&mut self) -> Result<Option<Head>, LinkError> {
        self.check()?;
        self.receiver.head(&self.lanes)
    }

    fn skip_empty(&mut self) {
        self.receiver.skip_empty();
    }

    fn pull(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> Result<usize, LinkError> {
        self.check()?;
        self.receiver.pull(&self.lanes, limit, sink)
    }

    unsafe fn pull_into(&mut self, into: *mut u8, limit: usize) -> Result<usize, LinkError> {
        self.check()?;
        if limit == 0 || into.is_null() || isize::try_from(limit).is_err() {
            return Ok(0);
        }
        // SAFETY: the caller of `pull_into` guarantees that `into` is valid for writes of `limit`
        // bytes and that nobody else reads or writes them now; not null and not longer than
        // `isize::MAX` were checked. The bytes may have no value yet, hence `MaybeUninit`, through
        // which none is read. The slice lives only for this call.
        let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<MaybeUninit<u8>>(), limit) };
        self.receiver.pull_into(&self.lanes, into)
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        for lane in &self.lanes {
            // Fails if the peer has closed it already, which is as good.
            let _ = lane.shutdown(Shutdown::Both);
        }
    }

    /// With several lanes, a descriptor that becomes *readable* also when something can be pushed
    /// again.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(target_os = "linux")]
        if let Some(waiter) = &self.waiter {
            let writes = |lane| self.sender.wants(lane);
            return Some(waiter.descriptor(&self.lanes, self.receiver.lane(), writes));
        }
        self.lanes.first().map(AsFd::as_fd)
    }
}
