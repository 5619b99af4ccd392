//! What is done with two elements, or with one.
//!
//! Every operation gives the same bits for `(a, b)` and `(b, a)`, on every machine: NaNs that
//! come out are one and the same, and -0 is below 0.

use core::num::NonZeroU32;
use core::num::NonZeroU64;

/// Combines two values.
pub(super) trait Op<T>: Copy {
    /// `a op b`.
    fn apply(self, a: T, b: T) -> T;
}

/// Changes one value.
pub(super) trait Unary<T>: Copy {
    /// The new value.
    fn apply(self, x: T) -> T;
}

/// Leaves a value as it is.
#[derive(Clone, Copy)]
pub(super) struct Same;

impl<T> Unary<T> for Same {
    #[inline(always)]
    fn apply(self, x: T) -> T {
        x
    }
}

/// The sum; integers wrap.
#[derive(Clone, Copy)]
pub(super) struct Sum;

/// The product; integers wrap.
#[derive(Clone, Copy)]
pub(super) struct Product;

/// The smaller; NaN if either is.
#[derive(Clone, Copy)]
pub(super) struct Min;

/// The larger; NaN if either is.
#[derive(Clone, Copy)]
pub(super) struct Max;

/// The sum divided by a number: `Avg` of two contributions at once.
#[derive(Clone, Copy)]
pub(super) struct Mean<D>(pub(super) D);

/// Divides by a number: the end of `Avg`.
#[derive(Clone, Copy)]
pub(super) struct Div<D>(pub(super) D);

/// Multiplies by a factor: the beginning of `PreMulSum`.
#[derive(Clone, Copy)]
pub(super) struct Scale<T>(pub(super) T);

/// Adds the second value times a factor.
#[derive(Clone, Copy)]
pub(super) struct AddScaled<T>(pub(super) T);

/// Adds both values, each times its factor: `PreMulSum` of two contributions at once.
#[derive(Clone, Copy)]
pub(super) struct SumScaled<T>(pub(super) T, pub(super) T);

/// Bitwise and.
#[derive(Clone, Copy)]
pub(super) struct And;

/// Bitwise or.
#[derive(Clone, Copy)]
pub(super) struct Or;

/// Bitwise exclusive or.
#[derive(Clone, Copy)]
pub(super) struct Xor;

macro_rules! floats {
    ($($float:ident, $bits:ident, $nan:literal);*) => {$(
        impl Canonical for $float {
            #[inline(always)]
            fn canonical(self) -> Self {
                // Which NaN an addition gives differs between instruction sets, and with the
                // order in which the compiler puts the operands.
                if self.is_nan() { Self::from_bits($nan) } else { self }
            }
        }

        impl Op<$float> for Min {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                // Each line is one instruction on x86. They differ for NaN and for zeros of
                // both signs only.
                let first = if a < b { a } else { b };
                let second = if b < a { b } else { a };
                let both = <$float>::from_bits(first.to_bits() | second.to_bits());
                if a.is_nan() | b.is_nan() { <$float>::from_bits($nan) } else { both }
            }
        }

        impl Op<$float> for Max {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                let first = if a > b { a } else { b };
                let second = if b > a { b } else { a };
                let both = <$float>::from_bits(first.to_bits() & second.to_bits());
                if a.is_nan() | b.is_nan() { <$float>::from_bits($nan) } else { both }
            }
        }

        impl Op<$float> for Sum {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                (a + b).canonical()
            }
        }

        impl Op<$float> for Product {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                (a * b).canonical()
            }
        }

        impl Op<$float> for Mean<$float> {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                ((a + b) / self.0).canonical()
            }
        }

        impl Unary<$float> for Div<$float> {
            #[inline(always)]
            fn apply(self, x: $float) -> $float {
                (x / self.0).canonical()
            }
        }

        impl Unary<$float> for Scale<$float> {
            #[inline(always)]
            fn apply(self, x: $float) -> $float {
                (x * self.0).canonical()
            }
        }

        impl Op<$float> for AddScaled<$float> {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                (a + b * self.0).canonical()
            }
        }

        impl Op<$float> for SumScaled<$float> {
            #[inline(always)]
            fn apply(self, a: $float, b: $float) -> $float {
                (a * self.0 + b * self.1).canonical()
            }
        }
    )*};
}

/// Floats with one NaN.
pub(super) trait Canonical {
    /// Itself, or the one quiet NaN if it is a NaN.
    fn canonical(self) -> Self;
}

floats!(f32, u32, 0x7fc0_0000; f64, u64, 0x7ff8_0000_0000_0000);

macro_rules! integers {
    ($($int:ident),*) => {$(
        impl Op<$int> for Sum {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                a.wrapping_add(b)
            }
        }

        impl Op<$int> for Product {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                a.wrapping_mul(b)
            }
        }

        impl Op<$int> for Min {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                if a < b { a } else { b }
            }
        }

        impl Op<$int> for Max {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                if a > b { a } else { b }
            }
        }

        impl Op<$int> for Mean<Divisor> {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                Div(self.0).apply(a.wrapping_add(b))
            }
        }

        impl Op<$int> for And {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                a & b
            }
        }

        impl Op<$int> for Or {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                a | b
            }
        }

        impl Op<$int> for Xor {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                a ^ b
            }
        }
    )*};
}

integers!(i8, u8, i32, u32, i64, u64);

/// A divisor prepared for many divisions that round towards zero.
#[derive(Clone, Copy)]
pub(super) struct Divisor {
    whole: NonZeroU32,
    float: f64,
    /// 2^16 divided by it and rounded up past the exact quotient, 0 if that leaves nothing.
    reciprocal: u32,
}

impl Divisor {
    /// Divides by a number of ranks.
    pub(super) fn new(world_size: usize) -> Self {
        let ranks = u32::try_from(world_size).unwrap_or(u32::MAX);
        let whole = NonZeroU32::new(ranks).unwrap_or(NonZeroU32::MIN);
        let reciprocal = if whole.get() > 255 { 0 } else { (1 << 16) / whole + 1 };
        Self { whole, float: f64::from(whole.get()), reciprocal }
    }

    /// For `x < 256` and a divisor below that, the reciprocal's error times `x` is below 2^16, too
    /// small to reach the next quotient; larger divisors give 0.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a quotient is no larger")]
    fn divide_u8(self, x: u8) -> u8 {
        ((u32::from(x) * self.reciprocal) >> 16) as u8
    }

    /// By floats, whose division is vectorised. The rounded quotient reaches no integer that the
    /// exact one does not reach: those are at least 2^-32 apart, the rounding error is less.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the integer is in the lower half")]
    fn divide_u32(self, x: u32) -> u32 {
        /// From here to twice it, floats are the integers, in the lower bits.
        const INTEGERS: f64 = 4_503_599_627_370_496.0;
        let quotient = f64::from(x) / self.float;
        let nearest = (quotient + INTEGERS) - INTEGERS;
        let below = if nearest > quotient { nearest - 1.0 } else { nearest };
        (below + INTEGERS).to_bits() as u32
    }

    #[inline(always)]
    fn divide_u64(self, x: u64) -> u64 {
        x / NonZeroU64::from(self.whole)
    }
}

macro_rules! divisions {
    ($($signed:ident, $unsigned:ident, $divide:ident);*) => {$(
        impl Unary<$unsigned> for Div<Divisor> {
            #[inline(always)]
            fn apply(self, x: $unsigned) -> $unsigned {
                self.0.$divide(x)
            }
        }

        impl Unary<$signed> for Div<Divisor> {
            #[inline(always)]
            fn apply(self, x: $signed) -> $signed {
                let magnitude = self.0.$divide(x.unsigned_abs()).cast_signed();
                if x < 0 { magnitude.wrapping_neg() } else { magnitude }
            }
        }
    )*};
}

divisions!(i8, u8, divide_u8; i32, u32, divide_u32; i64, u64, divide_u64);

/// The smaller or larger of two floats of 8 or 16 bits by their bits, without widening them.
#[derive(Clone, Copy)]
pub(super) struct ByBits<T> {
    /// The largest code, without sign, that is no NaN.
    pub(super) top: T,
    /// The NaN that comes out.
    pub(super) nan: T,
    /// Every bit set for the larger, none for the smaller.
    pub(super) flip: T,
}

macro_rules! by_bits {
    ($($int:ident),*) => {$(
        impl Op<$int> for ByBits<$int> {
            #[inline(always)]
            fn apply(self, a: $int, b: $int) -> $int {
                // Sign and magnitude become two's complement, whose order is that of the values
                // with -0 below 0; the larger of two is the smaller of their complements.
                let key = |x: $int| x ^ ((x >> ($int::BITS - 1)) & $int::MAX);
                let (left, right) = (key(a) ^ self.flip, key(b) ^ self.flip);
                let smaller = key((if left < right { left } else { right }) ^ self.flip);
                let has_nan = ((a & $int::MAX) > self.top) | ((b & $int::MAX) > self.top);
                if has_nan { self.nan } else { smaller }
            }
        }
    )*};
}

by_bits!(i8, i16);
