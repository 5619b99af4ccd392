//! Floats of 8 and 16 bits to and from `f32`, without branches so that loops over them vectorise.
//!
//! `BIAS` and `MANTISSA` describe a format as IEEE 754 does: the exponent's bias and the bits of
//! the stored fraction.

/// The one NaN that conversions to `f32` give.
pub(crate) const NAN_F32: u32 = 0x7fc0_0000;

const INFINITY: u32 = 0x7f80_0000;
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Rounds the magnitude of `x` to nearest, ties to even.
///
/// What would be above the code `top` becomes `top` (infinities too), and NaN becomes `nan`. The
/// sign is left to the caller.
#[inline(always)]
pub(crate) const fn encode<const BIAS: u32, const MANTISSA: u32>(
    x: f32,
    top: u32,
    nan: u32,
) -> u32 {
    let shift = 23 - MANTISSA;
    let magnitude = x.to_bits() & MAGNITUDE;

    // A carry out of the fraction moves into the exponent, as it should.
    let odd = (magnitude >> shift) & 1;
    let half = (1 << (shift - 1)) - 1;
    let lowered = magnitude.wrapping_sub((127 - BIAS) << 23);
    let rounded = lowered.wrapping_add(half + odd) >> shift;
    let normal = if rounded > top { top } else { rounded };

    // Below the smallest normal: adding a float whose last place is the format's smallest
    // subnormal makes the addition itself round to nearest even.
    let magic = (127 - BIAS + shift + 1) << 23;
    let sum = f32::from_bits(magnitude) + f32::from_bits(magic);
    let subnormal = sum.to_bits().wrapping_sub(magic);

    let smallest_normal = (127 - BIAS + 1) << 23;
    let finite = if magnitude < smallest_normal { subnormal } else { normal };
    if magnitude > INFINITY { nan } else { finite }
}

/// The value of `magnitude`, a code without its sign, as the bits of an `f32`; exact.
///
/// Codes above `top` are NaN; the sign and a format's infinity are left to the caller.
#[inline(always)]
pub(crate) const fn decode<const BIAS: u32, const MANTISSA: u32>(magnitude: u32, top: u32) -> u32 {
    let wide = magnitude << (23 - MANTISSA);
    let normal = wide + ((127 - BIAS) << 23);

    // A subnormal is a normal of the smallest exponent less that exponent's power of two.
    let one = (127 - BIAS + 1) << 23;
    let subnormal = (f32::from_bits(wide + one) - f32::from_bits(one)).to_bits();

    let finite = if magnitude < (1 << MANTISSA) { subnormal } else { normal };
    if magnitude > top { NAN_F32 } else { finite }
}

/// `f16` of an `f32`: rounds to nearest even, overflows to infinity; every NaN becomes `0x7e00`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "codes have 15 bits, the sign is bit 15")]
pub(crate) const fn f16_of_f32(x: f32) -> u16 {
    let code = encode::<15, 10>(x, 0x7c00, 0x7e00);
    let sign = if x.is_nan() { 0 } else { (x.to_bits() >> 16) & 0x8000 };
    (code | sign) as u16
}

/// `f32` of an `f16`; exact, every NaN becomes [`NAN_F32`].
#[inline(always)]
pub(crate) const fn f32_of_f16(code: u16) -> f32 {
    let magnitude = (code & 0x7fff) as u32;
    let finite = decode::<15, 10>(magnitude, 0x7c00);
    let wide = if magnitude == 0x7c00 { INFINITY } else { finite };
    let sign = if magnitude > 0x7c00 { 0 } else { ((code & 0x8000) as u32) << 16 };
    f32::from_bits(wide | sign)
}

/// `bf16` of an `f32`: rounds to nearest even, overflows to infinity; every NaN becomes `0x7fc0`.
#[inline(always)]
pub(crate) const fn bf16_of_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let kept = if x.is_nan() { NAN_F32 } else { rounded };
    (kept >> 16) as u16
}

/// `f32` of a `bf16`; exact.
#[inline(always)]
pub(crate) const fn f32_of_bf16(code: u16) -> f32 {
    f32::from_bits((code as u32) << 16)
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use half::f16;

    use super::*;

    /// Bits of all kinds of floats: every exponent, with fractions around the places of ties.
    fn samples() -> impl Iterator<Item = f32> {
        (0..=0x1ff_u32).flat_map(|exponent| {
            let fractions = (0..=23).flat_map(|place| {
                let one = 1_u32 << place;
                [one >> 1, one - 1, one, one + 1, one | one << 1, !one, !(one - 1)]
            });
            fractions.map(move |f| f32::from_bits((exponent << 23) | (f & 0x7f_ffff)))
        })
    }

    #[test]
    fn halves_round_as_the_half_crate_does() {
        for x in samples() {
            if x.is_nan() {
                assert_eq!(f16_of_f32(x), 0x7e00);
                assert_eq!(bf16_of_f32(x), 0x7fc0);
            } else {
                assert_eq!(f16_of_f32(x), f16::from_f32(x).to_bits(), "{x:e}");
                assert_eq!(bf16_of_f32(x), bf16::from_f32(x).to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn every_half_widens_exactly() {
        for code in 0..=u16::MAX {
            let expected = f16::from_bits(code).to_f32();
            let got = f32_of_f16(code);
            if expected.is_nan() {
                assert_eq!(got.to_bits(), NAN_F32);
            } else {
                assert_eq!(got.to_bits(), expected.to_bits(), "{code:#06x}");
                assert_eq!(f16_of_f32(got), code);
            }
            let expected = bf16::from_bits(code).to_f32();
            assert_eq!(f32_of_bf16(code).is_nan(), expected.is_nan());
            if !expected.is_nan() {
                assert_eq!(f32_of_bf16(code).to_bits(), expected.to_bits());
                assert_eq!(bf16_of_f32(expected), code);
            }
        }
    }
}
