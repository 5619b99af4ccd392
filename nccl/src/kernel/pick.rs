//! From a type and an operation known at run time to code made for both.

#[cfg(target_arch = "x86_64")]
use super::f16c::F16c;
use super::isa::Isa;
use super::lanes::Bf16;
use super::lanes::F16;
use super::lanes::Lane;
use super::ops;
use super::ops::ByBits;
use super::ops::Divisor;
use super::ops::Op;
use super::ops::Unary;
use crate::dtype::DataType;
use crate::dtype::F8E4M3;
use crate::dtype::F8E5M2;
use crate::op::ReduceOp;

/// Takes the lane and the operation of two values.
pub(super) trait Binary {
    /// Goes on with both.
    fn with<L: Lane, O: Op<L::Value>>(self, op: O);
}

/// Takes the lane and the operation of one value.
pub(super) trait Single {
    /// Goes on with both.
    fn with<L: Lane, U: Unary<L::Value>>(self, op: U);
}

/// Which form of an operation is wanted.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// One more contribution, times its factor.
    Step(f64),
    /// All of two contributions, each times its factor.
    Whole([f64; 2]),
}

/// What a choice depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) dtype: DataType,
    pub(super) op: ReduceOp,
    pub(super) world_size: usize,
    pub(super) isa: Isa,
}

impl Choice {
    /// Whether the smaller and larger are found by the bits of a float of 8 or 16 bits.
    pub(super) fn is_by_bits(&self) -> bool {
        use DataType::BF16;
        use DataType::F8E4M3;
        use DataType::F8E5M2;
        use DataType::F16;
        matches!(self.op, ReduceOp::Min | ReduceOp::Max)
            && matches!(self.dtype, F16 | BF16 | F8E4M3 | F8E5M2)
    }

    /// Picks lane and operation of two values. What does not exist, and is refused by
    /// `count::check_op`, is the sum.
    pub(super) fn binary(&self, form: Form, to: impl Binary) {
        if self.is_by_bits() {
            return self.by_bits(to);
        }
        match self.dtype {
            DataType::I8 => self.integer::<i8, u8>(form, to),
            DataType::U8 => self.integer::<u8, u8>(form, to),
            DataType::I32 => self.integer::<i32, u32>(form, to),
            DataType::U32 => self.integer::<u32, u32>(form, to),
            DataType::I64 => self.integer::<i64, u64>(form, to),
            DataType::U64 => self.integer::<u64, u64>(form, to),
            DataType::F64 => self.float64(form, to),
            DataType::F32 => match self.op {
                ReduceOp::Min => to.with::<f32, _>(ops::Min),
                ReduceOp::Max => to.with::<f32, _>(ops::Max),
                _ => self.float32::<f32>(form, to),
            },
            DataType::BF16 => self.float32::<Bf16>(form, to),
            DataType::F8E4M3 => self.float32::<F8E4M3>(form, to),
            DataType::F8E5M2 => self.float32::<F8E5M2>(form, to),
            #[cfg(target_arch = "x86_64")]
            DataType::F16 if self.isa.has_f16c() => self.float32::<F16c>(form, to),
            DataType::F16 => self.float32::<F16>(form, to),
        }
    }

    /// Picks how a fold begins, for wide types and for factors.
    pub(super) fn starting(&self, factor: f64, to: impl Single) {
        let scaled = matches!(self.op, ReduceOp::PreMulSum(_));
        match self.dtype {
            DataType::F64 if scaled => to.with::<f64, _>(ops::Scale(factor)),
            DataType::F32 if scaled => to.with::<f32, _>(ops::Scale(single(factor))),
            _ if scaled => self.wide(ops::Scale(single(factor)), to),
            _ => self.wide(ops::Same, to),
        }
    }

    /// Picks how a fold of a wide type ends.
    pub(super) fn ending_wide(&self, to: impl Single) {
        match self.op {
            ReduceOp::Avg => self.wide(ops::Div(single(self.ranks())), to),
            _ => self.wide(ops::Same, to),
        }
    }

    /// Picks how an average of a narrow type ends.
    pub(super) fn ending_narrow(&self, to: impl Single) {
        let ranks = ops::Div(Divisor::new(self.world_size));
        match self.dtype {
            DataType::I8 => to.with::<i8, _>(ranks),
            DataType::U8 => to.with::<u8, _>(ranks),
            DataType::I32 => to.with::<i32, _>(ranks),
            DataType::U32 => to.with::<u32, _>(ranks),
            DataType::I64 => to.with::<i64, _>(ranks),
            DataType::U64 => to.with::<u64, _>(ranks),
            DataType::F32 => to.with::<f32, _>(ops::Div(single(self.ranks()))),
            DataType::F64 => to.with::<f64, _>(ops::Div(self.ranks())),
            DataType::F16 | DataType::BF16 | DataType::F8E4M3 | DataType::F8E5M2 => {
                debug_assert!(false, "{} has wide accumulators", self.dtype);
            }
        }
    }

    /// Integers. Where the sign does not matter both types share the code.
    fn integer<S, U>(&self, form: Form, to: impl Binary)
    where
        S: Lane<Value = S>,
        U: Lane<Value = U>,
        ops::Min: Op<S>,
        ops::Max: Op<S>,
        ops::Mean<Divisor>: Op<S>,
        ops::Sum: Op<U>,
        ops::Product: Op<U>,
    {
        match (self.op, form) {
            (ReduceOp::Product, _) => to.with::<U, _>(ops::Product),
            (ReduceOp::Min, _) => to.with::<S, _>(ops::Min),
            (ReduceOp::Max, _) => to.with::<S, _>(ops::Max),
            (ReduceOp::Avg, Form::Whole(_)) => {
                to.with::<S, _>(ops::Mean(Divisor::new(self.world_size)))
            }
            (ReduceOp::BitAnd, _) => to.with::<u8, _>(ops::And),
            (ReduceOp::BitOr, _) => to.with::<u8, _>(ops::Or),
            (ReduceOp::BitXor, _) => to.with::<u8, _>(ops::Xor),
            (ReduceOp::Sum | ReduceOp::Avg | ReduceOp::PreMulSum(_), _) => {
                to.with::<U, _>(ops::Sum);
            }
        }
    }

    /// Everything but min and max, for types computed in `f32`.
    fn float32<L: Lane<Value = f32>>(&self, form: Form, to: impl Binary) {
        match (self.op, form) {
            (ReduceOp::Product, _) => to.with::<L, _>(ops::Product),
            (ReduceOp::Avg, Form::Whole(_)) => to.with::<L, _>(ops::Mean(single(self.ranks()))),
            (ReduceOp::PreMulSum(_), Form::Step(factor)) => {
                to.with::<L, _>(ops::AddScaled(single(factor)));
            }
            (ReduceOp::PreMulSum(_), Form::Whole([first, second])) => {
                to.with::<L, _>(ops::SumScaled(single(first), single(second)));
            }
            _ => to.with::<L, _>(ops::Sum),
        }
    }

    /// Everything for `f64`.
    fn float64(&self, form: Form, to: impl Binary) {
        match (self.op, form) {
            (ReduceOp::Product, _) => to.with::<f64, _>(ops::Product),
            (ReduceOp::Min, _) => to.with::<f64, _>(ops::Min),
            (ReduceOp::Max, _) => to.with::<f64, _>(ops::Max),
            (ReduceOp::Avg, Form::Whole(_)) => to.with::<f64, _>(ops::Mean(self.ranks())),
            (ReduceOp::PreMulSum(_), Form::Step(factor)) => {
                to.with::<f64, _>(ops::AddScaled(factor));
            }
            (ReduceOp::PreMulSum(_), Form::Whole([first, second])) => {
                to.with::<f64, _>(ops::SumScaled(first, second));
            }
            _ => to.with::<f64, _>(ops::Sum),
        }
    }

    /// The smaller or larger of small floats.
    fn by_bits(&self, to: impl Binary) {
        let larger = self.op == ReduceOp::Max;
        let flip = if larger { -1 } else { 0 };
        match self.dtype {
            DataType::F16 => to.with::<i16, _>(ByBits { top: 0x7c00, nan: 0x7e00, flip }),
            DataType::BF16 => to.with::<i16, _>(ByBits { top: 0x7f80, nan: 0x7fc0, flip }),
            _ => {
                let flip = if larger { -1 } else { 0 };
                let top = if self.dtype == DataType::F8E4M3 { 0x7e } else { 0x7c };
                let nan = if self.dtype == DataType::F8E4M3 { 0x7f } else { 0x7e };
                to.with::<i8, _>(ByBits { top, nan, flip });
            }
        }
    }

    /// The lane of a type with `f32` accumulators.
    fn wide<U: Unary<f32>>(&self, op: U, to: impl Single) {
        match self.dtype {
            #[cfg(target_arch = "x86_64")]
            DataType::F16 if self.isa.has_f16c() => to.with::<F16c, _>(op),
            DataType::F16 => to.with::<F16, _>(op),
            DataType::BF16 => to.with::<Bf16, _>(op),
            DataType::F8E4M3 => to.with::<F8E4M3, _>(op),
            DataType::F8E5M2 => to.with::<F8E5M2, _>(op),
            _ => debug_assert!(false, "{} has narrow accumulators", self.dtype),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ranks")]
    fn ranks(&self) -> f64 {
        self.world_size.max(1) as f64
    }
}

/// A factor in the type of `f32` accumulators: rounded once, infinite if too large.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
fn single(factor: f64) -> f32 {
    factor as f32
}
