//! Pauses between attempts: growing, and different on every rank.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

/// Makes pauses that grow to a limit, each between half and one and a half of its mean.
#[derive(Debug)]
pub(crate) struct Backoff {
    mean: Duration,
    limit: Duration,
    /// Every instance has its own keys, drawn from the system's randomness.
    random: RandomState,
    drawn: u64,
}

impl Backoff {
    /// Pauses that start around `first` and grow to about `limit`.
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { mean: first, limit, random: RandomState::new(), drawn: 0 }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let mean = self.mean;
        self.mean = mean.saturating_mul(3).div_f64(2.0).min(self.limit);
        self.drawn = self.drawn.wrapping_add(1);
        let part = u32::try_from(self.random.hash_one(self.drawn) % 1024).unwrap_or(512);
        mean / 2 + mean.saturating_mul(part) / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_differ() {
        let (first, limit) = (Duration::from_millis(10), Duration::from_millis(500));
        let mut one = Backoff::new(first, limit);
        let mut other = Backoff::new(first, limit);
        let pauses: Vec<Duration> = (0..40).map(|_| one.pause()).collect();
        let others: Vec<Duration> = (0..40).map(|_| other.pause()).collect();
        assert_ne!(pauses, others);
        assert!(pauses[0] >= first / 2 && pauses[0] <= first * 3 / 2);
        for pause in &pauses[20..] {
            assert!(*pause >= limit / 2 && *pause <= limit * 3 / 2, "{pause:?}");
        }
    }
}
