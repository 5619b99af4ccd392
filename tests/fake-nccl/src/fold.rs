//! Reductions: the left fold in rank order. Narrow types are summed in f32 and rounded once.

use half::bf16;
use half::f16;

use crate::fp8::E4M3;
use crate::fp8::E5M2;
use crate::op::AVG;
use crate::op::MAX;
use crate::op::MIN;
use crate::op::PROD;

/// What one rank gives: the factor of a pre-multiplied sum, as the bits of an element, and bytes.
pub(crate) type Input<'a> = (u64, &'a [u8]);

/// Arithmetic in which elements are folded.
trait Wide: Copy {
    fn sum(self, other: Self) -> Self;
    fn product(self, other: Self) -> Self;
    fn larger(self, other: Self) -> Self;
    fn smaller(self, other: Self) -> Self;
    fn divided(self, by: usize) -> Self;
}

macro_rules! wide_integer {
    ($($type:ty),*) => {$(
        impl Wide for $type {
            fn sum(self, other: Self) -> Self { self.wrapping_add(other) }
            fn product(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn larger(self, other: Self) -> Self { self.max(other) }
            fn smaller(self, other: Self) -> Self { self.min(other) }
            fn divided(self, by: usize) -> Self {
                // Toward zero; more ranks than the type can count leave nothing.
                Self::try_from(by).map_or(0, |by| self / by)
            }
        }
    )*};
}
wide_integer!(i8, u8, i32, u32, i64, u64);

macro_rules! wide_float {
    ($($type:ty),*) => {$(
        impl Wide for $type {
            fn sum(self, other: Self) -> Self { self + other }
            fn product(self, other: Self) -> Self { self * other }
            fn larger(self, other: Self) -> Self { self.max(other) }
            fn smaller(self, other: Self) -> Self { self.min(other) }
            fn divided(self, by: usize) -> Self { self / by as Self }
        }
    )*};
}
wide_float!(f32, f64);

/// Folds the inputs of all ranks.
pub(crate) fn fold(dtype: i32, op: i32, inputs: &[Input<'_>]) -> Vec<u8> {
    match dtype {
        0 => fold_as(op, inputs, i8::from_le_bytes, i8::to_le_bytes),
        1 => fold_as(op, inputs, u8::from_le_bytes, u8::to_le_bytes),
        2 => fold_as(op, inputs, i32::from_le_bytes, i32::to_le_bytes),
        3 => fold_as(op, inputs, u32::from_le_bytes, u32::to_le_bytes),
        4 => fold_as(op, inputs, i64::from_le_bytes, i64::to_le_bytes),
        5 => fold_as(op, inputs, u64::from_le_bytes, u64::to_le_bytes),
        6 => fold_as(
            op,
            inputs,
            |bytes| f16::from_le_bytes(bytes).to_f32(),
            |wide| f16::from_f32(wide).to_le_bytes(),
        ),
        7 => fold_as(op, inputs, f32::from_le_bytes, f32::to_le_bytes),
        8 => fold_as(op, inputs, f64::from_le_bytes, f64::to_le_bytes),
        9 => fold_as(
            op,
            inputs,
            |bytes| bf16::from_le_bytes(bytes).to_f32(),
            |wide| bf16::from_f32(wide).to_le_bytes(),
        ),
        10 => fold_as(op, inputs, |[code]| E4M3.widen(code), |wide| [E4M3.narrow(wide)]),
        _ => fold_as(op, inputs, |[code]| E5M2.widen(code), |wide| [E5M2.narrow(wide)]),
    }
}

fn fold_as<W: Wide, const SIZE: usize>(
    op: i32,
    inputs: &[Input<'_>],
    widen: impl Fn([u8; SIZE]) -> W,
    narrow: impl Fn(W) -> [u8; SIZE],
) -> Vec<u8> {
    let (world_size, widen) = (inputs.len(), &widen);
    let elements = inputs.iter().map(|(factor, bytes)| {
        let mut bits = [0; SIZE];
        bits.copy_from_slice(&factor.to_le_bytes()[..SIZE]);
        let factor = (op > AVG).then(|| widen(bits));
        let (chunks, _) = bytes.as_chunks::<SIZE>();
        chunks.iter().map(move |chunk| {
            let wide = widen(*chunk);
            factor.map_or(wide, |factor| wide.product(factor))
        })
    });
    let combine = |left: W, right: W| match op {
        PROD => left.product(right),
        MAX => left.larger(right),
        MIN => left.smaller(right),
        _ => left.sum(right),
    };
    let folded = elements.map(Iterator::collect::<Vec<W>>).reduce(|mut sum, next| {
        for (left, right) in sum.iter_mut().zip(next) {
            *left = combine(*left, right);
        }
        sum
    });
    let finish = |wide: W| if op == AVG { wide.divided(world_size) } else { wide };
    folded.unwrap_or_default().into_iter().flat_map(|wide| narrow(finish(wide))).collect()
}
