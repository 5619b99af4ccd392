//! How communicators are made: each way ends at its deadline.
#![expect(unsafe_code, reason = "calls libnccl to make communicators")]

use core::ffi::c_int;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nccl_sys::NcclResult;
use nccl_sys::ncclComm_t;
use nccl_sys::ncclConfig_t;
use nccl_sys::ncclUniqueId;

use crate::backend::nccl::bounded;
use crate::backend::nccl::bounded::Cancel;
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
        let config = Arc::new(self.config.to_raw(self.nccl.version())?);
        let deadline = Deadline::after(timeout);
        let (call, plan, kept) = (self.call_name(), self.clone(), config.clone());
        // On a thread of its own in any case: `NCCL_COMM_BLOCKING` may make the call wait. NCCL's
        // level of grouping, which some versions leave raised after a failure, is that thread's.
        let begun = bounded::run_until("nccl-init", &deadline, cancel, move || plan.begin(&kept))?;
        let Some(begun) = begun else {
            let device = self.device.ordinal();
            return Err(Error::NcclStuck { call, device, waited: deadline.waited() });
        };
        let (result, Raw(comm)) = begun?;
        let made = self.finish(comm, result, &deadline, cancel);
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

    fn check(&self) -> Result<()> {
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
    fn begin(&self, config: &RawConfig) -> Result<(NcclResult, Raw)> {
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
        comm: ncclComm_t,
        result: NcclResult,
        deadline: &Deadline,
        cancel: Cancel<'_>,
    ) -> Result<()> {
        let call = self.call_name();
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

/// Between two looks at a communicator that is being made.
const PAUSE: Duration = Duration::from_micros(200);
