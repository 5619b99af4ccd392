//! The links of one channel of a group, made when first needed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use super::transfer::Links;
use super::transfer::Transfer;
use super::waiter::Next;
use super::waiter::Patience;
use super::waiter::Waiter;
use super::wiring::Pending;
use super::wiring::Wiring;
use crate::clock::Deadline;
use crate::control::Control;
use crate::error::Error;
use crate::error::Failure;
use crate::error::Result;
use crate::trace::GroupState;
use crate::trace::Status;
use crate::transport::memory::Doorbell;

/// The longest sleep on sockets while links in memory may also bring something.
const MIXED_NAP: Duration = Duration::from_millis(1);

/// Why links were not made.
pub(super) enum Unconnected {
    /// The group has failed, and everybody knows.
    Failed(Error),
    /// The link to a peer cannot be made, which nobody else knows yet.
    Link(usize, Error),
}

/// Links to the other ranks of a group.
pub(super) struct Mesh {
    links: Links,
    names: Vec<Option<&'static str>>,
    wiring: Option<Wiring>,
    bell: Doorbell,
    patience: Patience,
    in_memory: usize,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("links", &self.names).finish_non_exhaustive()
    }
}

impl Mesh {
    /// A mesh without links; `wiring` makes them, and is not needed by a group of one.
    pub(super) fn new(
        world_size: usize,
        wiring: Option<Wiring>,
        local_ranks: usize,
    ) -> Result<Self> {
        let bell = match &wiring {
            Some(wiring) => wiring.bell().clone(),
            None => Doorbell::local()?,
        };
        let patience = Patience::for_ranks(local_ranks);
        let links = (0..world_size).map(|_| None).collect();
        Ok(Self { links, names: vec![None; world_size], wiring, bell, patience, in_memory: 0 })
    }

    /// The links, by rank.
    pub(super) fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Whether there is a link to `peer`.
    pub(super) fn has(&self, peer: usize) -> bool {
        self.links.get(peer).is_some_and(Option::is_some)
    }

    /// How bytes get to `peer`.
    pub(super) fn name(&self, peer: usize) -> Option<&'static str> {
        self.names.get(peer).copied().flatten()
    }

    /// The word this rank sleeps on.
    pub(super) fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// How to wait here.
    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Makes the links to `peers` that are not there yet; the higher rank of a pair dials. All are
    /// under way at once, so that no order of peers can make ranks wait for each other. `check`
    /// says whether to go on.
    pub(super) fn connect(
        &mut self,
        peers: &[usize],
        deadline: &Deadline,
        check: &dyn Fn(&Self, &[usize]) -> Result<()>,
    ) -> Result<(), Unconnected> {
        let mut open: Vec<(usize, Pending)> = Vec::new();
        for peer in peers {
            let Some(wiring) = &self.wiring else { return Ok(()) };
            let known = self.links.get(*peer).is_none_or(Option::is_some);
            if known || open.iter().any(|(other, _)| other == peer) {
                continue;
            }
            let begun = wiring.begin(*peer, wiring.role(*peer), deadline);
            open.push((*peer, begun.map_err(|error| Unconnected::Link(*peer, error))?));
        }
        let mut waiter = Waiter::new(self.patience);
        while !open.is_empty() {
            let before = open.len();
            let mut waiting = Vec::with_capacity(before);
            for (peer, mut pending) in open {
                let polled = self.poll(peer, &mut pending);
                if !polled.map_err(|error| Unconnected::Link(peer, error))? {
                    waiting.push((peer, pending));
                }
            }
            open = waiting;
            let nap = &mut |_, nap: Duration| std::thread::sleep(nap.min(MIXED_NAP));
            if open.len() == before && waiter.wait(&self.bell, nap) == Next::Check {
                let peers: Vec<usize> = open.iter().map(|(peer, _)| *peer).collect();
                check(self, &peers).map_err(Unconnected::Failed)?;
            }
        }
        waiter.reset(&self.bell);
        Ok(())
    }

    /// Goes on with a link that was begun; says whether it is there now.
    fn poll(&mut self, peer: usize, pending: &mut Pending) -> Result<bool> {
        let Some(wiring) = &self.wiring else { return Ok(true) };
        match wiring.poll(peer, pending)? {
            Some(link) => {
                self.insert(peer, link);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn insert(&mut self, peer: usize, link: Box<dyn crate::transport::Link>) {
        self.in_memory += usize::from(link.socket().is_none());
        if let Some(name) = self.names.get_mut(peer) {
            *name = Some(link.name());
        }
        if let Some(place) = self.links.get_mut(peer) {
            *place = Some(link);
        }
    }

    /// Waits a little for one of `transfers`.
    pub(super) fn wait(&self, waiter: &mut Waiter, transfers: &[Transfer]) -> Next {
        waiter.wait(&self.bell, &mut |seen, nap| {
            let mut peers = Vec::new();
            let mut sends = Vec::new();
            for transfer in transfers.iter().filter(|transfer| !transfer.is_done()) {
                match transfer {
                    Transfer::Send { peer, .. } => sends.push(*peer),
                    other => other.waits_for(&mut peers),
                }
            }
            self.nap(seen, nap, &peers, &sends);
        })
    }

    /// Sleeps until a link to one of the peers can move something, at most `nap`.
    pub(super) fn nap(&self, seen: u32, nap: Duration, receives: &[usize], sends: &[usize]) {
        let socket = |peer: &usize| {
            self.links.get(*peer).and_then(Option::as_ref).and_then(|link| link.socket())
        };
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        // Several sockets are behind one descriptor, which only ever becomes readable.
        let several = self.wiring.as_ref().is_some_and(|wiring| wiring.lanes() > 1);
        let writable = if several { PollFlags::IN } else { PollFlags::OUT };
        for (peers, flags) in [(receives, PollFlags::IN), (sends, writable)] {
            fds.extend(
                peers.iter().filter_map(socket).map(|fd| PollFd::from_borrowed_fd(fd, flags)),
            );
        }
        if fds.is_empty() {
            self.bell.sleep(seen, nap);
            return;
        }
        let nap = if self.in_memory > 0 { nap.min(MIXED_NAP) } else { nap };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }

    /// Ends all links: afterwards nobody reads a buffer offered on one.
    pub(super) fn cancel(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.cancel();
        }
    }

    fn control(&self) -> Option<&Arc<Control>> {
        self.wiring.as_ref().map(Wiring::control)
    }

    /// Records the failure here and tells the other ranks.
    pub(super) fn fail(&self, state: &GroupState, failure: &Failure) {
        state.fail(failure.clone());
        if let Some(control) = self.control() {
            control.fail(state.id, failure);
        }
    }

    /// Whether `peer` has left the group in order.
    pub(super) fn has_left(&self, peer: usize) -> bool {
        self.wiring.as_ref().is_some_and(|wiring| wiring.has_left(peer))
    }

    /// What the ranks of the group are doing, as far as they say so in time.
    pub(super) fn ask(&self, timeout: Duration) -> Vec<Option<Status>> {
        self.wiring.as_ref().map_or_else(Vec::new, |wiring| wiring.ask(timeout))
    }

    /// Where `peer` runs.
    pub(super) fn host_and_pid(&self, peer: usize) -> (String, u32) {
        self.wiring.as_ref().map_or_else(Default::default, |wiring| wiring.host_and_pid(peer))
    }
}
