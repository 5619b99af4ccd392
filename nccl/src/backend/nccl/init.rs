//! How communicators are made: each way ends at its deadline.
#![expect(unsafe_code, reason = "calls libnccl to make communicators")]

use core::ffi::c_int;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use std::io;
use std::sync::Arc;
use std::thread;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use nccl_sys::NcclResult;
use nccl_sys::Version;
use nccl_sys::ncclComm_t;
use nccl_sys::ncclConfig_t;
use nccl_sys::ncclUniqueId;

use crate::backend::nccl::bounded;
use crate::backend::nccl::bounded::Cancel;
use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::config::CommConfig;
use crate::backend::nccl::config::RawConfig;
use crate::backend::nccl::library::Nccl;
use crate::backend::nccl::shared::Raw;
use crate::backend::nccl::shared::Shared;
use crate::backend::nccl::unique_id::UniqueId;
use crate::clock::Deadline;
use crate::cuda::Device;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;

/// What a communicator is made of.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) nccl: &'static Nccl,
    pub(super) device: Device,
    pub(super) member: Member,
    pub(super) ids: Vec<UniqueId>,
    pub(super) config: CommConfig,
}

/// The calls of this module, by the number of ids.
const ONE_ID: &str = "ncclCommInitRankConfig";
const SEVERAL_IDS: &str = "ncclCommInitRankScalable";

impl Plan {
    fn call_name(&self) -> &'static str {
        if self.ids.len() == 1 { ONE_ID } else { SEVERAL_IDS }
    }

    /// Makes the communicator, with all other ranks.
    pub(super) fn make(self, timeout: Duration, cancel: Cancel<'_>) -> Result<Shared> {
        self.check()?;
        let call = self.call_name();
        self.make_by(call, timeout, cancel, Self::begin)
    }

    /// Makes it by one call of NCCL, which `begin` does.
    pub(super) fn make_by(
        self,
        call: &'static str,
        timeout: Duration,
        cancel: Cancel<'_>,
        begin: impl FnOnce(&Self, &RawConfig) -> Result<Begun> + Send + 'static,
    ) -> Result<Shared> {
        let config = Arc::new(self.config.to_raw(self.nccl.version())?);
        let deadline = Deadline::after(timeout);
        let (plan, kept) = (self.clone(), config.clone());
        // On a thread of its own in any case: `NCCL_COMM_BLOCKING` may make the call wait. NCCL's
        // level of grouping, which some versions leave raised after a failure, is that thread's.
        let begun = bounded::run_until("nccl-init", &deadline, cancel, move || {
            let begun = begin(&plan, &kept)?;
            let nccl = plan.nccl;
            // The level that is left is NCCL's mistake; the thread's end must not show it.
            if begun.0 == NcclResult::UNHANDLED_CUDA_ERROR {
                let error = nccl.failed(call, begun.0);
                end_leaked_group(nccl);
                return Ok((Err(error), begun.1));
            }
            Ok((Ok(begun.0), begun.1))
        })?;
        let Some(begun) = begun else {
            let device = self.device.ordinal();
            return Err(Error::NcclStuck { call, device, waited: deadline.waited() });
        };
        let (result, Raw(comm)) = begun?;
        let made = result.and_then(|result| self.finish(call, comm, result, &deadline, cancel));
        match made {
            Ok(()) => {
                // SAFETY: NCCL has made it on this device, for this member, and nobody else has
                // the handle.
                let shared = unsafe {
                    Shared::new(self.nccl, &self.device, self.member, comm, true, Some(config))
                };
                Ok(shared)
            }
            Err(error) => {
                self.give_up(comm, config);
                Err(error)
            }
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let Member { rank, world_size } = self.member;
        crate::count::check_rank("communicator", "rank", rank, world_size)?;
        let usage = |problem: String| Err(Error::Usage { op: "communicator", problem });
        if c_int::try_from(world_size).is_err() {
            return usage(format!("{world_size} ranks are more than NCCL can number"));
        }
        if self.ids.is_empty() || self.ids.len() > world_size {
            let ids = self.ids.len();
            return usage(format!("{ids} ids for {world_size} ranks; from 1 to one for each rank"));
        }
        Ok(())
    }

    /// Calls NCCL; gives what it returned, and the handle.
    fn begin(&self, config: &RawConfig) -> Result<Begun> {
        let library = self.nccl.library();
        // Retains the context, too: NCCL's own attempt says less when it fails.
        let _current = self.device.make_current()?;
        let number = |value: usize| c_int::try_from(value).unwrap_or(c_int::MAX);
        let (ranks, rank) = (number(self.member.world_size), number(self.member.rank));
        let mut raw: ncclConfig_t = config.raw;
        let mut comm: ncclComm_t = core::ptr::null_mut();
        let mut ids: Vec<ncclUniqueId> = self.ids.iter().map(|id| id.to_raw()).collect();
        let result = match &mut ids[..] {
            [id] => {
                let init = library.ncclCommInitRankConfig().map_err(Error::Unsupported)?;
                // SAFETY: the function writes one handle, before it returns, and reads one struct
                // of the size that it says; both pointers are to live ones.
                unsafe { init(&raw mut comm, ranks, *id, rank, &raw mut raw) }
            }
            ids => {
                let init = library.ncclCommInitRankScalable().map_err(Error::Unsupported)?;
                let count = number(ids.len());
                // SAFETY: as above; and it reads `count` ids.
                unsafe { init(&raw mut comm, ranks, rank, count, ids.as_mut_ptr(), &raw mut raw) }
            }
        };
        Ok((result, Raw(comm)))
    }

    /// Waits until the communicator is ready.
    fn finish(
        &self,
        call: &'static str,
        comm: ncclComm_t,
        result: NcclResult,
        deadline: &Deadline,
        cancel: Cancel<'_>,
    ) -> Result<()> {
        if result != NcclResult::IN_PROGRESS {
            return self.nccl.check(call, result);
        }
        let get = self.nccl.library().ncclCommGetAsyncError().map_err(Error::Unsupported)?;
        loop {
            let mut state = NcclResult::SUCCESS;
            // SAFETY: NCCL has written the handle before it said "in progress", and only this
            // thread has it; the function writes one result, through a pointer to a live one.
            self.nccl.check("ncclCommGetAsyncError", unsafe { get(comm, &raw mut state) })?;
            if state != NcclResult::IN_PROGRESS {
                return self.nccl.check(call, state);
            }
            if deadline.passed() {
                let device = self.device.ordinal();
                return Err(Error::NcclStuck { call, device, waited: deadline.waited() });
            }
            if let Some(why) = cancel() {
                return Err(why);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Ends what was not made in time, or not at all, on a thread that nobody waits for.
    fn give_up(&self, comm: ncclComm_t, config: Arc<RawConfig>) {
        if comm.is_null() {
            return;
        }
        // SAFETY: the handle is NCCL's, and nobody else has it.
        let shared =
            unsafe { Shared::new(self.nccl, &self.device, self.member, comm, true, Some(config)) };
        Arc::new(shared).abort(Error::CommEnded { why: "it was not made".to_owned() });
    }
}

/// Makes the communicators of all ranks of a world in this process.
pub(super) fn make_all(
    nccl: &'static Nccl,
    devices: &[Device],
    config: &CommConfig,
    timeout: Duration,
) -> Result<Vec<Communicator>> {
    const OP: &str = "Communicator::new_all";
    if devices.is_empty() {
        return Err(Error::Usage { op: OP, problem: "there is no device".to_owned() });
    }
    for (rank, device) in devices.iter().enumerate() {
        let before = devices.iter().take(rank).position(|other| other.is_same(device));
        if let Some(other) = before
            && nccl.version() < SEVERAL_ON_ONE
        {
            let number = device.ordinal();
            let problem = format!("ranks {other} and {rank} are both on device {number}");
            return Err(Error::Usage { op: OP, problem });
        }
    }
    let id = nccl.unique_id()?;
    let stop = AtomicBool::new(false);
    let make = |(rank, device): (usize, &Device)| {
        let member = Member { rank, world_size: devices.len() };
        let (device, config) = (device.clone(), config.clone());
        let plan = Plan { nccl, device, member, ids: vec![id], config };
        let stopped = || Error::CommEnded { why: "another rank failed".to_owned() };
        let made = plan.make(timeout, &|| stop.load(Ordering::Relaxed).then(stopped));
        if made.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        made.map(Communicator::of)
    };
    let made: Vec<Result<Communicator>> = thread::scope(|scope| {
        let ranks = devices.iter().enumerate();
        let start = |rank| thread::Builder::new().spawn_scoped(scope, move || make(rank));
        let threads: Vec<_> = ranks.map(start).collect();
        let end = |thread: io::Result<ScopedJoinHandle<'_, Result<Communicator>>>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(gone())),
            Err(error) => {
                stop.store(true, Ordering::Relaxed);
                Err(Error::system("cannot start a thread for a rank", error))
            }
        };
        threads.into_iter().map(end).collect()
    });
    // The cause, and not that the others were told to stop.
    let is_cause = |error: &Error| !matches!(error, Error::CommEnded { .. });
    let cause = made.iter().find_map(|made| made.as_ref().err().filter(|error| is_cause(error)));
    match cause.cloned() {
        Some(error) => Err(error),
        None => made.into_iter().collect(),
    }
}

/// Since when several ranks can be on one device.
const SEVERAL_ON_ONE: Version = Version::new(2, 30, 3);

fn gone() -> Error {
    Error::CommEnded { why: "the thread of a rank panicked".to_owned() }
}

/// What a call that makes a communicator returned, and the handle.
pub(super) type Begun = (NcclResult, Raw);

/// Ends the group that a failed call may have left open on this thread. Without one NCCL refuses,
/// and that is all.
fn end_leaked_group(nccl: &Nccl) {
    let Some(end) = nccl.library().functions().ncclGroupEnd else { return };
    // SAFETY: no arguments; this thread makes nothing else in a group.
    let _refused_or_ended = unsafe { end() };
}

/// Between two looks at a communicator that is being made.
const PAUSE: Duration = Duration::from_micros(200);
