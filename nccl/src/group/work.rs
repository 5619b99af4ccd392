//! Operations under way that own their buffers.

#![expect(unsafe_code, reason = "hands the address of an owned buffer to the backend")]

use std::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::ProcessGroup;
use crate::backend::Call;
use crate::buffer::Held;
use crate::buffer::OwnedBuffer;
use crate::clock::Deadline;
use crate::count;
use crate::desc::Kind;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::trace::lock;

/// An operation under way. It owns its buffer until [`Work::wait`] gives it back.
///
/// Dropping it forgets the result, not the operation: that goes on, and the buffer is freed when
/// it is over.
#[must_use = "an operation is only over once it was waited for"]
pub struct Work<B> {
    shared: Arc<Shared<B>>,
}

/// What the operation and its handle share.
pub(super) struct Shared<B> {
    outcome: Mutex<Option<Result<B>>>,
    done: Condvar,
}

impl<B> Shared<B> {
    /// Nothing yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { outcome: Mutex::new(None), done: Condvar::new() })
    }

    /// The end.
    pub(super) fn finish(&self, outcome: Result<B>) {
        *lock(&self.outcome) = Some(outcome);
        self.done.notify_all();
    }

    /// Waits for the end.
    pub(super) fn take(&self) -> Result<B> {
        let mut outcome = lock(&self.outcome);
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            outcome = self.done.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Whoever runs an operation: tells the outcome, also if it panics on the way.
pub(super) struct End<B>(Option<Arc<Shared<B>>>);

impl<B> End<B> {
    /// The end of what `shared` waits for.
    pub(super) fn of(shared: &Arc<Shared<B>>) -> Self {
        Self(Some(shared.clone()))
    }

    /// Tells the outcome.
    pub(super) fn finish(mut self, outcome: Result<B>) {
        if let Some(shared) = self.0.take() {
            shared.finish(outcome);
        }
    }
}

impl<B> Drop for End<B> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            let problem = "the thread that ran it panicked or could not be started".to_owned();
            shared.finish(Err(Error::Usage { op: "asynchronous work", problem }));
        }
    }
}

impl<B> fmt::Debug for Work<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("is_completed", &self.is_completed()).finish()
    }
}

impl<B> Work<B> {
    pub(super) fn of(shared: Arc<Shared<B>>) -> Self {
        Self { shared }
    }

    /// Whether the operation is over, well or not.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        lock(&self.shared.outcome).is_some()
    }

    /// Waits at most `timeout` for the operation to be over; says whether it is. The operation has
    /// its own deadline and goes on.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        let mut outcome = lock(&self.shared.outcome);
        while outcome.is_none() {
            if deadline.passed() {
                return false;
            }
            let woken = self.shared.done.wait_timeout(outcome, deadline.left());
            outcome = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until the operation is over and gives the buffer back.
    ///
    /// # Errors
    /// Those of the operation; the buffer is freed then.
    pub fn wait(self) -> Result<B> {
        self.shared.take()
    }
}

impl ProcessGroup {
    /// Begins an [`all_reduce`](ProcessGroup::all_reduce_in_place) of a buffer that the operation
    /// owns meanwhile.
    ///
    /// # Errors
    /// Misuse at once; all others from [`Work::wait`].
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(2, |group| {
    /// let work = group.all_reduce_async(vec![1.0_f32; 1000], nccl::ReduceOp::Sum)?;
    /// // compute something else here
    /// assert_eq!(work.wait()?, vec![2.0; 1000]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    pub fn all_reduce_async<B: OwnedBuffer>(&self, buf: B, op: ReduceOp) -> Result<Work<B>> {
        count::check_op("all_reduce", op, B::Element::DTYPE)?;
        let held = Held::new(buf);
        let call = self.call::<B::Element>(Kind::AllReduce, held.len()).reducing(op);
        self.begin(call, held)
    }

    /// Begins a [`broadcast`](ProcessGroup::broadcast).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce_async`].
    pub fn broadcast_async<B: OwnedBuffer>(&self, buf: B, root: usize) -> Result<Work<B>> {
        let held = Held::new(buf);
        let count = count::broadcast(held.len(), root, self.world_size())?;
        let call = self.call::<B::Element>(Kind::Broadcast, count).rooted(root);
        self.begin(call, held)
    }

    /// Begins a [`reduce_in_place`](ProcessGroup::reduce_in_place).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce_async`].
    pub fn reduce_async<B: OwnedBuffer>(
        &self,
        buf: B,
        op: ReduceOp,
        root: usize,
    ) -> Result<Work<B>> {
        count::check_op("reduce", op, B::Element::DTYPE)?;
        let held = Held::new(buf);
        let count = count::reduce_in_place(held.len(), root, self.world_size())?;
        let call = self.call::<B::Element>(Kind::Reduce, count).reducing(op).rooted(root);
        self.begin(call, held)
    }

    /// Begins an [`all_gather_in_place`](ProcessGroup::all_gather_in_place).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce_async`].
    pub fn all_gather_async<B: OwnedBuffer>(&self, buf: B) -> Result<Work<B>> {
        let held = Held::new(buf);
        let count = count::all_gather_in_place(held.len(), self.world_size())?;
        self.begin(self.call::<B::Element>(Kind::AllGather, count), held)
    }

    /// Begins a [`reduce_scatter_in_place`](ProcessGroup::reduce_scatter_in_place).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce_async`].
    pub fn reduce_scatter_async<B: OwnedBuffer>(&self, buf: B, op: ReduceOp) -> Result<Work<B>> {
        count::check_op("reduce_scatter", op, B::Element::DTYPE)?;
        let held = Held::new(buf);
        let count = count::reduce_scatter_in_place(held.len(), self.world_size())?;
        self.begin(self.call::<B::Element>(Kind::ReduceScatter, count).reducing(op), held)
    }

    /// Begins an [`all_to_all_in_place`](ProcessGroup::all_to_all_in_place).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce_async`].
    pub fn all_to_all_async<B: OwnedBuffer>(&self, buf: B) -> Result<Work<B>> {
        let held = Held::new(buf);
        let count = count::all_to_all_in_place(held.len(), self.world_size())?;
        self.begin(self.call::<B::Element>(Kind::AllToAll, count), held)
    }

    /// Begins a [`barrier`](ProcessGroup::barrier).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce_async`].
    pub fn barrier_async(&self) -> Result<Work<()>> {
        let call = self.call::<u8>(Kind::Barrier, 0);
        self.enqueue(call, ())
    }

    fn begin<B: OwnedBuffer>(&self, call: Call<'static>, held: Held<B>) -> Result<Work<B>> {
        let call = call.in_place_at(held.as_mut_ptr().cast());
        let shared = Shared::new();
        let end = End::of(&shared);
        self.submit(call, move |outcome| end.finish(outcome.map(|()| held.give_back())))?;
        Ok(Work::of(shared))
    }

    fn enqueue<B: Send + 'static>(&self, call: Call<'static>, value: B) -> Result<Work<B>> {
        let shared = Shared::new();
        let end = End::of(&shared);
        self.submit(call, move |outcome| end.finish(outcome.map(|()| value)))?;
        Ok(Work::of(shared))
    }

    /// Puts a call into the queue; `end` owns its buffers and is told the outcome.
    fn submit(
        &self,
        call: Call<'static>,
        end: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<()> {
        self.usable(call.kind.name())?;
        let (backend, timeout) = (self.inner.backend.clone(), self.timeout);
        self.inner.queue.push(move || {
            let call = call;
            // SAFETY: the buffer is owned by `end`, a local of this closure, and so stays where it
            // is, untouched by others, until this returns; `count` has checked its length.
            let outcome = unsafe { backend.collective(&call, timeout) };
            move || end(outcome)
        })
    }

    /// Runs a call whose buffers are borrowed, behind those that wait in the queue.
    pub(super) fn behind_the_queue(&self, call: &Call<'_>) -> Result<()> {
        let shared = Shared::new();
        let end = End::of(&shared);
        let counts = (call.send_counts.to_vec(), call.recv_counts.to_vec());
        let call = Call { send_counts: &[], recv_counts: &[], ..*call };
        let (backend, timeout) = (self.inner.backend.clone(), self.timeout);
        self.inner.queue.push(move || {
            let (send_counts, recv_counts) = &counts;
            let whole = call;
            let call = Call { send_counts, recv_counts, ..whole };
            // SAFETY: whoever called borrows the buffers until the outcome below was taken.
            let outcome = unsafe { backend.collective(&call, timeout) };
            move || end.finish(outcome)
        })?;
        shared.take()
    }
}
