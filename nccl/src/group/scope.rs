//! Asynchronous operations on borrowed buffers, inside a scope that waits at its end.

#![expect(unsafe_code, reason = "hands the address of a borrowed buffer to the backend")]

use core::marker::PhantomData;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

use super::ProcessGroup;
use super::work::End;
use super::work::Shared;
use crate::backend::Call;
use crate::count;
use crate::desc::Kind;
use crate::dtype::Element;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::trace::lock;

/// Where operations on borrowed buffers can be begun; made by [`ProcessGroup::scope`].
pub struct Scope<'scope, 'env: 'scope> {
    group: &'scope ProcessGroup,
    open: Mutex<Vec<Arc<Shared<()>>>>,
    // Invariant in both, as for `std::thread::Scope`: neither may be shortened or lengthened.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("open", &lock(&self.open).len()).finish_non_exhaustive()
    }
}

impl ProcessGroup {
    /// Runs `body`, in which operations on borrowed buffers can be begun; waits for all of them
    /// before it returns, also if `body` panics. The buffers can be used again afterwards.
    ///
    /// # Errors
    /// The error of `body`, else the first of the operations.
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(2, |group| {
    /// let mut gradients = vec![1.0_f32; 100];
    /// let mut loss = [0.5_f64];
    /// group.scope(|scope| {
    ///     scope.all_reduce(&mut gradients, nccl::ReduceOp::Avg)?;
    ///     scope.all_reduce(&mut loss, nccl::ReduceOp::Sum)
    ///     // compute something else here, while they run
    /// })?;
    /// assert_eq!((gradients[0], loss[0]), (1.0, 1.0));
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    pub fn scope<'env, R>(
        &self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> Result<R>,
    ) -> Result<R> {
        let scope = Scope {
            group: self,
            open: Mutex::new(Vec::new()),
            scope: PhantomData,
            env: PhantomData,
        };
        let outcome = {
            let _waits = WaitAtEnd(&scope.open);
            body(&scope)
        };
        let all = lock(&scope.open).drain(..).try_for_each(|work| work.take());
        let value = outcome?;
        all.map(|()| value)
    }
}

/// Waits for everything that was begun, whatever happens in between; keeps the outcomes.
struct WaitAtEnd<'a>(&'a Mutex<Vec<Arc<Shared<()>>>>);

impl Drop for WaitAtEnd<'_> {
    fn drop(&mut self) {
        for work in lock(self.0).iter() {
            let outcome = work.take();
            work.finish(outcome);
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Begins an [`all_reduce_in_place`](ProcessGroup::all_reduce_in_place).
    ///
    /// # Errors
    /// Misuse at once; all others from [`ProcessGroup::scope`].
    pub fn all_reduce<T: Element>(&'scope self, buf: &'scope mut [T], op: ReduceOp) -> Result<()> {
        count::check_op("all_reduce", op, T::DTYPE)?;
        let call = self.group.call::<T>(Kind::AllReduce, buf.len()).reducing(op);
        self.begin(call.in_place(buf))
    }

    /// Begins a [`broadcast`](ProcessGroup::broadcast).
    ///
    /// # Errors
    /// As [`Scope::all_reduce`].
    pub fn broadcast<T: Element>(&'scope self, buf: &'scope mut [T], root: usize) -> Result<()> {
        let count = count::broadcast(buf.len(), root, self.group.world_size())?;
        let call = self.group.call::<T>(Kind::Broadcast, count).rooted(root);
        self.begin(call.in_place(buf))
    }

    /// Begins an [`all_gather`](ProcessGroup::all_gather).
    ///
    /// # Errors
    /// As [`Scope::all_reduce`].
    pub fn all_gather<T: Element>(
        &'scope self,
        send: &'scope [T],
        recv: &'scope mut [T],
    ) -> Result<()> {
        let count = count::all_gather(send.len(), recv.len(), self.group.world_size())?;
        self.begin(self.group.call::<T>(Kind::AllGather, count).buffers(send, recv))
    }

    /// Begins a [`reduce_scatter`](ProcessGroup::reduce_scatter).
    ///
    /// # Errors
    /// As [`Scope::all_reduce`].
    pub fn reduce_scatter<T: Element>(
        &'scope self,
        send: &'scope [T],
        recv: &'scope mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        let count = count::reduce_scatter(send.len(), recv.len(), self.group.world_size())?;
        count::check_op("reduce_scatter", op, T::DTYPE)?;
        let call = self.group.call::<T>(Kind::ReduceScatter, count).reducing(op);
        self.begin(call.buffers(send, recv))
    }

    /// Begins an [`all_to_all`](ProcessGroup::all_to_all).
    ///
    /// # Errors
    /// As [`Scope::all_reduce`].
    pub fn all_to_all<T: Element>(
        &'scope self,
        send: &'scope [T],
        recv: &'scope mut [T],
    ) -> Result<()> {
        let count = count::all_to_all(send.len(), recv.len(), self.group.world_size())?;
        self.begin(self.group.call::<T>(Kind::AllToAll, count).buffers(send, recv))
    }

    fn begin(&'scope self, call: Call<'static>) -> Result<()> {
        self.group.usable(call.kind.name())?;
        let shared = Shared::new();
        let end = End::of(&shared);
        let (backend, timeout) = (self.group.inner.backend.clone(), self.group.timeout);
        self.group.inner.queue.push(move || {
            let call = call;
            // SAFETY: the buffers are borrowed for 'scope, which outlives the operation: the scope
            // only ends once `WaitAtEnd` has seen the outcome of everything in `open`.
            let outcome = unsafe { backend.collective(&call, timeout) };
            move || end.finish(outcome)
        })?;
        lock(&self.open).push(shared);
        Ok(())
    }
}
