//! Calls that may wait inside NCCL, each at most until its deadline.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::nccl::bounded;
use crate::backend::nccl::communicator::is_fatal;
use crate::backend::nccl::shared::Entered;
use crate::backend::nccl::shared::Shared;
use crate::clock::LazyDeadline;
use crate::error::Error;
use crate::error::Result;

/// How long a query waits for another thread's call.
const PATIENCE: Duration = Duration::from_secs(5);

impl Shared {
    /// Runs `work` with the communicator, on a thread of its own, with the device's context
    /// current; waits for it at most for `timeout`. What it returns too late is dropped.
    ///
    /// An error after which the communicator is of no use aborts it.
    ///
    /// # Errors
    /// Those of `work`; [`Error::NcclStuck`] naming `call`.
    pub(super) fn within<T: Send + 'static>(
        self: &Arc<Self>,
        call: &'static str,
        timeout: Duration,
        work: impl FnOnce(&Entered<'_>, &LazyDeadline) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (shared, deadline) = (self.clone(), LazyDeadline::after(timeout));
        // From here on, and not from the first look at the clock.
        let _begun = deadline.left();
        let outcome = bounded::run("nccl-call", timeout, move || {
            let deadline = LazyDeadline::after(timeout);
            let entered = shared.enter_by(call, &deadline)?;
            let _current = shared.device().make_current()?;
            work(&entered, &deadline)
        })?;
        let outcome = outcome.unwrap_or_else(|| {
            let (device, waited) = (self.device().ordinal(), deadline.waited());
            Err(Error::NcclStuck { call, device, waited })
        });
        if let Err(error) = &outcome
            && is_fatal(error)
        {
            self.abort(error.clone());
        }
        outcome
    }

    /// Asks NCCL something that it answers without waiting for anybody, on this thread.
    ///
    /// # Errors
    /// Those of `ask`; [`Error::NcclStuck`] if another thread has been in a call for long.
    pub(super) fn ask<T>(
        &self,
        call: &'static str,
        ask: impl FnOnce(&Entered<'_>) -> Result<T>,
    ) -> Result<T> {
        let entered = self.enter_by(call, &LazyDeadline::after(PATIENCE))?;
        let _current = self.device().make_current()?;
        ask(&entered)
    }
}
