//! Operations on device memory, staged through pinned host memory.
//!
//! Data come to the host in rounds, are exchanged there by the CPU backend, and go back to the
//! device. The calling thread waits for the data and for the other ranks, and returns once the
//! last copy to the device is enqueued on the caller's stream; so this cannot be captured.
//!
//! Small operations use only the caller's stream: a copy, the exchange, a copy back. Larger ones
//! are cut into rounds of which three are under way at a time, see [`pipe`].

#![expect(unsafe_code, reason = "operations name their buffers by address")]

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crate::backend::Backend;
use crate::backend::Call;
use crate::clock::Deadline;
use crate::count;
use crate::cuda::CaptureStatus;
use crate::cuda::Device;
use crate::cuda::StreamRef;
use crate::desc::Kind;
use crate::device::DeviceBackend;
use crate::device::DeviceCall;
use crate::dtype::DataType;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;
use crate::trace::GroupState;
use crate::trace::lock;

mod alone;
mod messages;
mod pipe;
mod plan;
mod round;
mod stage;
#[cfg(test)]
mod tests;

use messages::Messages;
use pipe::Pipe;
use pipe::Trouble;
use plan::Cuts;
use plan::Rounds;
use stage::Scratch;
use stage::Stage;

/// Bounds of what `NCCL_BUFFSIZE` may ask for: so small that most copies are overhead, and so
/// large that pinning six buffers of it takes the machine's memory.
const STAGE_MIN_BYTES: usize = 4 << 10;
const STAGE_MAX_BYTES: usize = 256 << 20;

/// The CPU backend for device memory of one GPU.
pub(crate) struct StagedBackend {
    host: Arc<dyn Backend>,
    device: Device,
    state: Arc<GroupState>,
    stage_bytes: usize,
    /// Used by one call at a time; the stage is made with the first.
    staging: Mutex<(Option<Stage>, Scratch)>,
}

impl fmt::Debug for StagedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedBackend")
            .field("host", &self.host)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl StagedBackend {
    /// The operations of `host` for memory of `device`. Nothing is allocated before the first one.
    pub(crate) fn new(
        host: Arc<dyn Backend>,
        device: Device,
        state: &Arc<GroupState>,
        stage_bytes: usize,
    ) -> Self {
        // Whole words, so that every part of a buffer is aligned.
        let stage_bytes = stage_bytes.clamp(STAGE_MIN_BYTES, STAGE_MAX_BYTES) / 64 * 64;
        Self { host, device, state: state.clone(), stage_bytes, staging: Mutex::default() }
    }

    fn member(&self) -> Member {
        Member { rank: self.state.rank, world_size: self.state.members.len() }
    }

    /// Fails if the group has failed before.
    fn usable(&self) -> Result<()> {
        if !self.state.has_failed() {
            return Ok(());
        }
        let group = self.state.name.clone();
        let ended = || Error::Usage { op: "on", problem: "the group was ended".to_owned() };
        let cause = Box::new(self.state.error(None).unwrap_or_else(ended));
        Err(Error::Poisoned { group, cause })
    }

    /// # Safety
    /// As [`DeviceBackend::enqueue`].
    unsafe fn staged(
        &self,
        calls: &[DeviceCall<'_>],
        caller: StreamRef<'_>,
        deadline: &Deadline,
        what: &'static str,
    ) -> Result<(), Trouble> {
        let mut staging = lock(&self.staging);
        let (stage, scratch) = &mut *staging;
        let stage = match stage {
            Some(stage) => stage,
            None => stage.insert(Stage::new(&self.device).map_err(Trouble::Own)?),
        };
        let (member, stage_bytes) = (self.member(), self.stage_bytes);
        let Scratch { lists, ops, longest, counts } = scratch;
        let (host, state) = (&*self.host, &*self.state);
        let mut pipe = Pipe { host, state, stage, ops, stage_bytes, caller, deadline, what };
        if calls.iter().any(messages::is_message) {
            let messages = Messages::new(calls, stage_bytes, member.world_size, lists);
            // SAFETY: the rounds name parts of the calls' buffers, for which the caller vouches.
            unsafe { pipe.run(&mut Rounds::Messages(messages)) }?;
        }
        longest.clear();
        for call in calls {
            longest.push(self.longest(call, counts, deadline)?);
        }
        let next = (0, 0);
        let cuts = Cuts { calls, member, stage_bytes, longest: &*longest, next };
        // SAFETY: as above.
        unsafe { pipe.run(&mut Rounds::Collectives(cuts)) }
    }

    /// The most elements that a rank sends to another one in an `all_to_all_v`, whose counts are
    /// compared for that: they must be known on all ranks, and match.
    fn longest(
        &self,
        call: &DeviceCall<'_>,
        (own, all): &mut (Vec<u64>, Vec<u64>),
        deadline: &Deadline,
    ) -> Result<usize, Trouble> {
        let ranks = self.member().world_size;
        if call.kind != Kind::AllToAllV {
            return Ok(0);
        }
        own.clear();
        own.extend(call.send_counts.iter().chain(call.recv_counts).map(|count| *count as u64));
        all.clear();
        all.resize(own.len().saturating_mul(ranks), 0);
        let gather = Call {
            kind: Kind::AllGather,
            dtype: DataType::U64,
            op: None,
            root: None,
            count: own.len(),
            send: own.as_ptr().cast(),
            recv: all.as_mut_ptr().cast(),
            in_place: false,
            send_counts: &[],
            recv_counts: &[],
            whole: None,
        };
        // SAFETY: `own` has the elements that each rank gives, `all` those of all ranks, and
        // nobody else uses them until this returns.
        unsafe { self.host.collective(&gather, deadline.left()) }.map_err(Trouble::Known)?;
        count::match_pairs("all_to_all_v", &self.state.name, ranks, all).map_err(Trouble::Known)?;
        let longest = all.iter().copied().max().unwrap_or(0);
        Ok(usize::try_from(longest).unwrap_or(usize::MAX))
    }

    /// Ends the group for an error of this rank, so that nobody waits for it; gives what all ranks
    /// get.
    fn abort(&self, what: &str, error: Error) -> Error {
        self.host.abort(&format!("{what} on device {}: {error}", self.device.ordinal()));
        self.state.error(None).unwrap_or(error)
    }
}

impl DeviceBackend for StagedBackend {
    fn name(&self) -> &'static str {
        self.host.name()
    }

    fn device(&self) -> &Device {
        &self.device
    }

    unsafe fn enqueue(
        &self,
        calls: &[DeviceCall<'_>],
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()> {
        self.usable()?;
        if self.member().world_size == 1 && alone::are_copies(calls) {
            // SAFETY: passed on from the caller.
            return unsafe { alone::enqueue(calls, stream) };
        }
        let deadline = Deadline::after(timeout);
        let what = match calls {
            [call] => call.kind.name(),
            _ => "batch",
        };
        if stream.capture_status()? != CaptureStatus::None {
            let problem = "the stream is being captured, and the cpu backend, which copies through \
                           host memory, cannot be: call it before or after, or use the nccl backend";
            return Err(Error::Usage { op: what, problem: problem.to_owned() });
        }
        // SAFETY: passed on from the caller.
        let outcome = unsafe { self.staged(calls, stream, &deadline, what) };
        outcome.map_err(|trouble| match trouble {
            Trouble::Known(error) => error,
            Trouble::Own(error) => self.abort(what, error),
        })
    }
}
