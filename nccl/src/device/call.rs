//! One operation on device memory, checked, as a backend gets it.
#![expect(unsafe_code, reason = "operations name their buffers by address")]

use core::fmt;
use std::time::Duration;

use crate::cuda::Device;
use crate::cuda::StreamRef;
use crate::desc::Kind;
use crate::dtype::DataType;
use crate::error::Result;
use crate::op::ReduceOp;

/// An operation as a rank calls it: lengths, root, types, devices and overlaps have been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceCall<'a> {
    /// Which one; also `Send` and `Recv`.
    pub(crate) kind: Kind,
    /// The type of the elements.
    pub(crate) dtype: DataType,
    /// The reduction, for those that reduce.
    pub(crate) op: Option<ReduceOp>,
    /// The root, or the peer of a `Send` or `Recv`.
    pub(crate) root: usize,
    /// Elements, as `schedule::Shape` counts them; of the message for `Send` and `Recv`.
    pub(crate) count: usize,
    /// Address of the input on the device, also if it lies in the output's memory; 0 if this rank
    /// has none.
    pub(crate) send: u64,
    /// Address of the output on the device; 0 if this rank has none. If `in_place`, the buffer
    /// whose part the input is.
    pub(crate) recv: u64,
    /// Whether the input lies in the output's memory, at the place that `schedule::Shape` names.
    pub(crate) in_place: bool,
    /// Counts by rank, for the forms that have them.
    pub(crate) send_counts: &'a [usize],
    /// Counts by rank, for the forms that have them.
    pub(crate) recv_counts: &'a [usize],
}

/// What can run operations on device memory, in the order of a stream.
pub(crate) trait DeviceBackend: fmt::Debug + Send + Sync {
    /// `nccl`, or `cpu` where the data are staged through host memory.
    fn name(&self) -> &'static str;

    /// The device whose streams and memory it can use.
    fn device(&self) -> &Device;

    /// Enqueues all calls on the stream, as one unit: nothing of them waits for another one.
    /// Returns once they are enqueued, or failed; the timeout is for that.
    ///
    /// # Safety
    /// From now until what is enqueued is done, the buffers have the elements that the kinds and
    /// counts imply, on the stream's device; whatever else uses them is ordered by the stream.
    unsafe fn enqueue(
        &self,
        calls: &[DeviceCall<'_>],
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()>;
}
