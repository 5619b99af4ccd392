//! A communicator's handle: who may use it, and the one who ends it.
#![expect(unsafe_code, reason = "calls libnccl with the handle of a communicator")]

use core::fmt;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::TryLockError;
use std::thread;
use std::time::Duration;

use nccl_sys::NcclResult;
use nccl_sys::ncclComm_t;

use crate::backend::nccl::bounded;
use crate::backend::nccl::bridge::Bridge;
use crate::backend::nccl::call_config::CallConfigs;
use crate::backend::nccl::config::RawConfig;
use crate::backend::nccl::held::Held;
use crate::backend::nccl::library::Nccl;
use crate::clock::Deadline;
use crate::clock::LazyDeadline;
use crate::cuda::Device;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;
use crate::trace::lock;

/// How long a thread that aborts waits for another one to come out of NCCL.
const COME_OUT: Duration = Duration::from_secs(5);
/// How long a thread whose call failed waits for the end of the communicator.
const GIVEN_UP: Duration = Duration::from_secs(1);
/// The longest pause between two looks at a call that is in progress.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// What all handles of a communicator share.
///
/// Whoever calls NCCL with the communicator holds `comm` from before the call until NCCL has
/// finished it, so that one thread at a time uses it, and holds `gate` during the call itself, so
/// that one thread at a time calls NCCL for the device. Whoever ends it takes the handle out of
/// `comm`: there is one winner, and later calls find nothing.
pub(super) struct Shared {
    nccl: &'static Nccl,
    device: Device,
    member: Member,
    comm: Mutex<Raw>,
    gate: &'static Mutex<()>,
    /// Somebody ends it: whoever waits for a call in progress gives up.
    ending: AtomicBool,
    /// Why it is of no use any more; the first reason stays.
    why: OnceLock<Error>,
    /// Whether dropping it aborts it; not if it is somebody else's.
    owned: bool,
    /// The abort is over.
    gone: AtomicBool,
    /// A [`Phase`].
    phase: AtomicU8,
    /// How it was made; with texts that some versions keep the address of.
    config: Option<Arc<RawConfig>>,
    /// What NCCL holds with it until it is released.
    held: Held,
    bridge: Bridge,
    call_configs: CallConfigs,
}

/// What a communicator is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything.
    Usable,
    /// To be ended, and to be the parent of others.
    Revoked,
    /// To be resumed.
    Suspended,
}

/// The handle; null once it was taken.
#[derive(Debug)]
pub(super) struct Raw(pub(super) ncclComm_t);

// SAFETY: NCCL's communicators may be used by any thread, one at a time, which is what the lock
// around this sees to.
unsafe impl Send for Raw {}

/// One lock for each device of this process.
fn gate(ordinal: usize) -> &'static Mutex<()> {
    static GATES: Mutex<Option<HashMap<usize, &'static Mutex<()>>>> = Mutex::new(None);
    let mut gates = lock(&GATES);
    gates.get_or_insert_default().entry(ordinal).or_insert_with(|| Box::leak(Box::default()))
}

/// The right to call NCCL with a communicator.
pub(super) struct Entered<'a> {
    shared: &'a Shared,
    comm: MutexGuard<'a, Raw>,
}

impl Shared {
    /// Takes over a communicator of NCCL.
    ///
    /// # Safety
    /// `comm` is a communicator of `nccl` on `device`, of which `member` is true; nobody else uses
    /// it from now on, unless it is not `owned`: then its owner neither ends it before this is
    /// dropped, nor uses it at the same time.
    pub(super) unsafe fn new(
        nccl: &'static Nccl,
        device: &Device,
        member: Member,
        comm: ncclComm_t,
        owned: bool,
        config: Option<Arc<RawConfig>>,
    ) -> Self {
        Self {
            nccl,
            device: device.clone(),
            member,
            comm: Mutex::new(Raw(comm)),
            gate: gate(device.ordinal()),
            ending: AtomicBool::new(false),
            why: OnceLock::new(),
            owned,
            gone: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Usable as u8),
            config,
            held: Held::default(),
            bridge: Bridge::default(),
            call_configs: CallConfigs::default(),
        }
    }

    pub(super) fn nccl(&self) -> &'static Nccl {
        self.nccl
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn member(&self) -> Member {
        self.member
    }

    /// Waits for its turn with the communicator.
    ///
    /// # Errors
    /// The reason why the communicator is of no use any more.
    pub(super) fn enter(&self) -> Result<Entered<'_>> {
        let comm = lock(&self.comm);
        if comm.0.is_null() || self.ending.load(Ordering::Relaxed) {
            return Err(self.reason());
        }
        Ok(Entered { shared: self, comm })
    }

    /// As [`Shared::enter`], at most until the deadline.
    ///
    /// # Errors
    /// As of [`Shared::enter`]; [`Error::NcclStuck`] if another thread has been in a call of NCCL
    /// for so long.
    pub(super) fn enter_by(
        &self,
        call: &'static str,
        deadline: &LazyDeadline,
    ) -> Result<Entered<'_>> {
        let mut pause = Duration::from_micros(2);
        let comm = loop {
            match self.comm.try_lock() {
                Ok(comm) => break comm,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if self.has_ended() => return Err(self.reason()),
                Err(TryLockError::WouldBlock) if deadline.passed() => {
                    let (device, waited) = (self.device.ordinal(), deadline.waited());
                    return Err(Error::NcclStuck { call, device, waited });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(pause),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if comm.0.is_null() || self.has_ended() {
            return Err(self.reason());
        }
        Ok(Entered { shared: self, comm })
    }

    /// How it was made, if it was made here.
    pub(super) fn config(&self) -> Option<&Arc<RawConfig>> {
        self.config.as_ref()
    }

    /// What NCCL holds with it.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Whether it ends with its last handle.
    pub(super) fn is_owned(&self) -> bool {
        self.owned
    }

    pub(super) fn call_configs(&self) -> &CallConfigs {
        &self.call_configs
    }

    pub(super) fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// What it is good for now.
    pub(super) fn phase(&self) -> Phase {
        [Phase::Usable, Phase::Revoked, Phase::Suspended]
            .into_iter()
            .find(|phase| *phase as u8 == self.phase.load(Ordering::Relaxed))
            .unwrap_or(Phase::Usable)
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Fails while it is suspended.
    pub(super) fn check_awake(&self, op: &'static str) -> Result<()> {
        if self.phase() != Phase::Suspended {
            return Ok(());
        }
        let problem = "the communicator is suspended; resume it first".to_owned();
        Err(Error::Usage { op, problem })
    }

    /// Fails if nothing may be enqueued.
    pub(super) fn check_usable(&self, op: &'static str) -> Result<()> {
        match self.phase() {
            Phase::Usable => Ok(()),
            Phase::Revoked => Err(Error::CommEnded { why: "it was revoked".to_owned() }),
            Phase::Suspended => self.check_awake(op),
        }
    }

    /// The lock around calls of NCCL for the device, with the device's number: several are locked
    /// in the order of the numbers.
    pub(super) fn gate(&self) -> (usize, &'static Mutex<()>) {
        (self.device.ordinal(), self.gate)
    }

    /// Why it is of no use any more.
    fn reason(&self) -> Error {
        let unknown = || Error::CommEnded { why: "it was ended".to_owned() };
        self.why.get().cloned().unwrap_or_else(unknown)
    }

    /// Whether it was ended, or is being ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends it for `why`: the first one who calls this starts the abort, on a thread of its own,
    /// and gets true.
    pub(super) fn abort(self: &Arc<Self>, why: Error) -> bool {
        let _ = self.why.set(why);
        if self.ending.swap(true, Ordering::AcqRel) {
            return false;
        }
        let shared = self.clone();
        // Without a thread it is left as it is: nobody uses it any more, and nothing waits.
        if let Err(error) = bounded::start("nccl-abort", move || {
            shared.abort_here();
            shared.gone.store(true, Ordering::Release);
        }) {
            log::warn!(target: "nccl::comm", "a communicator could not be aborted: {error}");
        }
        true
    }

    /// Waits until an abort is over, for a second at most. A call that is given up while it is in
    /// progress may still be enqueued by a thread of NCCL's; after the abort it is not, and only
    /// then its buffers may be freed.
    pub(super) fn await_end(&self) {
        let deadline = Deadline::after(GIVEN_UP);
        while self.has_ended() && !self.gone.load(Ordering::Acquire) && !deadline.passed() {
            thread::sleep(LONGEST_PAUSE);
        }
    }

    /// Takes the handle once no thread is inside NCCL with it, and aborts.
    fn abort_here(&self) {
        let Some(comm) = self.take(COME_OUT) else {
            log::warn!(
                target: "nccl::comm",
                "a communicator of device {} was not aborted: a thread of this process has been inside NCCL with it for {COME_OUT:?}",
                self.device.ordinal()
            );
            return;
        };
        if comm.is_null() || !self.owned {
            return;
        }
        let _current = self.device.make_current();
        let Ok(abort) = self.nccl.library().ncclCommAbort() else { return };
        // SAFETY: the handle is of a live communicator of this library, that nobody else has: it
        // was taken. Aborting is allowed in every state.
        let result = unsafe { abort(comm) };
        if let Err(error) = self.nccl.check("ncclCommAbort", result) {
            log::warn!(target: "nccl::comm", "{error}");
        }
    }

    /// Takes the handle, within `patience`; nobody can use it afterwards.
    fn take(&self, patience: Duration) -> Option<ncclComm_t> {
        let deadline = Deadline::after(patience);
        loop {
            match self.comm.try_lock() {
                Ok(mut comm) => {
                    return Some(core::mem::replace(&mut comm.0, core::ptr::null_mut()));
                }
                Err(TryLockError::Poisoned(poisoned)) => {
                    let mut comm = poisoned.into_inner();
                    return Some(core::mem::replace(&mut comm.0, core::ptr::null_mut()));
                }
                Err(TryLockError::WouldBlock) if deadline.passed() => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(LONGEST_PAUSE),
            }
        }
    }

    /// The state that NCCL's own threads left, without waiting: none while another thread uses the
    /// communicator, or after its end.
    pub(super) fn async_error(&self) -> Option<Result<()>> {
        let comm = self.comm.try_lock().ok()?;
        if comm.0.is_null() {
            return None;
        }
        let entered = Entered { shared: self, comm };
        let state = match entered.state() {
            Ok(state) => state,
            Err(error) => return Some(Err(error)),
        };
        if state == NcclResult::IN_PROGRESS {
            return Some(Ok(()));
        }
        Some(self.nccl.check("ncclCommGetAsyncError", state))
    }
}

impl Entered<'_> {
    /// The device.
    pub(super) fn device(&self) -> &Device {
        &self.shared.device
    }

    /// The library.
    pub(super) fn nccl(&self) -> &'static Nccl {
        self.shared.nccl
    }

    /// The handle. It may be given to NCCL until `self` is dropped.
    pub(super) fn raw(&self) -> ncclComm_t {
        self.comm.0
    }

    /// Calls NCCL, as the only one for the device.
    pub(super) fn call<T>(&self, call: impl FnOnce(ncclComm_t) -> T) -> T {
        let _gate = lock(self.shared.gate);
        call(self.comm.0)
    }

    /// Gives the handle up: the communicator's end is the caller's business.
    pub(super) fn give_up(mut self, why: Error) -> ncclComm_t {
        let _ = self.shared.why.set(why);
        self.shared.ending.store(true, Ordering::Release);
        core::mem::replace(&mut self.comm.0, core::ptr::null_mut())
    }

    /// What NCCL says of the communicator.
    fn state(&self) -> Result<NcclResult> {
        let get = self.shared.nccl.library().ncclCommGetAsyncError().map_err(Error::Unsupported)?;
        let mut state = NcclResult::SUCCESS;
        // SAFETY: the handle is of a live communicator, of which no other thread makes use while
        // this is entered; the function writes one result, through a pointer to a live one.
        let result = unsafe { get(self.comm.0, &raw mut state) };
        self.shared.nccl.check("ncclCommGetAsyncError", result).map(|()| state)
    }

    /// Waits until NCCL has finished what returned `result`: at most until the deadline, and no
    /// longer than until the communicator is ended.
    ///
    /// # Errors
    /// The result's, or that which NCCL found out later; [`Error::NcclStuck`] at the deadline.
    #[inline]
    pub(super) fn finish(
        &self,
        call: &'static str,
        result: NcclResult,
        deadline: &LazyDeadline,
    ) -> Result<()> {
        match result {
            NcclResult::SUCCESS => Ok(()),
            NcclResult::IN_PROGRESS => self.wait(call, deadline),
            result => Err(self.shared.nccl.failed(call, result)),
        }
    }

    fn wait(&self, call: &'static str, deadline: &LazyDeadline) -> Result<()> {
        let mut pause = Duration::from_micros(2);
        loop {
            let state = self.state()?;
            if state != NcclResult::IN_PROGRESS {
                return self.shared.nccl.check(call, state);
            }
            if self.shared.ending.load(Ordering::Relaxed) {
                return Err(self.shared.reason());
            }
            if deadline.passed() {
                let device = self.shared.device.ordinal();
                return Err(Error::NcclStuck { call, device, waited: deadline.waited() });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator")
            .field("rank", &self.member.rank)
            .field("world_size", &self.member.world_size)
            .field("device", &self.device.ordinal())
            .field("ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
