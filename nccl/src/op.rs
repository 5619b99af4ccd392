//! How values of several ranks become one.

use core::fmt;

/// What a reduction does with the elements of all ranks.
///
/// The result is the left fold in rank order, `((r0 op r1) op r2) op ...`, on every algorithm,
/// transport and size, so it is bit for bit the same on all ranks and from run to run. `f16`,
/// `bf16` and the `fp8` types are widened to `f32`, folded there and rounded once at the end.
/// Integers wrap.
///
/// # Source
/// `ncclRedOp_t` of nccl.h; `ReduceOp` of c10d.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReduceOp {
    /// The sum.
    Sum,
    /// The product.
    Product,
    /// The smallest; a NaN in any input gives NaN.
    Min,
    /// The largest; a NaN in any input gives NaN.
    Max,
    /// The sum divided by the number of ranks; integers round towards zero.
    Avg,
    /// The sum of each rank's elements times that rank's own factor
    /// (`ncclRedOpCreatePreMulSum`). Floating-point types only.
    PreMulSum(f64),
    /// Bitwise and; integers only.
    BitAnd,
    /// Bitwise or; integers only.
    BitOr,
    /// Bitwise exclusive or; integers only.
    BitXor,
}

impl ReduceOp {
    /// The word for it in messages and tables, as nccl-tests has it where it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Product => "prod",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::PreMulSum(_) => "mulsum",
            Self::BitAnd => "band",
            Self::BitOr => "bor",
            Self::BitXor => "bxor",
        }
    }

    /// Its number on the wire; never 0.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Sum => 1,
            Self::Product => 2,
            Self::Min => 3,
            Self::Max => 4,
            Self::Avg => 5,
            Self::PreMulSum(_) => 6,
            Self::BitAnd => 7,
            Self::BitOr => 8,
            Self::BitXor => 9,
        }
    }

    /// The word for a number on the wire.
    pub(crate) const fn name_of(code: u8) -> &'static str {
        match code {
            0 => "",
            1 => "sum",
            2 => "prod",
            3 => "min",
            4 => "max",
            5 => "avg",
            6 => "mulsum",
            7 => "band",
            8 => "bor",
            9 => "bxor",
            _ => "unknown-op",
        }
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
