//! What NCCL tells of a communicator, and its other states.
#![expect(unsafe_code, reason = "calls libnccl with the handle of a communicator")]

use core::ffi::c_int;
use std::time::Duration;

use nccl_sys::ncclCommMemStat_t;
use nccl_sys::ncclCommProperties_t;

use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::shared::Entered;
use crate::backend::nccl::shared::Phase;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;

/// What NCCL itself says a communicator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostInfo {
    /// Rank and number of ranks.
    pub member: Member,
    /// The number of the device among those this process sees.
    pub device: usize,
}

/// How much memory of the GPU a communicator has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// What [`Communicator::suspend`] gives back.
    pub suspendable_bytes: u64,
    /// Whether it is given back now.
    pub is_suspended: bool,
    /// What stays until the end.
    pub persistent_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// What a communicator can do.
///
/// # Source
/// `ncclCommProperties_t` of `nccl_device/core.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// Rank and number of ranks.
    pub member: Member,
    /// The number of the device among those this process sees.
    pub device: usize,
    /// Whether kernels may communicate by themselves.
    pub device_api: bool,
    /// Whether one store can reach several GPUs.
    pub multimem: bool,
    /// Groups of ranks that reach each other's memory directly.
    pub lsa_teams: usize,
    /// Whether one-sided calls from the host work.
    pub host_rma: bool,
    /// The communicator's number, as in NCCL's log (2.31).
    pub hash: Option<u64>,
    /// Whether counted transfers work (2.31).
    pub counted_transfers: Option<bool>,
}

impl Communicator {
    /// Returns what NCCL itself says of it.
    ///
    /// # Errors
    /// [`Error::Nccl`], and why it has ended.
    ///
    /// # Source
    /// `ncclCommCount`, `ncclCommUserRank` and `ncclCommCuDevice` of nccl.h.
    pub fn host_info(&self) -> Result<HostInfo> {
        self.shared().ask("ncclCommCount", |entered| {
            let member = member(entered)?;
            let get = entered.nccl().library().ncclCommCuDevice().map_err(Error::Unsupported)?;
            let mut device: c_int = 0;
            // SAFETY: the handle is live and this thread's for now; one number is written, through
            // a pointer to a live one.
            let result = entered.call(|comm| unsafe { get(comm, &raw mut device) });
            entered.nccl().check("ncclCommCuDevice", result)?;
            Ok(HostInfo { member, device: number(device) })
        })
    }

    /// Stops what is in flight; nothing can be enqueued afterwards. The communicator can still be
    /// split, shrunk and ended.
    ///
    /// # Errors
    /// [`Error::NcclStuck`], [`Error::Nccl`]: then it is aborted. [`Error::Unsupported`].
    ///
    /// # Source
    /// `ncclCommRevoke` of nccl.h (2.28.7).
    pub fn revoke(&self, timeout: Duration) -> Result<()> {
        const CALL: &str = "ncclCommRevoke";
        let revoke = self.nccl().library().ncclCommRevoke().map_err(Error::Unsupported)?;
        let revoked = self.shared().within(CALL, timeout, move |entered, deadline| {
            let flags = nccl_sys::NCCL_REVOKE_DEFAULT;
            // SAFETY: the handle is live and this thread's for now.
            let result = entered.call(|comm| unsafe { revoke(comm, flags) });
            entered.finish(CALL, result, deadline)
        });
        if revoked.is_ok() {
            self.shared().set_phase(Phase::Revoked);
        }
        revoked
    }

    /// Gives back GPU memory, as long as nothing is to be done: nothing may be in flight. Nothing
    /// can be enqueued until [`Communicator::resume`].
    ///
    /// # Errors
    /// As of [`Communicator::revoke`].
    ///
    /// # Source
    /// `ncclCommSuspend` of nccl.h (2.29.7), with `NCCL_SUSPEND_MEM`.
    pub fn suspend(&self, timeout: Duration) -> Result<()> {
        const CALL: &str = "ncclCommSuspend";
        let suspend = self.nccl().library().ncclCommSuspend().map_err(Error::Unsupported)?;
        self.shared().check_usable("Communicator::suspend")?;
        let suspended = self.shared().within(CALL, timeout, move |entered, deadline| {
            // SAFETY: the handle is live and this thread's for now.
            let result = entered.call(|comm| unsafe { suspend(comm, nccl_sys::NCCL_SUSPEND_MEM) });
            entered.finish(CALL, result, deadline)
        });
        if suspended.is_ok() {
            self.shared().set_phase(Phase::Suspended);
        }
        suspended
    }

    /// Takes the memory again.
    ///
    /// # Errors
    /// As of [`Communicator::revoke`]; [`Error::Usage`] if it was not suspended.
    ///
    /// # Source
    /// `ncclCommResume` of nccl.h (2.29.7).
    pub fn resume(&self, timeout: Duration) -> Result<()> {
        const CALL: &str = "ncclCommResume";
        let resume = self.nccl().library().ncclCommResume().map_err(Error::Unsupported)?;
        if self.shared().phase() != Phase::Suspended {
            let problem = "it was not suspended".to_owned();
            return Err(Error::Usage { op: "Communicator::resume", problem });
        }
        let resumed = self.shared().within(CALL, timeout, move |entered, deadline| {
            // SAFETY: the handle is live and this thread's for now.
            let result = entered.call(|comm| unsafe { resume(comm) });
            entered.finish(CALL, result, deadline)
        });
        if resumed.is_ok() {
            self.shared().set_phase(Phase::Usable);
        }
        resumed
    }

    /// Returns how much memory of the GPU it has.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Nccl`].
    ///
    /// # Source
    /// `ncclCommMemStats` of nccl.h (2.29.7).
    pub fn memory_stats(&self) -> Result<MemoryStats> {
        const CALL: &str = "ncclCommMemStats";
        let get = self.nccl().library().ncclCommMemStats().map_err(Error::Unsupported)?;
        self.shared().ask(CALL, |entered| {
            let stat = |which: ncclCommMemStat_t| {
                let mut value = 0;
                // SAFETY: the handle is live and this thread's for now; one number is written,
                // through a pointer to a live one.
                let result = entered.call(|comm| unsafe { get(comm, which, &raw mut value) });
                entered.nccl().check(CALL, result).map(|()| value)
            };
            Ok(MemoryStats {
                suspendable_bytes: stat(ncclCommMemStat_t::ncclStatGpuMemSuspend)?,
                is_suspended: stat(ncclCommMemStat_t::ncclStatGpuMemSuspended)? != 0,
                persistent_bytes: stat(ncclCommMemStat_t::ncclStatGpuMemPersist)?,
                total_bytes: stat(ncclCommMemStat_t::ncclStatGpuMemTotal)?,
            })
        })
    }

    /// Returns what it can do.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.29.7, whose first releases have another struct;
    /// [`Error::Nccl`].
    ///
    /// # Source
    /// `ncclCommQueryProperties` of `nccl_device/core.h`.
    pub fn properties(&self) -> Result<Properties> {
        const CALL: &str = "ncclCommQueryProperties";
        let library = self.nccl().library();
        let mut raw = ncclCommProperties_t::new(library.version()).map_err(Error::Unsupported)?;
        let get = library.ncclCommQueryProperties().map_err(Error::Unsupported)?;
        self.shared().ask(CALL, |entered| {
            // SAFETY: the handle is live and this thread's for now; the function writes as much of
            // the struct as its version says, and that is never newer than ours.
            let result = entered.call(|comm| unsafe { get(comm, &raw mut raw) });
            entered.nccl().check(CALL, result)
        })?;
        let since_31 = library.version() >= nccl_sys::Version::new(2, 31, 0);
        let member = Member { rank: number(raw.rank), world_size: number(raw.nRanks) };
        Ok(Properties {
            member,
            device: number(raw.cudaDev),
            device_api: raw.deviceApiSupport != 0,
            multimem: raw.multimemSupport != 0,
            lsa_teams: number(raw.nLsaTeams),
            host_rma: raw.hostRmaSupport != 0,
            hash: since_31.then_some(raw.commHash),
            counted_transfers: since_31.then_some(raw.cftSupport != 0),
        })
    }
}

/// Rank and number of ranks, as NCCL says.
pub(super) fn member(entered: &Entered<'_>) -> Result<Member> {
    let (nccl, library) = (entered.nccl(), entered.nccl().library());
    let count = library.ncclCommCount().map_err(Error::Unsupported)?;
    let rank = library.ncclCommUserRank().map_err(Error::Unsupported)?;
    let (mut world_size, mut own): (c_int, c_int) = (0, 0);
    // SAFETY: the handle is live and this thread's for now; each function writes one number,
    // through a pointer to a live one.
    let results = entered
        .call(|comm| unsafe { (count(comm, &raw mut world_size), rank(comm, &raw mut own)) });
    nccl.check("ncclCommCount", results.0)?;
    nccl.check("ncclCommUserRank", results.1)?;
    Ok(Member { rank: number(own), world_size: number(world_size) })
}

/// A number that is none below zero.
fn number(value: c_int) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
