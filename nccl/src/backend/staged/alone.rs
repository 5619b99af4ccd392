//! A group of one: nothing is exchanged, so nothing is staged, and it can be captured.
#![expect(unsafe_code, reason = "copies between the addresses that calls name")]

use crate::cuda::StreamRef;
use crate::desc::Kind;
use crate::device::DeviceCall;
use crate::dtype::DataType;
use crate::error::Result;
use crate::op::ReduceOp;

/// Whether all calls of a group of one are copies. Factors are not, nor are reductions of `fp8`,
/// which have no infinity afterwards.
pub(super) fn are_copies(calls: &[DeviceCall<'_>]) -> bool {
    let is_copy = |call: &DeviceCall<'_>| match (call.kind, call.op) {
        (Kind::Send | Kind::Recv, _) | (_, Some(ReduceOp::PreMulSum(_))) => false,
        (_, None) => true,
        (_, Some(_)) => !matches!(call.dtype, DataType::F8E4M3 | DataType::F8E5M2),
    };
    calls.iter().all(is_copy)
}

/// Enqueues the calls of a group of one, for which [`are_copies`] holds.
///
/// # Safety
/// As [`DeviceBackend::enqueue`](crate::device::DeviceBackend::enqueue).
pub(super) unsafe fn enqueue(calls: &[DeviceCall<'_>], stream: StreamRef<'_>) -> Result<()> {
    for call in calls {
        let elements = match call.kind {
            Kind::AllToAllV => call.recv_counts.first().copied().unwrap_or(0),
            _ => call.count,
        };
        let bytes = elements.saturating_mul(call.dtype.size_bytes());
        if call.in_place || bytes == 0 {
            continue;
        }
        // SAFETY: the only rank is the root of all that has one, so that it has both buffers, of
        // so many elements; they do not overlap, as that was checked, by the caller's contract.
        unsafe { stream.copy_on_device(call.recv, call.send, bytes) }?;
    }
    Ok(())
}
