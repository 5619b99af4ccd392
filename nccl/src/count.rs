//! Who holds how many elements in each collective: every check of lengths and roots.

use crate::dtype::DataType;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;

/// Checks that a reduction exists for a type.
pub(crate) fn check_op(op_name: &'static str, op: ReduceOp, dtype: DataType) -> Result<()> {
    let why = match op {
        ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor if !dtype.is_integer() => {
            "bitwise operations are for integers; send the bits as u8, u32 or u64"
        }
        ReduceOp::PreMulSum(_) if dtype.is_integer() => {
            "factors are for floating-point types; multiply before the call and use `sum`"
        }
        _ => return Ok(()),
    };
    Err(Error::Op { op: op_name, reduce: op, dtype, why })
}
