//! How a rank waits for others: looking, then yielding, then asleep.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::transport::memory::Doorbell;

/// What to do after a look that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again at once.
    Look,
    /// Look again; also whether the group failed or the time is over.
    Check,
}

/// How patient a waiter is, by whether ranks outnumber cores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Whether every rank of this host can have a core of its own.
    own_core: bool,
    /// How long to look and yield before sleeping.
    yielding: Duration,
}

/// Looks that a waiter of this process takes before it yields its core for the first time.
///
/// It adapts: where the rank waited for runs on another core, the answer comes within a few looks,
/// and yielding would only cost; where it needs this very core, because the machine is busy with
/// other things, every look is in vain.
static LOOKS: AtomicU32 = AtomicU32::new(MOST_LOOKS);
/// About 20 us.
const MOST_LOOKS: u32 = 400;
const FEWEST_LOOKS: u32 = 4;
/// An answer so soon after the first yield came from another core.
const SOON: Duration = Duration::from_micros(3);

impl Patience {
    /// For `local_ranks` ranks on this machine's cores.
    pub(super) fn for_ranks(local_ranks: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if local_ranks <= cores {
            return Self { own_core: true, yielding: Duration::from_micros(500) };
        }
        Self { own_core: false, yielding: Duration::from_millis(1) }
    }

    fn looks(self) -> u32 {
        if self.own_core { LOOKS.load(Ordering::Relaxed) } else { FEWEST_LOOKS }
    }
}

/// One wait; made anew whenever something has moved.
#[derive(Debug)]
pub(super) struct Waiter {
    patience: Patience,
    /// Looks to take before yielding.
    eager: u32,
    looks: u32,
    since: Option<Instant>,
    announced: Option<u32>,
    nap: Duration,
}

/// The longest a sleeper goes without looking whether the group failed.
const LONGEST_NAP: Duration = Duration::from_millis(20);
const FIRST_NAP: Duration = Duration::from_millis(1);

impl Waiter {
    /// A waiter that has not waited yet.
    pub(super) fn new(patience: Patience) -> Self {
        let eager = patience.looks();
        Self { patience, eager, looks: 0, since: None, announced: None, nap: FIRST_NAP }
    }

    /// Something moved: the next wait begins anew.
    pub(super) fn reset(&mut self, bell: &Doorbell) {
        if self.looks == 0 {
            return;
        }
        if self.announced.take().is_some() {
            bell.awake();
        }
        self.learn();
        self.looks = 0;
        self.since = None;
        self.nap = FIRST_NAP;
    }

    /// More looks next time if they paid, fewer if they did not.
    fn learn(&mut self) {
        if !self.patience.own_core {
            return;
        }
        let paid = self.since.is_none_or(|since| since.elapsed() < SOON);
        let eager = if paid {
            (self.eager + self.eager / 4 + 1).min(MOST_LOOKS)
        } else {
            (self.eager / 2).max(FEWEST_LOOKS)
        };
        if eager != self.eager {
            LOOKS.store(eager, Ordering::Relaxed);
            self.eager = eager;
        }
    }

    /// Nothing moved: waits a little. `nap` sleeps at most so long, given the doorbell's value.
    pub(super) fn wait(&mut self, bell: &Doorbell, nap: &mut dyn FnMut(u32, Duration)) -> Next {
        self.looks += 1;
        if self.looks <= self.eager {
            core::hint::spin_loop();
            return Next::Look;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience.yielding {
            std::thread::yield_now();
            return if self.looks.is_multiple_of(16) { Next::Check } else { Next::Look };
        }
        match self.announced.take() {
            None => self.announced = Some(bell.announce()), // and look once more
            Some(seen) => {
                nap(seen, self.nap);
                // Still announced: this value, then a look, then the next nap.
                self.announced = Some(bell.rings());
                self.nap = (self.nap * 2).min(LONGEST_NAP);
            }
        }
        Next::Check
    }
}
