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
use super::wiring::Role;
use super::wiring::Wiring;
use crate::clock::Deadline;
use crate::control::Control;
use crate::error::Failure;
use crate::error::Result;
use crate::trace::GroupState;
use crate::trace::Status;
use crate::transport::memory::Doorbell;

/// The longest sleep on sockets while links in memory may also bring something.
const MIXED_NAP: Duration = Duration::from_millis(1);

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

    /// Makes the link to `peer` unless there is one; the higher rank dials. `check` says whether
    /// to go on.
    pub(super) fn connect(
        &mut self,
        peer: usize,
        deadline: &Deadline,
        check: &dyn Fn(&Self, usize) -> Result<()>,
    ) -> Result<()> {
        if self.links.get(peer).is_none_or(Option::is_some) {
            return Ok(());
        }
        let Some(wiring) = &self.wiring else { return Ok(()) };
        let mut pending = wiring.begin(peer, wiring.role(peer), deadline)?;
        let mut waiter = Waiter::new(self.patience);
        loop {
            let Some(wiring) = &self.wiring else { return Ok(()) };
            if let Some(link) = wiring.poll(&mut pending)? {
                self.insert(peer, link);
                return Ok(());
            }
            let nap = &mut |_, nap: Duration| std::thread::sleep(nap.min(MIXED_NAP));
            if waiter.wait(&self.bell, nap) == Next::Check {
                check(self, peer)?;
            }
        }
    }

    /// Begins a link in one direction, for messages between pairs.
    pub(super) fn begin(&self, peer: usize, role: Role, deadline: &Deadline) -> Result<Pending> {
        match &self.wiring {
            Some(wiring) => wiring.begin(peer, role, deadline),
            None => Ok(Pending::Never),
        }
    }

    /// Goes on with a link that was begun; says whether it is there now.
    pub(super) fn poll(&mut self, peer: usize, pending: &mut Pending) -> Result<bool> {
        let Some(wiring) = &self.wiring else { return Ok(false) };
        match wiring.poll(pending)? {
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
        for (peers, flags) in [(receives, PollFlags::IN), (sends, PollFlags::OUT)] {
            fds.extend(
                peers.iter().filter_map(socket).map(|fd| PollFd::from_borrowed_fd(fd, flags)),
            );
        }
        if fds.is_empty() {
            self.bell.sleep(seen, nap);
            return;
        }
        let several = self.wiring.as_ref().is_some_and(|wiring| wiring.lanes() > 1);
        let nap = if self.in_memory > 0 || several { nap.min(MIXED_NAP) } else { nap };
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
