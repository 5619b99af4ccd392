//! The link itself: cells and slots of one pair, both directions.

#![expect(unsafe_code, reason = "atomics and copies in memory shared between ranks")]

use core::fmt;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::doorbell::Doorbell;
use super::layout::CELLS;
use super::layout::Geometry;
use super::layout::INLINE_BYTES;
use super::offer::Offer;
use super::probe::Probe;
use super::region::Region;
use super::remote::RemoteRead;
use crate::desc::OpDesc;
use crate::transport::Head;
use crate::transport::Link;
use crate::transport::LinkError;
use crate::transport::Outgoing;

/// Which end of a pair this is: the lower or the higher rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The lower rank.
    Low,
    /// The higher rank.
    High,
}

/// What a frame in a cell is.
const INLINE: u32 = 0;
const SLOT: u32 = 1;
const REMOTE: u32 = 2;

/// The number of the last cell.
#[expect(clippy::cast_possible_truncation, reason = "there are eight")]
const LAST_CELL: u32 = CELLS as u32 - 1;

/// Most that one piece read from a peer's memory has; it should still be in the cache when the
/// reduction comes to it.
const PIECE_BYTES: usize = 128 << 10;
/// Slots filled by one push, so that a sender also gets to its receives.
const SLOTS_PER_PUSH: usize = 4;

/// `Outgoing::phase` of a message whose buffer is offered.
const PHASE_OFFERED: u64 = 2;

/// One cell as it lies in the region: 64 bytes, read and written by atomics word by word.
#[repr(C, align(64))]
struct Cell {
    turn: AtomicU32,
    info: AtomicU32,
    words: [AtomicU64; 7],
}

/// One direction of the region.
#[derive(Clone, Copy)]
struct Direction {
    base: *mut u8,
    geometry: Geometry,
}

impl Direction {
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is one of the line offsets of `Geometry`, so the word is inside the
        // direction and aligned to 64; the region outlives `self` (the link holds an Arc of it);
        // any bits are a valid u32 and all access is atomic.
        unsafe { AtomicU32::from_ptr(self.base.add(at).cast()) }
    }

    fn cell(&self, frame: u32) -> &Cell {
        let index = frame as usize % CELLS;
        // SAFETY: `index < CELLS`, so the cell is inside the direction; cells are aligned to a line
        // and made of atomics only, for which any bits are valid and sharing is allowed; the region
        // outlives `self`.
        unsafe { &*self.base.add(Geometry::cell(index)).cast::<Cell>() }
    }

    fn slot(&self, frame: u32) -> *mut u8 {
        // SAFETY: the slot of a cell is inside the direction's part of the region.
        unsafe { self.base.add(self.geometry.slot(frame as usize % CELLS)) }
    }

    fn freed(&self) -> &AtomicU32 {
        self.word(Geometry::FREED)
    }

    fn offer(&self) -> Offer<'_> {
        Offer(self.word(Geometry::OFFER))
    }

    fn reader(&self) -> &AtomicU32 {
        self.word(Geometry::READER)
    }
}

/// What is known of the message being received.
#[derive(Clone, Copy, Debug)]
struct Incoming {
    head: Head,
    /// Bytes pulled so far.
    taken: usize,
    /// Bytes pulled of the current frame.
    in_frame: usize,
    /// Address in the sender, for a message read from its memory.
    remote: Option<u64>,
}

/// A link in memory.
pub(crate) struct MemoryLink {
    tx: Direction,
    rx: Direction,
    peer_bell: Doorbell,
    read: RemoteRead,
    threshold_bytes: usize,
    tx_frame: u32,
    tx_freed: u32,
    rx_frame: u32,
    incoming: Option<Incoming>,
    offered: Option<u32>,
    bounce: Vec<u8>,
    /// Keeps the memory of both directions mapped.
    _region: Arc<Region>,
    /// Keeps the number in place that the peer reads to learn whether it can.
    probe: Option<Probe>,
}

// SAFETY: the raw pointers point into the region, which the link owns a share of and which has no
// thread affinity; one thread at a time uses a link (`&mut self`).
unsafe impl Send for MemoryLink {}

impl fmt::Debug for MemoryLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLink")
            .field("read", &self.read)
            .field("tx_frame", &self.tx_frame)
            .field("rx_frame", &self.rx_frame)
            .finish_non_exhaustive()
    }
}

impl MemoryLink {
    /// The end of `side` of the pair that shares `region`; `peer_bell` is rung when something was
    /// done that the peer may wait for. Messages of `threshold_bytes` and more are read in place
    /// if the receiver can.
    pub(crate) fn new(
        region: Arc<Region>,
        geometry: Geometry,
        side: Side,
        peer_bell: Doorbell,
        read: RemoteRead,
        threshold_bytes: usize,
    ) -> Self {
        assert!(
            region.bytes() >= geometry.region_bytes(),
            "the region is as large as its geometry"
        );
        let direction = |which: usize| {
            // SAFETY: `direction(which)` is inside the region by the assertion above.
            let base = unsafe { region.base().add(geometry.direction(which)) };
            Direction { base, geometry }
        };
        let (tx, rx) = match side {
            Side::Low => (direction(0), direction(1)),
            Side::High => (direction(1), direction(0)),
        };
        rx.reader().store(u32::from(read != RemoteRead::No), Ordering::Release);
        Self {
            tx,
            rx,
            peer_bell,
            read,
            threshold_bytes: threshold_bytes.max(INLINE_BYTES + 1),
            tx_frame: 0,
            tx_freed: 0,
            rx_frame: 0,
            incoming: None,
            offered: None,
            bounce: Vec::new(),
            _region: region,
            probe: None,
        }
    }

    /// Keeps `probe` as long as the link lives.
    pub(crate) fn keeping(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Whether the next cell to send is free.
    fn may_send(&mut self) -> bool {
        let used = |freed: u32, frame: u32| frame.wrapping_sub(freed) as usize;
        if used(self.tx_freed, self.tx_frame) < CELLS {
            return true;
        }
        self.tx_freed = self.tx.freed().load(Ordering::Acquire);
        used(self.tx_freed, self.tx_frame) < CELLS
    }

    /// Makes the cell visible to the receiver.
    fn publish(&mut self, kind: u32, len: usize) {
        let cell = self.tx.cell(self.tx_frame);
        let len = u32::try_from(len).unwrap_or(u32::MAX >> 2);
        cell.info.store((kind << 30) | len, Ordering::Relaxed);
        self.tx_frame = self.tx_frame.wrapping_add(1);
        cell.turn.store(self.tx_frame, Ordering::Release);
    }

    /// Writes the first frame of a message.
    ///
    /// # Safety
    /// As [`Link::push`].
    unsafe fn push_first(&mut self, out: &mut Outgoing) {
        let bytes = usize::try_from(out.head.bytes).unwrap_or(usize::MAX);
        let cell = self.tx.cell(self.tx_frame);
        write_head(cell, &out.head);
        if bytes <= INLINE_BYTES {
            for (word, at) in cell.words[4..].iter().zip((0..bytes).step_by(8)) {
                // SAFETY: `out.data` is valid for `bytes` bytes by this function's contract, and
                // `at < bytes`.
                let value = unsafe { word_of(out.data.add(at), bytes - at) };
                word.store(value, Ordering::Relaxed);
            }
            self.publish(INLINE, bytes);
            out.moved = bytes;
            out.done = true;
        } else if bytes >= self.threshold_bytes && self.tx.reader().load(Ordering::Relaxed) != 0 {
            cell.words[4].store(bytes as u64, Ordering::Relaxed);
            cell.words[5].store(out.data.expose_provenance() as u64, Ordering::Relaxed);
            let ticket = self.tx_frame;
            self.tx.offer().put(ticket);
            self.offered = Some(ticket);
            self.publish(REMOTE, 0);
            out.moved = bytes;
            out.phase = PHASE_OFFERED;
        } else {
            cell.words[4].store(bytes as u64, Ordering::Relaxed);
            // SAFETY: passed on from the caller.
            unsafe { self.push_slot(out, bytes) };
            out.phase = 1;
        }
    }

    /// Copies the next piece into the slot of the next cell and publishes it.
    ///
    /// # Safety
    /// As [`Link::push`].
    unsafe fn push_slot(&mut self, out: &mut Outgoing, bytes: usize) {
        let len = (bytes - out.moved).min(self.tx.geometry.slot_bytes);
        // SAFETY: `out.data` is valid for `bytes` bytes by contract and `moved + len <= bytes`; the
        // slot has `slot_bytes >= len` bytes, and is ours until published: the receiver has freed
        // the cell (`may_send`).
        unsafe {
            core::ptr::copy_nonoverlapping(
                out.data.add(out.moved),
                self.tx.slot(self.tx_frame),
                len,
            );
        }
        self.publish(SLOT, len);
        out.moved += len;
        out.done = out.moved == bytes;
    }

    /// Fetches the line of the next cell for writing, while there is nothing else to do: the
    /// receiver has it in its cache, and the next message would wait for it.
    fn warm_next(&self) {
        if (self.tx_frame.wrapping_sub(self.tx_freed) as usize) < CELLS {
            self.tx.cell(self.tx_frame).info.store(0, Ordering::Relaxed);
        }
    }

    /// The piece of the current message that is here: kind and length of its frame.
    fn frame(&self) -> Option<(u32, usize)> {
        let cell = self.rx.cell(self.rx_frame);
        let here = cell.turn.load(Ordering::Acquire) == self.rx_frame.wrapping_add(1);
        here.then(|| {
            let info = cell.info.load(Ordering::Relaxed);
            (info >> 30, (info & (u32::MAX >> 2)) as usize)
        })
    }

    /// Whether the sender may be waiting for a cell: only if every cell is taken. It published the
    /// last one long before it would sleep, so this cannot miss it. Where ringing is nearly free,
    /// looking at that cell, which the sender may be writing to, would cost more.
    fn may_be_awaited(&self) -> bool {
        if self.peer_bell.is_light() {
            return true;
        }
        let last = self.rx_frame.wrapping_add(LAST_CELL);
        self.rx.cell(last).turn.load(Ordering::Relaxed) == last.wrapping_add(1)
    }

    /// Gives the current cell back to the sender.
    fn free_frame(&mut self) {
        self.rx_frame = self.rx_frame.wrapping_add(1);
        self.rx.freed().store(self.rx_frame, Ordering::Release);
    }

    /// Notes that `len` more bytes of the message were taken; ends the frame or the message.
    fn took(&mut self, len: usize, frame_len: usize) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.taken += len;
        incoming.in_frame += len;
        let whole = incoming.taken as u64 >= incoming.head.bytes;
        if incoming.in_frame == frame_len {
            incoming.in_frame = 0;
            let awaited = incoming.remote.is_some() || self.may_be_awaited();
            self.free_frame();
            if awaited {
                self.peer_bell.ring();
            }
        }
        if whole {
            self.incoming = None;
        }
    }

    /// Hands the next piece that came through a slot or a cell to `take`.
    fn pull_frame(
        &mut self,
        limit: usize,
        take: &mut dyn FnMut(*const u8, usize),
    ) -> Result<usize, LinkError> {
        let Some(incoming) = self.incoming else { return Ok(0) };
        let Some((kind, frame_len)) = self.frame() else { return Ok(0) };
        let most = if kind == INLINE { INLINE_BYTES } else { self.rx.geometry.slot_bytes };
        let left = usize::try_from(incoming.head.bytes).unwrap_or(usize::MAX) - incoming.taken;
        let rest = frame_len.checked_sub(incoming.in_frame).filter(|rest| *rest > 0);
        let Some(rest) = rest.filter(|rest| kind <= SLOT && frame_len <= most && *rest <= left)
        else {
            return Err(LinkError::Protocol("a piece of a message with an impossible length"));
        };
        let len = rest.min(limit);
        if kind == INLINE {
            let cell = self.rx.cell(self.rx_frame);
            let mut inline = [0_u8; INLINE_BYTES];
            for (word, chunk) in cell.words[4..].iter().zip(inline.chunks_exact_mut(8)) {
                chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            }
            take(inline[incoming.in_frame..].as_ptr(), len);
        } else {
            // SAFETY: `in_frame + len <= frame_len <= slot_bytes`, so the pointer is inside the slot.
            take(unsafe { self.rx.slot(self.rx_frame).add(incoming.in_frame) }, len);
        }
        self.took(len, frame_len);
        Ok(len)
    }

    /// Reads one piece of the sender's own buffer: `read(address, len)` does it.
    fn pull_remote(
        &mut self,
        from: u64,
        len: usize,
        read: &mut dyn FnMut(RemoteRead, u64, usize) -> bool,
    ) -> Result<usize, LinkError> {
        let Some(incoming) = self.incoming else { return Ok(0) };
        let ticket = self.rx_frame;
        let all = incoming.taken as u64 + len as u64 >= incoming.head.bytes;
        let back = || LinkError::Lost("took its buffer back before it was read".to_owned());
        if !self.rx.offer().claim(ticket) {
            return Err(back());
        }
        let good = read(self.read, from.wrapping_add(incoming.taken as u64), len);
        if !self.rx.offer().release(ticket, all && good) {
            return Err(back());
        }
        if !good {
            return Err(LinkError::Lost("has memory that cannot be read any more".to_owned()));
        }
        self.took(len, usize::try_from(incoming.head.bytes).unwrap_or(usize::MAX));
        Ok(len)
    }
}

impl Link for MemoryLink {
    fn name(&self) -> &'static str {
        match self.read {
            RemoteRead::No => "SHM/direct",
            RemoteRead::Direct => "P2P/direct pointer",
            RemoteRead::Cma(_) => "P2P/CMA",
        }
    }

    unsafe fn push(&mut self, out: &mut Outgoing) -> Result<bool, LinkError> {
        if out.phase == PHASE_OFFERED {
            let Some(ticket) = self.offered else { return Ok(false) };
            out.done = self.tx.offer().is_done(ticket);
            if out.done {
                self.offered = None;
            }
            return Ok(out.done);
        }
        let bytes = usize::try_from(out.head.bytes).unwrap_or(usize::MAX);
        let mut pushed = 0;
        while !out.done && out.phase != PHASE_OFFERED && pushed < SLOTS_PER_PUSH && self.may_send()
        {
            if out.phase == 0 {
                // SAFETY: passed on from the caller.
                unsafe { self.push_first(out) };
            } else {
                // SAFETY: passed on from the caller.
                unsafe { self.push_slot(out, bytes) };
            }
            pushed += 1;
        }
        if pushed > 0 {
            self.peer_bell.ring();
            self.warm_next();
        }
        Ok(pushed > 0)
    }

    fn head(&mut self) -> Result<Option<Head>, LinkError> {
        if let Some(incoming) = &self.incoming {
            return Ok(Some(incoming.head));
        }
        let Some((kind, len)) = self.frame() else { return Ok(None) };
        let cell = self.rx.cell(self.rx_frame);
        let head = read_head(cell, kind, len);
        let remote = (kind == REMOTE).then(|| cell.words[5].load(Ordering::Relaxed));
        if kind > REMOTE || (kind != INLINE && head.bytes <= INLINE_BYTES as u64) {
            return Err(LinkError::Protocol("a message with an impossible first frame"));
        }
        if remote.is_some() && self.read == RemoteRead::No {
            return Err(LinkError::Protocol(
                "a buffer to be read in place, which this rank cannot",
            ));
        }
        self.incoming = Some(Incoming { head, taken: 0, in_frame: 0, remote });
        Ok(Some(head))
    }

    fn skip_empty(&mut self) {
        if self.incoming.take().is_some_and(|incoming| incoming.head.bytes == 0) {
            let awaited = self.may_be_awaited();
            self.free_frame();
            if awaited {
                self.peer_bell.ring();
            }
        }
    }

    fn pull(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> Result<usize, LinkError> {
        let Some(incoming) = self.incoming else { return Ok(0) };
        let Some(from) = incoming.remote else {
            return self.pull_frame(limit, &mut |piece, len| {
                // SAFETY: `pull_frame` gives a piece that is valid for `len` bytes during the call.
                // In a slot, the sender does not write it before the cell is freed, which happens
                // afterwards; a peer that breaks this only spoils the data of its own message.
                sink(unsafe { core::slice::from_raw_parts(piece, len) });
            });
        };
        let left = usize::try_from(incoming.head.bytes).unwrap_or(usize::MAX) - incoming.taken;
        let len = left.min(limit).min(PIECE_BYTES);
        let mut bounce = core::mem::take(&mut self.bounce);
        let taken = self.pull_remote(from, len, &mut |read, address, len| {
            if read == RemoteRead::Direct {
                let Ok(address) = usize::try_from(address) else { return false };
                let piece = core::ptr::with_exposed_provenance::<u8>(address);
                // SAFETY: the offer is claimed: the sender, a thread of this process, keeps its
                // buffer valid and unwritten until it is released after this call.
                sink(unsafe { core::slice::from_raw_parts(piece, len) });
                return true;
            }
            bounce.resize(PIECE_BYTES, 0);
            // SAFETY: the bounce buffer has PIECE_BYTES >= len bytes.
            let good = unsafe { read.read(address, bounce.as_mut_ptr(), len) };
            if good {
                sink(&bounce[..len]);
            }
            good
        });
        self.bounce = bounce;
        taken
    }

    unsafe fn pull_into(&mut self, into: *mut u8, limit: usize) -> Result<usize, LinkError> {
        let Some(incoming) = self.incoming else { return Ok(0) };
        if let Some(from) = incoming.remote {
            let left = usize::try_from(incoming.head.bytes).unwrap_or(usize::MAX) - incoming.taken;
            let len = left.min(limit).min(PIECE_BYTES * 8);
            return self.pull_remote(from, len, &mut |read, address, len| {
                // SAFETY: `into` is valid for writes of `limit >= len` bytes by this function's
                // contract; the offer is claimed, so a thread's buffer stays valid.
                unsafe { read.read(address, into, len) }
            });
        }
        let mut all = 0;
        while all < limit && self.incoming.is_some() {
            let len = self.pull_frame(limit - all, &mut |piece, len| {
                // SAFETY: the piece is valid for `len` bytes, `into` for the `limit - all >= len`
                // that are left, and they do not overlap: the region is nobody's buffer.
                unsafe { core::ptr::copy_nonoverlapping(piece, into.add(all), len) };
            })?;
            if len == 0 {
                break;
            }
            all += len;
        }
        Ok(all)
    }

    fn cancel(&mut self) {
        if let Some(ticket) = self.offered.take() {
            self.tx.offer().cancel(ticket, self.read == RemoteRead::Direct);
        }
        self.rx.reader().store(0, Ordering::Release);
        self.peer_bell.ring();
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        // Whoever still reads a buffer offered here must not believe it.
        if let Some(ticket) = self.offered.take() {
            self.tx.offer().cancel(ticket, self.read == RemoteRead::Direct);
        }
    }
}

/// The first `left` bytes at `data`, at most 8, as a little-endian word with zeros above.
///
/// Not by a copy through the stack: loading a word from bytes just stored waits until all earlier
/// stores are done, those to the peer's cache lines among them.
///
/// # Safety
/// `data` is valid for reads of `left` bytes, and `left > 0`.
unsafe fn word_of(data: *const u8, left: usize) -> u64 {
    // SAFETY: every read below lies inside the `left` bytes, for which the caller vouches; any
    // bits are a valid integer, and no alignment is assumed.
    unsafe {
        let byte = |at: usize| u64::from(data.add(at).read()) << (8 * at);
        let half = |at: usize| {
            u64::from(u32::from_le_bytes(data.add(at).cast::<[u8; 4]>().read())) << (8 * at)
        };
        match left {
            8.. => u64::from_le_bytes(data.cast::<[u8; 8]>().read()),
            // The two overlap in equal bits.
            4..8 => half(0) | half(left - 4),
            _ => byte(0) | byte(left / 2) | byte(left - 1),
        }
    }
}

fn write_head(cell: &Cell, head: &Head) {
    let desc = &head.desc;
    let small = u32::from_le_bytes([desc.kind, desc.dtype, desc.op, desc.flags]);
    cell.words[0].store(u64::from(desc.seq) | (u64::from(small) << 32), Ordering::Relaxed);
    cell.words[1].store(u64::from(desc.root), Ordering::Relaxed);
    cell.words[2].store(desc.count, Ordering::Relaxed);
    cell.words[3].store(head.factor.to_bits(), Ordering::Relaxed);
}

#[expect(clippy::cast_possible_truncation, reason = "each cast takes the half it names")]
fn read_head(cell: &Cell, kind: u32, len: usize) -> Head {
    let word = |at: usize| cell.words[at].load(Ordering::Relaxed);
    let [op_kind, dtype, op, flags] = ((word(0) >> 32) as u32).to_le_bytes();
    let (seq, root) = (word(0) as u32, word(1) as u32);
    let desc = OpDesc { seq, kind: op_kind, dtype, op, flags, root, count: word(2) };
    let bytes = if kind == INLINE { len as u64 } else { word(4) };
    Head { desc, factor: f64::from_bits(word(3)), bytes }
}

#[cfg(test)]
mod tests;
