//! How elements lie in bytes, and in which type they are computed.

use crate::dtype::F8E4M3;
use crate::dtype::F8E5M2;
use crate::dtype::narrow;

/// Elements a blocked lane converts at once.
pub(super) const BLOCK: usize = 8;

/// A way to read elements from bytes and to write them.
pub(super) trait Lane {
    /// One element in memory, without alignment.
    type Bytes: Copy;
    /// What is computed with.
    type Value: Copy;
    /// The lane of accumulators: values as they are.
    type Acc: Lane<Value = Self::Value>;
    /// Whether [`Self::widen_block`] and [`Self::narrow_block`] are faster than one by one.
    const BLOCKED: bool = false;

    /// The whole elements in `bytes`.
    fn elements(bytes: &[u8]) -> &[Self::Bytes];
    /// The whole elements in `bytes`.
    fn elements_mut(bytes: &mut [u8]) -> &mut [Self::Bytes];
    /// The value of an element; exact.
    fn widen(bytes: Self::Bytes) -> Self::Value;
    /// The element nearest to a value.
    fn narrow(value: Self::Value) -> Self::Bytes;

    /// [`Self::widen`] of each.
    #[inline(always)]
    fn widen_block(bytes: &[Self::Bytes; BLOCK]) -> [Self::Value; BLOCK] {
        core::array::from_fn(|at| Self::widen(bytes[at]))
    }

    /// [`Self::narrow`] of each.
    #[inline(always)]
    fn narrow_block(values: [Self::Value; BLOCK]) -> [Self::Bytes; BLOCK] {
        core::array::from_fn(|at| Self::narrow(values[at]))
    }
}

macro_rules! chunked {
    ($bytes:literal) => {
        type Bytes = [u8; $bytes];

        #[inline(always)]
        fn elements(bytes: &[u8]) -> &[Self::Bytes] {
            bytes.as_chunks::<$bytes>().0
        }

        #[inline(always)]
        fn elements_mut(bytes: &mut [u8]) -> &mut [Self::Bytes] {
            bytes.as_chunks_mut::<$bytes>().0
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use chunked;

macro_rules! native {
    ($($type:ident: $bytes:literal),*) => {$(
        impl Lane for $type {
            type Value = Self;
            type Acc = Self;
            chunked!($bytes);

            #[inline(always)]
            fn widen(bytes: Self::Bytes) -> Self {
                Self::from_ne_bytes(bytes)
            }

            #[inline(always)]
            fn narrow(value: Self) -> Self::Bytes {
                value.to_ne_bytes()
            }
        }
    )*};
}

native!(i8: 1, u8: 1, i16: 2, i32: 4, u32: 4, i64: 8, u64: 8, f32: 4, f64: 8);

/// `f16` by integer arithmetic.
pub(super) struct F16;

impl Lane for F16 {
    type Value = f32;
    type Acc = f32;
    chunked!(2);

    #[inline(always)]
    fn widen(bytes: Self::Bytes) -> f32 {
        narrow::f32_of_f16(u16::from_ne_bytes(bytes))
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self::Bytes {
        narrow::f16_of_f32(value).to_ne_bytes()
    }
}

/// `bf16`.
pub(super) struct Bf16;

impl Lane for Bf16 {
    type Value = f32;
    type Acc = f32;
    chunked!(2);

    #[inline(always)]
    fn widen(bytes: Self::Bytes) -> f32 {
        narrow::f32_of_bf16(u16::from_ne_bytes(bytes))
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self::Bytes {
        narrow::bf16_of_f32(value).to_ne_bytes()
    }
}

macro_rules! fp8 {
    ($($type:ident),*) => {$(
        impl Lane for $type {
            type Value = f32;
            type Acc = f32;
            chunked!(1);

            #[inline(always)]
            fn widen(bytes: Self::Bytes) -> f32 {
                Self(bytes[0]).to_f32()
            }

            #[inline(always)]
            fn narrow(value: f32) -> Self::Bytes {
                [Self::from_f32(value).0]
            }
        }
    )*};
}

fp8!(F8E4M3, F8E5M2);
