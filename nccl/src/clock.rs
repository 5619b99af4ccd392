//! Deadlines: made once at the entry of a call, from the timeout the user gave.

use core::cell::OnceCell;
use core::ops::Deref;
use std::time::Duration;
use std::time::Instant;

/// The moment at which a call gives up, and when it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    begun: Instant,
    timeout: Duration,
}

/// A deadline that reads the clock only when it is first asked: most operations are over before.
#[derive(Debug)]
pub(crate) struct LazyDeadline {
    timeout: Duration,
    made: OnceCell<Deadline>,
}

impl LazyDeadline {
    /// A deadline `timeout` from the first time somebody asks.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { timeout, made: OnceCell::new() }
    }
}

impl Deref for LazyDeadline {
    type Target = Deadline;

    fn deref(&self) -> &Deadline {
        self.made.get_or_init(|| Deadline::after(self.timeout))
    }
}

impl Deadline {
    /// A deadline `timeout` from now. A timeout too long for the clock never ends.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { begun: Instant::now(), timeout }
    }

    /// How long until it, zero once it has passed.
    pub(crate) fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.begun.elapsed())
    }

    /// Whether it has passed.
    pub(crate) fn passed(&self) -> bool {
        self.begun.elapsed() >= self.timeout
    }

    /// How long ago the call began.
    pub(crate) fn waited(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The timeout it was made of.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The shorter of what is left and `limit`.
    pub(crate) fn left_at_most(&self, limit: Duration) -> Duration {
        self.left().min(limit)
    }
}
