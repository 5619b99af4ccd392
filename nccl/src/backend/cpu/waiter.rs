//! How a rank waits for others: spinning, then yielding, then asleep.

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
    /// Looks before the clock is read for the first time.
    looks: u32,
    /// How long to look without giving the core away.
    spin: Duration,
    /// How long to look and yield after that, before sleeping.
    yielding: Duration,
}

impl Patience {
    /// For `local_ranks` ranks on this machine's cores.
    pub(super) fn for_ranks(local_ranks: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if local_ranks <= cores {
            let (spin, yielding) = (Duration::from_micros(20), Duration::from_micros(500));
            return Self { looks: 200, spin, yielding };
        }
        // The rank waited for may need this very core.
        Self { looks: 4, spin: Duration::ZERO, yielding: Duration::from_millis(1) }
    }
}

/// One wait; made anew whenever something has moved.
#[derive(Debug)]
pub(super) struct Waiter {
    patience: Patience,
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
        Self { patience, looks: 0, since: None, announced: None, nap: FIRST_NAP }
    }

    /// Something moved: the next wait begins anew.
    pub(super) fn reset(&mut self, bell: &Doorbell) {
        if self.announced.take().is_some() {
            bell.awake();
        }
        self.looks = 0;
        self.since = None;
        self.nap = FIRST_NAP;
    }

    /// Nothing moved: waits a little. `nap` sleeps at most so long, given the doorbell's value.
    pub(super) fn wait(&mut self, bell: &Doorbell, nap: &mut dyn FnMut(u32, Duration)) -> Next {
        self.looks += 1;
        if self.looks <= self.patience.looks {
            core::hint::spin_loop();
            return Next::Look;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let waited = since.elapsed();
        if waited < self.patience.spin {
            for _ in 0..8 {
                core::hint::spin_loop();
            }
            return Next::Look;
        }
        if waited < self.patience.spin + self.patience.yielding {
            std::thread::yield_now();
            return if self.looks.is_multiple_of(16) { Next::Check } else { Next::Look };
        }
        match self.announced.take() {
            None => self.announced = Some(bell.announce()), // and look once more
            Some(seen) => {
                nap(seen, self.nap);
                bell.awake();
                self.nap = (self.nap * 2).min(LONGEST_NAP);
            }
        }
        Next::Check
    }
}
