//! Reductions with a factor, which NCCL has made for each use.
#![expect(unsafe_code, reason = "calls libnccl to make and free reductions")]

use core::ffi::c_void;

use nccl_sys::ncclRedOp_t;
use nccl_sys::ncclScalarResidence_t;

use crate::backend::nccl::issue::dtype_code;
use crate::backend::nccl::issue::op_code;
use crate::backend::nccl::library::Nccl;
use crate::backend::nccl::shared::Entered;
use crate::device::DeviceCall;
use crate::dtype::DataType;
use crate::dtype::F8E4M3;
use crate::dtype::F8E5M2;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;

/// The reductions of some calls; those with a factor made by NCCL.
pub(super) struct Factors {
    /// For each call; empty if none has a factor.
    ops: Vec<ncclRedOp_t>,
    made: Vec<ncclRedOp_t>,
    plain: ncclRedOp_t,
}

impl Factors {
    /// Makes what `calls` need.
    pub(super) fn make(
        nccl: &Nccl,
        entered: &Entered<'_>,
        calls: &[DeviceCall<'_>],
    ) -> Result<Self> {
        let plain = op_code(calls.first().and_then(|call| call.op));
        let mut factors = Self { ops: Vec::new(), made: Vec::new(), plain };
        let has_factor = |call: &DeviceCall<'_>| matches!(call.op, Some(ReduceOp::PreMulSum(_)));
        if calls.len() <= 1 && !calls.iter().any(has_factor) {
            return Ok(factors);
        }
        for call in calls {
            let op = match call.op {
                Some(ReduceOp::PreMulSum(factor)) => {
                    match made(nccl, entered, call.dtype, factor) {
                        Ok(op) => {
                            factors.made.push(op);
                            op
                        }
                        Err(error) => {
                            factors.free(nccl, entered);
                            return Err(error);
                        }
                    }
                }
                op => op_code(op),
            };
            factors.ops.push(op);
        }
        Ok(factors)
    }

    /// The reduction of a call.
    pub(super) fn op(&self, index: usize) -> ncclRedOp_t {
        self.ops.get(index).copied().unwrap_or(self.plain)
    }

    /// Frees them, which is allowed once the calls have returned.
    pub(super) fn free(self, nccl: &Nccl, entered: &Entered<'_>) {
        let Ok(destroy) = nccl.library().ncclRedOpDestroy() else { return };
        for op in self.made {
            // SAFETY: made for this communicator, which is live and this thread's for now; freed
            // once.
            let result = entered.call(|comm| unsafe { destroy(op, comm) });
            if let Err(error) = nccl.check("ncclRedOpDestroy", result) {
                log::warn!(target: "nccl::comm", "{error}");
            }
        }
    }
}

fn made(nccl: &Nccl, entered: &Entered<'_>, dtype: DataType, factor: f64) -> Result<ncclRedOp_t> {
    let create = nccl.library().ncclRedOpCreatePreMulSum().map_err(Error::Unsupported)?;
    let mut scalar = scalar(dtype, factor);
    let mut op = ncclRedOp_t::ncclSum;
    let now = ncclScalarResidence_t::ncclScalarHostImmediate;
    // SAFETY: the function reads one element of the type, before it returns, from eight aligned
    // bytes that hold one, and writes one number; the handle is live and this thread's for now.
    let result = entered.call(|comm| unsafe {
        let at = (&raw mut scalar).cast::<c_void>();
        create(&raw mut op, at, dtype_code(dtype), now, comm)
    });
    nccl.check("ncclRedOpCreatePreMulSum", result).map(|()| op)
}

/// A factor as an element of the type, in the first bytes.
fn scalar(dtype: DataType, factor: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest float is what is meant")]
    let single = factor as f32;
    let mut bytes = [0; 8];
    let mut put = |element: &[u8]| {
        bytes.iter_mut().zip(element).for_each(|(byte, element)| *byte = *element);
    };
    match dtype {
        DataType::F16 => put(&half::f16::from_f64(factor).to_ne_bytes()),
        DataType::BF16 => put(&half::bf16::from_f64(factor).to_ne_bytes()),
        DataType::F32 => put(&single.to_ne_bytes()),
        DataType::F8E4M3 => put(&[F8E4M3::from_f32(single).0]),
        DataType::F8E5M2 => put(&[F8E5M2::from_f32(single).0]),
        // Integers are refused before.
        _ => put(&factor.to_ne_bytes()),
    }
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_one_element_of_the_type() {
        assert_eq!(scalar(DataType::F32, 0.5).to_ne_bytes()[..4], 0.5_f32.to_ne_bytes());
        assert_eq!(scalar(DataType::F64, 0.1).to_ne_bytes(), 0.1_f64.to_ne_bytes());
        assert_eq!(scalar(DataType::BF16, 2.0).to_ne_bytes()[..2], [0x00, 0x40]);
        assert_eq!(scalar(DataType::F16, 2.0).to_ne_bytes()[..2], [0x00, 0x40]);
        assert_eq!(scalar(DataType::F8E5M2, 1.0).to_ne_bytes()[0], 0x3c);
        assert_eq!(scalar(DataType::F8E4M3, 1.0).to_ne_bytes()[0], 0x38);
    }
}
