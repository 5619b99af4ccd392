//! The state of a buffer that a sender offers to be read in place.
//!
//! `ticket << 2 | state`. The reader holds `BUSY` only while it copies one piece; the sender may
//! take the offer back at any other moment, and the reader's last step fails if it did. So nobody
//! reads memory of a call that has returned, or at least (another process, by the kernel) never
//! believes what it read.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;

const OFFERED: u32 = 1;
const BUSY: u32 = 2;
const DONE: u32 = 3;
/// A word that no ticket has: ticket 0 is never offered.
const CANCELLED: u32 = 0;

/// The word, seen from either side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a>(pub(super) &'a AtomicU32);

impl Offer<'_> {
    /// Sender: offers buffer number `ticket`.
    pub(super) fn put(self, ticket: u32) {
        self.0.store(word(ticket, OFFERED), Ordering::Release);
    }

    /// Sender: whether the reader has all of it.
    pub(super) fn is_done(self, ticket: u32) -> bool {
        self.0.load(Ordering::Acquire) == word(ticket, DONE)
    }

    /// Sender: takes the offer back. With `wait`, returns only once no piece is being copied.
    pub(super) fn cancel(self, ticket: u32, wait: bool) {
        loop {
            let seen = self.0.load(Ordering::Acquire);
            if seen == word(ticket, DONE) {
                return;
            }
            if seen == word(ticket, BUSY) && wait {
                std::thread::yield_now();
                continue;
            }
            let swap =
                self.0.compare_exchange(seen, CANCELLED, Ordering::AcqRel, Ordering::Acquire);
            if swap.is_ok() {
                return;
            }
        }
    }

    /// Reader: begins to copy a piece; false if the sender took the offer back.
    pub(super) fn claim(self, ticket: u32) -> bool {
        self.change(word(ticket, OFFERED), word(ticket, BUSY))
    }

    /// Reader: has copied a piece, the last one if `all`; false if the sender took the offer back
    /// meanwhile and the piece does not count.
    pub(super) fn release(self, ticket: u32, all: bool) -> bool {
        self.change(word(ticket, BUSY), word(ticket, if all { DONE } else { OFFERED }))
    }

    fn change(self, from: u32, to: u32) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Tickets are those of frames, of which the low 29 bits and a one are kept.
fn word(ticket: u32, state: u32) -> u32 {
    (ticket << 3) | 4 | state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_taken_back_cannot_be_read_to_its_end() {
        let word = AtomicU32::new(0);
        let offer = Offer(&word);
        offer.put(9);
        assert!(!offer.claim(8), "another ticket");
        assert!(offer.claim(9));
        assert!(offer.release(9, false));
        assert!(!offer.is_done(9));
        assert!(offer.claim(9));
        offer.cancel(9, false);
        assert!(!offer.release(9, true), "taken back in the middle of a piece");
        assert!(!offer.is_done(9));

        offer.put(10);
        assert!(offer.claim(10) && offer.release(10, true) && offer.is_done(10));
        offer.cancel(10, true);
        assert!(offer.is_done(10), "what is done stays done");
    }
}
