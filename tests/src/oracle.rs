//! What a reduction must give, computed element by element on one thread, and the inputs.
//!
//! Nothing of the library is used but the names of types and operations. The rule is the one of
//! docs/numerics.md: the left fold in rank order; small floats in `f32`, rounded once.

use nccl::Element;
use nccl::F8E4M3;
use nccl::F8E5M2;
use nccl::ReduceOp;
use nccl::bf16;
use nccl::f16;

use crate::fp8;

/// What values the inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "of tests")]
pub enum Flavour {
    /// Of all magnitudes, so that the order of a sum matters; zeros of both signs; subnormals.
    Plain,
    /// Infinities, NaNs, zeros and the largest values among the plain ones.
    Special,
    /// As `Special`, with NaNs that carry a sign and a payload.
    OddNans,
}

/// A type of elements, with its inputs and its fold.
pub trait Value: Element {
    /// The value of these bits, as many as it has.
    fn of_bits(bits: u64) -> Self;

    /// Its bits.
    fn bits(self) -> u64;

    /// Element `index` of `rank`'s input.
    fn input(flavour: Flavour, rank: usize, index: usize, seed: u64) -> Self;

    /// The left fold of the values of ranks 0, 1, ...; `op(rank)` is what that rank called.
    fn fold(values: &[Self], op: impl Fn(usize) -> ReduceOp) -> Self;
}

/// Bits that look random; the same for the same arguments.
#[must_use]
pub fn mix(rank: usize, index: usize, seed: u64) -> u64 {
    let mut x = (index as u64)
        .wrapping_add((rank as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

macro_rules! integers {
    ($($int:ident),*) => {$(
        #[expect(clippy::allow_attributes, reason = "which casts warn depends on the type")]
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_possible_wrap,
            trivial_numeric_casts,
            reason = "the low bits are meant"
        )]
        impl Value for $int {
            fn of_bits(bits: u64) -> Self {
                bits as Self
            }

            fn bits(self) -> u64 {
                self as u64
            }

            fn input(_: Flavour, rank: usize, index: usize, seed: u64) -> Self {
                let bits = mix(rank, index, seed);
                match bits % 37 {
                    0 => Self::MIN,
                    1 => Self::MAX,
                    2 => 0,
                    // Odd, so that products do not all end in zero.
                    _ => (bits >> 7) as Self | 1,
                }
            }

            fn fold(values: &[Self], op: impl Fn(usize) -> ReduceOp) -> Self {
                let rest = values[1..].iter().copied();
                let first = values[0];
                match op(0) {
                    ReduceOp::Sum => rest.fold(first, Self::wrapping_add),
                    ReduceOp::Product => rest.fold(first, Self::wrapping_mul),
                    ReduceOp::Min => rest.fold(first, Ord::min),
                    ReduceOp::Max => rest.fold(first, Ord::max),
                    ReduceOp::Avg => {
                        let sum = rest.fold(first, Self::wrapping_add);
                        (i128::from(sum) / values.len() as i128) as Self
                    }
                    ReduceOp::BitAnd => rest.fold(first, |a, b| a & b),
                    ReduceOp::BitOr => rest.fold(first, |a, b| a | b),
                    ReduceOp::BitXor => rest.fold(first, |a, b| a ^ b),
                    other => panic!("{other} does not exist for integers"),
                }
            }
        }
    )*};
}

integers!(i8, u8, i32, u32, i64, u64);

/// A float of moderate size: `(1 + fraction) * 2^exponent` with `|exponent| <= reach`.
fn plain(bits: u64, reach: u8) -> f64 {
    let steps = 2 * u64::from(reach) + 1;
    let exponent = i32::try_from(bits % steps).unwrap_or(0) - i32::from(reach);
    let fraction = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    let value = (1.0 + fraction) * 2.0_f64.powi(exponent);
    if bits >> 9 & 1 == 0 { value } else { -value }
}

/// A format of floats: how to compute, and the codes of special values.
macro_rules! floats {
    ($($float:ident, $wide:ident, $bits:ident, reach $reach:literal, nan $nan:expr, odd $odd:expr,
       infinity $infinity:expr, largest $largest:expr, of $of:expr, widen $widen:expr,
       narrow $narrow:expr, code $code:expr);* $(;)?) => {$(
        #[expect(clippy::allow_attributes, reason = "which casts warn depends on the type")]
        #[allow(clippy::cast_possible_truncation, reason = "inputs of fewer digits, low bits")]
        impl Value for $float {
            fn of_bits(bits: u64) -> Self {
                ($of)(bits as $bits)
            }

            fn bits(self) -> u64 {
                u64::from(($code)(self))
            }

            fn input(flavour: Flavour, rank: usize, index: usize, seed: u64) -> Self {
                let bits = mix(rank, index, seed);
                let sign = 1 << ($bits::BITS - 1);
                match (bits >> 32) % 41 {
                    0 => return ($of)(0),
                    1 => return ($of)(sign),
                    2 => return ($of)(1),
                    3 => return ($of)(sign | 3),
                    4 if flavour != Flavour::Plain => return ($of)($infinity),
                    5 if flavour != Flavour::Plain => return ($of)(sign | $infinity),
                    6 if flavour == Flavour::Special => return ($of)($nan),
                    6 if flavour == Flavour::OddNans => return ($of)(sign | $odd),
                    7 if flavour != Flavour::Plain => return ($of)($largest),
                    _ => {}
                }
                ($narrow)(plain(bits, $reach) as $wide)
            }

            fn fold(values: &[Self], op: impl Fn(usize) -> ReduceOp) -> Self {
                let first = ($widen)(values[0]);
                let all = values.iter().map(|value| ($widen)(*value));
                let rest = values[1..].iter().map(|value| ($widen)(*value));
                let wide: $wide = match op(0) {
                    ReduceOp::Sum => rest.fold(first, |a, b| a + b),
                    ReduceOp::Product => rest.fold(first, |a, b| a * b),
                    ReduceOp::Avg => rest.fold(first, |a, b| a + b) / values.len() as $wide,
                    ReduceOp::PreMulSum(_) => {
                        let factor = |rank| match op(rank) {
                            ReduceOp::PreMulSum(factor) => factor as $wide,
                            other => panic!("rank {rank} called {other}"),
                        };
                        let scaled = all.enumerate().map(|(rank, x)| x * factor(rank));
                        scaled.reduce(|a, b| a + b).unwrap_or(0.0)
                    }
                    chosen @ (ReduceOp::Min | ReduceOp::Max) => {
                        if all.clone().any($wide::is_nan) {
                            return ($of)($nan);
                        }
                        let order = |a: &&Self, b: &&Self| ($widen)(**a).total_cmp(&($widen)(**b));
                        let least = values.iter().min_by(order);
                        let most = values.iter().max_by(order);
                        let found = if chosen == ReduceOp::Min { least } else { most };
                        return found.copied().unwrap_or(values[0]);
                    }
                    other => panic!("{other} does not exist for floats"),
                };
                if wide.is_nan() { ($of)($nan) } else { ($narrow)(wide) }
            }
        }
    )*};
}

floats! {
    f64, f64, u64, reach 40, nan 0x7ff8_0000_0000_0000, odd 0x7ff8_0000_0000_1234,
        infinity 0x7ff0_0000_0000_0000, largest 0x7fef_ffff_ffff_ffff, of f64::from_bits,
        widen |x: f64| x, narrow |x: f64| x, code f64::to_bits;
    f32, f32, u32, reach 20, nan 0x7fc0_0000, odd 0x7fc0_0055,
        infinity 0x7f80_0000, largest 0x7f7f_ffff, of f32::from_bits,
        widen |x: f32| x, narrow |x: f32| x, code f32::to_bits;
    f16, f32, u16, reach 8, nan 0x7e00, odd 0x7e31,
        infinity 0x7c00, largest 0x7bff, of f16::from_bits,
        widen f16::to_f32, narrow f16::from_f32, code f16::to_bits;
    bf16, f32, u16, reach 14, nan 0x7fc0, odd 0x7fc9,
        infinity 0x7f80, largest 0x7f7f, of bf16::from_bits,
        widen bf16::to_f32, narrow bf16::from_f32, code bf16::to_bits;
    F8E4M3, f32, u8, reach 5, nan 0x7f, odd 0x7f,
        infinity 0x7e, largest 0x7e, of F8E4M3,
        widen |x: F8E4M3| fp8::E4M3.widen(x.0), narrow |x| F8E4M3(fp8::E4M3.narrow(x)),
        code |x: F8E4M3| x.0;
    F8E5M2, f32, u8, reach 8, nan 0x7e, odd 0x7d,
        infinity 0x7c, largest 0x7b, of F8E5M2,
        widen |x: F8E5M2| fp8::E5M2.widen(x.0), narrow |x| F8E5M2(fp8::E5M2.narrow(x)),
        code |x: F8E5M2| x.0;
}

/// Bytes that tell rank, place and seed.
#[must_use]
pub fn pattern(rank: usize, len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|index| mix(rank, index, seed).to_le_bytes()[3]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_inputs_sums_matters() {
        let differs = (0..1000).filter(|index| {
            let mut values: Vec<f32> =
                (0..5).map(|rank| f32::input(Flavour::Plain, rank, *index, 3)).collect();
            let forward = f32::fold(&values, |_| ReduceOp::Sum);
            values.reverse();
            forward.bits() != f32::fold(&values, |_| ReduceOp::Sum).bits()
        });
        assert!(differs.count() > 100);
    }

    #[test]
    fn small_floats_are_rounded_once() {
        let values = [1.0, 1.0 / 256.0, 1.0 / 256.0].map(bf16::from_f32);
        let sum = bf16::fold(&values, |_| ReduceOp::Sum);
        assert!(sum.to_f32() == 1.0 + 1.0 / 128.0);
    }

    #[test]
    fn zeros_are_ordered_and_a_nan_wins() {
        let min = f32::fold(&[0.0, -0.0], |_| ReduceOp::Min);
        assert_eq!(min.bits(), (-0.0_f32).bits());
        let max = f32::fold(&[f32::from_bits(0xffc0_0001), 5.0], |_| ReduceOp::Max);
        assert_eq!(max.bits(), 0x7fc0_0000);
        assert_eq!(i8::fold(&[100, 100], |_| ReduceOp::Avg), -28);
    }
}
