//! Waits for many descriptors at once: epoll on Linux, poll elsewhere.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::Timespec;

/// What a descriptor is watched for. It stays watched until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Bytes, a connection, or the end of the stream.
    pub(crate) read: bool,
    /// Room for bytes.
    pub(crate) write: bool,
}

/// A descriptor that is ready for something that it is watched for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The number it was added with.
    pub(crate) token: u64,
    /// Reading would not block.
    pub(crate) read: bool,
    /// Both directions are over, or the descriptor is in error; reported without being asked for.
    pub(crate) hangup: bool,
}

/// The longest wait that a clock can name safely.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A timeout for the kernel; a part of a nanosecond is never rounded to a busy loop.
pub(crate) fn timespec(timeout: Duration) -> Timespec {
    let timeout = timeout.min(LONGEST);
    Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().cast_signed().into(),
    }
}

#[cfg(target_os = "linux")]
pub(crate) use epoll::Poller;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::Poller;

#[cfg(target_os = "linux")]
mod epoll {
    use core::mem::MaybeUninit;
    use std::os::fd::OwnedFd;

    use rustix::event::epoll;

    use super::AsFd;
    use super::Duration;
    use super::Interest;
    use super::Ready;
    use super::io;
    use super::timespec;

    /// Events of one wait; those that do not fit come with the next.
    const EVENTS: usize = 512;

    /// A set of watched descriptors.
    #[derive(Debug)]
    pub(crate) struct Poller {
        epoll: OwnedFd,
    }

    impl Poller {
        /// An empty set.
        pub(crate) fn new() -> io::Result<Self> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            Ok(Self { epoll })
        }

        /// Watches `fd` under the number `token`.
        pub(crate) fn add(&mut self, fd: impl AsFd, token: u64, what: Interest) -> io::Result<()> {
            let data = epoll::EventData::new_u64(token);
            Ok(epoll::add(&self.epoll, fd, data, flags(what))?)
        }

        /// Watches `fd` for something else.
        pub(crate) fn modify(
            &mut self,
            fd: impl AsFd,
            token: u64,
            what: Interest,
        ) -> io::Result<()> {
            let data = epoll::EventData::new_u64(token);
            Ok(epoll::modify(&self.epoll, fd, data, flags(what))?)
        }

        /// Forgets `fd`, before it is closed.
        pub(crate) fn remove(&mut self, fd: impl AsFd, _token: u64) {
            // It can only fail if the descriptor is not in the set, which is what is wanted.
            let _ = epoll::delete(&self.epoll, fd);
        }

        /// Waits at most `timeout` and puts the ready ones into `ready`.
        pub(crate) fn wait(
            &mut self,
            ready: &mut Vec<Ready>,
            timeout: Option<Duration>,
        ) -> io::Result<()> {
            ready.clear();
            let timeout = timeout.map(timespec);
            let mut space = [const { MaybeUninit::uninit() }; EVENTS];
            let events = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            ready.extend(events.iter().map(|event| {
                let flags = event.flags;
                Ready {
                    token: event.data.u64(),
                    read: flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP),
                    hangup: flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                }
            }));
            Ok(())
        }
    }

    fn flags(what: Interest) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, what.read);
        flags.set(epoll::EventFlags::OUT, what.write);
        flags
    }
}

#[cfg(any(not(target_os = "linux"), test))]
mod portable {
    use std::collections::BTreeMap;
    use std::os::fd::OwnedFd;

    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    use rustix::event::poll;

    use super::AsFd;
    use super::Duration;
    use super::Interest;
    use super::Ready;
    use super::io;
    use super::timespec;

    /// A set of watched descriptors, each kept open by a duplicate.
    #[derive(Debug)]
    pub(crate) struct Poller {
        fds: BTreeMap<u64, (OwnedFd, Interest)>,
    }

    impl Poller {
        /// An empty set.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { fds: BTreeMap::new() })
        }

        /// Watches `fd` under the number `token`.
        pub(crate) fn add(&mut self, fd: impl AsFd, token: u64, what: Interest) -> io::Result<()> {
            let fd = fd.as_fd().try_clone_to_owned()?;
            self.fds.insert(token, (fd, what));
            Ok(())
        }

        /// Watches `fd` for something else.
        pub(crate) fn modify(
            &mut self,
            _fd: impl AsFd,
            token: u64,
            what: Interest,
        ) -> io::Result<()> {
            if let Some(entry) = self.fds.get_mut(&token) {
                entry.1 = what;
            }
            Ok(())
        }

        /// Forgets `fd`, before it is closed.
        pub(crate) fn remove(&mut self, _fd: impl AsFd, token: u64) {
            self.fds.remove(&token);
        }

        /// Waits at most `timeout` and puts the ready ones into `ready`.
        pub(crate) fn wait(
            &mut self,
            ready: &mut Vec<Ready>,
            timeout: Option<Duration>,
        ) -> io::Result<()> {
            ready.clear();
            let mut fds: Vec<PollFd<'_>> = self
                .fds
                .values()
                .map(|(fd, what)| {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::IN, what.read);
                    flags.set(PollFlags::OUT, what.write);
                    PollFd::new(fd, flags)
                })
                .collect();
            let timeout = timeout.map(timespec);
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            for (token, fd) in self.fds.keys().zip(&fds) {
                let got = fd.revents();
                if !got.is_empty() {
                    ready.push(Ready {
                        token: *token,
                        read: got.intersects(PollFlags::IN | PollFlags::HUP),
                        hangup: got.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
                    });
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    macro_rules! a_descriptor_is_reported_while_it_is_ready {
        ($poller:ty) => {{
            let (mut near, far) = UnixStream::pair().unwrap();
            let mut poller = <$poller>::new().unwrap();
            let mut ready = Vec::new();
            let read = Interest { read: true, write: false };
            poller.add(&far, 7, read).unwrap();
            poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
            assert!(ready.is_empty());
            near.write_all(b"x").unwrap();
            for _ in 0..2 {
                poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
                assert!(matches!(ready[..], [Ready { token: 7, read: true, .. }]));
            }
            poller.modify(&far, 7, Interest { read: false, write: true }).unwrap();
            poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
            assert!(matches!(ready[..], [Ready { token: 7, read: false, .. }]));
            drop(near);
            poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
            assert!(matches!(ready[..], [Ready { token: 7, hangup: true, .. }]));
            poller.remove(&far, 7);
            poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
            assert!(ready.is_empty());
        }};
    }

    #[test]
    fn both_pollers_report_a_descriptor_while_it_is_ready() {
        a_descriptor_is_reported_while_it_is_ready!(Poller);
        a_descriptor_is_reported_while_it_is_ready!(portable::Poller);
    }

    #[test]
    fn a_timeout_of_a_century_is_a_day() {
        let timeout = timespec(Duration::MAX);
        assert_eq!(timeout.tv_sec, 24 * 60 * 60);
    }
}
