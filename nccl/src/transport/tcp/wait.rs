//! One descriptor for the lanes of a link.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;

/// An epoll descriptor that is readable when a lane that matters is ready.
///
/// What matters is written down only when somebody is about to sleep, so that the lanes' hot path
/// pays nothing for it.
pub(super) struct Waiter {
    epoll: OwnedFd,
    watched: Vec<Cell<EventFlags>>,
}

impl Waiter {
    /// Watches the lanes for nothing yet.
    pub(super) fn new(lanes: &[TcpStream]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for lane in lanes {
            epoll::add(&epoll, lane, EventData::new_u64(0), EventFlags::empty())?;
        }
        let watched = lanes.iter().map(|_| Cell::new(EventFlags::empty())).collect();
        Ok(Self { epoll, watched })
    }

    /// The descriptor, readable once the lane `reads` can be read or a lane of which `writes` says
    /// so can be written.
    pub(super) fn descriptor(
        &self,
        lanes: &[TcpStream],
        reads: usize,
        writes: impl Fn(usize) -> bool,
    ) -> BorrowedFd<'_> {
        for (at, (watched, lane)) in self.watched.iter().zip(lanes).enumerate() {
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, at == reads);
            wanted.set(EventFlags::OUT, writes(at));
            if watched.get() != wanted {
                // Fails only for want of memory; the caller's wait has a timeout.
                let changed = epoll::modify(&self.epoll, lane, EventData::new_u64(0), wanted);
                if changed.is_ok() {
                    watched.set(wanted);
                }
            }
        }
        self.epoll.as_fd()
    }
}
