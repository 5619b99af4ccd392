//! NCCL's version and the two ways in which it was written as one number.

use core::fmt;

/// A version of NCCL, such as 2.30.7; later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

impl Version {
    /// The oldest version that this crate works with.
    pub const OLDEST: Self = Self::new(2, 18, 0);

    /// The version whose header the types of this crate are made from.
    pub const HEADER: Self = Self::new(2, 32, 3);

    /// Makes a version of its three parts.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads the number of `ncclGetVersion`; none if it cannot be a version.
    ///
    /// Up to 2.8 the number is `major * 1000 + minor * 100 + patch` (2804 is 2.8.4), from 2.9 on
    /// `major * 10000 + minor * 100 + patch` (20906 is 2.9.6).
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        const NEW_STYLE: i32 = 10_000;
        let major_unit = if code < NEW_STYLE { 1000 } else { NEW_STYLE };
        let part = |value: i32| u16::try_from(value).ok();
        let major = part(code / major_unit)?;
        let version = Self::new(major, part(code % major_unit / 100)?, part(code % 100)?);
        (code > 0 && major > 0).then_some(version)
    }

    /// The number as `ncclGetVersion` gives it.
    #[must_use]
    pub fn code(self) -> i32 {
        let old_style = (self.major, self.minor) <= (2, 8);
        let major_unit = if old_style { 1000 } else { 10_000 };
        i32::from(self.major)
            .saturating_mul(major_unit)
            .saturating_add(i32::from(self.minor).saturating_mul(100))
            .saturating_add(i32::from(self.patch))
    }

    /// The first of the three numbers.
    #[must_use]
    pub const fn major(self) -> u16 {
        self.major
    }

    /// The second of the three numbers.
    #[must_use]
    pub const fn minor(self) -> u16 {
        self.minor
    }

    /// The third of the three numbers.
    #[must_use]
    pub const fn patch(self) -> u16 {
        self.patch
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_are_read_and_written() {
        for (code, text) in [
            (1001, "1.0.1"),
            (2408, "2.4.8"),
            (2804, "2.8.4"),
            (20906, "2.9.6"),
            (21803, "2.18.3"),
            (23007, "2.30.7"),
            (23203, "2.32.3"),
            (30000, "3.0.0"),
        ] {
            let version = Version::from_code(code).unwrap();
            assert_eq!(version.to_string(), text);
            assert_eq!(version.code(), code);
        }
    }

    #[test]
    fn the_header_is_that_of_the_bindings() {
        assert_eq!(Version::HEADER.code(), crate::bindings::NCCL_VERSION_CODE);
    }

    #[test]
    fn versions_are_ordered_across_the_encodings() {
        let codes = [2408, 2804, 20906, 21803, 22902, 22903, 23007, 23203];
        let versions = codes.map(|code| Version::from_code(code).unwrap());
        assert!(versions.is_sorted_by(|a, b| a < b));
        assert!(Version::from_code(21605).unwrap() < Version::OLDEST);
        assert!(Version::from_code(21801).unwrap() > Version::OLDEST);
    }

    #[test]
    fn no_number_makes_trouble() {
        for code in [0, -1, 999, i32::MIN] {
            assert_eq!(Version::from_code(code), None, "{code}");
        }
        assert_eq!(Version::from_code(i32::MAX), None);
        let largest = Version::new(u16::MAX, u16::MAX, u16::MAX);
        assert!(largest.code() > 0);
    }
}
