//! Whether a peer's memory can be read: each side shows a number in its own memory, the other
//! reads it by the way that large messages will take.

#![expect(unsafe_code, reason = "atomics in memory shared between ranks")]

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::layout::Geometry;
use super::link::Side;
use super::region::Region;
use super::remote::RemoteRead;

/// The number shown by one side; it stays in place as long as this lives.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    _shown: Arc<AtomicU64>,
}

impl Probe {
    /// Shows a number and writes into the region where it is.
    pub(crate) fn publish(region: &Region, side: Side) -> Self {
        let shown = Arc::new(AtomicU64::new(0));
        let address = Arc::as_ptr(&shown).expose_provenance() as u64;
        // Anything that a wrong process would hardly have at that address.
        let number =
            address.rotate_left(17) ^ u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15;
        shown.store(number, Ordering::Release);
        let words = words(region, side);
        words[1].store(number, Ordering::Relaxed);
        words[0].store(address, Ordering::Release);
        Self { _shown: shown }
    }

    /// Whether the number that the side opposite to `side` shows can be read in process `pid`.
    pub(crate) fn try_peer(region: &Region, side: Side, pid: i32) -> bool {
        let other = if side == Side::Low { Side::High } else { Side::Low };
        let words = words(region, other);
        let address = words[0].load(Ordering::Acquire);
        let number = words[1].load(Ordering::Relaxed);
        let mut read = [0_u8; 8];
        // SAFETY: the array is eight bytes long; the kernel checks the other process's address.
        let good = unsafe { RemoteRead::Cma(pid).read(address, read.as_mut_ptr(), read.len()) };
        good && address != 0 && u64::from_le_bytes(read) == number.to_le()
    }
}

fn words(region: &Region, side: Side) -> &[AtomicU64; 2] {
    let at = Geometry::probe(usize::from(side == Side::High));
    debug_assert!(at + 16 <= region.bytes());
    // SAFETY: the two lines lie at the start of every pair's region, which is page-aligned and
    // stays mapped as long as `region`; any bits are valid for atomics, and all access is atomic.
    unsafe { &*region.base().add(at).cast::<[AtomicU64; 2]>() }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_read_itself_but_not_one_that_is_not_there() {
        let region = Region::heap(8192).unwrap();
        let _low = Probe::publish(&region, Side::Low);
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(Probe::try_peer(&region, Side::High, pid));
        assert!(!Probe::try_peer(&region, Side::Low, pid), "the high side shows nothing");
        assert!(!Probe::try_peer(&region, Side::High, 0x7fff_fff0));
    }
}
