//! Pinned buffers between device and host, with what orders their use.

use core::time::Duration;

use super::messages::Lists;
use super::plan::Rounds;
use super::round::Round;
use crate::backend::P2p;
use crate::clock::Deadline;
use crate::cuda::Device;
use crate::cuda::Event;
use crate::cuda::HostVec;
use crate::cuda::Stream;
use crate::error::Result;

/// Rounds under way at once: one on its way to the device, one among the ranks, one on its way to
/// the host.
pub(super) const SLOTS: usize = 3;
/// The smallest buffer; the driver pins whole pages.
const BUFFER_MIN_BYTES: usize = 64 << 10;
/// How long a drop waits for the copies that are under way.
const DROP_TIME: Duration = Duration::from_millis(100);

/// The pinned buffers of one group. They grow to what a round needs, and stay.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) slots: [Slot; SLOTS],
    /// The slot whose turn is next: small operations take turns, so that none waits for the last
    /// copy of the one before.
    pub(super) next: usize,
    /// Where data come to the host if there are several rounds, so that this overlaps the way back.
    pub(super) down: Stream,
    /// A mark to order `down` and the caller's stream.
    pub(super) mark: Event,
}

/// What one round uses.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) send: Buffer,
    pub(super) recv: Buffer,
    /// Its data are on the host.
    pub(super) fetched: Event,
    pub(super) is_fetching: bool,
    /// Its results are on the device.
    pub(super) delivered: Event,
    pub(super) is_delivering: bool,
    /// Copies may be under way that neither event tells of: enqueuing them failed in the middle.
    pub(super) is_unsure: bool,
    pub(super) round: Round,
}

/// A pinned buffer, of words, so that every type is aligned in it.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    words: Option<HostVec<u64>>,
    bytes: usize,
}

/// What is kept from call to call beside the pinned buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) lists: Lists,
    pub(super) ops: Vec<P2p>,
    pub(super) longest: Vec<usize>,
    /// Counts of this rank, and of all.
    pub(super) counts: (Vec<u64>, Vec<u64>),
}

impl Stage {
    /// Makes stream and events; buffers come with the rounds.
    pub(super) fn new(device: &Device) -> Result<Self> {
        let slot = || -> Result<Slot> {
            Ok(Slot {
                send: Buffer::default(),
                recv: Buffer::default(),
                fetched: Event::new(device)?,
                is_fetching: false,
                delivered: Event::new(device)?,
                is_delivering: false,
                is_unsure: false,
                round: Round::default(),
            })
        };
        Ok(Self {
            slots: [slot()?, slot()?, slot()?],
            next: 0,
            down: Stream::new(device)?,
            mark: Event::new(device)?,
        })
    }
}

impl Slot {
    /// Fills in the next round, if there is one.
    pub(super) fn fill(&mut self, rounds: &mut Rounds<'_>) -> bool {
        rounds.fill(&mut self.round)
    }

    /// Makes the buffers large enough. No copy from or to them is under way.
    pub(super) fn fit(&mut self, device: &Device, most_bytes: usize) -> Result<()> {
        self.send.fit(device, self.round.send_bytes, most_bytes)?;
        self.recv.fit(device, self.round.recv_bytes, most_bytes)
    }
}

impl Buffer {
    /// Grows in powers of two, so that few calls do; to more than `most_bytes` only for what needs
    /// it, as one element for each of very many ranks.
    fn fit(&mut self, device: &Device, bytes: usize, most_bytes: usize) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let rounded = bytes.checked_next_power_of_two().unwrap_or(bytes);
        let new = rounded.max(BUFFER_MIN_BYTES).min(most_bytes.max(bytes));
        *self = Self::default();
        let words = new.div_ceil(size_of::<u64>());
        self.words = Some(HostVec::zeroed(device, words)?);
        self.bytes = words.saturating_mul(size_of::<u64>());
        Ok(())
    }

    /// Where it begins.
    pub(super) fn start(&mut self) -> *mut u8 {
        match &mut self.words {
            Some(words) => words.as_mut_ptr().cast(),
            None => core::ptr::NonNull::<u64>::dangling().as_ptr().cast(),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let deadline = Deadline::after(DROP_TIME);
        let reached = |event: &Event| event.wait(deadline.left()).unwrap_or(false);
        for slot in &mut self.slots {
            let fetched = !slot.is_fetching || reached(&slot.fetched);
            let delivered = !slot.is_delivering || reached(&slot.delivered);
            if fetched && delivered && !slot.is_unsure {
                continue;
            }
            // A copy may still happen, so the memory stays for good.
            let bytes = slot.send.bytes.saturating_add(slot.recv.bytes);
            if bytes > 0 {
                log::warn!(
                    target: "nccl::cuda",
                    "{bytes} bytes of pinned memory are not freed: a copy of them was given up"
                );
            }
            core::mem::forget((slot.send.words.take(), slot.recv.words.take()));
        }
    }
}
