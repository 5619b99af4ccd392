//! Rounds, one after the other and overlapped: while the ranks exchange one, the next comes to the
//! host and the one before goes back to the device.
#![expect(unsafe_code, reason = "copies between addresses that calls name and pinned buffers")]

use core::time::Duration;

use super::plan::Rounds;
use super::round::Part;
use super::stage::SLOTS;
use super::stage::Slot;
use super::stage::Stage;
use crate::backend::Backend;
use crate::backend::Call;
use crate::backend::P2p;
use crate::backend::P2pKind;
use crate::backend::exchange;
use crate::clock::Deadline;
use crate::cuda::Event;
use crate::cuda::StreamRef;
use crate::error::Error;
use crate::trace::GroupState;

/// Rounds that are on their way to the host, or there, at most.
const AHEAD: usize = SLOTS - 1;
/// How long is waited for the device before a look at the group.
const SLICE: Duration = Duration::from_millis(20);

/// Why a unit ended early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The other ranks have this error too, or it concerns nobody else.
    Known(Error),
    /// This rank's own, of which the others must be told.
    Own(Error),
}

impl Trouble {
    fn own(error: Error) -> Self {
        Self::Own(error)
    }
}

/// What runs the rounds of one unit.
#[derive(Debug)]
pub(super) struct Pipe<'a> {
    pub(super) host: &'a dyn Backend,
    pub(super) state: &'a GroupState,
    pub(super) stage: &'a mut Stage,
    pub(super) ops: &'a mut Vec<P2p>,
    pub(super) stage_bytes: usize,
    pub(super) caller: StreamRef<'a>,
    pub(super) deadline: &'a Deadline,
    /// The operation, for messages.
    pub(super) what: &'static str,
}

impl Pipe<'_> {
    /// Runs all rounds. Returns once the last copy to the device is enqueued on the caller's
    /// stream; all copies to the host are done, or, with an error, are ordered before what is
    /// enqueued on that stream afterwards.
    ///
    /// # Safety
    /// The device memory that the rounds name is there until what is enqueued is done, and others
    /// use it in the order of the caller's stream.
    pub(super) unsafe fn run(&mut self, rounds: &mut Rounds<'_>) -> Result<(), Trouble> {
        let is_single = rounds.count() <= 1;
        if !is_single {
            self.stage.mark.record(self.caller).map_err(Trouble::own)?;
            self.stage.down.as_ref().wait_event(&self.stage.mark).map_err(Trouble::own)?;
        }
        // SAFETY: passed on from the caller.
        let outcome = unsafe { self.overlapped(rounds, is_single) };
        if outcome.is_err() && !is_single {
            let Stage { down, mark, .. } = &*self.stage;
            let ordered = mark.record(down).and_then(|()| self.caller.wait_event(mark));
            if let Err(error) = ordered {
                log::warn!(target: "nccl::cuda", "after {}: {error}", self.what);
            }
        }
        outcome
    }

    /// # Safety
    /// As [`Pipe::run`].
    unsafe fn overlapped(
        &mut self,
        rounds: &mut Rounds<'_>,
        is_single: bool,
    ) -> Result<(), Trouble> {
        let (mut begun, mut ended) = (0_usize, 0_usize);
        let first = self.stage.next;
        let slot = |round: usize| first.wrapping_add(round) % SLOTS;
        loop {
            while begun - ended < AHEAD {
                // SAFETY: passed on from the caller.
                if !unsafe { self.begin(slot(begun), rounds, is_single) }? {
                    break;
                }
                begun += 1;
                self.stage.next = slot(begun);
            }
            if begun == ended {
                return Ok(());
            }
            // SAFETY: passed on from the caller.
            unsafe { self.end(slot(ended)) }?;
            ended += 1;
        }
    }

    /// Begins a round: enqueues the copies to the host. `false` if there is none any more.
    ///
    /// # Safety
    /// As [`Pipe::run`].
    unsafe fn begin(
        &mut self,
        at: usize,
        rounds: &mut Rounds<'_>,
        is_single: bool,
    ) -> Result<bool, Trouble> {
        let (caller, most_bytes) = (self.caller, self.stage_bytes);
        if !self.slot(at).fill(rounds) {
            return Ok(false);
        }
        self.idle(at)?;
        let Stage { slots, down, .. } = &mut *self.stage;
        let slot = &mut slots[at % SLOTS];
        slot.fit(caller.device(), most_bytes).map_err(Trouble::own)?;
        let stream = if is_single { caller } else { down.as_ref() };
        let area = if slot.round.is_in_place() { &mut slot.recv } else { &mut slot.send };
        let area = area.start();
        if slot.round.fetch.is_empty() {
            return Ok(true);
        }
        (slot.is_fetching, slot.is_unsure) = (true, true);
        for piece in &slot.round.fetch {
            // Inside of the buffer, which `fit` made as large as the round says.
            let to = area.wrapping_add(piece.host).cast();
            // SAFETY: the buffer is as large as the round's pieces need, and nobody uses it before
            // `fetched` is reached, for which `end`, the next use of the slot and the drop of the
            // stage wait. The device memory is there by the caller's contract; what wrote it
            // before is done, as the stream is the caller's or waits for its mark.
            unsafe { stream.copy_to_host(to, piece.device, piece.bytes) }.map_err(Trouble::own)?;
        }
        slot.fetched.record(stream).map_err(Trouble::own)?;
        slot.is_unsure = false;
        Ok(true)
    }

    /// Ends a round: exchanges it with the other ranks, and enqueues the copies to the device.
    ///
    /// # Safety
    /// As [`Pipe::run`].
    unsafe fn end(&mut self, at: usize) -> Result<(), Trouble> {
        self.arrived(at)?;
        let left = self.deadline.left();
        let (host, caller) = (self.host, self.caller);
        let slot = &mut self.stage.slots[at % SLOTS];
        let (send, recv) = (slot.send.start(), slot.recv.start());
        match slot.round.part {
            Some(part) => {
                let call = call(&part, slot, send, recv);
                // SAFETY: the buffers are as large as the round says (`fit`), which are the
                // elements that the kind and the counts of the round imply; nobody else uses them:
                // the copies to the host have arrived, and those to the device of the round
                // before were done when this one began (`idle`).
                unsafe { host.collective(&call, left) }.map_err(Trouble::Known)?;
            }
            None => {
                self.ops.clear();
                self.ops.extend(slot.round.messages.iter().map(|message| {
                    let (peer, start) = (message.peer, if message.is_send { send } else { recv });
                    let data = start.wrapping_add(message.host);
                    let kind = if message.is_send {
                        P2pKind::Send { peer, data }
                    } else {
                        P2pKind::Recv { peer: Some(peer), data }
                    };
                    let (dtype, count, whole) = (message.dtype, message.count, message.whole);
                    P2p { kind, dtype, count, tag: 0, whole }
                }));
                // SAFETY: as above; each message has a place of its own in the buffers.
                unsafe { exchange(host, self.ops, left) }.map_err(Trouble::Known)?;
            }
        }
        if slot.round.deliver.is_empty() {
            return Ok(());
        }
        (slot.is_delivering, slot.is_unsure) = (true, true);
        for piece in &slot.round.deliver {
            let from = recv.wrapping_add(piece.host).cast();
            // SAFETY: the result is in the buffer, which nobody changes before `delivered` is
            // reached, for which the next use of the slot and the drop of the stage wait. The
            // device memory is there by the caller's contract, in the order of its stream.
            unsafe { caller.copy_to_device(piece.device, from, piece.bytes) }
                .map_err(Trouble::own)?;
        }
        slot.delivered.record(caller).map_err(Trouble::own)?;
        slot.is_unsure = false;
        Ok(())
    }

    /// Waits until no copy uses the slot.
    fn idle(&mut self, at: usize) -> Result<(), Trouble> {
        self.arrived(at)?;
        if self.slot(at).is_delivering {
            self.wait(&self.stage.slots[at % SLOTS].delivered)?;
            self.slot(at).is_delivering = false;
        }
        Ok(())
    }

    /// Waits until the data of the slot are on the host.
    fn arrived(&mut self, at: usize) -> Result<(), Trouble> {
        if self.slot(at).is_fetching {
            self.wait(&self.stage.slots[at % SLOTS].fetched)?;
            self.slot(at).is_fetching = false;
        }
        Ok(())
    }

    fn slot(&mut self, at: usize) -> &mut Slot {
        &mut self.stage.slots[at % SLOTS]
    }

    /// Waits for an event, for as long as the group is good and the time lasts.
    fn wait(&self, event: &Event) -> Result<(), Trouble> {
        while !event.wait(self.deadline.left_at_most(SLICE)).map_err(Trouble::own)? {
            if self.state.has_failed()
                && let Some(error) = self.state.error(None)
            {
                return Err(Trouble::Known(error));
            }
            if self.deadline.passed() {
                let device = self.caller.device().ordinal();
                let waited = self.deadline.waited();
                let what = self.what;
                return Err(Trouble::Own(Error::StreamTimeout { what, device, waited }));
            }
        }
        Ok(())
    }
}

/// A round's part of a collective, on the pinned buffers.
fn call<'a>(part: &Part, slot: &'a Slot, send: *mut u8, recv: *mut u8) -> Call<'a> {
    let Part { kind, dtype, op, root, count, whole } = *part;
    let in_place = slot.round.is_in_place();
    let send = if in_place { recv } else { send };
    let (send_counts, recv_counts) = (&*slot.round.send_counts, &*slot.round.recv_counts);
    Call { kind, dtype, op, root, count, send, recv, in_place, send_counts, recv_counts, whole }
}
