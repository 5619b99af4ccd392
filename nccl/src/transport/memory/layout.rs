//! Where things lie in the region of a pair.
//!
//! ```text
//! 0      one line each: what each side says of itself (see `Probe`)
//! 4096   direction low -> high: control lines, cells, slots
//! ...    direction high -> low: the same
//! ```

use crate::error::Error;
use crate::error::Result;

/// A cache line.
pub(super) const LINE_BYTES: usize = 64;
/// Cells of one direction: messages and pieces of messages that can be under way.
pub(super) const CELLS: usize = 8;
/// Bytes that fit into a cell beside its head.
pub(super) const INLINE_BYTES: usize = 24;
/// Control lines before the cells: freed, offer, reader, and one spare.
const CONTROL_LINES: usize = 4;
/// What precedes the directions.
const PREFACE_BYTES: usize = 4096;

/// Sizes of a pair's region; both sides must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of one slot, a multiple of a page's quarter.
    pub(crate) slot_bytes: usize,
}

/// Smallest and largest slot.
const SLOT_BYTES: core::ops::RangeInclusive<usize> = 1024..=1 << 20;

impl Geometry {
    /// A geometry with slots of `slot_bytes`.
    ///
    /// # Errors
    /// When `slot_bytes` is not a multiple of 64 from 1 KiB to 1 MiB.
    pub(crate) fn new(slot_bytes: usize) -> Result<Self> {
        if SLOT_BYTES.contains(&slot_bytes) && slot_bytes.is_multiple_of(LINE_BYTES) {
            return Ok(Self { slot_bytes });
        }
        let problem = "must be a multiple of 64 from 1024 to 1048576";
        Err(Error::env("NCCL_RS_SHM_SLOT_BYTES", slot_bytes.to_string(), problem))
    }

    /// Slots for a host with so many ranks: a pair costs `16 * slot_bytes`, and a rank may come to
    /// talk to all others.
    pub(crate) fn for_local_ranks(ranks: usize) -> Self {
        let slot_bytes = match ranks {
            0..=8 => 16 << 10,
            9..=16 => 8 << 10,
            17..=64 => 4 << 10,
            _ => 1 << 10,
        };
        Self { slot_bytes }
    }

    /// Bytes of one direction.
    fn direction_bytes(self) -> usize {
        CONTROL_LINES * LINE_BYTES + CELLS * (LINE_BYTES + self.slot_bytes)
    }

    /// Bytes of the whole region.
    pub(crate) fn region_bytes(self) -> usize {
        (PREFACE_BYTES + 2 * self.direction_bytes()).next_multiple_of(PREFACE_BYTES)
    }

    /// Where direction 0 (low to high) or 1 begins.
    pub(super) fn direction(self, which: usize) -> usize {
        PREFACE_BYTES + which * self.direction_bytes()
    }

    /// Where the line of side 0 (low) or 1 in the preface begins.
    pub(super) fn probe(which: usize) -> usize {
        which * LINE_BYTES
    }

    /// Offsets inside a direction.
    pub(super) const FREED: usize = 0;
    /// The state of an offered buffer.
    pub(super) const OFFER: usize = LINE_BYTES;
    /// What the reader can do.
    pub(super) const READER: usize = 2 * LINE_BYTES;

    /// Where a cell begins, from the direction's start.
    pub(super) fn cell(index: usize) -> usize {
        (CONTROL_LINES + index) * LINE_BYTES
    }

    /// Where a slot begins, from the direction's start.
    pub(super) fn slot(self, index: usize) -> usize {
        (CONTROL_LINES + CELLS) * LINE_BYTES + index * self.slot_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_all_fits() {
        for geometry in [1, 8, 16, 64, 256].map(Geometry::for_local_ranks) {
            assert!(Geometry::new(geometry.slot_bytes).is_ok());
            let last = geometry.slot(CELLS - 1) + geometry.slot_bytes;
            assert_eq!(last, geometry.direction_bytes());
            assert_eq!(Geometry::cell(CELLS), geometry.slot(0));
            assert!(geometry.direction(1) + last <= geometry.region_bytes());
        }
        assert!(Geometry::new(1000).is_err());
    }
}
