//! A group of one: nothing is exchanged, so nothing is staged, and it can be captured.
#![expect(unsafe_code, reason = "copies between the addresses that calls name")]

use crate::cuda::StreamRef;
use crate::desc::Kind;
use crate::device::DeviceCall;
use crate::error::Result;
use crate::op::ReduceOp;

/// Whether all calls of a group of one are copies.
pub(super) fn are_copies(calls: &[DeviceCall<'_>]) -> bool {
    calls.iter().all(|call| {
        !matches!(call.kind, Kind::Send | Kind::Recv)
            && !matches!(call.op, Some(ReduceOp::PreMulSum(_)))
    })
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
