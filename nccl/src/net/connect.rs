//! Connecting to one of several addresses before a deadline.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::clock::Deadline;
use crate::net::timespec;

/// How long an attempt is alone before the next address is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to whichever of `addrs` answers first: they are tried in order, the next one as soon
/// as one has failed or has been silent for a moment. The stream does not block. Fails with the
/// errors of all, or with `TimedOut`.
pub(crate) fn connect_any(
    addrs: &[SocketAddr],
    deadline: &Deadline,
) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut failed = Vec::new();
    let mut attempts: Vec<(SocketAddr, OwnedFd)> = Vec::new();
    let mut rest = addrs.iter();
    let mut alone = Deadline::after(Duration::ZERO);
    loop {
        if attempts.is_empty() || alone.passed() {
            match rest.next() {
                Some(addr) => {
                    match begin(*addr) {
                        Ok(fd) => attempts.push((*addr, fd)),
                        Err(error) => failed.push((*addr, error.into())),
                    }
                    alone = Deadline::after(STAGGER);
                }
                None if attempts.is_empty() => return Err(failed),
                None => alone = Deadline::after(Duration::MAX),
            }
            if attempts.is_empty() {
                continue;
            }
        }
        if let Some(stream) =
            poll_once(&mut attempts, &mut failed, deadline.left().min(alone.left()))
        {
            return Ok(stream);
        }
        if deadline.passed() {
            let silent = attempts.into_iter().map(|(addr, _)| (addr, silence(deadline)));
            failed.extend(silent);
            return Err(failed);
        }
    }
}

/// Whether another attempt a moment later may succeed.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::Interrupted
            | ErrorKind::WouldBlock
    )
}

fn silence(deadline: &Deadline) -> io::Error {
    let text = format!("no answer within {:.1?}", deadline.timeout());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn begin(addr: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family)?;
    // Small requests must not wait for acknowledgements; it is no reason to fail.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
    match rustix::net::connect(&fd, &addr) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(fd),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

#[cfg(not(target_os = "linux"))]
fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::empty(), None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

/// Waits for the attempts at most `timeout`; moves those that failed.
fn poll_once(
    attempts: &mut Vec<(SocketAddr, OwnedFd)>,
    failed: &mut Vec<(SocketAddr, io::Error)>,
    timeout: Duration,
) -> Option<TcpStream> {
    let mut fds: Vec<PollFd<'_>> =
        attempts.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::OUT)).collect();
    // An interrupted wait is a short one; the caller looks at its deadline.
    let _ = poll(&mut fds, Some(&timespec(timeout)));
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut connected = None;
    for ((addr, fd), ready) in std::mem::take(attempts).into_iter().zip(ready) {
        if !ready {
            attempts.push((addr, fd));
            continue;
        }
        match rustix::net::sockopt::socket_error(&fd) {
            Ok(Ok(())) if connected.is_none() => connected = Some(TcpStream::from(fd)),
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => failed.push((addr, error.into())),
        }
    }
    connected
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// An address where nobody listens any more.
    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn the_one_address_that_answers_is_found_behind_those_that_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let deadline = Deadline::after(Duration::from_secs(5));
        let stream = connect_any(&[closed(), closed(), addr], &deadline).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
    }

    #[test]
    fn a_refusal_comes_at_once_and_names_every_address() {
        let addrs = [closed(), closed()];
        let deadline = Deadline::after(Duration::from_secs(5));
        let failed = connect_any(&addrs, &deadline).unwrap_err();
        assert_eq!(failed.iter().map(|one| one.0).collect::<Vec<_>>(), addrs);
        assert!(failed.iter().all(|one| one.1.kind() == io::ErrorKind::ConnectionRefused));
        assert!(failed.iter().all(|one| is_passing(&one.1)));
        assert!(deadline.waited() < Duration::from_secs(2));
    }

    #[test]
    fn a_silent_address_does_not_hold_up_the_next_and_ends_at_the_deadline() {
        // A listener whose queue is full drops what else comes: its clients hear nothing.
        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let addr = full.local_addr().unwrap();
        let mut fill = Vec::new();
        loop {
            let deadline = Deadline::after(Duration::from_millis(300));
            match connect_any(&[addr], &deadline) {
                Ok(stream) => fill.push(stream),
                Err(failed) => {
                    assert_eq!(failed[0].1.kind(), io::ErrorKind::TimedOut);
                    assert!(deadline.waited() < Duration::from_secs(2));
                    break;
                }
            }
            assert!(fill.len() < 16, "the queue never fills");
        }
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let deadline = Deadline::after(Duration::from_secs(5));
        let stream = connect_any(&[addr, good.local_addr().unwrap()], &deadline).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
        assert!(deadline.waited() < Duration::from_secs(2));
    }
}
