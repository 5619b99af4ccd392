//! The state of all pairs of this rank: what is posted, under way, and done.

#![expect(unsafe_code, reason = "messages name their buffers by address")]

use std::collections::VecDeque;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use super::super::failing;
use super::super::failing::Leaving;
use super::super::transfer::Trouble;
use super::super::wiring::Pending;
use super::super::wiring::Role;
use super::super::wiring::Wiring;
use crate::backend::P2p;
use crate::backend::P2pKind;
use crate::clock::Deadline;
use crate::desc::Kind;
use crate::desc::OpDesc;
use crate::error::Error;
use crate::error::Failure;
use crate::trace::Status;
use crate::transport::Head;
use crate::transport::Link;
use crate::transport::LinkError;
use crate::transport::Outgoing;
use crate::transport::memory::Doorbell;

/// The largest message kept aside because another tag is waited for first.
const STASHED_BYTES: u64 = 1 << 30;
/// How long one attempt to dial a peer may take.
const DIAL_TIME: Duration = Duration::from_secs(5);

/// A message to send.
struct Sending {
    ticket: u64,
    out: Outgoing,
}

/// A message to receive.
struct Receiving {
    ticket: u64,
    desc: OpDesc,
    into: *mut u8,
    bytes: usize,
}

/// Where the bytes of the message that is arriving go.
enum Arriving {
    Nothing,
    /// Into a posted buffer; `got` bytes are there.
    Posted {
        op: Receiving,
        got: usize,
    },
    /// Aside.
    Stashed {
        head: Head,
        data: Vec<u8>,
        got: usize,
    },
}

/// One direction of one pair.
struct Way {
    link: Option<Box<dyn Link>>,
    pending: Option<Pending>,
}

/// What is known about one peer.
struct Pair {
    tx: Way,
    rx: Way,
    sent: u32,
    sending: VecDeque<Sending>,
    receiving: VecDeque<Receiving>,
    arriving: Arriving,
    stash: VecDeque<(Head, Vec<u8>)>,
}

/// All pairs of a rank.
pub(super) struct Pairs {
    me: usize,
    wiring: Option<Wiring>,
    pairs: Vec<Pair>,
    /// Receives from whoever is first, oldest first.
    from_any: VecDeque<Receiving>,
    next_ticket: u64,
    /// Tickets that are done and not told yet, with the peer; few, so a list.
    done: Vec<(u64, usize)>,
    pub(super) leaving: Leaving,
}

// SAFETY: the addresses are those of messages whose owners vouch for the memory until the ticket is
// done or forgotten; everything else can be sent.
unsafe impl Send for Pairs {}

type Step<T> = Result<T, (OpDesc, Trouble)>;

impl Pairs {
    pub(super) fn new(me: usize, world_size: usize, wiring: Option<Wiring>) -> Self {
        let way = || Way { link: None, pending: None };
        let pair = |_| Pair {
            tx: way(),
            rx: way(),
            sent: 0,
            sending: VecDeque::new(),
            receiving: VecDeque::new(),
            arriving: Arriving::Nothing,
            stash: VecDeque::new(),
        };
        let pairs = (0..world_size).map(pair).collect();
        let (from_any, done, leaving) = Default::default();
        Self { me, wiring, pairs, from_any, next_ticket: 0, done, leaving }
    }

    /// # Safety
    /// As `P2pEngine::post`.
    pub(super) unsafe fn post(&mut self, op: &P2p) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let bytes = op.count * op.dtype.size_bytes();
        let mut desc = OpDesc {
            seq: 0,
            kind: Kind::Send as u8,
            dtype: op.dtype as u8,
            op: 0,
            flags: 0,
            root: op.tag,
            count: op.whole.unwrap_or(op.count) as u64,
        };
        match op.kind {
            P2pKind::Send { peer, data } => {
                let Some(pair) = self.pairs.get_mut(peer) else { return ticket };
                pair.sent = pair.sent.wrapping_add(1);
                desc.seq = pair.sent;
                let head = Head { desc, factor: 1.0, bytes: bytes as u64 };
                if peer == self.me {
                    let mut copy = vec![0; bytes];
                    // SAFETY: `data` is valid for `bytes` bytes by the caller's contract.
                    unsafe { core::ptr::copy_nonoverlapping(data, copy.as_mut_ptr(), bytes) };
                    pair.stash.push_back((head, copy));
                    self.done.push((ticket, peer));
                } else {
                    let out = Outgoing::new(head, data);
                    pair.sending.push_back(Sending { ticket, out });
                }
            }
            P2pKind::Recv { peer, data } => {
                desc.kind = Kind::Recv as u8;
                let receiving = Receiving { ticket, desc, into: data, bytes };
                match peer.and_then(|peer| self.pairs.get_mut(peer)) {
                    Some(pair) => pair.receiving.push_back(receiving),
                    None => self.from_any.push_back(receiving),
                }
            }
        }
        ticket
    }

    /// The peer of a message that is done; told once.
    pub(super) fn finished(&mut self, ticket: u64) -> Option<usize> {
        let at = self.done.iter().position(|(done, _)| *done == ticket)?;
        Some(self.done.swap_remove(at).1)
    }

    /// Moves everything that can be moved.
    pub(super) fn progress(&mut self) -> Step<bool> {
        let mut moved = false;
        for peer in 0..self.pairs.len() {
            moved |= self.send(peer)?;
            moved |= self.receive(peer)?;
        }
        Ok(moved)
    }

    fn send(&mut self, peer: usize) -> Step<bool> {
        let Some(first) = self.pairs[peer].sending.front() else { return Ok(false) };
        let desc = first.out.head.desc;
        if !self.connect(peer, Role::Dial, &desc)? {
            return Ok(false);
        }
        let mut moved = false;
        let pair = &mut self.pairs[peer];
        let Some(link) = &mut pair.tx.link else { return Ok(false) };
        while let Some(first) = pair.sending.front_mut() {
            // SAFETY: whoever posted the message vouches for its memory until it is done.
            let pushed = unsafe { link.push(&mut first.out) };
            moved |= pushed.map_err(|error| (desc, Trouble::Link(peer, error)))?;
            if !first.out.is_done() {
                break;
            }
            self.done.push((first.ticket, peer));
            pair.sending.pop_front();
        }
        Ok(moved)
    }

    fn receive(&mut self, peer: usize) -> Step<bool> {
        let mut moved = false;
        loop {
            if self.unstash(peer)? {
                moved = true;
                continue;
            }
            let pair = &self.pairs[peer];
            let wanted = pair.receiving.front().or_else(|| self.from_any.front());
            let idle = matches!(pair.arriving, Arriving::Nothing);
            let desc = match wanted {
                Some(op) => op.desc,
                None if !idle => OpDesc::default(),
                None => return Ok(moved),
            };
            if peer == self.me || !self.connect(peer, Role::Accept, &desc)? {
                return Ok(moved);
            }
            let before = moved;
            moved |= self.begin(peer, &desc)?;
            let more = self.pull(peer, &desc)?;
            moved |= more;
            if !more || before == moved {
                return Ok(moved);
            }
        }
    }

    /// Gives a message that was kept aside to whoever now asks for it.
    fn unstash(&mut self, peer: usize) -> Step<bool> {
        for at in 0..self.pairs[peer].stash.len() {
            let Some((head, _)) = self.pairs[peer].stash.get(at) else { continue };
            let head = *head;
            let Some(op) = self.claim(peer, &head)? else { continue };
            let Some((_, data)) = self.pairs[peer].stash.remove(at) else { continue };
            // SAFETY: `claim` has compared the lengths; the buffer is valid for them as posted.
            unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), op.into, data.len()) };
            self.done.push((op.ticket, peer));
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes the oldest posted receive that `head` of `peer` fits; an error if it fits by tag only.
    fn claim(&mut self, peer: usize, head: &Head) -> Step<Option<Receiving>> {
        let fits = |op: &Receiving| op.desc.root == head.desc.root;
        let pair = &mut self.pairs[peer];
        let of_pair = pair.receiving.iter().position(fits);
        let of_any = self.from_any.iter().position(fits);
        let ticket = |list: &VecDeque<Receiving>, at: Option<usize>| {
            at.and_then(|at| list.get(at)).map_or(u64::MAX, |op| op.ticket)
        };
        let op = if ticket(&pair.receiving, of_pair) <= ticket(&self.from_any, of_any) {
            of_pair.and_then(|at| pair.receiving.remove(at))
        } else {
            of_any.and_then(|at| self.from_any.remove(at))
        };
        let Some(op) = op else { return Ok(None) };
        let same = op.desc.dtype == head.desc.dtype
            && op.desc.count == head.desc.count
            && head.bytes == op.bytes as u64
            && head.desc.kind == Kind::Send as u8;
        if same { Ok(Some(op)) } else { Err((op.desc, Trouble::Mismatch(peer, head.desc))) }
    }

    /// Looks for the next message and decides where it goes.
    fn begin(&mut self, peer: usize, desc: &OpDesc) -> Step<bool> {
        if !matches!(self.pairs[peer].arriving, Arriving::Nothing) {
            return Ok(false);
        }
        let Some(link) = &mut self.pairs[peer].rx.link else { return Ok(false) };
        let head = link.head().map_err(|error| (*desc, Trouble::Link(peer, error)))?;
        let Some(head) = head else { return Ok(false) };
        let op = self.claim(peer, &head)?;
        let pair = &mut self.pairs[peer];
        if head.bytes == 0 && (op.is_some() || !pair.receiving.is_empty()) {
            if let Some(link) = &mut pair.rx.link {
                link.skip_empty();
            }
            match op {
                Some(op) => self.done.push((op.ticket, peer)),
                None => pair.stash.push_back((head, Vec::new())),
            }
            return Ok(true);
        }
        match op {
            Some(op) => pair.arriving = Arriving::Posted { op, got: 0 },
            // Somebody waits for another tag of this peer, which may be behind this message.
            None if !pair.receiving.is_empty() => {
                if head.bytes > STASHED_BYTES {
                    let what = LinkError::Protocol(
                        "a message of over 1 GiB with a tag that is not waited for",
                    );
                    return Err((*desc, Trouble::Link(peer, what)));
                }
                let bytes = usize::try_from(head.bytes).unwrap_or(usize::MAX);
                pair.arriving = Arriving::Stashed { head, data: vec![0; bytes], got: 0 };
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Pulls what is here of the message that is arriving.
    fn pull(&mut self, peer: usize, desc: &OpDesc) -> Step<bool> {
        let pair = &mut self.pairs[peer];
        let Some(link) = &mut pair.rx.link else { return Ok(false) };
        let (into, bytes, got) = match &mut pair.arriving {
            Arriving::Nothing => return Ok(false),
            Arriving::Posted { op, got } => (op.into, op.bytes, got),
            Arriving::Stashed { data, got, .. } => (data.as_mut_ptr(), data.len(), got),
        };
        // SAFETY: `got < bytes`, and the buffer is valid for `bytes` bytes: a posted one as its
        // owner vouches, a stashed one as it was made.
        let taken = unsafe { link.pull_into(into.add(*got), bytes - *got) };
        let taken = taken.map_err(|error| (*desc, Trouble::Link(peer, error)))?;
        *got += taken;
        if *got == bytes {
            match core::mem::replace(&mut pair.arriving, Arriving::Nothing) {
                Arriving::Nothing => {}
                Arriving::Posted { op, .. } => self.done.push((op.ticket, peer)),
                Arriving::Stashed { head, data, .. } => pair.stash.push_back((head, data)),
            }
        }
        Ok(taken > 0)
    }

    /// Whether the way to (or from) `peer` is there; goes on making it if not.
    fn connect(&mut self, peer: usize, role: Role, desc: &OpDesc) -> Step<bool> {
        let Some(wiring) = &self.wiring else { return Ok(false) };
        let way = match role {
            Role::Dial => &mut self.pairs[peer].tx,
            Role::Accept => &mut self.pairs[peer].rx,
        };
        if way.link.is_some() {
            return Ok(true);
        }
        let lost = |error: Error| (*desc, failing::of_link(peer, error));
        if way.pending.is_none() {
            let deadline = Deadline::after(DIAL_TIME);
            way.pending = Some(wiring.begin(peer, role, &deadline).map_err(lost)?);
        }
        if let Some(pending) = &mut way.pending
            && let Some(link) = wiring.poll(peer, pending).map_err(lost)?
        {
            way.link = Some(link);
            way.pending = None;
        }
        Ok(way.link.is_some())
    }

    /// What `ticket` is about: its description and the peers it can come from.
    pub(super) fn about(&self, ticket: u64) -> (OpDesc, Vec<usize>) {
        for (peer, pair) in self.pairs.iter().enumerate() {
            if let Some(op) = pair.sending.iter().find(|op| op.ticket == ticket) {
                return (op.out.head.desc, vec![peer]);
            }
            if let Some(op) = pair.receiving.iter().find(|op| op.ticket == ticket) {
                return (op.desc, vec![peer]);
            }
            if let Arriving::Posted { op, .. } = &pair.arriving
                && op.ticket == ticket
            {
                return (op.desc, vec![peer]);
            }
        }
        let any = self.from_any.iter().find(|op| op.ticket == ticket);
        let everyone = (0..self.pairs.len()).filter(|peer| *peer != self.me).collect();
        any.map_or_else(|| (OpDesc::default(), Vec::new()), |op| (op.desc, everyone))
    }

    /// Takes messages back. One that is under way takes its connection with it.
    pub(super) fn forget(&mut self, tickets: &[u64]) {
        let gone = |ticket: &u64| tickets.contains(ticket);
        self.from_any.retain(|op| !gone(&op.ticket));
        for pair in &mut self.pairs {
            pair.receiving.retain(|op| !gone(&op.ticket));
            let begun =
                pair.sending.front().is_some_and(|op| gone(&op.ticket) && op.out.phase != 0);
            if begun && let Some(link) = &mut pair.tx.link {
                link.cancel();
            }
            pair.sending.retain(|op| !gone(&op.ticket));
            if matches!(&pair.arriving, Arriving::Posted { op, .. } if gone(&op.ticket)) {
                pair.arriving = Arriving::Nothing;
                if let Some(link) = &mut pair.rx.link {
                    link.cancel();
                }
            }
        }
        self.done.retain(|(ticket, _)| !gone(ticket));
    }

    /// Ends all links and forgets all messages.
    pub(super) fn cancel(&mut self) {
        self.from_any.clear();
        for pair in &mut self.pairs {
            for way in [&mut pair.tx, &mut pair.rx] {
                if let Some(link) = &mut way.link {
                    link.cancel();
                }
            }
            pair.sending.clear();
            pair.receiving.clear();
            pair.arriving = Arriving::Nothing;
        }
    }

    /// Sleeps until something may have come, at most `nap`.
    pub(super) fn nap(&self, bell: &Doorbell, seen: u32, nap: Duration) {
        let mut fds = Vec::new();
        let mut in_memory = false;
        // Several sockets are behind one descriptor, which only ever becomes readable.
        let several = self.wiring.as_ref().is_some_and(|wiring| wiring.lanes() > 1);
        let writable = if several { PollFlags::IN } else { PollFlags::OUT };
        for pair in &self.pairs {
            let receives = !pair.receiving.is_empty()
                || !self.from_any.is_empty()
                || !matches!(pair.arriving, Arriving::Nothing);
            let ways = [
                (&pair.tx, writable, !pair.sending.is_empty()),
                (&pair.rx, PollFlags::IN, receives),
            ];
            for (way, flags, open) in ways {
                match way.link.as_ref().filter(|_| open).map(|link| link.socket()) {
                    Some(Some(fd)) => fds.push(PollFd::from_borrowed_fd(fd, flags)),
                    Some(None) => in_memory = true,
                    // Not connected yet: the connection does not wake us.
                    None => in_memory |= open,
                }
            }
        }
        if fds.is_empty() {
            bell.sleep(seen, nap.min(Duration::from_millis(1)));
            return;
        }
        let nap = if in_memory { nap.min(Duration::from_millis(1)) } else { nap };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }

    /// How bytes get to `peer`.
    pub(super) fn transport(&self, peer: usize) -> Option<&'static str> {
        let pair = self.pairs.get(peer)?;
        let link = pair.tx.link.as_ref().or(pair.rx.link.as_ref());
        link.map(|link| link.name())
    }

    pub(super) fn has_left(&self, peer: usize) -> bool {
        self.wiring.as_ref().is_some_and(|wiring| wiring.has_left(peer))
    }

    pub(super) fn host_and_pid(&self, peer: usize) -> (String, u32) {
        self.wiring.as_ref().map_or_else(Default::default, |wiring| wiring.host_and_pid(peer))
    }

    pub(super) fn ask(&self, timeout: Duration) -> Vec<Option<Status>> {
        self.wiring.as_ref().map_or_else(Vec::new, |wiring| wiring.ask(timeout))
    }

    /// Tells the other ranks that the group failed.
    pub(super) fn tell(&self, group: u64, failure: &Failure) {
        if let Some(wiring) = &self.wiring {
            wiring.control().fail(group, failure);
        }
    }
}
