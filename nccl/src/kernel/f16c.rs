//! `f16` by the F16C instructions of x86: eight conversions at once.
#![expect(unsafe_code, reason = "intrinsics of instructions found at run time")]

use core::arch::x86_64::__m128i;
use core::arch::x86_64::_MM_FROUND_TO_NEAREST_INT;
use core::arch::x86_64::_mm_loadu_si128;
use core::arch::x86_64::_mm_storeu_si128;
use core::arch::x86_64::_mm256_cvtph_ps;
use core::arch::x86_64::_mm256_cvtps_ph;
use core::arch::x86_64::_mm256_loadu_ps;
use core::arch::x86_64::_mm256_storeu_ps;

use super::lanes::BLOCK;
use super::lanes::F16;
use super::lanes::Lane;
use super::lanes::chunked;
use super::ops::Canonical;

/// `f16` by instructions. Only for loops that [`super::isa::Isa::run`] runs on an instruction
/// set with F16C.
pub(super) struct F16c;

impl Lane for F16c {
    type Value = f32;
    type Acc = f32;
    const BLOCKED: bool = true;
    chunked!(2);

    #[inline(always)]
    fn widen(bytes: Self::Bytes) -> f32 {
        F16::widen(bytes)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self::Bytes {
        F16::narrow(value)
    }

    #[inline(always)]
    fn widen_block(bytes: &[Self::Bytes; BLOCK]) -> [f32; BLOCK] {
        // SAFETY: the processor has F16C, since `Fold` picks this lane only where
        // `Isa::has_f16c` says so.
        unsafe { widen(bytes) }
    }

    #[inline(always)]
    fn narrow_block(values: [f32; BLOCK]) -> [Self::Bytes; BLOCK] {
        // The instruction would keep a NaN's payload.
        let values = values.map(Canonical::canonical);
        // SAFETY: as in `widen_block`.
        unsafe { narrow(values) }
    }
}

#[inline]
#[target_feature(enable = "avx,f16c")]
fn widen(bytes: &[[u8; 2]; BLOCK]) -> [f32; BLOCK] {
    let mut values = [0.0; BLOCK];
    // SAFETY: reads 16 bytes, which is the whole of `bytes`; no alignment is asked for.
    let codes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast::<__m128i>()) };
    // SAFETY: writes 32 bytes, which is the whole of `values`; no alignment is asked for.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), _mm256_cvtph_ps(codes)) };
    values
}

#[inline]
#[target_feature(enable = "avx,f16c")]
fn narrow(values: [f32; BLOCK]) -> [[u8; 2]; BLOCK] {
    let mut bytes = [[0; 2]; BLOCK];
    // SAFETY: reads 32 bytes, which is the whole of `values`; no alignment is asked for.
    let wide = unsafe { _mm256_loadu_ps(values.as_ptr()) };
    let codes = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide);
    // SAFETY: writes 16 bytes, which is the whole of `bytes`; no alignment is asked for.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast::<__m128i>(), codes) };
    bytes
}
