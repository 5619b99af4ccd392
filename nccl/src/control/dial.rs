//! Making data connections to peers.

use core::fmt;
use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Control;
use super::shared::PeerState;
use crate::clock::Deadline;
use crate::wire::MeshHello;
use crate::wire::Peer;

/// How long one address is tried.
const TRY: Duration = Duration::from_secs(3);
/// For how long a refused connection is tried again: the peer listens before we know of it.
const REFUSED: Duration = Duration::from_secs(1);
/// The break between tries.
const BREAK: Duration = Duration::from_millis(20);

/// Why there is no connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undialed {
    to: usize,
    place: String,
    /// What is said of the peer.
    pub(crate) why: String,
    /// Whether this process itself cannot connect to anybody.
    pub(crate) is_own: bool,
}

impl fmt::Display for Undialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "rank {} {}", self.to, self.why),
            place => write!(f, "rank {} ({place}) {}", self.to, self.why),
        }
    }
}

impl Control {
    /// A hello to the world rank `to`; the caller fills in group, channel, lane and kind.
    pub(crate) fn hello(&self, to: usize) -> MeshHello {
        let from = self.member().rank;
        let token = self.shared.token;
        MeshHello { token, group: 0, from, to, channel: 0, lane: 0, lanes: 1, kind: 0 }
    }

    /// Connects to a peer by TCP and says hello. The stream is non-blocking, without Nagle's
    /// delay. The error reads as a sentence about the peer.
    pub(crate) fn dial_tcp(
        &self,
        hello: &MeshHello,
        deadline: &Deadline,
    ) -> Result<TcpStream, Undialed> {
        self.dial(hello.to, deadline, |peer, left| {
            let mut last = io::Error::other("it announced no address");
            for addr in &peer.tcp {
                match tcp(addr, hello, left) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    /// Connects to a peer of this host by its Unix socket and says hello, with at most two
    /// descriptors. The stream is non-blocking. The error reads as a sentence about the peer.
    #[cfg(target_os = "linux")]
    pub(crate) fn dial_unix(
        &self,
        hello: &MeshHello,
        fds: &[BorrowedFd<'_>],
        deadline: &Deadline,
    ) -> Result<UnixStream, Undialed> {
        self.dial(hello.to, deadline, |peer, _| {
            if peer.unix.is_empty() {
                return Err(io::Error::other("it has no Unix socket"));
            }
            let stream = super::unix::connect(&peer.unix)?;
            super::unix::send(&stream, &hello.encode(), fds)?;
            Ok(stream)
        })
    }

    /// There are no abstract Unix sockets here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn dial_unix(
        &self,
        hello: &MeshHello,
        _fds: &[BorrowedFd<'_>],
        _deadline: &Deadline,
    ) -> Result<UnixStream, Undialed> {
        let why = "has no Unix socket".to_owned();
        Err(Undialed { to: hello.to, place: String::new(), why, is_own: false })
    }

    fn dial<S>(
        &self,
        to: usize,
        deadline: &Deadline,
        connect: impl Fn(&Peer, Duration) -> io::Result<S>,
    ) -> Result<S, Undialed> {
        let Some(peer) = self.peers().get(to) else {
            let why = "is no rank of this world".to_owned();
            return Err(Undialed { to, place: String::new(), why, is_own: true });
        };
        let refused = Deadline::after(REFUSED);
        loop {
            let error = match connect(peer, deadline.left_at_most(TRY)) {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let why = match self.peer_state(to) {
                PeerState::Lost(why) => Some(why),
                PeerState::Left => Some("has left the world".to_owned()),
                PeerState::Alive if deadline.passed() => Some(cannot(peer, &error, deadline)),
                PeerState::Alive if may_pass(&error, &refused) => None,
                PeerState::Alive => Some(cannot(peer, &error, deadline)),
            };
            if let Some(why) = why {
                return Err(Undialed { to, place: peer.place(), why, is_own: is_own(&error) });
            }
            std::thread::sleep(deadline.left_at_most(BREAK));
        }
    }
}

/// Whether trying again makes sense.
fn may_pass(error: &io::Error, refused: &Deadline) -> bool {
    match error.kind() {
        ErrorKind::ConnectionRefused => !refused.passed(),
        ErrorKind::WouldBlock
        | ErrorKind::TimedOut
        | ErrorKind::Interrupted
        | ErrorKind::ConnectionReset
        | ErrorKind::AddrNotAvailable => true,
        _ => false,
    }
}

/// Whether the peer has no part in it: no descriptors or memory are left here.
fn is_own(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    own.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn cannot(peer: &Peer, error: &io::Error, deadline: &Deadline) -> String {
    let addrs: Vec<_> = peer.tcp.iter().map(ToString::to_string).collect();
    let waited = deadline.waited();
    format!("cannot be reached at {}: {error} (tried for {waited:.1?})", addrs.join(", "))
}

fn tcp(addr: &std::net::SocketAddr, hello: &MeshHello, left: Duration) -> io::Result<TcpStream> {
    // A timeout of zero would be an error of its own kind.
    let mut stream = TcpStream::connect_timeout(addr, left.max(Duration::from_millis(1)))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    stream.write_all(&hello.encode())?;
    Ok(stream)
}
