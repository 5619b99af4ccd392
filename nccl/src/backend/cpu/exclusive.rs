//! A lock for what one thread at a time uses, and hardly ever a second one wants.
#![expect(unsafe_code, reason = "a lock hands out exclusive access to what it guards")]

use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ops::DerefMut;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Guards a value.
///
/// Beside a `Mutex`, giving it back is a plain store: an instruction that waits until all earlier
/// stores are done would wait for the cache lines of messages just written. Who finds it taken
/// looks again, after ever longer pauses.
#[derive(Debug, Default)]
pub(super) struct Exclusive<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, and there is one at a time, so that sharing
// the lock between threads does no more than send the value to and fro.
unsafe impl<T: Send> Sync for Exclusive<T> {}

/// Access to the value, until it is dropped.
pub(super) struct Taken<'a, T> {
    lock: &'a Exclusive<T>,
}

/// Looks before the first pause.
const LOOKS: u32 = 100;
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

impl<T> Exclusive<T> {
    pub(super) fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits until nobody else has it. A holder that panicked gave it back, too.
    #[inline]
    pub(super) fn take(&self) -> Taken<'_, T> {
        if self.taken.swap(true, Ordering::Acquire) {
            self.wait();
        }
        Taken { lock: self }
    }

    #[cold]
    fn wait(&self) {
        let mut looks = 0;
        let mut pause = Duration::from_micros(5);
        while self.taken.load(Ordering::Relaxed) || self.taken.swap(true, Ordering::Acquire) {
            looks += 1;
            if looks <= LOOKS {
                thread::yield_now();
            } else {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one: `take` set the flag, which only `drop` clears; the
        // acquire there and the release in `drop` order the accesses of one holder after another's.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Taken<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns_and_none_of_their_changes_is_lost() {
        let count = Exclusive::new(0_u64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        *count.take() += 1;
                    }
                });
            }
        });
        assert_eq!(*count.take(), 80_000);
    }

    #[test]
    fn whoever_panics_gives_it_back() {
        let value = Exclusive::new(7);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _taken = value.take();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*value.take(), 7);
    }
}
