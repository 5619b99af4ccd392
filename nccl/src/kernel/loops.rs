//! The four loops over slices, each for any lane and operation.
//!
//! Slices of different lengths are walked up to the shortest.

use super::lanes::BLOCK;
use super::lanes::Lane;
use super::ops::Op;
use super::ops::Unary;

/// A loop with its slices, to be compiled for several instruction sets.
pub(super) trait Job {
    /// Does it.
    fn run(self);
}

/// `acc := acc op x`.
pub(super) struct Into<'a, A, X, O> {
    pub(super) acc: &'a mut [u8],
    pub(super) x: &'a [u8],
    pub(super) op: O,
    pub(super) lanes: core::marker::PhantomData<(A, X)>,
}

impl<A: Lane, X: Lane<Value = A::Value>, O: Op<A::Value>> Job for Into<'_, A, X, O> {
    #[inline(always)]
    fn run(self) {
        let (mut acc, mut x) = (A::elements_mut(self.acc), X::elements(self.x));
        if A::BLOCKED || X::BLOCKED {
            let count = acc.len().min(x.len());
            let (blocks, rest) = acc[..count].as_chunks_mut::<BLOCK>();
            let (x_blocks, x_rest) = x[..count].as_chunks::<BLOCK>();
            for (acc, x) in blocks.iter_mut().zip(x_blocks) {
                *acc = A::narrow_block(both(self.op, A::widen_block(acc), X::widen_block(x)));
            }
            (acc, x) = (rest, x_rest);
        }
        for (acc, x) in acc.iter_mut().zip(x) {
            *acc = A::narrow(self.op.apply(A::widen(*acc), X::widen(*x)));
        }
    }
}

/// `out := left op right`.
pub(super) struct Three<'a, L, O> {
    pub(super) out: &'a mut [u8],
    pub(super) left: &'a [u8],
    pub(super) right: &'a [u8],
    pub(super) op: O,
    pub(super) lanes: core::marker::PhantomData<L>,
}

impl<L: Lane, O: Op<L::Value>> Job for Three<'_, L, O> {
    #[inline(always)]
    fn run(self) {
        let mut out = L::elements_mut(self.out);
        let (mut left, mut right) = (L::elements(self.left), L::elements(self.right));
        if L::BLOCKED {
            let count = out.len().min(left.len()).min(right.len());
            let (blocks, rest) = out[..count].as_chunks_mut::<BLOCK>();
            let (left_blocks, left_rest) = left[..count].as_chunks::<BLOCK>();
            let (right_blocks, right_rest) = right[..count].as_chunks::<BLOCK>();
            for ((out, left), right) in blocks.iter_mut().zip(left_blocks).zip(right_blocks) {
                *out = L::narrow_block(both(self.op, L::widen_block(left), L::widen_block(right)));
            }
            (out, left, right) = (rest, left_rest, right_rest);
        }
        for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
            *out = L::narrow(self.op.apply(L::widen(*left), L::widen(*right)));
        }
    }
}

/// `out := op x`, from one lane to another.
pub(super) struct Map<'a, A, X, U> {
    pub(super) out: &'a mut [u8],
    pub(super) x: &'a [u8],
    pub(super) op: U,
    pub(super) lanes: core::marker::PhantomData<(A, X)>,
}

impl<A: Lane, X: Lane<Value = A::Value>, U: Unary<A::Value>> Job for Map<'_, A, X, U> {
    #[inline(always)]
    fn run(self) {
        let (mut out, mut x) = (A::elements_mut(self.out), X::elements(self.x));
        if A::BLOCKED || X::BLOCKED {
            let count = out.len().min(x.len());
            let (blocks, rest) = out[..count].as_chunks_mut::<BLOCK>();
            let (x_blocks, x_rest) = x[..count].as_chunks::<BLOCK>();
            for (out, x) in blocks.iter_mut().zip(x_blocks) {
                let values = X::widen_block(x);
                *out = A::narrow_block(core::array::from_fn(|at| self.op.apply(values[at])));
            }
            (out, x) = (rest, x_rest);
        }
        for (out, x) in out.iter_mut().zip(x) {
            *out = A::narrow(self.op.apply(X::widen(*x)));
        }
    }
}

/// `acc := op acc`.
pub(super) struct InPlace<'a, L, U> {
    pub(super) acc: &'a mut [u8],
    pub(super) op: U,
    pub(super) lanes: core::marker::PhantomData<L>,
}

impl<L: Lane, U: Unary<L::Value>> Job for InPlace<'_, L, U> {
    #[inline(always)]
    fn run(self) {
        for acc in L::elements_mut(self.acc) {
            *acc = L::narrow(self.op.apply(L::widen(*acc)));
        }
    }
}

/// `left op right` of each pair.
#[inline(always)]
fn both<T: Copy, O: Op<T>>(op: O, left: [T; BLOCK], right: [T; BLOCK]) -> [T; BLOCK] {
    core::array::from_fn(|at| op.apply(left[at], right[at]))
}
