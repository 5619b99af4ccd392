//! The two halves of a full fence between one who does it all the time and one who seldom does:
//! the frequent half is free where the kernel can make the seldom half do the work of both
//! (`membarrier`, asymmetric fences as in liburcu).

use core::sync::atomic::Ordering;
use core::sync::atomic::compiler_fence;
use core::sync::atomic::fence;
use std::sync::LazyLock;

/// Whether this process takes part: the kernel interrupts its running threads for the heavy half.
static REGISTERED: LazyLock<bool> = LazyLock::new(register);

#[cfg(target_os = "linux")]
fn register() -> bool {
    use rustix::thread::MembarrierCommand;
    use rustix::thread::MembarrierQuery;
    use rustix::thread::membarrier;
    use rustix::thread::membarrier_query;
    // Asked for first: in a sandbox the second call may be answered by a signal otherwise.
    membarrier_query().contains(MembarrierQuery::GLOBAL_EXPEDITED)
        && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
        && membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn register() -> bool {
    false
}

/// Whether this process can do the heavy half for others, and others for it.
pub(super) fn are_asymmetric() -> bool {
    *REGISTERED
}

/// The frequent half. `light` only if [`are_asymmetric`] in this process and in that of whoever
/// does [`heavy`]; else it is a full fence.
#[inline]
pub(super) fn light(light: bool) {
    if light { compiler_fence(Ordering::SeqCst) } else { fence(Ordering::SeqCst) }
}

/// The seldom half: afterwards every thread that takes part has passed a full fence.
pub(super) fn heavy() {
    #[cfg(target_os = "linux")]
    if are_asymmetric() {
        use rustix::thread::MembarrierCommand;
        // It worked when the process registered. Should it fail now, for want of memory in the
        // kernel, a sleeper may miss a ring, and looks by itself after its nap.
        let _ = rustix::thread::membarrier(MembarrierCommand::GlobalExpedited);
    }
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    /// Two threads each store to their own word and then load the other's: with the two halves
    /// between, at least one must see the other's store.
    #[test]
    fn one_of_the_two_sees_the_other() {
        const TURNS: u32 = 20_000;
        let (x, y, turn) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let seen = [AtomicU32::new(0), AtomicU32::new(0)];
        let light_half = are_asymmetric();
        let wait = |value: u32| {
            while turn.load(Ordering::Acquire) < value {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=TURNS {
                    wait(2 * round - 1);
                    x.store(round, Ordering::Relaxed);
                    light(light_half);
                    seen[0].store(y.load(Ordering::Relaxed), Ordering::Relaxed);
                    turn.fetch_add(1, Ordering::AcqRel);
                }
            });
            for round in 1..=TURNS {
                turn.fetch_add(1, Ordering::AcqRel);
                y.store(round, Ordering::Relaxed);
                heavy();
                seen[1].store(x.load(Ordering::Relaxed), Ordering::Relaxed);
                wait(2 * round);
                let both = seen.each_ref().map(|word| word.load(Ordering::Relaxed));
                assert!(both.contains(&round), "turn {round}: {both:?}");
            }
        });
    }
}
