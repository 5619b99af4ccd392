//! Ranges of device memory as arguments name them.

use core::fmt;

/// The bytes of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The argument's name.
    pub(super) name: &'static str,
    /// Where it begins.
    pub(super) at: u64,
    /// How many bytes it has.
    pub(super) bytes: u64,
}

impl Span {
    /// What is not used.
    pub(super) const NONE: Self = Self { name: "", at: 0, bytes: 0 };

    /// The first byte behind it.
    fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes)
    }

    /// Whether both have a byte in common; addresses are unique in a process.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.bytes > 0 && other.bytes > 0 && self.at < other.end() && other.at < self.end()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({:#x}..{:#x})", self.name, self.at, self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_overlap_if_they_have_a_byte_in_common() {
        let span = |at, bytes| Span { name: "send", at, bytes };
        let a = span(0x100, 0x10);
        assert_eq!(a.to_string(), "`send` (0x100..0x110)");
        assert!(a.overlaps(&a) && a.overlaps(&span(0x10f, 1)) && span(0, 0x101).overlaps(&a));
        assert!(!a.overlaps(&span(0x110, 1)) && !span(0, 0x100).overlaps(&a));
        assert!(!a.overlaps(&span(0x108, 0)) && !Span::NONE.overlaps(&a));
        assert!(span(1, u64::MAX).overlaps(&a), "an end beyond the address space does not wrap");
    }
}
