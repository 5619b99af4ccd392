//! What the driver knows about an address.
#![expect(unsafe_code, reason = "asks the driver, which writes the answer by address")]

use core::ffi::c_int;

use crate::cuda::driver::Driver;
use crate::error::Result;

const MEMORY_TYPE: c_int = 2;
const IS_MANAGED: c_int = 8;
const DEVICE_ORDINAL: c_int = 9;
const RANGE_START: c_int = 11;
const RANGE_BYTES: c_int = 12;

/// What kind of memory an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryKind {
    /// A GPU's.
    Device,
    /// The host's, pinned by CUDA.
    Host,
    /// Managed: it moves between host and GPUs.
    Managed,
    /// Something else that CUDA knows, as an array.
    Other,
}

/// What the driver knows about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PointerInfo {
    /// The kind of memory.
    pub kind: MemoryKind,
    /// The number of the device it was allocated on.
    pub device: Option<usize>,
    /// Where its allocation begins and how many bytes it has, if the driver tells.
    pub range: Option<(u64, usize)>,
}

impl PointerInfo {
    /// Says whether `bytes` from `at` on are inside of the allocation; true if the driver does not
    /// tell where that ends.
    #[must_use]
    pub fn holds(&self, at: u64, bytes: usize) -> bool {
        let Some((start, length)) = self.range else { return true };
        let Some(offset) = at.checked_sub(start) else { return false };
        let end = u64::try_from(bytes).ok().and_then(|bytes| offset.checked_add(bytes));
        end.zip(u64::try_from(length).ok()).is_some_and(|(end, length)| end <= length)
    }
}

impl Driver {
    /// Returns what the driver knows about an address; `None` if it is none of CUDA's, as of
    /// memory of `malloc`.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver).
    ///
    /// # Source
    /// `cuPointerGetAttribute` of cuda.h.
    pub fn pointer_info(&self, at: u64) -> Result<Option<PointerInfo>> {
        let Some(kind) = self.pointer_attribute(MEMORY_TYPE, at)? else { return Ok(None) };
        let is_managed =
            self.pointer_attribute(IS_MANAGED, at)?.is_some_and(|value| int(value) != 0);
        let kind = match int(kind) {
            _ if is_managed => MemoryKind::Managed,
            1 => MemoryKind::Host,
            2 => MemoryKind::Device,
            _ => MemoryKind::Other,
        };
        let device = self.pointer_attribute(DEVICE_ORDINAL, at)?.map(int);
        let device = device.and_then(|ordinal| usize::try_from(ordinal).ok());
        let start = self.pointer_attribute(RANGE_START, at)?;
        let bytes = self.pointer_attribute(RANGE_BYTES, at)?;
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Ok(Some(PointerInfo { kind, device, range: start.zip(bytes) }))
    }

    /// An attribute, in at most eight bytes; `None` if the address has none.
    fn pointer_attribute(&self, attribute: c_int, at: u64) -> Result<Option<u64>> {
        let mut value = 0_u64;
        let into = (&raw mut value).cast();
        // SAFETY: all attributes we ask for are of four or eight bytes, which the driver writes to
        // eight that live; it takes any address.
        let known = unsafe { self.table().pointer_attribute(into, attribute, at) }.known()?;
        Ok(known.then_some(value))
    }
}

/// The four bytes that the driver wrote for an int.
fn int(value: u64) -> i32 {
    let bytes = value.to_ne_bytes();
    bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_begins_and_ends_inside() {
        let info =
            PointerInfo { kind: MemoryKind::Device, device: Some(0), range: Some((100, 50)) };
        assert!(info.holds(100, 50) && info.holds(149, 1) && info.holds(150, 0));
        assert!(!info.holds(99, 1) && !info.holds(100, 51) && !info.holds(150, 1));
        assert!(!info.holds(u64::MAX, usize::MAX));
        assert!(PointerInfo { range: None, ..info }.holds(0, usize::MAX));
    }

    #[test]
    fn an_int_is_the_first_four_bytes() {
        let mut bytes = [0xff; 8];
        bytes[..4].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(int(u64::from_ne_bytes(bytes)), -2);
    }
}
