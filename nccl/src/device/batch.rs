//! Several operations on device memory, enqueued as one unit.

use core::fmt;

use super::call::DeviceCall;
use super::front::Made;
use super::on_stream::OnStream;
use super::span::Span;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceStream;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;

/// Operations that are enqueued as one unit; made by [`OnStream::batch`].
///
/// It borrows the buffers until [`StreamBatch::run`]. Nothing is enqueued before that, nor if it
/// is dropped or leaked; wrong arguments are errors when they are added. The operations do not
/// wait for one another, so none may write what another one uses.
#[must_use = "nothing is enqueued before `run`"]
pub struct StreamBatch<'a, S: DeviceStream + ?Sized> {
    on: OnStream<'a, S>,
    calls: Vec<DeviceCall<'a>>,
    /// What the calls read and write.
    spans: Vec<(Span, Span)>,
    leases: Vec<Box<dyn Lease + 'a>>,
}

/// Whatever keeps a buffer until the work is enqueued.
trait Lease {}

impl<L> Lease for L {}

impl<S: DeviceStream + ?Sized> fmt::Debug for StreamBatch<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBatch").field("calls", &self.calls).finish_non_exhaustive()
    }
}

macro_rules! adders {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) <$($buf:ident: $bound:ident),*>;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// Misuse, as of the operation alone; and [`Usage`](Error::Usage) if it writes what
            /// another operation of the batch uses.
            pub fn $name<$($buf: $bound<S>),*>(self, $($arg: $type),*) -> Result<Self> {
                let made = self.on.front()?.$name($($arg),*)?;
                self.with(stringify!($name), made)
            }
        )*
    };
}

impl<'a, S: DeviceStream + ?Sized> StreamBatch<'a, S> {
    pub(super) fn new(on: OnStream<'a, S>) -> Self {
        Self { on, calls: Vec::new(), spans: Vec::new(), leases: Vec::new() }
    }

    adders! {
        /// Adds an [`OnStream::send`].
        send(buf: &'a A, peer: usize) <A: DeviceBuf>;
        /// Adds an [`OnStream::recv`].
        recv(buf: &'a mut B, peer: usize) <B: DeviceBufMut>;
        /// Adds an [`OnStream::all_reduce`].
        all_reduce(send: &'a A, recv: &'a mut B, op: ReduceOp) <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::all_reduce_in_place`].
        all_reduce_in_place(buf: &'a mut B, op: ReduceOp) <B: DeviceBufMut>;
        /// Adds an [`OnStream::all_gather`].
        all_gather(send: &'a A, recv: &'a mut B) <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::all_gather_in_place`].
        all_gather_in_place(buf: &'a mut B) <B: DeviceBufMut>;
        /// Adds an [`OnStream::reduce_scatter`].
        reduce_scatter(send: &'a A, recv: &'a mut B, op: ReduceOp) <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::reduce_scatter_in_place`].
        reduce_scatter_in_place(buf: &'a mut B, op: ReduceOp) <B: DeviceBufMut>;
        /// Adds an [`OnStream::all_to_all`].
        all_to_all(send: &'a A, recv: &'a mut B) <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::all_to_all_in_place`].
        all_to_all_in_place(buf: &'a mut B) <B: DeviceBufMut>;
        /// Adds an [`OnStream::broadcast`].
        broadcast(buf: &'a mut B, root: usize) <B: DeviceBufMut>;
        /// Adds an [`OnStream::reduce`].
        reduce(send: &'a A, recv: Option<&'a mut B>, op: ReduceOp, root: usize)
            <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::reduce_in_place`].
        reduce_in_place(buf: &'a mut B, op: ReduceOp, root: usize) <B: DeviceBufMut>;
        /// Adds an [`OnStream::gather`].
        gather(send: &'a A, recv: Option<&'a mut B>, root: usize) <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::scatter`].
        scatter(send: Option<&'a A>, recv: &'a mut B, root: usize) <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::all_gather_v`].
        all_gather_v(send: &'a A, recv: &'a mut B, recv_counts: &'a [usize])
            <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::reduce_scatter_v`].
        reduce_scatter_v(send: &'a A, recv: &'a mut B, recv_counts: &'a [usize], op: ReduceOp)
            <A: DeviceBuf, B: DeviceBufMut>;
        /// Adds an [`OnStream::all_to_all_v`].
        all_to_all_v(send: &'a A, recv: &'a mut B, send_counts: &'a [usize],
                     recv_counts: &'a [usize]) <A: DeviceBuf, B: DeviceBufMut>;
    }

    /// Says how many operations were added.
    #[must_use]
    pub fn count(&self) -> usize {
        self.calls.len()
    }

    /// Enqueues all of them; returns once they are, or have failed as a whole.
    ///
    /// # Errors
    /// Those of the group and of the library.
    pub fn run(self) -> Result<()> {
        let outcome = if self.calls.is_empty() { Ok(()) } else { self.on.enqueue(&self.calls) };
        drop(self.leases);
        outcome
    }

    /// The calls so far, for who enqueues them together with others.
    pub(crate) fn calls(&self) -> &[DeviceCall<'a>] {
        &self.calls
    }

    /// Whose operations they are, and their stream.
    pub(crate) fn on(&self) -> &OnStream<'a, S> {
        &self.on
    }

    /// With one more, if it gets along with those before.
    fn with<L: 'a>(mut self, op: &'static str, made: Made<'a, L>) -> Result<Self> {
        let Made { call, reads, writes, lease } = made;
        for (at, (read, written)) in self.spans.iter().enumerate() {
            let pairs = [(&writes, read), (&writes, written), (&reads, written)];
            if let Some((own, other)) = pairs.into_iter().find(|(one, two)| one.overlaps(two)) {
                let before = self.calls.get(at).map_or("operation", |call| call.kind.name());
                let problem = format!(
                    "{own} overlaps {other} of operation {at} of the batch ({before}); operations \
                     of a batch do not wait for one another"
                );
                return Err(Error::Usage { op, problem });
            }
        }
        self.calls.push(call);
        self.spans.push((reads, writes));
        self.leases.push(Box::new(lease));
        Ok(self)
    }
}
