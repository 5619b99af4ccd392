//! How a rank that sleeps is woken by one that writes to it.

#![expect(unsafe_code, reason = "a futex word in memory shared between processes")]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::fences;
use super::region::Region;
use crate::error::Result;

/// A word that one waiter sleeps on and all its peers can ring.
///
/// The waiter announces that it is about to sleep, looks once more, and sleeps; a ringer looks at
/// the announcement after it has published. The two halves of a fence make sure that one of them
/// sees the other, so ringing costs one load while nobody sleeps.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell {
    region: Arc<Region>,
    /// Whether the ringer's half of the fence is free.
    light: bool,
}

/// Bytes of a doorbell's region.
const BYTES: usize = 4096;
/// The announcement; on its own line, since ringers read it all the time.
const SLEEPING: usize = 0;
/// The word slept on.
const BELL: usize = 64;
/// 1 if the waiter's half of the fence is the heavy one.
const HEAVY: usize = 128;

impl Doorbell {
    /// A doorbell for threads of one process.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn local() -> Result<Self> {
        Ok(Self::own(Region::heap(BYTES)?))
    }

    /// A doorbell that other processes can ring, with the descriptor to pass to them.
    ///
    /// # Errors
    /// When the kernel refuses.
    #[cfg(target_os = "linux")]
    pub(crate) fn shared() -> Result<(Self, std::os::fd::OwnedFd)> {
        let (region, fd) = Region::shared(BYTES)?;
        Ok((Self::own(region), fd))
    }

    /// Another process's doorbell.
    ///
    /// # Errors
    /// When the descriptor is none.
    #[cfg(target_os = "linux")]
    pub(crate) fn adopt(fd: std::os::fd::BorrowedFd<'_>) -> Result<Self> {
        let mut bell = Self { region: Arc::new(Region::adopt(fd, BYTES)?), light: false };
        bell.light = fences::are_asymmetric() && bell.word(HEAVY).load(Ordering::Acquire) == 1;
        Ok(bell)
    }

    /// The bell of a waiter of this process.
    fn own(region: Region) -> Self {
        let light = fences::are_asymmetric();
        let bell = Self { region: Arc::new(region), light };
        bell.word(HEAVY).store(u32::from(light), Ordering::Release);
        bell
    }

    /// Whether ringing without need costs next to nothing.
    pub(crate) fn is_light(&self) -> bool {
        self.light
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at + size_of::<AtomicU32>() <= self.region.bytes());
        // SAFETY: the region is BYTES long and page-aligned, `at` is one of the three constants, all
        // multiples of 4; the memory stays mapped as long as `self.region`; any bit pattern is a
        // valid u32, and every access anywhere is atomic.
        unsafe { AtomicU32::from_ptr(self.region.base().add(at).cast()) }
    }

    /// Wakes the waiter if it sleeps or is about to.
    pub(crate) fn ring(&self) {
        fences::light(self.light);
        if self.word(SLEEPING).load(Ordering::Relaxed) != 0 {
            let bell = self.word(BELL);
            bell.fetch_add(1, Ordering::Release);
            wake(bell);
        }
    }

    /// Announces that the waiter is about to sleep; it must look for work once more before
    /// [`Doorbell::sleep`] with the value returned here. The announcement holds until
    /// [`Doorbell::awake`]: for further sleeps [`Doorbell::rings`] gives the value.
    pub(crate) fn announce(&self) -> u32 {
        let seen = self.rings();
        self.word(SLEEPING).store(1, Ordering::Relaxed);
        fences::heavy();
        seen
    }

    /// How often it was rung for an announced sleeper. What was published before a ring that
    /// counts here is visible afterwards.
    pub(crate) fn rings(&self) -> u32 {
        self.word(BELL).load(Ordering::Acquire)
    }

    /// Sleeps until rung since `announce`, at most `limit`.
    pub(crate) fn sleep(&self, seen: u32, limit: Duration) {
        wait(self.word(BELL), seen, limit);
    }

    /// Takes the announcement back.
    pub(crate) fn awake(&self) {
        self.word(SLEEPING).store(0, Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
fn wake(word: &AtomicU32) {
    // Not private: the word may be shared between processes.
    let _ = rustix::thread::futex::wake(word, rustix::thread::futex::Flags::empty(), 1);
}

#[cfg(target_os = "linux")]
fn wait(word: &AtomicU32, seen: u32, limit: Duration) {
    use rustix::thread::futex;
    let limit = futex::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // Every outcome (rung, changed before, interrupted, timed out) means: look again.
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&limit));
}

#[cfg(not(target_os = "linux"))]
fn wake(_word: &AtomicU32) {}

#[cfg(not(target_os = "linux"))]
fn wait(word: &AtomicU32, seen: u32, limit: Duration) {
    // Without a futex the waiter looks every 100 us.
    if word.load(Ordering::Acquire) == seen {
        std::thread::sleep(limit.min(Duration::from_micros(100)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_sleeper_is_woken_and_a_ring_before_the_sleep_is_not_lost() {
        let bell = Doorbell::local().unwrap();
        let seen = bell.announce();
        bell.ring();
        let begun = Instant::now();
        bell.sleep(seen, Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(2), "rung before the sleep");
        bell.awake();

        // The announcement holds: no second one is needed for a second sleep.
        let seen = bell.announce();
        bell.ring();
        let again = bell.rings();
        assert_ne!(seen, again);
        bell.ring();
        bell.sleep(again, Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(2), "rung before the second sleep");
        bell.awake();

        let seen = bell.announce();
        let other = bell.clone();
        let ringer = std::thread::spawn(move || other.ring());
        bell.sleep(seen, Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(4));
        ringer.join().unwrap();
    }
}
