//! The listeners for data connections: strangers say who they are, or go.

use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;

use super::inbox::Accepted;
use super::inbox::Inbox;
use super::inbox::Stream;
use super::port;
use super::port::Pause;
use super::strays::Strays;
use super::strays::looks_like;
#[cfg(target_os = "linux")]
use super::unix;
use crate::error::Error;
use crate::error::Result;
use crate::wire::MESH_HELLO_BYTES;
use crate::wire::MESH_MAGIC;
use crate::wire::MeshHello;

const PORT: &str = "port for data connections";
/// How long a stranger has to say who it is: far more than a rank needs that lost its core between
/// connecting and its first word.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How many strangers are listened to at once, besides one for each rank: on a busy machine all
/// ranks may have connected, and none have got to its first word.
const STRANGERS: usize = 64;

/// Who may come in, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door<'a> {
    pub(super) token: &'a [u8; 16],
    pub(super) me: usize,
    pub(super) world_size: usize,
    pub(super) inbox: &'a Inbox,
}

impl Door<'_> {
    /// Why a hello is refused.
    fn problem(&self, hello: &MeshHello) -> Option<&'static str> {
        // Every byte is looked at, so that the time tells nothing about the token.
        let differ = hello.token.iter().zip(self.token).fold(0, |acc, (a, b)| acc | (a ^ b));
        if differ != 0 {
            return Some("it belongs to another world (another job, or an earlier start of this)");
        }
        if hello.to != self.me {
            return Some("it looks for another rank");
        }
        if hello.from >= self.world_size || hello.from == self.me {
            return Some("it claims a rank that cannot be");
        }
        if hello.lane >= hello.lanes {
            return Some("its lane is not below its number of lanes");
        }
        None
    }
}

/// A connection that has not said who it is.
#[derive(Debug)]
struct Stranger {
    stream: Stream,
    addr: Option<IpAddr>,
    since: Instant,
    hello: [u8; MESH_HELLO_BYTES],
    have: usize,
    fds: Vec<OwnedFd>,
}

/// How far a stranger is.
enum Step {
    Wait,
    Hello(MeshHello),
    Close(String),
}

/// The listeners of one rank.
#[derive(Debug)]
pub(super) struct Acceptor {
    tcp: TcpListener,
    #[cfg(target_os = "linux")]
    unix: Option<unix::Listener>,
    strangers: Vec<Stranger>,
    tcp_pause: Pause,
    unix_pause: Pause,
    patience: Duration,
    strays: Strays,
}

impl Acceptor {
    /// Opens the listeners; strangers get `patience` to say who they are.
    pub(super) fn bind(ip: IpAddr, patience: Duration) -> Result<Self> {
        Ok(Self {
            tcp: port::listen(PORT, ip)?,
            #[cfg(target_os = "linux")]
            unix: unix::Listener::bind(),
            strangers: Vec::new(),
            tcp_pause: Pause::default(),
            unix_pause: Pause::default(),
            patience,
            strays: Strays::default(),
        })
    }

    /// Where peers reach it by TCP.
    pub(super) fn tcp_addrs(&self) -> Result<Vec<SocketAddr>> {
        let addr = self.tcp.local_addr();
        Ok(vec![addr.map_err(|error| Error::system("cannot read a port's address", error))?])
    }

    /// The name of the abstract Unix socket; empty without one.
    pub(super) fn unix_name(&self) -> String {
        #[cfg(target_os = "linux")]
        if let Some(unix) = &self.unix {
            return unix.name().to_owned();
        }
        String::new()
    }

    /// Adds what to wait for; [`Acceptor::ready`] gets the answers in the same order.
    pub(super) fn poll_fds<'a>(&'a self, set: &mut Vec<PollFd<'a>>) {
        for stranger in &self.strangers {
            set.push(match &stranger.stream {
                Stream::Tcp(stream) => PollFd::new(stream, PollFlags::IN),
                Stream::Unix(stream) => PollFd::new(stream, PollFlags::IN),
            });
        }
        let accepting = |pause: &Pause| match pause.left() {
            None => PollFlags::IN,
            Some(_) => PollFlags::empty(),
        };
        set.push(PollFd::new(&self.tcp, accepting(&self.tcp_pause)));
        #[cfg(target_os = "linux")]
        if let Some(unix) = &self.unix {
            set.push(PollFd::new(unix, accepting(&self.unix_pause)));
        }
    }

    /// How long until something is due.
    pub(super) fn due(&self) -> Option<Duration> {
        let oldest =
            self.strangers.first().map(|first| self.patience.saturating_sub(first.since.elapsed()));
        [oldest, self.tcp_pause.left(), self.unix_pause.left()].into_iter().flatten().min()
    }

    /// Does what the flags of [`Acceptor::poll_fds`] allow, and closes who took too long.
    pub(super) fn ready(&mut self, flags: &[PollFlags], door: &Door<'_>) {
        let strangers = std::mem::take(&mut self.strangers);
        let mut flags = flags.iter();
        for stranger in strangers {
            if flags.next().is_some_and(|flags| !flags.is_empty()) {
                self.listen_to(stranger, door);
            } else {
                self.strangers.push(stranger);
            }
        }
        if flags.any(|flags| !flags.is_empty()) {
            self.accept(door);
        }
        let patience = self.patience;
        while self.strangers.first().is_some_and(|first| first.since.elapsed() >= patience) {
            let late = self.strangers.remove(0);
            self.strays.note(PORT, late.addr, "it did not say who it is in time");
        }
    }

    fn accept(&mut self, door: &Door<'_>) {
        let tcp = &self.tcp;
        let accepted = self.tcp_pause.accept(PORT, || tcp.accept());
        for (stream, addr) in accepted {
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok() {
                self.meet(Stream::Tcp(stream), Some(addr.ip()), door);
            }
        }
        #[cfg(target_os = "linux")]
        if let Some(unix) = &self.unix {
            for stream in self.unix_pause.accept(PORT, || unix.accept()) {
                match unix::check_user(&stream) {
                    Ok(()) => self.meet(Stream::Unix(stream), None, door),
                    Err(why) => {
                        self.strays.note(PORT, None, &why);
                    }
                }
            }
        }
        door.inbox.note(self.tcp_pause.refusal().or_else(|| self.unix_pause.refusal()));
    }

    /// Listens to a new stranger at once: most have spoken when they are accepted, and then no
    /// crowd of silent ones is in their way.
    fn meet(&mut self, stream: Stream, addr: Option<IpAddr>, door: &Door<'_>) {
        let hello = [0; MESH_HELLO_BYTES];
        let since = Instant::now();
        self.listen_to(Stranger { stream, addr, since, hello, have: 0, fds: Vec::new() }, door);
        if self.strangers.len() > STRANGERS.saturating_add(door.world_size) {
            let oldest = self.strangers.remove(0);
            self.strays.note(PORT, oldest.addr, "too many connect without saying who they are");
        }
    }

    fn listen_to(&mut self, mut stranger: Stranger, door: &Door<'_>) {
        match stranger.step() {
            Step::Wait => self.strangers.push(stranger),
            Step::Close(why) => {
                self.strays.note(PORT, stranger.addr, &why);
            }
            Step::Hello(hello) => {
                let Stranger { stream, addr, fds, .. } = stranger;
                let taken = match door.problem(&hello) {
                    Some(problem) => Err(problem),
                    None => door.inbox.put(Accepted { stream, fds, hello }),
                };
                if let Err(why) = taken {
                    self.strays.note(PORT, addr, why);
                }
            }
        }
    }
}

impl Stranger {
    /// Reads what is here of the hello, and not a byte more.
    fn step(&mut self) -> Step {
        loop {
            let rest = self.hello.get_mut(self.have..).unwrap_or_default();
            let got = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(rest),
                #[cfg(target_os = "linux")]
                Stream::Unix(stream) => unix::receive(stream, rest, &mut self.fds),
                #[cfg(not(target_os = "linux"))]
                Stream::Unix(stream) => stream.read(rest),
            };
            match got {
                Ok(0) => return Step::Close("it closed before it said who it is".into()),
                Ok(count) => self.have += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(error) => return Step::Close(ended(&error)),
            }
            let shown = self.hello.get(..self.have.min(MESH_MAGIC.len())).unwrap_or_default();
            if let Some(what) = looks_like(shown, &MESH_MAGIC) {
                return Step::Close(what.into());
            }
            if self.have == MESH_HELLO_BYTES {
                return match MeshHello::decode(&self.hello) {
                    Ok(hello) => Step::Hello(hello),
                    Err(malformed) => Step::Close(malformed.to_string()),
                };
            }
        }
    }
}

fn ended(error: &io::Error) -> String {
    format!("it broke before it said who it is ({error})")
}
