//! The two 8-bit floating-point types, as bits; conversions are in [`crate::kernel`].

/// An 8-bit float of 4 exponent and 3 mantissa bits (OCP E4M3: no infinities, largest 448).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "eight bits and nothing else")]
#[repr(transparent)]
pub struct F8E4M3(pub u8);

/// An 8-bit float of 5 exponent and 2 mantissa bits (OCP E5M2: IEEE-like, largest 57344).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "eight bits and nothing else")]
#[repr(transparent)]
pub struct F8E5M2(pub u8);
