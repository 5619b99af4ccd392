//! A group's communicator under watch: an operation that does not end, on this rank or another, is
//! told to all ranks with who is missing, and the communicator is aborted.
#![expect(unsafe_code, reason = "passes on operations whose buffers the caller vouches for")]

use core::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nccl_sys::NcclResult;

use crate::backend::nccl::bounded;
use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::communicator::is_fatal;
use crate::backend::nccl::flight::Flight;
use crate::clock::Deadline;
use crate::control::Control;
use crate::cuda::CaptureStatus;
use crate::cuda::Device;
use crate::cuda::StreamRef;
use crate::debug;
use crate::desc::Kind;
use crate::desc::NO_ROOT;
use crate::desc::OpDesc;
use crate::device::DeviceBackend;
use crate::device::DeviceCall;
use crate::error::Absent;
use crate::error::At;
use crate::error::Error;
use crate::error::Failure;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::trace::GroupState;
use crate::trace::lock;

/// How long a timeout asks the others what they are doing.
const ASK_TIME: Duration = Duration::from_millis(700);
/// How long an error of NCCL's waits for the control plane to say what is behind it.
const VERDICT_TIME: Duration = Duration::from_millis(400);
/// Between two looks of the watchdog.
const PERIOD: Duration = Duration::from_millis(50);

/// The operations of a group on NCCL.
pub(crate) struct GuardedBackend {
    watched: Arc<Watched>,
}

/// What the watchdog sees.
struct Watched {
    comm: Communicator,
    /// The group's own state: what fails it fails this, and the other way round.
    group: Arc<GroupState>,
    /// What this rank does on the device, which others can ask for.
    state: Arc<GroupState>,
    control: Option<Arc<Control>>,
    seq: AtomicU32,
    /// Threads that are enqueueing: what they do is not over, though nothing is in flight.
    issuing: AtomicU32,
    flight: Mutex<Flight>,
}

impl GuardedBackend {
    /// Watches over `comm`, which belongs to the group of `group`.
    ///
    /// # Errors
    /// There can be no thread.
    pub(crate) fn new(
        comm: Communicator,
        group: Arc<GroupState>,
        control: Option<Arc<Control>>,
    ) -> Result<Self> {
        // A number of its own, made from the group's: its operations are another sequence.
        let id = group.id.rotate_left(17) ^ 0x6e63_636c_0000_0001;
        let members = group.members.clone();
        let state = Arc::new(GroupState::new(id, group.name.clone(), group.rank, members));
        if let Some(control) = &control {
            control.register(state.clone());
        }
        let watched = Arc::new(Watched {
            comm,
            group,
            state,
            control,
            seq: AtomicU32::new(0),
            issuing: AtomicU32::new(0),
            flight: Mutex::new(Flight::default()),
        });
        let weak = Arc::downgrade(&watched);
        bounded::start("nccl-watchdog", move || {
            loop {
                std::thread::sleep(PERIOD);
                let Some(watched) = weak.upgrade() else { return };
                if !watched.look() {
                    return;
                }
            }
        })?;
        Ok(Self { watched })
    }

    /// Finishes what was enqueued, and frees the communicator: on all ranks.
    pub(crate) fn finalize(&self, timeout: Duration) -> Result<()> {
        self.watched.usable()?;
        self.watched.comm.end(timeout)
    }
}

impl DeviceBackend for GuardedBackend {
    fn name(&self) -> &'static str {
        "nccl"
    }

    fn device(&self) -> &Device {
        self.watched.comm.device()
    }

    unsafe fn enqueue(
        &self,
        calls: &[DeviceCall<'_>],
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()> {
        let Some(first) = calls.first() else { return Ok(()) };
        let watched = &*self.watched;
        watched.usable()?;
        let captured = stream.capture_status()? != CaptureStatus::None;
        let seq = watched.seq.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let desc = describe(first, seq);
        let _issuing = Issuing::new(&watched.issuing);
        watched.state.begin(&desc);
        // SAFETY: passed on from the caller.
        match unsafe { watched.comm.enqueue(calls, stream, timeout) } {
            // What is captured runs when the graph is launched, which nobody here sees.
            Ok(()) if captured => {
                watched.state.end();
                Ok(())
            }
            Ok(()) => {
                let mut flight = lock(&watched.flight);
                if let Err(error) = flight.follow(desc, stream, timeout) {
                    log::warn!(target: "nccl::watchdog", "{desc} is not watched: {error}");
                }
                Ok(())
            }
            Err(Error::NcclStuck { waited, .. }) => Err(watched.expired(&desc, waited)),
            Err(error) => Err(watched.failed(&desc, error)),
        }
    }
}

impl Watched {
    /// Fails if the group has failed.
    fn usable(&self) -> Result<()> {
        if !self.group.has_failed() && !self.state.has_failed() {
            return Ok(());
        }
        let cause = self.cause(None);
        Err(Error::Poisoned { group: self.group.name.clone(), cause: Box::new(cause) })
    }

    /// Why it failed, as met in `desc`.
    fn cause(&self, desc: Option<&OpDesc>) -> Error {
        let known = self.group.error(desc).or_else(|| self.state.error(desc));
        known.unwrap_or_else(|| {
            let (group, rank) = (self.group.name.clone(), self.group.rank);
            let at = At { group, rank, op: desc.map(ToString::to_string) };
            Error::Aborted { at, rank, reason: "the group was ended".to_owned() }
        })
    }

    /// One look; false when there is nothing more to watch.
    fn look(&self) -> bool {
        if self.group.has_failed() || self.state.has_failed() {
            self.abort(self.cause(None));
            return false;
        }
        let late = {
            let mut flight = lock(&self.flight);
            match flight.late() {
                Ok(late) => {
                    if flight.is_empty() && self.issuing.load(Ordering::SeqCst) == 0 {
                        self.state.end_if_busy();
                    }
                    late
                }
                Err((desc, error)) => {
                    drop(flight);
                    self.failed(&desc, error);
                    return false;
                }
            }
        };
        if let Some((desc, waited)) = late {
            self.expired(&desc, waited);
            return false;
        }
        match self.comm.check() {
            Ok(()) => true,
            Err(error) if is_fatal(&error) => {
                let desc = self.state.status().desc;
                self.failed(&desc, error);
                false
            }
            // Ended in order.
            Err(_) => false,
        }
    }

    /// An operation failed on this rank: its error, told to the others if they are concerned.
    fn failed(&self, desc: &OpDesc, error: Error) -> Error {
        if self.group.has_failed() || self.state.has_failed() {
            // NCCL's error is but the echo of what is known already.
            let cause = self.cause(Some(desc));
            self.abort(cause.clone());
            return cause;
        }
        if is_echo(&error) && self.verdict() {
            let cause = self.cause(Some(desc));
            self.abort(cause.clone());
            return cause;
        }
        self.state.end_if_busy();
        if !is_fatal(&error) && !matches!(error, Error::Driver(_) | Error::CommEnded { .. }) {
            return error;
        }
        let failure = Failure::Aborted { rank: self.group.rank, reason: error.to_string() };
        self.fail(&failure, desc);
        self.abort(error.clone());
        error
    }

    /// Waits for news of the rank whose end NCCL has noticed: it says why, and NCCL does not.
    fn verdict(&self) -> bool {
        let wait = Deadline::after(VERDICT_TIME);
        while !self.group.has_failed() && !wait.passed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.group.has_failed()
    }

    /// An operation was not over at its deadline: says who has not come, to all ranks.
    fn expired(&self, desc: &OpDesc, waited: Duration) -> Error {
        if !self.group.has_failed() && !self.state.has_failed() {
            let absent = self.absent(desc);
            let origin = self.group.rank;
            self.fail(&Failure::Timeout { origin, op: *desc, waited, absent }, desc);
        }
        let cause = self.cause(Some(desc));
        self.abort(cause.clone());
        cause
    }

    /// Fails the group, here and on all ranks.
    fn fail(&self, failure: &Failure, desc: &OpDesc) {
        self.state.fail(failure.clone());
        self.group.fail(failure.clone());
        if let Some(control) = &self.control {
            control.fail(self.group.id, failure);
        }
        debug::warning!(0, "{}", self.cause(Some(desc)));
    }

    fn abort(&self, why: Error) {
        self.comm.abort_for(why);
    }

    /// The ranks that have not called `desc` on the device yet, with what they do instead.
    fn absent(&self, desc: &OpDesc) -> Vec<Absent> {
        let Some(control) = &self.control else { return Vec::new() };
        let mut absent = Vec::new();
        for (rank, status) in control.ask(self.state.id, ASK_TIME).into_iter().enumerate() {
            if rank == self.state.rank {
                continue;
            }
            let doing = match status {
                Some(status) if status.desc.seq >= desc.seq => continue,
                Some(status) => status.to_string(),
                None => "does not answer".to_owned(),
            };
            let world = self.state.members.get(rank).copied().unwrap_or(rank);
            let place = control.peers().get(world);
            let (host, pid) = place
                .map_or_else(|| ("unknown".to_owned(), 0), |peer| (peer.host.clone(), peer.pid));
            absent.push(Absent::new(rank, host, pid, doing));
        }
        absent
    }
}

/// Whether an error may come of another rank's end.
fn is_echo(error: &Error) -> bool {
    let codes = [NcclResult::REMOTE_ERROR, NcclResult::SYSTEM_ERROR, NcclResult::INTERNAL_ERROR];
    matches!(error, Error::Nccl(error) if codes.iter().any(|code| code.0 == error.code))
}

/// A thread that is enqueueing.
struct Issuing<'a>(&'a AtomicU32);

impl<'a> Issuing<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Issuing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The operation as others get to see it; of several, the first.
fn describe(call: &DeviceCall<'_>, seq: u32) -> OpDesc {
    let has_root =
        matches!(call.kind, Kind::Broadcast | Kind::Reduce | Kind::Gather | Kind::Scatter);
    let root = if has_root { u32::try_from(call.root).unwrap_or(NO_ROOT) } else { NO_ROOT };
    OpDesc {
        seq,
        kind: call.kind as u8,
        dtype: call.dtype as u8,
        op: call.op.map_or(0, ReduceOp::code),
        flags: 0,
        root,
        count: call.count as u64,
    }
}

impl Drop for GuardedBackend {
    fn drop(&mut self) {
        if let Some(control) = &self.watched.control {
            control.unregister(self.watched.state.id);
        }
    }
}

impl fmt::Debug for GuardedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedBackend")
            .field("comm", &self.watched.comm)
            .field("doing", &self.watched.state.status())
            .finish_non_exhaustive()
    }
}
