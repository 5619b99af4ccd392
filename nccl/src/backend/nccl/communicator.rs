//! Communicators, as users see them.
#![expect(unsafe_code, reason = "takes over, and lends, communicators of others")]

use core::ffi::c_void;
use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use nccl_sys::NcclResult;

use crate::backend::nccl::bounded;
use crate::backend::nccl::config::CommConfig;
use crate::backend::nccl::init::Plan;
use crate::backend::nccl::library::Nccl;
use crate::backend::nccl::shared::Raw;
use crate::backend::nccl::shared::Shared;
use crate::backend::nccl::unique_id::UniqueId;
use crate::clock::Deadline;
use crate::clock::LazyDeadline;
use crate::cuda::Device;
use crate::cuda::StreamRef;
use crate::device::DeviceBackend;
use crate::device::DeviceCall;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;

/// One rank's end of a group of ranks, each with its own device: NCCL's own kind of group.
///
/// A [`ProcessGroup`](crate::ProcessGroup) has one when its backend is NCCL, and more: the ranks
/// find each other, and an error names the rank that caused it. A communicator of one's own is for
/// programs that have their own way to tell all ranks an id.
///
/// It may be used by several threads; they take turns. Dropped, it is aborted, without waiting;
/// [`Communicator::finalize`] is the orderly end.
///
/// ```no_run
/// use std::time::Duration;
///
/// use nccl::Member;
/// use nccl::comm::CommConfig;
/// use nccl::comm::Communicator;
/// use nccl::comm::Nccl;
/// use nccl::cuda::Driver;
///
/// let nccl = Nccl::get()?;
/// let gpu = Driver::get()?.device(0)?;
/// let id = nccl.unique_id()?; // on one rank, which tells it to the others
/// let alone = Member { rank: 0, world_size: 1 };
/// let timeout = Duration::from_secs(60);
/// let comm = Communicator::new(nccl, &gpu, alone, &[id], &CommConfig::new(), timeout)?;
/// comm.finalize(timeout)?;
/// # Ok::<(), nccl::Error>(())
/// ```
///
/// # Source
/// `ncclComm_t` of nccl.h.
pub struct Communicator {
    shared: Arc<Shared>,
}

/// Ends a communicator from any thread.
#[derive(Clone)]
pub struct AbortHandle {
    shared: Arc<Shared>,
}

impl Communicator {
    /// Makes a communicator, together with all its other ranks: each calls this with the same ids
    /// and its own rank and device. One id will do; with many thousand ranks several make it
    /// quicker (2.23).
    ///
    /// # Errors
    /// [`Error::NcclStuck`] if not all ranks came within `timeout`: what was begun is aborted.
    /// [`Error::Unsupported`] names an option that this NCCL has not. [`Error::Nccl`].
    ///
    /// # Source
    /// `ncclCommInitRankConfig` and `ncclCommInitRankScalable` of nccl.h.
    pub fn new(
        nccl: &'static Nccl,
        device: &Device,
        member: Member,
        ids: &[UniqueId],
        config: &CommConfig,
        timeout: Duration,
    ) -> Result<Self> {
        let plan = Plan {
            nccl,
            device: device.clone(),
            member,
            ids: ids.to_vec(),
            config: config.clone(),
        };
        Ok(Self::of(plan.make(timeout, &|| None)?))
    }

    /// As [`Communicator::new`], and gives up as soon as `cancel` says why.
    pub(crate) fn new_unless(
        nccl: &'static Nccl,
        device: &Device,
        member: Member,
        id: UniqueId,
        config: &CommConfig,
        timeout: Duration,
        cancel: &dyn Fn() -> Option<Error>,
    ) -> Result<Self> {
        let config = config.clone();
        let plan = Plan { nccl, device: device.clone(), member, ids: vec![id], config };
        Ok(Self::of(plan.make(timeout, cancel)?))
    }

    /// Takes over a communicator that other code has made with the same library. If `owned`, it is
    /// ended like one made here, and never otherwise.
    ///
    /// # Safety
    /// `comm` is a live communicator of the very library that `nccl` is (see [`Nccl::path`]), on
    /// `device`, and `member` is its rank and size. Until the value is dropped nobody else uses it
    /// at the same time, and nobody ends it; if `owned`, nobody uses it any more.
    ///
    /// # Errors
    /// [`Error::Usage`] if `comm` is null.
    pub unsafe fn from_raw(
        nccl: &'static Nccl,
        device: &Device,
        member: Member,
        comm: *mut c_void,
        owned: bool,
    ) -> Result<Self> {
        if comm.is_null() {
            let problem = "the communicator is null".to_owned();
            return Err(Error::Usage { op: "Communicator::from_raw", problem });
        }
        // SAFETY: the caller vouches for it.
        let shared = unsafe { Shared::new(nccl, device, member, comm.cast(), owned, None) };
        Ok(Self::of(shared))
    }

    pub(super) fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Lends the `ncclComm_t` to `use_it`; other threads wait until it returns.
    ///
    /// # Errors
    /// Why the communicator has ended.
    pub fn with_raw<T>(&self, use_it: impl FnOnce(*mut c_void) -> T) -> Result<T> {
        let entered = self.shared.enter()?;
        Ok(use_it(entered.raw().cast()))
    }

    /// Returns the rank and the number of ranks.
    #[must_use]
    pub fn member(&self) -> Member {
        self.shared.member()
    }

    /// Returns the device.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.shared.device()
    }

    /// Returns the library.
    #[must_use]
    pub fn nccl(&self) -> &'static Nccl {
        self.shared.nccl()
    }

    /// Returns what can end it from other threads, as a watchdog.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { shared: self.shared.clone() }
    }

    /// Fails if NCCL's own threads have found an error since: the communicator is of no use then,
    /// and should be aborted. Never waits.
    ///
    /// # Errors
    /// [`Error::Nccl`], or why the communicator has ended.
    ///
    /// # Source
    /// `ncclCommGetAsyncError` of nccl.h.
    pub fn check(&self) -> Result<()> {
        self.abort_handle().check()
    }

    /// Finishes what was enqueued, and frees the communicator: call it on all ranks.
    ///
    /// # Errors
    /// [`Error::NcclStuck`] if that took longer than `timeout`, [`Error::Nccl`]: then it is
    /// aborted.
    ///
    /// # Source
    /// `ncclCommFinalize` and `ncclCommDestroy` of nccl.h.
    pub fn finalize(self, timeout: Duration) -> Result<()> {
        self.end(timeout)
    }

    /// As [`AbortHandle::abort`].
    pub(super) fn abort_for(&self, why: Error) {
        self.shared.abort(why);
    }

    /// As [`Communicator::finalize`].
    pub(super) fn end(&self, timeout: Duration) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let shared = self.shared.clone();
        let finalized =
            bounded::run("nccl-finalize", timeout, move || finalize(&shared, &deadline));
        let stuck = |call| Error::NcclStuck {
            call,
            device: self.device().ordinal(),
            waited: deadline.waited(),
        };
        let outcome = finalized?.unwrap_or_else(|| Err(stuck("ncclCommFinalize")));
        let Raw(comm) = match outcome {
            Ok(comm) => comm,
            Err(error) => {
                self.shared.abort(error.clone());
                return Err(error);
            }
        };
        let (shared, comm) = (self.shared.clone(), Raw(comm));
        let destroyed =
            bounded::run("nccl-destroy", deadline.left(), move || destroy(&shared, comm));
        destroyed?.unwrap_or_else(|| Err(stuck("ncclCommDestroy")))
    }
}

/// Waits for the work, and takes the handle.
fn finalize(shared: &Shared, deadline: &Deadline) -> Result<Raw> {
    let entered = shared.enter()?;
    let _current = shared.device().make_current()?;
    let finalize = shared.nccl().library().ncclCommFinalize().map_err(Error::Unsupported)?;
    // SAFETY: the handle is live and this thread's for now.
    let result = entered.call(|comm| unsafe { finalize(comm) });
    entered.finish("ncclCommFinalize", result, deadline)?;
    Ok(Raw(entered.give_up(Error::CommEnded { why: "it was finalized".to_owned() })))
}

fn destroy(shared: &Shared, comm: Raw) -> Result<()> {
    let Raw(comm): Raw = comm;
    let _current = shared.device().make_current()?;
    let destroy = shared.nccl().library().ncclCommDestroy().map_err(Error::Unsupported)?;
    // SAFETY: the handle was taken: nobody else has it, and nobody uses it afterwards.
    let result = unsafe { destroy(comm) };
    match result {
        NcclResult::IN_PROGRESS => Ok(()),
        result => shared.nccl().check("ncclCommDestroy", result),
    }
}

impl AbortHandle {
    /// Ends the communicator: what is enqueued stops, whoever waits for a call gives up, later
    /// calls return [`Error::CommEnded`] with the reason. Never waits; may be called twice, the
    /// first reason stays.
    ///
    /// The other ranks are not told: each must abort its own end.
    ///
    /// # Source
    /// `ncclCommAbort` of nccl.h.
    pub fn abort(&self, why: impl Into<String>) {
        self.shared.abort(Error::CommEnded { why: why.into() });
    }

    /// As [`Communicator::check`].
    ///
    /// # Errors
    /// As [`Communicator::check`].
    pub fn check(&self) -> Result<()> {
        if self.shared.has_ended() {
            return self.shared.enter().map(drop);
        }
        self.shared.async_error().unwrap_or(Ok(()))
    }
}

impl DeviceBackend for Communicator {
    fn name(&self) -> &'static str {
        "nccl"
    }

    fn device(&self) -> &Device {
        self.shared.device()
    }

    unsafe fn enqueue(
        &self,
        calls: &[DeviceCall<'_>],
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()> {
        let deadline = LazyDeadline::after(timeout);
        // SAFETY: passed on from the caller, who has compared the devices.
        let outcome = unsafe { self.shared.issue(calls, stream.as_raw(), &deadline) };
        if let Err(error) = &outcome
            && is_fatal(error)
        {
            self.shared.abort(error.clone());
        }
        outcome
    }
}

/// Whether the communicator is of no use after an error.
pub(super) fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Nccl(error) => !error.is_of_the_call_only(),
        Error::NcclStuck { .. } => true,
        _ => false,
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if !self.shared.has_ended() {
            self.shared.abort(Error::CommEnded { why: "it was dropped".to_owned() });
        }
    }
}

impl fmt::Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
