//! Messages between pairs: any number at once, in order per pair and tag.

#![expect(unsafe_code, reason = "messages name their buffers by address")]

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::failing;
use super::transfer::Trouble;
use super::waiter::Next;
use super::waiter::Patience;
use super::waiter::Waiter;
use super::wiring::Wiring;
use crate::backend::P2p;
use crate::clock::LazyDeadline;
use crate::desc::OpDesc;
use crate::error::Absent;
use crate::error::Error;
use crate::error::Failure;
use crate::error::Result;
use crate::trace::GroupState;
use crate::trace::lock;
use crate::transport::memory::Doorbell;

mod pairs;

use pairs::Pairs;

/// Moves the messages of one group. Several threads may post and wait.
pub(super) struct P2pEngine {
    state: Arc<GroupState>,
    patience: Patience,
    bell: Option<Doorbell>,
    /// Threads that want the lock while another one sleeps with it.
    wanted: AtomicUsize,
    pairs: Mutex<Pairs>,
}

impl fmt::Debug for P2pEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("P2pEngine").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The longest sleep with the lock held.
const NAP: Duration = Duration::from_millis(2);

impl P2pEngine {
    /// An engine; without `wiring` there is only this rank itself.
    pub(super) fn new(state: Arc<GroupState>, wiring: Option<Wiring>, local_ranks: usize) -> Self {
        let bell = wiring.as_ref().map(|wiring| wiring.bell().clone());
        let pairs = Pairs::new(state.rank, state.members.len(), wiring);
        let patience = Patience::for_ranks(local_ranks);
        Self { state, patience, bell, wanted: AtomicUsize::new(0), pairs: Mutex::new(pairs) }
    }

    fn locked<T>(&self, act: impl FnOnce(&mut Pairs) -> T) -> T {
        if let Ok(mut pairs) = self.pairs.try_lock() {
            return act(&mut pairs);
        }
        self.wanted.fetch_add(1, Ordering::Relaxed);
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        let mut pairs = lock(&self.pairs);
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        act(&mut pairs)
    }

    /// How bytes get to `peer`.
    pub(super) fn transport(&self, peer: usize) -> Option<&'static str> {
        self.locked(|pairs| pairs.transport(peer))
    }

    /// Posts messages; returns their tickets.
    ///
    /// # Safety
    /// The memory of each stays valid and untouched until its ticket is done or forgotten.
    pub(super) unsafe fn post(&self, ops: &[P2p]) -> Vec<u64> {
        // SAFETY: passed on from the caller.
        self.locked(|pairs| ops.iter().map(|op| unsafe { pairs.post(op) }).collect())
    }

    /// Moves messages until `ticket` is done; gives the peer's rank.
    pub(super) fn wait(&self, ticket: u64, timeout: Duration) -> Result<Option<usize>> {
        let deadline = LazyDeadline::after(timeout);
        let alone;
        let bell = match &self.bell {
            Some(bell) => bell,
            None => {
                alone = Doorbell::local()?;
                &alone
            }
        };
        let mut waiter = Waiter::new(self.patience);
        loop {
            let mut pairs = lock(&self.pairs);
            match pairs.progress() {
                Ok(moved) => {
                    if let Some(peer) = pairs.finished(ticket) {
                        waiter.reset(bell);
                        return Ok(Some(peer));
                    }
                    if moved {
                        pairs.leaving.moved();
                        waiter.reset(bell);
                        continue;
                    }
                }
                Err((desc, trouble)) => return Err(self.trouble(pairs, &desc, trouble)),
            }
            let nap = &mut |seen, nap: Duration| {
                if self.wanted.load(Ordering::Relaxed) == 0 {
                    pairs.nap(bell, seen, nap.min(NAP));
                }
            };
            if waiter.wait(bell, nap) == Next::Check {
                self.check(pairs, ticket)?;
                if deadline.passed() {
                    waiter.reset(bell);
                    return Ok(None);
                }
            }
        }
    }

    /// Moves what can be moved now; gives the peer's rank if `ticket` is done.
    pub(super) fn test(&self, ticket: u64) -> Result<Option<usize>> {
        let mut pairs = lock(&self.pairs);
        match pairs.progress() {
            Err((desc, trouble)) => Err(self.trouble(pairs, &desc, trouble)),
            Ok(_) => match pairs.finished(ticket) {
                Some(peer) => Ok(Some(peer)),
                None => self.check(pairs, ticket).map(|()| None),
            },
        }
    }

    /// Whether the group failed, or the peer of `ticket` has left.
    fn check(&self, mut pairs: std::sync::MutexGuard<'_, Pairs>, ticket: u64) -> Result<()> {
        let (desc, peers) = pairs.about(ticket);
        if self.state.has_failed() {
            pairs.cancel();
            return Err(failing::failed(&self.state, &desc));
        }
        // From any source: an error only once nobody is left who could send.
        let gone = peers.iter().all(|peer| *peer != self.state.rank && pairs.has_left(*peer));
        if peers.is_empty() || !gone || !pairs.leaving.is_over() {
            return Ok(());
        }
        let failure = failing::leaver(peers[0], pairs.host_and_pid(peers[0]));
        Err(self.fail(pairs, &desc, failure))
    }

    fn fail(
        &self,
        mut pairs: std::sync::MutexGuard<'_, Pairs>,
        desc: &OpDesc,
        failure: Failure,
    ) -> Error {
        pairs.cancel();
        if self.state.fail(failure.clone()) {
            pairs.tell(self.state.id, &failure);
        }
        failing::failed(&self.state, desc)
    }

    fn trouble(
        &self,
        pairs: std::sync::MutexGuard<'_, Pairs>,
        desc: &OpDesc,
        trouble: Trouble,
    ) -> Error {
        let (place, has_left) = (|peer| pairs.host_and_pid(peer), |peer| pairs.has_left(peer));
        let failure = failing::meaning(&self.state, desc, trouble, place, has_left);
        self.fail(pairs, desc, failure)
    }

    /// The time of `ticket` is over: fails the group and says who did not answer.
    pub(super) fn expire(&self, ticket: u64, waited: Duration) -> Error {
        let pairs = lock(&self.pairs);
        let (desc, peers) = pairs.about(ticket);
        let statuses = pairs.ask(Duration::from_millis(700));
        let doing = |peer: &usize| {
            let status = statuses.get(*peer).copied().flatten();
            let doing = status.map_or_else(|| "does not answer".to_owned(), |s| s.to_string());
            let (host, pid) = pairs.host_and_pid(*peer);
            let side = if desc.kind == crate::desc::Kind::Send as u8 { "recv" } else { "send" };
            Absent::new(*peer, host, pid, format!("has not called a matching {side}; {doing}"))
        };
        let absent = peers.iter().filter(|peer| **peer != self.state.rank).map(doing).collect();
        let failure = Failure::Timeout { origin: self.state.rank, op: desc, waited, absent };
        self.fail(pairs, &desc, failure)
    }

    /// Gives up on messages: nobody touches their memory afterwards.
    pub(super) fn forget(&self, tickets: &[u64]) {
        self.locked(|pairs| pairs.forget(tickets));
    }

    /// Ends everything.
    pub(super) fn close(&self) {
        self.locked(Pairs::cancel);
    }
}
