//! The hub in rank 0's process: lets ranks in, watches them, and passes on what they say.

mod admit;

use std::collections::HashSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;

pub(super) use admit::unreachable;

use super::conn;
use super::conn::Conn;
use super::conn::End;
use super::greet::Greeting;
use super::greet::Step;
use super::peer;
use super::port;
use super::port::Pause;
use super::strays::Strays;
use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::wire::Peer;
use crate::wire::control::FRAME_BYTES;
use crate::wire::control::Message;

const PORT: &str = "port where ranks join";
/// How many connections that have not said who they are are kept, besides one for each rank.
const STRANGERS: usize = 64;
/// How many groups' first failures are remembered.
const FAILURES: usize = 64 << 10;
/// How often ranks that wait are told who is missing, while that changes.
const NEWS: Duration = Duration::from_millis(50);
/// In a world larger than this they are told only with the heartbeats.
const MANY: usize = 512;

/// What the hub knows of one rank.
#[derive(Debug, Default)]
struct Slot {
    peer: Option<Peer>,
    conn: Option<Conn>,
    /// How it ended, once it has.
    ended: Option<String>,
}

/// How often to speak, and how long a silence is too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    pub(super) beat: Duration,
    pub(super) timeout: Duration,
}

impl Pulse {
    /// The pulse for a heartbeat timeout.
    pub(super) fn of(timeout: Duration) -> Self {
        let beat = (timeout / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        Self { beat, timeout }
    }

    /// What is said of a rank that was silent for too long.
    pub(super) fn why(silent: Duration) -> String {
        format!("has been silent for {silent:.1?}")
    }
}

/// The hub.
#[derive(Debug)]
pub(super) struct Hub {
    listener: TcpListener,
    pub(super) token: [u8; 16],
    world_token: [u8; 16],
    slots: Vec<Slot>,
    started: bool,
    /// Why this world cannot be; everybody who asks is told.
    verdict: Option<String>,
    strangers: Vec<Greeting>,
    pause: Pause,
    strays: Strays,
    failed: HashSet<u64>,
    pulse: Pulse,
    /// Messages to rank 0, in whose process the hub runs.
    local: Vec<Message>,
    /// Connections that failed while something was sent.
    broken: Vec<(usize, End)>,
    /// Who had joined and went away before all were there.
    gone: Vec<String>,
    /// A rank's deadline has passed before this one's.
    gave_up: bool,
    /// Rank 0 itself was given up: nobody is declared lost any more.
    dissolved: bool,
    /// Who is missing has changed since it was last told.
    news: bool,
    ticked: Instant,
    muted: bool,
}

impl Hub {
    /// Opens the port where ranks join; `me` is rank 0.
    pub(super) fn bind(ip: IpAddr, me: Peer, world_size: usize, pulse: Pulse) -> Result<Self> {
        let mut slots: Vec<Slot> = Vec::new();
        slots.resize_with(world_size, Slot::default);
        if let Some(first) = slots.first_mut() {
            first.peer = Some(me);
        }
        Ok(Self {
            listener: port::listen(PORT, ip)?,
            token: peer::random()?,
            world_token: peer::random()?,
            slots,
            started: false,
            verdict: None,
            strangers: Vec::new(),
            pause: Pause::default(),
            strays: Strays::default(),
            failed: HashSet::new(),
            pulse,
            local: Vec::new(),
            broken: Vec::new(),
            gone: Vec::new(),
            gave_up: false,
            dissolved: false,
            news: false,
            ticked: Instant::now(),
            muted: false,
        })
    }

    /// Where ranks join.
    pub(super) fn addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|error| Error::system("cannot read the port", error))
    }

    // ---- the loop ----

    /// Adds what to wait for; [`Hub::ready`] gets the answers in the same order.
    pub(super) fn poll_fds<'a>(&'a self, set: &mut Vec<PollFd<'a>>) {
        set.extend(self.slots.iter().filter_map(|slot| slot.conn.as_ref()).map(Conn::poll_fd));
        set.extend(self.strangers.iter().map(Greeting::poll_fd));
        let accepting = match self.pause.left() {
            None => PollFlags::IN,
            Some(_) => PollFlags::empty(),
        };
        set.push(PollFd::new(&self.listener, accepting));
    }

    /// Waits for something to do, at most `timeout`, and does it: for joining, when the hub is
    /// all there is to wait for.
    pub(super) fn turn(&mut self, timeout: Duration) {
        let mut set = Vec::new();
        self.poll_fds(&mut set);
        let flags = conn::wait(&mut set, timeout.min(self.due()));
        drop(set);
        self.ready(&flags);
        self.tick();
        self.local.clear();
    }

    /// How long until something is due.
    pub(super) fn due(&self) -> Duration {
        self.beat().saturating_sub(self.ticked.elapsed())
    }

    /// How often all are spoken to: while ranks come in, more often, so that each of them knows
    /// at its own deadline who is missing.
    fn beat(&self) -> Duration {
        let hurry = self.news && !self.started && self.slots.len() <= MANY;
        if hurry { self.pulse.beat.min(NEWS) } else { self.pulse.beat }
    }

    /// Does what the flags of [`Hub::poll_fds`] allow.
    pub(super) fn ready(&mut self, flags: &[PollFlags]) {
        let mut flags = flags.iter();
        let members: Vec<usize> = (0..self.slots.len())
            .filter(|rank| self.slots.get(*rank).is_some_and(|slot| slot.conn.is_some()))
            .collect();
        for rank in members {
            if flags.next().is_some_and(|flags| !flags.is_empty()) {
                self.read(rank);
            }
        }
        // Connections that broke in the meantime go first: their rank may be the one that asks.
        self.settle();
        for stranger in std::mem::take(&mut self.strangers) {
            if flags.next().is_some_and(|flags| !flags.is_empty()) {
                self.greet(stranger);
            } else {
                self.strangers.push(stranger);
            }
        }
        if flags.next().is_some_and(|flags| !flags.is_empty()) {
            self.accept();
        }
        self.settle();
    }

    /// Speaks to all, and looks who has been silent.
    pub(super) fn tick(&mut self) {
        let passed = self.ticked.elapsed();
        while self.strangers.first().is_some_and(Greeting::is_late) {
            let late = self.strangers.remove(0);
            self.strays.note(PORT, Some(late.addr()), "it did not say who it is in time");
        }
        if passed < self.beat() || self.muted {
            return;
        }
        self.ticked = Instant::now();
        self.news = false;
        let message = match self.started {
            true => Message::Heartbeat,
            false => Message::Waiting { missing: self.missing() },
        };
        self.broadcast(&message, 0);
        let stall = passed.saturating_sub(self.pulse.beat * 3);
        for (rank, slot) in self.slots.iter_mut().enumerate() {
            let Some(conn) = &mut slot.conn else { continue };
            conn.excuse(stall);
            let silent = conn.silent();
            if silent >= self.pulse.timeout {
                let why = Pulse::why(silent);
                // It may only have been stopped: then it learns that it is out.
                drop(conn.send(&Message::Lost { rank, why: why.clone() }));
                conn.finish();
                self.broken.push((rank, End::Silent(why)));
            }
        }
        self.settle();
    }

    fn accept(&mut self) {
        let listener = &self.listener;
        for (stream, addr) in self.pause.accept(PORT, || listener.accept()) {
            if let Ok(conn) = Conn::new(stream, FRAME_BYTES) {
                self.greet(Greeting::new(conn, addr.ip()));
            }
            if self.strangers.len() > STRANGERS.saturating_add(self.slots.len()) {
                let oldest = self.strangers.remove(0);
                let why = "too many connect without saying who they are";
                self.strays.note(PORT, Some(oldest.addr()), why);
            }
        }
    }

    fn greet(&mut self, mut stranger: Greeting) {
        match stranger.step() {
            Step::Wait => self.strangers.push(stranger),
            Step::Close(why) => {
                self.strays.note(PORT, Some(stranger.addr()), &why);
            }
            Step::Hello { token, world_size, peer } => {
                self.admit(stranger.into_conn(), &token, world_size, *peer);
            }
        }
    }

    /// Reads what a rank says; what it said before it ended counts.
    fn read(&mut self, rank: usize) {
        let Some(conn) = self.slots.get_mut(rank).and_then(|slot| slot.conn.as_mut()) else {
            return;
        };
        let flushed = conn.flush();
        let read = conn.read();
        loop {
            let conn = self.slots.get_mut(rank).and_then(|slot| slot.conn.as_mut());
            let Some(conn) = conn else { return };
            match conn.next() {
                Ok(Some(message)) => self.handle(rank, message),
                Ok(None) => break,
                Err(end) => return self.broken.push((rank, end)),
            }
        }
        if let Err(end) = flushed.and(read) {
            self.broken.push((rank, end));
        }
    }

    // ---- passing on ----

    /// Does what a rank wants; rank 0's own calls come here too.
    pub(super) fn handle(&mut self, from: usize, message: Message) {
        match message {
            Message::Heartbeat => {}
            Message::Left { group, .. } => {
                self.broadcast(&Message::Left { rank: from, group }, from);
                if group.is_none()
                    && let Some(slot) = self.slots.get_mut(from)
                {
                    slot.conn = None;
                    slot.ended = Some("left".into());
                    if !self.started {
                        *slot = Slot::default();
                        self.news = true;
                    }
                }
            }
            Message::Fail { group, failure } => {
                if self.failed.len() >= FAILURES {
                    self.failed.clear();
                }
                if self.failed.insert(group) {
                    self.broadcast(&Message::Fail { group, failure }, from);
                }
            }
            Message::Ask { question, group, members } => {
                self.pass_question(from, question, group, members);
            }
            // A rank has given up this one, which was stopped and now learns that it is out. The
            // others hear the same reason, rather than that the first to notice is gone.
            Message::Lost { rank: 0, why } => {
                self.local.push(Message::Lost { rank: 0, why: why.clone() });
                self.broadcast(&Message::Lost { rank: 0, why }, 0);
                self.dissolved = true;
            }
            // Its deadline came first, and its process ends with an error: nothing can come of
            // this world, and those who leave now are not those who were missing.
            Message::Missing { waited, .. } if !self.started => {
                let peer = self.slots.get(from).and_then(|slot| slot.peer.as_ref());
                let place = peer.map(Peer::place).unwrap_or_default();
                self.gave_up = true;
                self.gone.push(format!("rank {from} ({place}) gave up after {waited:.1?}"));
            }
            Message::Answer { question, rank, doing } => {
                self.deliver(rank, Message::Answer { question, rank: from, doing });
            }
            _ => {
                let end = End::Nonsense("a message that only the hub sends");
                self.broken.push((from, end));
            }
        }
    }

    /// Asks the members that are there, and answers for the others.
    fn pass_question(&mut self, from: usize, question: u64, group: u64, members: Vec<usize>) {
        for rank in members {
            let conn = self.slots.get(rank).and_then(|slot| slot.conn.as_ref());
            if rank == 0 || conn.is_some() {
                self.deliver(rank, Message::Question { question, group, rank: from });
            } else {
                self.deliver(from, Message::Answer { question, rank, doing: None });
            }
        }
    }

    fn deliver(&mut self, to: usize, message: Message) {
        if to == 0 {
            self.local.push(message);
        } else if let Some(conn) = self.slots.get_mut(to).and_then(|slot| slot.conn.as_mut())
            && let Err(end) = conn.send(&message)
        {
            self.broken.push((to, end));
        }
    }

    /// Sends to all ranks but `except`; for rank 0 only if it is another.
    fn broadcast(&mut self, message: &Message, except: usize) {
        let bytes: Arc<[u8]> = message.encode().into();
        for (rank, slot) in self.slots.iter_mut().enumerate().filter(|(rank, _)| *rank != except) {
            if rank == 0 {
                self.local.push(message.clone());
            } else if let Some(conn) = &mut slot.conn
                && let Err(end) = conn.send_bytes(Arc::clone(&bytes))
            {
                self.broken.push((rank, end));
            }
        }
    }

    /// Declares ranks lost whose connections are over.
    pub(super) fn settle(&mut self) {
        while let Some((rank, end)) = self.broken.pop() {
            let Some(slot) = self.slots.get_mut(rank) else { continue };
            if slot.conn.take().is_none() || self.dissolved || self.gave_up {
                continue;
            }
            let why = end.to_string();
            if self.started {
                slot.ended = Some(why.clone());
                self.broadcast(&Message::Lost { rank, why }, rank);
            } else if self.verdict.is_none() {
                let place = slot.peer.take().map(|peer| peer.place()).unwrap_or_default();
                let gone = format!("rank {rank} ({place}) had joined, but {why}");
                log::warn!(target: "nccl::control", "{gone}");
                self.news = true;
                self.gone.push(gone);
                self.gone.drain(..self.gone.len().saturating_sub(64));
            }
        }
    }

    /// The messages to rank 0 so far.
    pub(super) fn take_local(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.local)
    }

    /// Says nothing more, as a stopped process.
    #[cfg(test)]
    pub(super) fn mute(&mut self) {
        self.muted = true;
    }

    // ---- the end ----

    /// Says goodbye and waits until the others have heard it, at most until the deadline.
    pub(super) fn close(&mut self, deadline: &Deadline) {
        self.broadcast(&Message::Left { rank: 0, group: None }, 0);
        self.flush(deadline);
        let mut conns: Vec<Conn> = self.slots.iter_mut().filter_map(|s| s.conn.take()).collect();
        conns.iter().for_each(Conn::finish);
        while !conns.is_empty() && !deadline.passed() {
            let mut set: Vec<_> = conns.iter().map(Conn::poll_fd).collect();
            conn::wait(&mut set, deadline.left());
            drop(set);
            conns.retain_mut(|conn| !conn.drain());
        }
    }

    /// Sends what is queued, at most until the deadline.
    pub(super) fn flush(&mut self, deadline: &Deadline) {
        loop {
            let conns = self.slots.iter_mut().filter_map(|slot| slot.conn.as_mut());
            let full: Vec<&Conn> = conns
                .filter_map(|conn| (conn.flush().is_ok() && !conn.is_flushed()).then_some(&*conn))
                .collect();
            if full.is_empty() || deadline.passed() {
                return;
            }
            let mut set: Vec<_> = full.iter().map(|conn| conn.poll_out()).collect();
            conn::wait(&mut set, deadline.left());
        }
    }
}
