//! Operations of several communicators, recorded first and enqueued together.
#![expect(unsafe_code, reason = "calls libnccl with addresses of device memory")]

use core::ffi::c_void;
use core::fmt;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::time::Duration;

use nccl_sys::NcclResult;
use nccl_sys::ncclSimInfo_t;

use crate::backend::nccl::bridge::Across;
use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::communicator::is_fatal;
use crate::backend::nccl::issue::Ended;
use crate::backend::nccl::issue::Issue;
use crate::backend::nccl::issue::Outcome;
use crate::backend::nccl::issue::check;
use crate::backend::nccl::issue::is_fine;
use crate::backend::nccl::library::Nccl;
use crate::backend::nccl::premul::Factors;
use crate::backend::nccl::shared::Entered;
use crate::backend::nccl::shared::Shared;
use crate::clock::LazyDeadline;
use crate::cuda::DeviceStream;
use crate::device::DeviceCall;
use crate::device::StreamBatch;
use crate::error::Error;
use crate::error::Result;
use crate::trace::lock;

/// Operations of several communicators that are enqueued as one unit: how one thread drives several
/// devices, none of whose operations may wait for another one's to be enqueued.
///
/// It borrows buffers until [`Group::run`], and NCCL knows nothing before that: a group that is
/// dropped or leaked has done nothing. Wrong arguments are errors when operations are recorded.
///
/// ```no_run
/// use std::time::Duration;
///
/// use nccl::ReduceOp;
/// use nccl::comm::Communicator;
/// use nccl::comm::Group;
/// use nccl::cuda::DeviceVec;
/// use nccl::cuda::Stream;
///
/// fn sum(
///     comms: &[Communicator],
///     streams: &[Stream],
///     data: &mut [DeviceVec<f32>],
/// ) -> nccl::Result<()> {
///     let timeout = Duration::from_secs(60);
///     let mut group = Group::new();
///     for ((comm, stream), data) in comms.iter().zip(streams).zip(data) {
///         let batch = comm.on(stream, timeout).batch().all_reduce_in_place(data, ReduceOp::Sum)?;
///         group = group.add(comm, batch)?;
///     }
///     group.run(timeout)
/// }
/// ```
///
/// # Source
/// `ncclGroupStart` and `ncclGroupEnd` of nccl.h.
#[derive(Default)]
#[must_use = "nothing is enqueued before `run`"]
pub struct Group<'a> {
    parts: Vec<Part<'a>>,
}

/// Operations of one communicator on one stream.
struct Part<'a> {
    shared: &'a Arc<Shared>,
    recorded: Box<dyn Recorded<'a> + 'a>,
}

/// A batch, whatever its stream is.
trait Recorded<'a> {
    fn calls(&self) -> &[DeviceCall<'a>];
    fn stream(&self) -> *mut c_void;
}

impl<'a, S: DeviceStream + ?Sized> Recorded<'a> for StreamBatch<'a, S> {
    fn calls(&self) -> &[DeviceCall<'a>] {
        self.calls()
    }

    fn stream(&self) -> *mut c_void {
        self.on().stream().as_raw()
    }
}

/// What ends a group.
enum End {
    Run,
    Simulate,
}

impl<'a> Group<'a> {
    /// Begins one without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the operations of a batch of `comm`: of [`Communicator::on`].
    ///
    /// # Errors
    /// [`Error::Usage`] if the batch is of another communicator, or that of another NCCL.
    pub fn add<S: DeviceStream + ?Sized>(
        mut self,
        comm: &'a Communicator,
        batch: StreamBatch<'a, S>,
    ) -> Result<Self> {
        let usage =
            |problem: &str| Err(Error::Usage { op: "Group::add", problem: problem.to_owned() });
        if !batch.on().is_of(comm) {
            return usage("the batch was not begun with this communicator");
        }
        let other = self.parts.first().map(|part| part.shared.nccl());
        if other.is_some_and(|other| !core::ptr::eq(other, comm.nccl())) {
            return usage("the communicators are of two libraries");
        }
        if !batch.calls().is_empty() {
            self.parts.push(Part { shared: comm.shared(), recorded: Box::new(batch) });
        }
        Ok(self)
    }

    /// Says how many operations were added.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parts.iter().map(|part| part.recorded.calls().len()).sum()
    }

    /// Enqueues all operations; returns once they are, or have failed as a whole.
    ///
    /// # Errors
    /// As of the operations alone. After [`Error::NcclStuck`], or an error of NCCL that is not of
    /// the call only, all communicators of the group are aborted.
    pub fn run(self, timeout: Duration) -> Result<()> {
        self.end(End::Run, timeout).map(drop)
    }

    /// Estimates how long the operations would take, and enqueues nothing.
    ///
    /// # Errors
    /// As of [`Group::run`]; [`Error::Unsupported`] before 2.22.
    ///
    /// # Source
    /// `ncclGroupSimulateEnd` of nccl.h, which gives microseconds.
    pub fn simulate(self, timeout: Duration) -> Result<Duration> {
        let micros = self.end(End::Simulate, timeout)?;
        Ok(Duration::try_from_secs_f64(f64::from(micros) * 1e-6).unwrap_or(Duration::ZERO))
    }

    fn end(self, end: End, timeout: Duration) -> Result<f32> {
        let outcome = self.go(&end, timeout);
        if let Err(error) = &outcome
            && is_fatal(error)
        {
            self.abort(error);
        }
        if outcome.is_err() {
            for part in &self.parts {
                part.shared.await_end();
            }
        }
        outcome
    }

    fn abort(&self, why: &Error) {
        for part in &self.parts {
            part.shared.abort(why.clone());
        }
    }

    fn go(&self, end: &End, timeout: Duration) -> Result<f32> {
        let Some(first) = self.parts.first() else { return Ok(0.0) };
        let (nccl, deadline) = (first.shared.nccl(), LazyDeadline::after(timeout));
        let simulated = Simulated::new(nccl, end)?;
        for part in &self.parts {
            for call in part.recorded.calls() {
                part.shared.check_usable(call.kind.name())?;
                check(call, nccl.library())?;
            }
        }
        // NCCL makes each one's device current by itself, and wants that there is one.
        let _current = first.shared.device().make_current()?;
        // In one order, the same in all threads: of each kind of lock, and of the kinds.
        let all = self.communicators();
        let across = self.across(&all)?;
        let outcome = self.enqueue(&all, &across, &simulated, nccl, &deadline);
        let backs: Vec<Result<()>> =
            across.into_iter().flatten().map(|(_, across)| across.back()).collect();
        outcome?;
        backs.into_iter().collect::<Result<()>>()?;
        Ok(simulated.micros())
    }

    /// Each communicator once, in the order of their addresses.
    fn communicators(&self) -> Vec<&'a Arc<Shared>> {
        let mut all: Vec<&Arc<Shared>> = self.parts.iter().map(|part| part.shared).collect();
        all.sort_by_key(|shared| Arc::as_ptr(shared).addr());
        all.dedup_by_key(|shared| Arc::as_ptr(shared).addr());
        all
    }

    /// The ways across of those that have operations on the calling thread's default stream.
    fn across(&self, all: &[&'a Arc<Shared>]) -> Result<Vec<Option<(*const Shared, Across<'a>)>>> {
        let way = |shared: &&'a Arc<Shared>| {
            let streams = self.parts.iter().filter(|part| Arc::ptr_eq(part.shared, shared));
            for part in streams {
                if let Some(across) = shared.across(part.recorded.stream())? {
                    return Ok(Some((Arc::as_ptr(shared), across)));
                }
            }
            Ok(None)
        };
        all.iter().map(way).collect()
    }

    fn enqueue(
        &self,
        all: &[&'a Arc<Shared>],
        across: &[Option<(*const Shared, Across<'_>)>],
        simulated: &Simulated,
        nccl: &Nccl,
        deadline: &LazyDeadline,
    ) -> Result<()> {
        let mut entered = Vec::with_capacity(all.len());
        for shared in all {
            entered.push(shared.enter_by("ncclGroupStart", deadline)?);
        }
        let of = |part: &Part<'_>| {
            let place = all.iter().position(|shared| Arc::ptr_eq(shared, part.shared));
            place.and_then(|place| entered.get(place))
        };
        let mut made: Vec<(&Part<'_>, &Entered<'_>, Factors)> = Vec::new();
        let mut outcome = Ok(());
        for part in &self.parts {
            let Some(entered) = of(part) else { continue };
            match Factors::make(nccl, entered, part.recorded.calls()) {
                Ok(factors) => made.push((part, entered, factors)),
                Err(error) => outcome = Err(error),
            }
        }
        if outcome.is_ok() {
            let ended = self.issue(all, &made, across, simulated, nccl);
            // Each is polled until it is at rest, also if one fails.
            for entered in &entered {
                let finished = ended.finish(entered, deadline);
                outcome = outcome.and(finished);
            }
            if let Err(error) = &outcome
                && ended.is_torn()
            {
                // Whatever the error: the other ranks wait for the part that was not begun.
                self.abort(error);
            }
        }
        for (_, entered, factors) in made {
            factors.free(nccl, entered);
        }
        outcome
    }

    /// Calls NCCL, as the only one for all devices.
    fn issue(
        &self,
        all: &[&'a Arc<Shared>],
        made: &[(&Part<'_>, &Entered<'_>, Factors)],
        across: &[Option<(*const Shared, Across<'_>)>],
        simulated: &Simulated,
        nccl: &Nccl,
    ) -> Ended {
        let library = nccl.library();
        let Some(start) = library.functions().ncclGroupStart else {
            return Ended { first: None, end: ("ncclGroupStart", NcclResult::INVALID_USAGE) };
        };
        let mut gates: Vec<_> = all.iter().map(|shared| shared.gate()).collect();
        gates.sort_by_key(|(device, _)| *device);
        gates.dedup_by_key(|(device, _)| *device);
        let _gates: Vec<MutexGuard<'_, ()>> = gates.iter().map(|(_, gate)| lock(gate)).collect();
        // SAFETY: no arguments. The group is ended below, on this thread, on every way: nothing
        // between can return or unwind.
        let begun = unsafe { start() };
        if !begun.is_success() {
            return Ended { first: None, end: ("ncclGroupStart", begun) };
        }
        let mut first = None;
        'parts: for (part, entered, factors) in made {
            let own = across.iter().flatten().find(|way| way.0 == Arc::as_ptr(part.shared));
            let stream = match (part.recorded.stream(), own) {
                (stream, Some((_, across))) if stream.addr() == 2 => across.stream(),
                (stream, _) => stream,
            };
            let member = part.shared.member();
            let issue = Issue { library, member, stream: stream.cast(), config: None };
            for (index, call) in part.recorded.calls().iter().enumerate() {
                // SAFETY: the calls were checked when they were recorded, their buffers are
                // borrowed and leased by the batch, and the stream is of this device; the handle is
                // live and this thread's for now.
                let outcome = unsafe { issue.one(entered.raw(), call, factors.op(index)) };
                if !is_fine(outcome.1) {
                    first = Some(outcome);
                    break 'parts;
                }
            }
        }
        Ended { first, end: simulated.end(nccl) }
    }
}

/// Where an estimate goes; NCCL may write it from a thread of its own.
struct Simulated(Option<*mut ncclSimInfo_t>);

impl Simulated {
    fn new(nccl: &Nccl, end: &End) -> Result<Self> {
        Ok(match end {
            End::Run => Self(None),
            End::Simulate => {
                nccl.library().ncclGroupSimulateEnd().map_err(Error::Unsupported)?;
                Self(Some(Box::into_raw(Box::new(ncclSimInfo_t::new(nccl.version())))))
            }
        })
    }

    /// Ends the group of this thread.
    fn end(&self, nccl: &Nccl) -> Outcome {
        let functions = nccl.library().functions();
        match (self.0, functions.ncclGroupSimulateEnd, functions.ncclGroupEnd) {
            (Some(info), Some(end), _) => {
                // SAFETY: ends what this thread began; one struct of the size that it says, which
                // stays until NCCL is done with it.
                ("ncclGroupSimulateEnd", unsafe { end(info) })
            }
            (_, _, Some(end)) => {
                // SAFETY: ends what this thread began.
                ("ncclGroupEnd", unsafe { end() })
            }
            (_, _, None) => ("ncclGroupEnd", NcclResult::INVALID_USAGE),
        }
    }

    /// The estimate, after success: then NCCL is done. Otherwise the place stays for good.
    fn micros(self) -> f32 {
        let Some(info) = self.0 else { return 0.0 };
        // SAFETY: made by `new`, freed once, as this takes `self`.
        let info = unsafe { Box::from_raw(info) };
        info.estimatedTime.max(0.0)
    }
}

impl fmt::Debug for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<_> = self.parts.iter().flat_map(|part| part.recorded.calls()).collect();
        f.debug_struct("Group").field("calls", &calls).finish()
    }
}
