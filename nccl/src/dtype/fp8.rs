//! The two 8-bit floating-point types.

use core::fmt;

use super::narrow::NAN_F32;
use super::narrow::decode;
use super::narrow::encode;

/// An 8-bit float of 4 exponent and 3 mantissa bits (OCP E4M3: no infinities, largest 448).
///
/// Equality and hash are those of the bits: a NaN equals itself, and -0 differs from 0.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "eight bits and nothing else")]
#[repr(transparent)]
pub struct F8E4M3(pub u8);

/// An 8-bit float of 5 exponent and 2 mantissa bits (OCP E5M2: IEEE-like, largest 57344).
///
/// Equality and hash are those of the bits: a NaN equals itself, and -0 differs from 0.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "eight bits and nothing else")]
#[repr(transparent)]
pub struct F8E5M2(pub u8);

impl F8E4M3 {
    /// The largest finite value, 448.
    pub const MAX: Self = Self(0x7e);
    /// The smallest finite value, -448.
    pub const MIN: Self = Self(0xfe);
    /// The NaN that conversions give; `0xff` is the other one.
    pub const NAN: Self = Self(0x7f);

    /// Rounds to the nearest value, ties to even, and saturates: beyond ±448, infinities
    /// included, it gives ±448. NaN stays NaN.
    ///
    /// # Source
    /// OCP 8-bit Floating Point Specification, saturating mode; CUDA's `__NV_SATFINITE`, which
    /// is what `__nv_fp8_e4m3(float)` and so NCCL use.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "codes have 7 bits, the sign is bit 7")]
    pub const fn from_f32(x: f32) -> Self {
        let sign = if x.is_nan() { 0 } else { (x.to_bits() >> 24) & 0x80 };
        Self((encode::<7, 3>(x, 0x7e, 0x7f) | sign) as u8)
    }

    /// Its value; exact. Both NaNs become the same one.
    #[inline(always)]
    #[must_use]
    pub const fn to_f32(self) -> f32 {
        let magnitude = (self.0 & 0x7f) as u32;
        let sign = if magnitude > 0x7e { 0 } else { ((self.0 & 0x80) as u32) << 24 };
        f32::from_bits(decode::<7, 3>(magnitude, 0x7e) | sign)
    }

    /// Whether it is one of the two NaNs.
    #[must_use]
    pub const fn is_nan(self) -> bool {
        self.0 & 0x7f == 0x7f
    }
}

impl F8E5M2 {
    /// The largest finite value, 57344.
    pub const MAX: Self = Self(0x7b);
    /// The smallest finite value, -57344.
    pub const MIN: Self = Self(0xfb);
    /// Positive infinity. Conversions from `f32` never give it.
    pub const INFINITY: Self = Self(0x7c);
    /// Negative infinity. Conversions from `f32` never give it.
    pub const NEG_INFINITY: Self = Self(0xfc);
    /// The NaN that conversions give; there are five others.
    pub const NAN: Self = Self(0x7e);

    /// Rounds to the nearest value, ties to even, and saturates: beyond ±57344, infinities
    /// included, it gives ±57344. NaN stays NaN.
    ///
    /// # Source
    /// OCP 8-bit Floating Point Specification, saturating mode; CUDA's `__NV_SATFINITE`, which
    /// is what `__nv_fp8_e5m2(float)` and so NCCL use.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "codes have 7 bits, the sign is bit 7")]
    pub const fn from_f32(x: f32) -> Self {
        let sign = if x.is_nan() { 0 } else { (x.to_bits() >> 24) & 0x80 };
        Self((encode::<15, 2>(x, 0x7b, 0x7e) | sign) as u8)
    }

    /// Its value; exact, infinities stay. All NaNs become the same one.
    #[inline(always)]
    #[must_use]
    pub const fn to_f32(self) -> f32 {
        let magnitude = (self.0 & 0x7f) as u32;
        let finite = decode::<15, 2>(magnitude, 0x7c);
        let wide = if magnitude == 0x7c { f32::INFINITY.to_bits() } else { finite };
        let sign = if magnitude > 0x7c { 0 } else { ((self.0 & 0x80) as u32) << 24 };
        f32::from_bits(wide | sign)
    }

    /// Whether it is one of the six NaNs.
    #[must_use]
    pub const fn is_nan(self) -> bool {
        self.0 & 0x7f > 0x7c
    }
}

macro_rules! traits {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.to_f32(), f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.to_f32(), f)
            }
        }

        impl From<$type> for f32 {
            fn from(x: $type) -> Self {
                x.to_f32()
            }
        }

        impl From<$type> for f64 {
            fn from(x: $type) -> Self {
                Self::from(x.to_f32())
            }
        }
    )*};
}

traits!(F8E4M3, F8E5M2);

const _: () = assert!(F8E4M3::NAN.to_f32().to_bits() == NAN_F32);
const _: () = assert!(F8E5M2::NAN.to_f32().to_bits() == NAN_F32);

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "a value of the formats is exact in f32")]
mod tests {
    use super::*;

    /// A format's numbers, written down from the specification and not from the code above.
    struct Format {
        exponent_bits: u32,
        fraction_bits: u32,
        bias: i32,
        is_nan: fn(u8) -> bool,
        is_infinite: fn(u8) -> bool,
        decode: fn(u8) -> f32,
        encode: fn(f32) -> u8,
        largest: f64,
        largest_code: u8,
    }

    const FORMATS: [Format; 2] = [
        Format {
            exponent_bits: 4,
            fraction_bits: 3,
            bias: 7,
            is_nan: |code| code & 0x7f == 0x7f,
            is_infinite: |_| false,
            decode: |code| F8E4M3(code).to_f32(),
            encode: |x| F8E4M3::from_f32(x).0,
            largest: 448.0,
            largest_code: 0x7e,
        },
        Format {
            exponent_bits: 5,
            fraction_bits: 2,
            bias: 15,
            is_nan: |code| code & 0x7c == 0x7c && code & 3 != 0,
            is_infinite: |code| code & 0x7f == 0x7c,
            decode: |code| F8E5M2(code).to_f32(),
            encode: |x| F8E5M2::from_f32(x).0,
            largest: 57344.0,
            largest_code: 0x7b,
        },
    ];

    impl Format {
        /// The value of a finite code by the formula of the specification.
        fn value(&self, code: u8) -> f64 {
            let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
            let exponent = i32::from((code & 0x7f) >> self.fraction_bits);
            let fraction = f64::from(code & ((1 << self.fraction_bits) - 1));
            let places = 2_f64.powi(self.fraction_bits as i32);
            assert!(exponent < 1 << self.exponent_bits);
            match exponent {
                0 => sign * fraction / places * 2_f64.powi(1 - self.bias),
                _ => sign * (1.0 + fraction / places) * 2_f64.powi(exponent - self.bias),
            }
        }

        /// The nearest finite code by trying all of them; ties go to the even code. In `f64`
        /// every difference here is exact.
        fn nearest(&self, x: f32) -> u8 {
            if x.abs() >= 2.0 * self.largest as f32 {
                return self.largest_code | if x < 0.0 { 0x80 } else { 0 };
            }
            let signs = if x.is_sign_negative() { 0x80..=0xff_u8 } else { 0..=0x7f_u8 };
            signs
                .filter(|code| !(self.is_nan)(*code) && !(self.is_infinite)(*code))
                .min_by(|a, b| {
                    let far = |code: u8| (self.value(code) - f64::from(x)).abs();
                    far(*a).total_cmp(&far(*b)).then((a & 1).cmp(&(b & 1)))
                })
                .unwrap()
        }
    }

    #[test]
    fn every_code_has_the_value_of_the_specification_and_comes_back() {
        for format in &FORMATS {
            for code in 0..=u8::MAX {
                let x = (format.decode)(code);
                if (format.is_nan)(code) {
                    assert!(x.is_nan(), "{code:#04x}");
                    assert_eq!((format.encode)(x) & 0x7f, (format.encode)(f32::NAN));
                } else if (format.is_infinite)(code) {
                    let expected = if code < 0x80 { f32::INFINITY } else { f32::NEG_INFINITY };
                    assert_eq!(x, expected);
                    assert_eq!((format.encode)(x), (code & 0x80) | format.largest_code);
                } else {
                    assert_eq!(f64::from(x).to_bits(), format.value(code).to_bits(), "{code:#04x}");
                    assert_eq!((format.encode)(x), code);
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ties_go_to_even() {
        for format in &FORMATS {
            for code in 0..format.largest_code {
                let (low, high) = (format.value(code), format.value(code + 1));
                let tie = ((low + high) / 2.0) as f32;
                assert_eq!(f64::from(tie), (low + high) / 2.0, "the tie itself is exact");
                let even = if code & 1 == 0 { code } else { code + 1 };
                for (x, expected) in
                    [(tie, even), (tie.next_down(), code), (tie.next_up(), code + 1)]
                {
                    assert_eq!((format.encode)(x), expected, "{x:e}");
                    assert_eq!((format.encode)(-x), expected | 0x80, "{x:e}");
                    assert_eq!(format.nearest(x), expected, "{x:e}");
                }
            }
        }
    }

    #[test]
    fn any_float_rounds_as_the_search_over_all_codes_says() {
        let mut bits = 0x1234_5678_u32;
        for format in &FORMATS {
            for _ in 0..20_000 {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Half of them in the range of the format, the rest anywhere.
                let near = (bits & 0x87ff_ffff) | 0x3800_0000;
                for x in [f32::from_bits(bits), f32::from_bits(near)] {
                    if !x.is_nan() {
                        assert_eq!((format.encode)(x), format.nearest(x), "{x:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn overflow_saturates_and_nan_stays() {
        for (x, e4m3, e5m2) in [
            (f32::INFINITY, 0x7e, 0x7b),
            (f32::NEG_INFINITY, 0xfe, 0xfb),
            (f32::MAX, 0x7e, 0x7b),
            (f32::MIN, 0xfe, 0xfb),
            (f32::NAN, 0x7f, 0x7e),
            (-f32::NAN, 0x7f, 0x7e),
            (f32::from_bits(0x7f80_0001), 0x7f, 0x7e),
            (1e9, 0x7e, 0x7b),
            (464.0, 0x7e, 0x5f),
            (480.0, 0x7e, 0x60),
            (f32::MIN_POSITIVE, 0, 0),
            (-1e-30, 0x80, 0x80),
            (0.0, 0, 0),
            (-0.0, 0x80, 0x80),
        ] {
            assert_eq!(F8E4M3::from_f32(x).0, e4m3, "{x:e}");
            assert_eq!(F8E5M2::from_f32(x).0, e5m2, "{x:e}");
        }
    }

    #[test]
    fn they_print_as_numbers() {
        assert_eq!(F8E4M3::from_f32(1.5).to_string(), "1.5");
        assert_eq!(format!("{:?}", F8E5M2::MIN), "-57344.0");
        assert_eq!(format!("{:.2}", F8E4M3::NAN), "NaN");
        assert_eq!(f64::from(F8E4M3::MAX), 448.0);
        assert_eq!(f32::from(F8E5M2::INFINITY), f32::INFINITY);
    }
}
