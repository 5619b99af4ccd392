//! Makes links: who dials, over what, and the few words both sides exchange.

use std::collections::HashMap;
use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;

use super::options::CpuOptions;
use super::options::Forced;
use crate::clock::Deadline;
use crate::control::Accepted;
use crate::control::Control;
use crate::control::LinkKey;
use crate::control::Stream;
use crate::control::Undialed;
use crate::debug;
use crate::debug::Subsys;
use crate::error::At;
use crate::error::Error;
use crate::error::Result;
use crate::trace::GroupState;
use crate::trace::Status;
use crate::trace::lock;
use crate::transport::Link;
use crate::transport::memory::Doorbell;
use crate::transport::memory::Geometry;
use crate::transport::memory::MemoryLink;
use crate::transport::memory::Region;
use crate::transport::memory::RemoteRead;
use crate::transport::memory::Side;
use crate::transport::tcp::TcpLink;
use crate::wire::MeshHello;
use crate::wire::Peer;

#[cfg(target_os = "linux")]
mod shm;
#[cfg(target_os = "linux")]
use shm::Dialed;

/// `MeshHello::kind` of the two ways between processes.
const KIND_TCP: u8 = 1;
#[cfg(target_os = "linux")]
const KIND_SHM: u8 = 2;

/// For how long the system may refuse to accept connections, as it does without free descriptors,
/// before who waits for one fails.
const REFUSED: Duration = Duration::from_millis(500);

/// Which side of a new link this rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It connects.
    Dial,
    /// It is connected to.
    Accept,
}

/// A link that is being made.
pub(super) enum Pending {
    /// Waits for the other thread.
    Local(LocalKey),
    /// Waits to be connected to; the lanes that have come.
    Accept { peer: usize, lanes: Vec<TcpStream> },
    /// Waits for the answer of the other process.
    #[cfg(target_os = "linux")]
    Shm(Box<Dialed>),
    /// Is there.
    Ready(Option<Box<dyn Link>>),
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Local",
            Self::Accept { .. } => "Accept",
            #[cfg(target_os = "linux")]
            Self::Shm(_) => "Shm",
            Self::Ready(_) => "Ready",
        })
    }
}

/// What links of one channel of a group are made with.
pub(super) struct Wiring {
    control: Arc<Control>,
    state: Arc<GroupState>,
    options: CpuOptions,
    channel: u16,
    geometry: Geometry,
    bell: Doorbell,
    #[cfg(target_os = "linux")]
    bell_fd: std::os::fd::OwnedFd,
}

impl Wiring {
    /// Prepares the links of `channel`.
    pub(super) fn new(
        control: Arc<Control>,
        state: Arc<GroupState>,
        options: CpuOptions,
        channel: u16,
    ) -> Result<Self> {
        let me = control.member().rank;
        let peers = control.peers();
        let local = peers.iter().filter(|peer| peers[me].same_host(peer)).count();
        let geometry = match options.slot_bytes {
            Some(bytes) => Geometry::new(bytes)?,
            None => Geometry::for_local_ranks(local),
        };
        #[cfg(target_os = "linux")]
        {
            let (bell, bell_fd) = Doorbell::shared()?;
            Ok(Self { control, state, options, channel, geometry, bell, bell_fd })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let bell = Doorbell::local()?;
            Ok(Self { control, state, options, channel, geometry, bell })
        }
    }

    /// The word this rank sleeps on.
    pub(super) fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// The control plane.
    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Sockets for one peer.
    pub(super) fn lanes(&self) -> u16 {
        self.options.lanes
    }

    /// Which side this rank is on a link used both ways: the higher rank dials.
    pub(super) fn role(&self, peer: usize) -> Role {
        if self.world(self.state.rank) > self.world(peer) { Role::Dial } else { Role::Accept }
    }

    fn world(&self, rank: usize) -> usize {
        self.state.members.get(rank).copied().unwrap_or(usize::MAX)
    }

    fn record(&self, rank: usize) -> Result<&Peer> {
        self.control.peers().get(self.world(rank)).ok_or(Error::Rank {
            op: "connect",
            what: "peer",
            rank,
            world_size: self.state.members.len(),
        })
    }

    fn me(&self) -> Result<&Peer> {
        self.record(self.state.rank)
    }

    /// Begins the link to `peer`.
    pub(super) fn begin(&self, peer: usize, role: Role, deadline: &Deadline) -> Result<Pending> {
        let (me, other) = (self.me()?, self.record(peer)?);
        if me.same_process(other) && self.options.force != Some(Forced::Tcp) {
            return self.begin_local(me, other, role);
        }
        if role == Role::Accept {
            return Ok(Pending::Accept { peer, lanes: Vec::new() });
        }
        let memory = self.options.shm && self.options.force != Some(Forced::Tcp);
        #[cfg(target_os = "linux")]
        if memory && me.same_host(other) && !other.unix.is_empty() {
            match self.dial_shm(other, deadline) {
                Ok(dialed) => return Ok(Pending::Shm(Box::new(dialed))),
                Err(why) if self.options.force == Some(Forced::Shm) => return Err(why),
                Err(why) => log::warn!(
                    target: "nccl::shm",
                    "no shared memory with rank {} ({}), so TCP: {why}", other.rank, other.place(),
                ),
            }
        }
        if self.options.force == Some(Forced::Shm) {
            let problem = format!(
                "rank {} ({}) cannot be reached by shared memory",
                other.rank,
                other.place()
            );
            return Err(Error::env(
                "NCCL_RS_TRANSPORT",
                "shm",
                format!("cannot be: {problem}; unset it"),
            ));
        }
        let _ = memory;
        self.dial_tcp(other, deadline)
    }

    /// Goes on with a link; gives it once it is there.
    pub(super) fn poll(&self, peer: usize, pending: &mut Pending) -> Result<Option<Box<dyn Link>>> {
        let link = self.advance(pending)?;
        if let Some(link) = &link {
            self.announce(peer, link.name());
        }
        Ok(link)
    }

    /// Says in NCCL's words how this rank reaches `peer`.
    fn announce(&self, peer: usize, way: &str) {
        let local = |rank: usize| {
            let record = self.record(rank).ok().and_then(|peer| peer.local_rank);
            record.map_or_else(|| rank.to_string(), |local| local.to_string())
        };
        let me = self.state.rank;
        let subsys = match way {
            "SHM/direct" => Subsys::SHM,
            _ if way.starts_with("P2P") => Subsys::P2P,
            _ => Subsys::NET,
        };
        // As in NCCL, where connections belong to INIT, too, and so are logged by default.
        let subsys = subsys | Subsys::INIT;
        if !debug::wants_info(subsys) {
            return;
        }
        let dev = self.me().ok().and_then(|me| me.local_rank);
        let dev = dev.and_then(|dev| i32::try_from(dev).ok()).unwrap_or(0);
        let (channel, from, to) = (self.channel, local(me), local(peer));
        let is_net = subsys == Subsys::NET | Subsys::INIT;
        let send = if is_net { "[send] " } else { "" };
        debug::info!(
            subsys,
            dev,
            "Channel 00/{channel} : {me}[{from}] -> {peer}[{to}] {send}via {way}"
        );
        if is_net {
            debug::info!(
                subsys,
                dev,
                "Channel 00/{channel} : {peer}[{to}] -> {me}[{from}] [receive] via {way}"
            );
        }
    }

    fn advance(&self, pending: &mut Pending) -> Result<Option<Box<dyn Link>>> {
        match pending {
            Pending::Ready(link) => Ok(link.take()),
            Pending::Local(key) => Ok(self.poll_local(key)),
            #[cfg(target_os = "linux")]
            Pending::Shm(dialed) => self.poll_shm(dialed),
            Pending::Accept { peer, lanes } => self.poll_accept(*peer, lanes),
        }
    }

    fn poll_accept(
        &self,
        peer: usize,
        lanes: &mut Vec<TcpStream>,
    ) -> Result<Option<Box<dyn Link>>> {
        loop {
            let lane = u16::try_from(lanes.len()).unwrap_or(u16::MAX);
            let from = self.world(peer);
            let key = LinkKey { group: self.state.id, channel: self.channel, from, lane };
            let Some(Accepted { stream, fds, hello }) = self.control.take(&key) else {
                return match self.control.refused_for(REFUSED) {
                    None => Ok(None),
                    Some(source) => Err(Error::System {
                        what: format!(
                            "accepting the connection of rank {peer} (is `ulimit -n` too low?)"
                        ),
                        source,
                    }),
                };
            };
            match stream {
                #[cfg(target_os = "linux")]
                Stream::Unix(stream) if hello.kind == KIND_SHM => {
                    return self.accept_shm(self.record(peer)?, &stream, &fds).map(Some);
                }
                Stream::Tcp(stream) if hello.kind == KIND_TCP => lanes.push(stream),
                _ => {
                    drop(fds);
                    return Err(self.lost(peer, "asked for an unknown kind of link"));
                }
            }
            if lanes.len() >= usize::from(hello.lanes) {
                return self.tcp_link(peer, core::mem::take(lanes)).map(Some);
            }
        }
    }

    fn dial_tcp(&self, other: &Peer, deadline: &Deadline) -> Result<Pending> {
        let peer = self.state.members.iter().position(|world| *world == other.rank).unwrap_or(0);
        let lanes = self.options.lanes.max(1);
        let mut streams = Vec::with_capacity(usize::from(lanes));
        for lane in 0..lanes {
            let hello = self.hello(other, lane, lanes, KIND_TCP);
            let dialed = self.control.dial_tcp(&hello, deadline);
            let failed = |undialed: Undialed| match undialed.is_own {
                true => Error::Connect {
                    what: "a peer",
                    addr: other.place(),
                    why: undialed.to_string(),
                    waited: deadline.waited(),
                },
                false => self.lost(peer, &undialed.why),
            };
            streams.push(dialed.map_err(failed)?);
        }
        Ok(Pending::Ready(Some(self.tcp_link(peer, streams)?)))
    }

    fn tcp_link(&self, peer: usize, streams: Vec<TcpStream>) -> Result<Box<dyn Link>> {
        // No patience of its own: a peer that computes reads nothing for a long time, and a dead or
        // cut off one is noticed by the control plane.
        let link = TcpLink::new(streams);
        let useless = |error| self.lost(peer, &format!("gave a useless socket: {error}"));
        let link = link.map_err(useless)?;
        Ok(Box::new(link))
    }

    fn hello(&self, other: &Peer, lane: u16, lanes: u16, kind: u8) -> MeshHello {
        let (group, channel) = (self.state.id, self.channel);
        MeshHello { group, channel, lane, lanes, kind, ..self.control.hello(other.rank) }
    }

    fn lost(&self, rank: usize, why: &str) -> Error {
        let (host, pid) = self.host_and_pid(rank);
        let at = At { group: self.state.name.clone(), rank: self.state.rank, op: None };
        Error::PeerLost { at, rank, host, pid, why: why.to_owned() }
    }

    /// Whether `peer` has left the group in order, and nothing of it can be under way any more.
    pub(super) fn has_left(&self, peer: usize) -> bool {
        self.control.left(self.state.id, peer)
    }

    /// What the ranks are doing.
    pub(super) fn ask(&self, timeout: Duration) -> Vec<Option<Status>> {
        self.control.ask(self.state.id, timeout)
    }

    /// Where `peer` runs.
    pub(super) fn host_and_pid(&self, peer: usize) -> (String, u32) {
        let unknown = || ("unknown".to_owned(), 0);
        self.record(peer).map_or_else(|_| unknown(), |peer| (peer.host.clone(), peer.pid))
    }

    fn read_of(&self, same_process: bool) -> RemoteRead {
        if same_process && self.options.direct { RemoteRead::Direct } else { RemoteRead::No }
    }
}

/// Names a link between two threads of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LocalKey {
    token: [u8; 16],
    group: u64,
    channel: u16,
    dialer: usize,
    acceptor: usize,
    role: u8,
}

/// A link between two threads, until both have come.
struct LocalSlot {
    region: Arc<Region>,
    geometry: Geometry,
    bells: [Option<Doorbell>; 2],
    taken: usize,
    /// One of the two has gone; its messages may still wait here for the other.
    orphan: bool,
}

/// Links between threads of this process that are being made.
static LOCAL: LazyLock<Mutex<HashMap<LocalKey, LocalSlot>>> = LazyLock::new(Mutex::default);

impl Wiring {
    fn begin_local(&self, me: &Peer, other: &Peer, role: Role) -> Result<Pending> {
        let (dialer, acceptor) = match role {
            Role::Dial => (me.rank, other.rank),
            Role::Accept => (other.rank, me.rank),
        };
        let (token, group, channel) = (self.control.token(), self.state.id, self.channel);
        let key = LocalKey { token, group, channel, dialer, acceptor, role: 0 };
        let mut slots = lock(&LOCAL);
        let place = usize::from(role == Role::Accept);
        if let Some(slot) = slots.get_mut(&key) {
            slot.bells[place] = Some(self.bell.clone());
        } else {
            let region = Arc::new(Region::heap(self.geometry.region_bytes())?);
            let mut bells = [None, None];
            bells[place] = Some(self.bell.clone());
            slots.insert(
                key,
                LocalSlot { region, geometry: self.geometry, bells, taken: 0, orphan: false },
            );
        }
        Ok(Pending::Local(LocalKey { role: u8::from(role == Role::Accept), ..key }))
    }

    fn poll_local(&self, key: &LocalKey) -> Option<Box<dyn Link>> {
        let shared = LocalKey { role: 0, ..*key };
        let mut slots = lock(&LOCAL);
        let slot = slots.get_mut(&shared)?;
        let bell = slot.bells[usize::from(key.role == 0)].clone()?;
        let (me, other) =
            if key.role == 0 { (key.dialer, key.acceptor) } else { (key.acceptor, key.dialer) };
        let side = if me < other { Side::Low } else { Side::High };
        let link = MemoryLink::new(
            slot.region.clone(),
            slot.geometry,
            side,
            bell,
            self.read_of(true),
            self.options.single_copy_bytes,
        );
        slot.taken += 1;
        if slot.taken == 2 {
            slots.remove(&shared);
        }
        Some(Box::new(link))
    }
}

impl Drop for Wiring {
    fn drop(&mut self) {
        // Halves of links between threads whose other half will not come. Where only this half was
        // taken, the other one stays: there may be messages in it.
        let (token, group, me) = (self.control.token(), self.state.id, self.control.member().rank);
        lock(&LOCAL).retain(|key, slot| {
            let own = (key.token, key.group, key.channel) == (token, group, self.channel);
            if !own || (key.dialer != me && key.acceptor != me) {
                return true;
            }
            let stays = slot.taken == 1 && !slot.orphan;
            slot.orphan = true;
            stays
        });
    }
}
