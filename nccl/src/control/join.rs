//! How the ranks of a world find each other.

use core::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use super::Control;
use super::accept;
use super::accept::Acceptor;
use super::hub::Pulse;
use super::join_hub;
use super::join_member;
use super::peer;
use super::shared::Shared;
use super::thread::Role;
use super::thread::Thread;
use crate::clock::Deadline;
use crate::config::BackendChoice;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;
use crate::store::SharedStore;
use crate::wire::Peer;

/// Where rank 0 says how it is reached.
pub(super) const KEY: &str = "nccl-rs/hub";
/// How often a line about the wait is due.
const PROGRESS: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(10) };

/// What joining needs to know.
pub(crate) struct JoinConfig {
    /// This rank, of how many.
    pub(crate) member: Member,
    /// Where the ranks meet. One store, or one prefix of it, serves one world at a time.
    pub(crate) store: SharedStore,
    /// How long to wait for the others.
    pub(crate) timeout: Duration,
    /// How long a rank may be silent.
    pub(crate) heartbeat_timeout: Duration,
    /// The address to listen on, which the others get to know.
    pub(crate) bind: IpAddr,
    /// This rank's number on its node.
    pub(crate) local_rank: Option<u32>,
    /// The name of this rank's node; its host's name if there is none.
    pub(crate) node: Option<String>,
    /// Which backend it was told to use.
    pub(crate) wants: BackendChoice,
    /// Why it cannot use NCCL; empty if it can.
    pub(crate) lacks: String,
    /// Is given a line every ten seconds while others are missing.
    pub(crate) progress: Box<dyn Fn(&str) + Send>,
}

impl fmt::Debug for JoinConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinConfig").field("member", &self.member).finish_non_exhaustive()
    }
}

/// A rank that is about to join.
pub(super) struct Joining {
    pub(super) config: JoinConfig,
    pub(super) me: Peer,
    pub(super) deadline: Deadline,
    pub(super) pulse: Pulse,
    said: Duration,
}

/// What joining leads to.
pub(super) struct Joined {
    pub(super) role: Role,
    pub(super) peers: Vec<Peer>,
    pub(super) token: [u8; 16],
}

impl Joining {
    /// An error that names this rank.
    pub(super) fn refused(&self, why: impl Into<String>) -> Error {
        let Member { rank, world_size } = self.config.member;
        Error::Join { rank, world_size, why: why.into() }
    }

    /// The error for ranks that did not come.
    pub(super) fn missing(&self, ranks: Vec<usize>, advice: String) -> Error {
        let world_size = self.config.member.world_size;
        Error::Missing { ranks, world_size, waited: self.deadline.waited(), advice }
    }

    /// Says what is waited for, every ten seconds.
    pub(super) fn progress(&mut self, what: impl FnOnce() -> String) {
        let waited = self.deadline.waited();
        if waited.saturating_sub(self.said) < PROGRESS {
            return;
        }
        self.said = waited;
        let left = self.deadline.left();
        let line = format!("{} (for {waited:.1?}, giving up in {left:.1?})", what());
        log::warn!(target: "nccl::control", "{line}");
        (self.config.progress)(&line);
    }
}

/// What rank 0 puts into the store, as one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) token: [u8; 16],
    pub(super) pid: u32,
    pub(super) host: String,
    pub(super) addrs: Vec<SocketAddr>,
}

impl Announcement {
    /// Its text.
    pub(super) fn encode(&self) -> String {
        let addrs: Vec<_> = self.addrs.iter().map(ToString::to_string).collect();
        let token = peer::hex(&self.token);
        format!("nccl-rs/1 {token} {} {} {}", self.pid, self.host, addrs.join(" "))
    }

    /// What a text says; none if it is no announcement.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = core::str::from_utf8(bytes).ok()?.split(' ');
        if words.next() != Some("nccl-rs/1") {
            return None;
        }
        let token = peer::unhex(words.next()?)?;
        let pid = words.next()?.parse().ok()?;
        let host = words.next()?.to_owned();
        let addrs: Vec<_> = words.take(16).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { token, pid, host, addrs })
    }

    /// The addresses, for messages.
    pub(super) fn list(&self) -> String {
        let addrs: Vec<_> = self.addrs.iter().map(ToString::to_string).collect();
        addrs.join(", ")
    }
}

impl Control {
    /// Joins the world, and waits until all ranks have. A world of one opens nothing.
    ///
    /// # Errors
    /// Names the ranks that did not come, or why this one is refused.
    pub(crate) fn join(config: JoinConfig) -> Result<Arc<Self>> {
        let Member { rank, world_size } = config.member;
        if rank >= world_size {
            return Err(Error::Rank { op: "join", what: "rank", rank, world_size });
        }
        if world_size == 1 {
            let me = peer::own(0, Vec::new(), String::new(), config.local_rank, config.node)?;
            let me = Peer { wants: config.wants, lacks: config.lacks, ..me };
            let shared = Shared::new(config.member, vec![me], [0; 16], None);
            return Ok(Arc::new(Self { shared: Arc::new(shared), thread: Mutex::new(None) }));
        }
        let mesh = Acceptor::bind(config.bind, accept::PATIENCE)?;
        let (tcp, unix) = (mesh.tcp_addrs()?, mesh.unix_name());
        let me = peer::own(rank, tcp, unix, config.local_rank, config.node.clone())?;
        let me = Peer { wants: config.wants, lacks: config.lacks.clone(), ..me };
        let member = config.member;
        let pulse = Pulse::of(config.heartbeat_timeout);
        let deadline = Deadline::after(config.timeout);
        let joining = Joining { config, me, deadline, pulse, said: Duration::ZERO };
        let joined = match rank {
            0 => join_hub::join(joining),
            _ => join_member::join(joining),
        }?;
        Self::start(member, joined, mesh, pulse)
    }

    fn start(member: Member, joined: Joined, mesh: Acceptor, pulse: Pulse) -> Result<Arc<Self>> {
        let system = |error| Error::system("cannot start the control thread", error);
        let (ours, theirs) = UnixStream::pair().map_err(system)?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).map_err(system)?;
        }
        let Joined { role, peers, token } = joined;
        let shared = Arc::new(Shared::new(member, peers, token, Some(ours)));
        let thread = Thread::new(Arc::clone(&shared), role, mesh, theirs, pulse);
        let handle = std::thread::Builder::new()
            .name("nccl-control".into())
            .spawn(move || thread.run())
            .map_err(system)?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(handle)) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_survives_the_store_and_foreign_values_are_none() {
        let one = Announcement {
            token: [0xa5; 16],
            pid: 77,
            host: "node1".into(),
            addrs: vec!["10.1.2.3:400".parse().unwrap(), "[::1]:5".parse().unwrap()],
        };
        assert_eq!(Announcement::decode(one.encode().as_bytes()), Some(one.clone()));
        for bad in ["", "nccl-rs/2 x", "nccl-rs/1 00 7 h 1.2.3.4:5", "\u{fffd}", "a b c d e"] {
            assert_eq!(Announcement::decode(bad.as_bytes()), None, "{bad}");
        }
        let cut = one.encode().replace(":400", ":400000");
        assert_eq!(Announcement::decode(cut.as_bytes()), None);
    }
}
