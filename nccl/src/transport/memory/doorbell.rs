//! How a rank that sleeps is woken by one that writes to it.

#![expect(unsafe_code, reason = "a futex word in memory shared between processes")]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;
use core::sync::atomic::fence;
use std::sync::Arc;
use std::time::Duration;

use super::region::Region;
use crate::error::Result;

/// A word that one waiter sleeps on and all its peers can ring.
///
/// The waiter announces that it is about to sleep, looks once more, and sleeps; a ringer looks at
/// the announcement after it has published. The two full fences make sure that one of them sees
/// the other, so ringing costs one load while nobody sleeps.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell {
    region: Arc<Region>,
}

/// Bytes of a doorbell's region.
const BYTES: usize = 4096;
/// The announcement; on its own line, since ringers read it all the time.
const SLEEPING: usize = 0;
/// The word slept on.
const BELL: usize = 64;

impl Doorbell {
    /// A doorbell for threads of one process.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn local() -> Result<Self> {
        Ok(Self { region: Arc::new(Region::heap(BYTES)?) })
    }

    /// A doorbell that other processes can ring, with the descriptor to pass to them.
    ///
    /// # Errors
    /// When the kernel refuses.
    #[cfg(target_os = "linux")]
    pub(crate) fn shared() -> Result<(Self, std::os::fd::OwnedFd)> {
        let (region, fd) = Region::shared(BYTES)?;
        Ok((Self { region: Arc::new(region) }, fd))
    }

    /// Another process's doorbell.
    ///
    /// # Errors
    /// When the descriptor is none.
    #[cfg(target_os = "linux")]
    pub(crate) fn adopt(fd: std::os::fd::BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { region: Arc::new(Region::adopt(fd, BYTES)?) })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at + size_of::<AtomicU32>() <= self.region.bytes());
        // SAFETY: the region is BYTES long and page-aligned, `at` is one of the two constants, both
        // multiples of 4; the memory stays mapped as long as `self.region`; any bit pattern is a
        // valid u32, and every access anywhere is atomic.
        unsafe { AtomicU32::from_ptr(self.region.base().add(at).cast()) }
    }

    /// Wakes the waiter if it sleeps or is about to.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.word(SLEEPING).load(Ordering::Relaxed) != 0 {
            let bell = self.word(BELL);
            bell.fetch_add(1, Ordering::Release);
            wake(bell);
        }
    }

    /// Announces that the waiter is about to sleep; it must look for work once more before
    /// [`Doorbell::sleep`] with the value returned here.
    pub(crate) fn announce(&self) -> u32 {
        let seen = self.word(BELL).load(Ordering::Acquire);
        self.word(SLEEPING).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        seen
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

        let seen = bell.announce();
        let other = bell.clone();
        let ringer = std::thread::spawn(move || other.ring());
        bell.sleep(seen, Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(4));
        ringer.join().unwrap();
    }
}
