//! Elements of every type from numbers that all of them hold exactly.

use nccl::Element;
use nccl::F8E4M3;
use nccl::F8E5M2;
use nccl::bf16;
use nccl::f16;

/// An element that test data can be made of.
pub(crate) trait Value: Element {
    /// Of the lowest bits.
    fn from_bits(bits: u64) -> Self;

    /// Its bits, the rest zero. Data is compared by them, so that a NaN equals itself.
    fn bits(self) -> u64;

    /// A whole number. Floats hold those of up to 8 in size, and halves of up to 4; unsigned
    /// integers wrap, as their sums do.
    fn from_int(number: i32) -> Self;

    /// `number / 2`; of integers, `number`: they have no factors.
    fn from_half(number: i32) -> Self;

    /// Floats: 2 to the power of `exponent` (within ±4). Integers: 3 to the power of
    /// `exponent + shift`, wrapping; a power of an odd number never loses a bit.
    fn power(exponent: i32, shift: u32) -> Self;

    /// The average that the documentation promises for `world_size` elements whose sum is
    /// `world_size * average`: of integers the sum wraps before it is divided.
    fn average(average: i32, world_size: usize) -> Self;
}

/// Bits from and to little-endian bytes, which all primitive types have.
macro_rules! bits_by_bytes {
    () => {
        #[inline]
        fn from_bits(bits: u64) -> Self {
            let all = bits.to_le_bytes();
            Self::from_le_bytes(std::array::from_fn(|at| all[at]))
        }

        #[inline]
        fn bits(self) -> u64 {
            let mut all = [0; 8];
            all[..size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
            u64::from_le_bytes(all)
        }
    };
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            bits_by_bytes!();

            #[inline]
            fn from_int(number: i32) -> Self {
                <Self as Value>::from_bits(i64::from(number).cast_unsigned())
            }

            #[inline]
            fn from_half(number: i32) -> Self {
                Self::from_int(number)
            }

            #[inline]
            fn power(exponent: i32, shift: u32) -> Self {
                let three: Self = 3;
                three.wrapping_pow(shift.saturating_add_signed(exponent))
            }

            #[inline]
            fn average(average: i32, world_size: usize) -> Self {
                let sum = i64::from(average).wrapping_mul(world_size as i64).cast_unsigned();
                let wrapped = i128::from(<Self as Value>::from_bits(sum));
                let average = wrapped / (world_size.max(1) as i128);
                <Self as Value>::from_bits(i64::try_from(average).unwrap_or(0).cast_unsigned())
            }
        }
    )*};
}

macro_rules! floats {
    ($($type:ty, $from_f32:expr, { $($bits:tt)* })*) => {$(
        impl Value for $type {
            $($bits)*

            #[inline]
            fn from_int(number: i32) -> Self {
                $from_f32(number as f32)
            }

            #[inline]
            fn from_half(number: i32) -> Self {
                $from_f32(number as f32 / 2.0)
            }

            #[inline]
            fn power(exponent: i32, _shift: u32) -> Self {
                // The bits of the f32 that is this power of 2.
                $from_f32(f32::from_bits(127_u32.saturating_add_signed(exponent) << 23))
            }

            #[inline]
            fn average(average: i32, _world_size: usize) -> Self {
                Self::from_int(average)
            }
        }
    )*};
}

/// Bits of a wrapper around one byte.
macro_rules! bits_of_byte {
    () => {
        #[inline]
        fn from_bits(bits: u64) -> Self {
            Self(<u8 as Value>::from_bits(bits))
        }

        #[inline]
        fn bits(self) -> u64 {
            u64::from(self.0)
        }
    };
}

integers!(i8, u8, i32, u32, i64, u64);

floats! {
    f32, core::convert::identity, { bits_by_bytes!(); }
    f64, f64::from, { bits_by_bytes!(); }
    f16, f16::from_f32, { bits_by_bytes!(); }
    bf16, bf16::from_f32, { bits_by_bytes!(); }
    F8E4M3, F8E4M3::from_f32, { bits_of_byte!(); }
    F8E5M2, F8E5M2::from_f32, { bits_of_byte!(); }
}

/// Runs code with `$T` as the Rust type of a [`DataType`](nccl::DataType); `None` for a type that
/// this program does not know.
macro_rules! with_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::perf::value::with_type!(@ $dtype, $T, $body,
            I8 i8, U8 u8, I32 i32, U32 u32, I64 i64, U64 u64, F16 nccl::f16, F32 f32, F64 f64,
            BF16 nccl::bf16, F8E4M3 nccl::F8E4M3, F8E5M2 nccl::F8E5M2)
    };
    (@ $dtype:expr, $T:ident, $body:expr, $($name:ident $type:ty),*) => {
        match $dtype {
            $(nccl::DataType::$name => { type $T = $type; Some($body) })*
            _ => None,
        }
    };
}
pub(crate) use with_type;

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips<T: Value>() {
        for bits in [0, 1, 0x7f, 0x80, u64::MAX, 0x7ff0_7f80_7c00_7e55] {
            let kept = T::from_bits(bits).bits();
            let mask = u64::MAX >> (64 - 8 * size_of::<T>());
            assert_eq!(kept, bits & mask, "{:?} {bits:x}", T::DTYPE);
        }
    }

    #[test]
    fn every_bit_pattern_comes_back() {
        for dtype in nccl::DataType::ALL {
            assert!(with_type!(dtype, T => round_trips::<T>()).is_some());
        }
    }

    #[test]
    fn small_numbers_are_exact_in_eight_bits() {
        for number in -8_i32..=8 {
            assert_eq!(F8E4M3::from_int(number).to_f32(), number as f32);
            assert_eq!(F8E5M2::from_int(number).to_f32(), number as f32);
        }
        for number in [-6, -3, 2, 4] {
            assert_eq!(F8E5M2::from_half(number).to_f32(), number as f32 / 2.0);
        }
        for exponent in -4..=4 {
            assert_eq!(F8E5M2::power(exponent, 9).to_f32(), 2_f32.powi(exponent));
            assert_eq!(F8E4M3::power(exponent, 9).to_f32(), 2_f32.powi(exponent));
        }
        assert_eq!(u8::from_int(-3), 253);
        assert_eq!(i8::power(-1, 3), 9);
    }

    #[test]
    fn averages_of_integers_wrap_before_they_are_divided() {
        assert_eq!(i8::average(6, 20), 6);
        assert_eq!(i8::average(6, 40), -16 / 40, "240 is -16");
        assert_eq!(i8::average(6, 25), -106 / 25, "150 is -106");
        assert_eq!(u8::average(6, 300), 0, "1800 is 8");
        assert_eq!(f64::average(6, 300), 6.0);
    }
}
