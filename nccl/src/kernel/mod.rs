//! Reductions of plain slices on the CPU.
//!
//! A [`Fold`] is chosen once for a type and an operation; its methods walk byte slices of any
//! alignment. The loops are plain Rust, compiled for several instruction sets; results are bit
//! for bit the same on each of them. See docs/numerics.md.

use core::marker::PhantomData;

use crate::dtype::DataType;
use crate::op::ReduceOp;

#[cfg(target_arch = "x86_64")]
mod f16c;
mod isa;
mod lanes;
mod loops;
mod ops;
mod pick;

#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;

use isa::Isa;
use lanes::Lane;
use ops::Op;
use ops::Unary;
use pick::Binary;
use pick::Choice;
use pick::Form;
use pick::Single;

/// A left fold over contributions of several ranks, for one dtype and op.
///
/// Slices hold whole elements (or accumulators) in the machine's byte order. Where the lengths
/// of two slices do not match, the shorter decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fold {
    choice: Choice,
}

impl Fold {
    /// A fold on this machine; `op` exists for `dtype` as `count::check_op` says.
    pub(crate) fn new(dtype: DataType, op: ReduceOp, world_size: usize) -> Self {
        Self { choice: Choice { dtype, op, world_size, isa: Isa::here() } }
    }

    /// Bytes of one accumulator element: 4 where small floats are computed in `f32`, else the
    /// element's own size.
    pub(crate) fn acc_bytes(&self) -> usize {
        if self.is_wide() { size_of::<f32>() } else { self.choice.dtype.size_bytes() }
    }

    /// Whether accumulators differ from elements: floats of 8 and 16 bits, but for min and max,
    /// which are exact without.
    pub(crate) fn is_wide(&self) -> bool {
        let dtype = self.choice.dtype;
        !dtype.is_integer() && dtype.size_bytes() < size_of::<f32>() && !self.choice.is_by_bits()
    }

    /// `acc := x * factor`, the factor for `PreMulSum` only.
    pub(crate) fn start(&self, acc: &mut [u8], x: &[u8], factor: f64) {
        self.check(acc.len(), self.acc_bytes(), x.len());
        if self.is_wide() || matches!(self.choice.op, ReduceOp::PreMulSum(_)) {
            self.choice.starting(factor, Start { isa: self.choice.isa, acc, x });
        } else {
            copy(acc, x);
        }
    }

    /// `acc := acc op x * factor`, the factor for `PreMulSum` only.
    pub(crate) fn add(&self, acc: &mut [u8], x: &[u8], factor: f64) {
        self.check(acc.len(), self.acc_bytes(), x.len());
        self.choice.binary(Form::Step(factor), Add { isa: self.choice.isa, acc, x });
    }

    /// `out := round(acc)`; an average is divided here.
    pub(crate) fn finish(&self, out: &mut [u8], acc: &[u8]) {
        self.check(acc.len(), self.acc_bytes(), out.len());
        if self.is_wide() {
            self.choice.ending_wide(Finish { isa: self.choice.isa, out, acc });
        } else {
            copy(out, acc);
            self.finish_in_place(out);
        }
    }

    /// As [`Self::finish`] with `out` being `acc`, for narrow types; only an average needs it.
    pub(crate) fn finish_in_place(&self, acc: &mut [u8]) {
        debug_assert!(!self.is_wide(), "accumulators of {} are wide", self.choice.dtype);
        if matches!(self.choice.op, ReduceOp::Avg) {
            self.choice.ending_narrow(FinishInPlace { isa: self.choice.isa, acc });
        }
    }

    /// The whole fold of two contributions of which the left is in `out`:
    /// `out := finish(out op right)`.
    pub(crate) fn pair_left(&self, out: &mut [u8], right: &[u8], factors: [f64; 2]) {
        self.check(out.len(), self.choice.dtype.size_bytes(), right.len());
        self.choice.binary(Form::Whole(factors), PairInto { isa: self.choice.isa, out, x: right });
    }

    /// The whole fold of two contributions of which the right is in `out`:
    /// `out := finish(left op out)`.
    pub(crate) fn pair_right(&self, left: &[u8], out: &mut [u8], factors: [f64; 2]) {
        // Every operation gives the same bits with its operands exchanged.
        let [first, second] = factors;
        self.pair_left(out, left, [second, first]);
    }

    /// The whole fold of two contributions: `out := finish(left op right)`.
    pub(crate) fn pair(&self, out: &mut [u8], left: &[u8], right: &[u8], factors: [f64; 2]) {
        let size = self.choice.dtype.size_bytes();
        self.check(out.len(), size, left.len());
        self.check(out.len(), size, right.len());
        let isa = self.choice.isa;
        self.choice.binary(Form::Whole(factors), Pair { isa, out, left, right });
    }

    /// Notices in debug builds that two slices do not hold the same number of elements.
    fn check(&self, bytes: usize, size: usize, element_bytes: usize) {
        debug_assert_eq!(
            bytes / size,
            element_bytes / self.choice.dtype.size_bytes(),
            "elements of two slices of a fold of {}",
            self.choice.dtype
        );
    }
}

/// Copies as much as both have.
fn copy(to: &mut [u8], from: &[u8]) {
    let bytes = to.len().min(from.len());
    to[..bytes].copy_from_slice(&from[..bytes]);
}

struct Start<'a> {
    isa: Isa,
    acc: &'a mut [u8],
    x: &'a [u8],
}

impl Single for Start<'_> {
    fn with<L: Lane, U: Unary<L::Value>>(self, op: U) {
        let lanes = PhantomData::<(L::Acc, L)>;
        self.isa.run(loops::Map { out: self.acc, x: self.x, op, lanes });
    }
}

struct Add<'a> {
    isa: Isa,
    acc: &'a mut [u8],
    x: &'a [u8],
}

impl Binary for Add<'_> {
    fn with<L: Lane, O: Op<L::Value>>(self, op: O) {
        let lanes = PhantomData::<(L::Acc, L)>;
        self.isa.run(loops::Into { acc: self.acc, x: self.x, op, lanes });
    }
}

struct Finish<'a> {
    isa: Isa,
    out: &'a mut [u8],
    acc: &'a [u8],
}

impl Single for Finish<'_> {
    fn with<L: Lane, U: Unary<L::Value>>(self, op: U) {
        let lanes = PhantomData::<(L, L::Acc)>;
        self.isa.run(loops::Map { out: self.out, x: self.acc, op, lanes });
    }
}

struct FinishInPlace<'a> {
    isa: Isa,
    acc: &'a mut [u8],
}

impl Single for FinishInPlace<'_> {
    fn with<L: Lane, U: Unary<L::Value>>(self, op: U) {
        self.isa.run(loops::InPlace { acc: self.acc, op, lanes: PhantomData::<L> });
    }
}

struct PairInto<'a> {
    isa: Isa,
    out: &'a mut [u8],
    x: &'a [u8],
}

impl Binary for PairInto<'_> {
    fn with<L: Lane, O: Op<L::Value>>(self, op: O) {
        let lanes = PhantomData::<(L, L)>;
        self.isa.run(loops::Into { acc: self.out, x: self.x, op, lanes });
    }
}

struct Pair<'a> {
    isa: Isa,
    out: &'a mut [u8],
    left: &'a [u8],
    right: &'a [u8],
}

impl Binary for Pair<'_> {
    fn with<L: Lane, O: Op<L::Value>>(self, op: O) {
        let lanes = PhantomData::<L>;
        let Self { isa, out, left, right } = self;
        isa.run(loops::Three { out, left, right, op, lanes });
    }
}
