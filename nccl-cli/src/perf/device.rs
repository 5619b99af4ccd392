//! One form of one cell on device memory.

use nccl::Error;
use nccl::Family;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::cuda::DeviceVec;

use crate::perf::Failure;
use crate::perf::args::Work;
use crate::perf::buffers::Buffer;
use crate::perf::buffers::corrupt;
use crate::perf::buffers::fill;
use crate::perf::cell::Collective;
use crate::perf::cell::Place;
use crate::perf::check::Case;
use crate::perf::check::GUARD;
use crate::perf::enqueue;
use crate::perf::gpu::Gpu;
use crate::perf::report::Measured;
use crate::perf::time::Timing;
use crate::perf::time::time_enqueued;
use crate::perf::value::Value;

/// Why there is no barrier among operations on a stream.
const NO_BARRIER: &str = "a barrier is an operation of the host; --memory host measures it";

/// A measurement, or why the backend has no such operation.
pub(crate) type Outcome = Result<Measured, String>;

/// Checks it first, outside the timing, then times it.
///
/// # Errors
/// Those of the group and of the driver; too little memory of the host or the device.
pub(crate) fn one<T: Value>(
    group: &ProcessGroup,
    gpu: &Gpu,
    work: &Work,
    case: &Case,
) -> Result<Outcome, Failure> {
    if case.cell.collective == Collective::Barrier {
        return Ok(Err(NO_BARRIER.to_owned()));
    }
    let mut memory = OnDevice::<T>::new(gpu, case)?;
    let outcome = memory.measure(group, work);
    if outcome.is_err() {
        // Freeing it waits for work that may never end; the process ends soon.
        std::mem::forget(memory);
    }
    outcome
}

/// The buffers of one form; zeros while time is taken, which every reduction keeps.
struct OnDevice<'a, T: Value> {
    gpu: &'a Gpu,
    case: &'a Case,
    inputs: DeviceVec<T>,
    /// With the guard behind.
    outputs: DeviceVec<T>,
}

impl<'a, T: Value> OnDevice<'a, T> {
    fn new(gpu: &'a Gpu, case: &'a Case) -> Result<Self, Failure> {
        let (input, output) = case.lengths();
        let input = if case.place == Place::Out { input } else { 0 };
        let inputs = DeviceVec::zeroed(gpu.stream(), input)?;
        let outputs = DeviceVec::zeroed(gpu.stream(), output + GUARD)?;
        Ok(Self { gpu, case, inputs, outputs })
    }

    fn measure(&mut self, group: &ProcessGroup, work: &Work) -> Result<Outcome, Failure> {
        if !work.check {
            if let Some(why) = self.first_call(group)? {
                return Ok(Err(why));
            }
            return Ok(Ok(Measured { timing: self.time(group, work)?, wrong: None }));
        }
        let mut send = Buffer::new(self.inputs.count())?;
        let mut all = Buffer::new(self.outputs.count())?;
        let (send, all) = (send.slice(), all.slice());
        fill(self.case, send, all);
        self.write(group, send, all)?;
        if let Some(why) = self.first_call(group)? {
            return Ok(Err(why));
        }
        self.outputs.read(self.gpu.stream(), all, group.timeout())?;
        if work.corrupt {
            corrupt(self.case, all);
        }
        let mut wrong = [self.case.wrong(all)];
        group.all_reduce_in_place(&mut wrong, ReduceOp::Sum)?;
        send.fill(T::from_bits(0));
        all.fill(T::from_bits(0));
        self.write(group, send, all)?;
        Ok(Ok(Measured { timing: self.time(group, work)?, wrong: Some(wrong[0]) }))
    }

    fn write(&mut self, group: &ProcessGroup, send: &[T], all: &[T]) -> Result<(), Failure> {
        self.inputs.write(self.gpu.stream(), send, group.timeout())?;
        self.outputs.write(self.gpu.stream(), all, group.timeout())?;
        Ok(())
    }

    fn call(&mut self, group: &ProcessGroup) -> nccl::Result<()> {
        let (_, output) = self.case.lengths();
        let (send, mut recv) = (self.inputs.slice(..)?, self.outputs.slice_mut(..output)?);
        enqueue::once(group, self.gpu, &self.case.cell, self.case.place, &send, &mut recv)
    }

    /// Calls it and waits for the result; or why the backend has it not, the same on all ranks.
    fn first_call(&mut self, group: &ProcessGroup) -> Result<Option<String>, Failure> {
        let refusal = match self.call(group) {
            Ok(()) => None,
            Err(why) if is_refusal(&why) => Some(why.to_string()),
            Err(why) => return Err(why.into()),
        };
        let mut refusing = [u64::from(refusal.is_some())];
        group.all_reduce_in_place(&mut refusing, ReduceOp::Sum)?;
        let n = group.world_size();
        match (refusing[0], refusal) {
            (0, _) => {
                self.gpu.settle(group)?;
                Ok(None)
            }
            (some, Some(why)) if some == n as u64 => Ok(Some(why)),
            (some, Some(why)) => Err(Failure::other(format!("{some} of {n} ranks refuse: {why}"))),
            (some, None) => {
                let name = self.case.cell.collective.name();
                Err(Failure::other(format!("{name}: {some} of {n} ranks refuse it, not this one")))
            }
        }
    }

    fn time(&mut self, group: &ProcessGroup, work: &Work) -> Result<Timing, Failure> {
        let (gpu, cell) = (self.gpu, self.case.cell);
        gpu.settle(group)?; // the buffers are zero
        let call = |group: &ProcessGroup| self.call(group);
        let mut timing =
            time_enqueued(group, &cell, &work.effort, call, |group| gpu.settle(group))?;
        if group.backend_name() == "nccl" {
            timing.algorithm = "nccl";
        }
        Ok(timing)
    }
}

/// Whether nothing was enqueued because there is no such operation, rather than it failed.
fn is_refusal(why: &Error) -> bool {
    why.family() == Family::Misuse || matches!(why, Error::Unsupported(_))
}
