//! A reduction over contributions that arrive from several ranks.

#![expect(unsafe_code, reason = "folds into buffers given by address")]

use crate::kernel::Fold;
use crate::transport::Head;
use crate::transport::Link;
use crate::transport::LinkError;

/// Elements folded at a time when there are more than two contributions: their accumulators and
/// one incoming piece stay in the cache.
const CHUNK_ELEMENTS: usize = 16 << 10;

/// The contributions, in rank order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This rank's own.
    Own,
    /// That of a peer.
    Peer(usize),
}

/// The lists of a fold, kept from one to the next so that a small one allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) sources: Vec<Source>,
    pub(super) heads: Vec<Option<Head>>,
}

/// A fold in progress.
#[derive(Debug)]
pub(super) struct FoldRun {
    pub(super) fold: Fold,
    /// Result.
    pub(super) into: *mut u8,
    /// This rank's contribution; may be `into`.
    pub(super) own: *const u8,
    pub(super) own_factor: f64,
    pub(super) elem_bytes: usize,
    /// Elements in all.
    pub(super) count: usize,
    pub(super) sources: Vec<Source>,
    /// What each peer's message said, by place in `sources`.
    pub(super) heads: Vec<Option<Head>>,
    /// Elements whose result is final.
    folded: usize,
    /// The place in `sources` that is folded now, and how many bytes of the chunk it has given.
    place: usize,
    given_bytes: usize,
}

impl FoldRun {
    /// A fold of `count` elements; `lists` has the sources, and room for their heads.
    pub(super) fn new(
        fold: Fold,
        into: *mut u8,
        own: *const u8,
        own_factor: f64,
        elem_bytes: usize,
        count: usize,
        lists: Lists,
    ) -> Self {
        let Lists { sources, mut heads } = lists;
        heads.clear();
        heads.resize(sources.len(), None);
        Self {
            fold,
            into,
            own,
            own_factor,
            elem_bytes,
            count,
            sources,
            heads,
            folded: 0,
            place: 0,
            given_bytes: 0,
        }
    }

    /// Its lists, for the next fold.
    pub(super) fn into_lists(self) -> Lists {
        Lists { sources: self.sources, heads: self.heads }
    }

    /// Whether every element is final and every message was begun.
    pub(super) fn is_done(&self) -> bool {
        self.folded == self.count && self.heads_known()
    }

    /// Whether the messages of all peers have begun; only then is anything folded.
    pub(super) fn heads_known(&self) -> bool {
        let known =
            |(source, head): (&Source, &Option<Head>)| *source == Source::Own || head.is_some();
        self.sources.iter().zip(&self.heads).all(known)
    }

    fn factor(&self, place: usize) -> f64 {
        match self.sources[place] {
            Source::Own => self.own_factor,
            Source::Peer(_) => self.heads[place].map_or(1.0, |head| head.factor),
        }
    }

    /// Folds what is here; says whether anything moved.
    ///
    /// # Safety
    /// `into` is valid for writes and `own` for reads of `count` elements; they are the same range
    /// or do not overlap; nobody else uses `into`, nobody writes `own`.
    pub(super) unsafe fn progress(
        &mut self,
        links: &mut [Option<Box<dyn Link>>],
        acc: &mut Vec<u8>,
    ) -> Result<bool, (usize, LinkError)> {
        if self.folded == self.count || !self.heads_known() {
            return Ok(false);
        }
        match self.sources[..] {
            // SAFETY: passed on from the caller.
            [Source::Own, Source::Peer(peer)] => unsafe { self.pair(peer, false, links) },
            // SAFETY: passed on from the caller.
            [Source::Peer(peer), Source::Own] => unsafe { self.pair(peer, true, links) },
            // SAFETY: passed on from the caller.
            _ => unsafe { self.many(links, acc) },
        }
    }

    /// Two contributions: each piece is folded straight from where the link has it.
    ///
    /// # Safety
    /// As [`FoldRun::progress`].
    unsafe fn pair(
        &mut self,
        peer: usize,
        peer_first: bool,
        links: &mut [Option<Box<dyn Link>>],
    ) -> Result<bool, (usize, LinkError)> {
        let factors = [self.factor(0), self.factor(1)];
        let (fold, own, into, elem_bytes) = (self.fold, self.own, self.into, self.elem_bytes);
        let in_place = core::ptr::eq(own, into);
        let total_bytes = self.count * elem_bytes;
        let mut at = self.folded * elem_bytes;
        let Some(link) = links.get_mut(peer).and_then(Option::as_mut) else { return Ok(false) };
        let limit = total_bytes - at;
        let taken = link.pull(limit, &mut |piece| {
            let len = piece.len().min(total_bytes - at);
            // SAFETY: `at + len <= total_bytes`, for which `into` is valid and exclusively ours by
            // the caller's contract; `piece` is the link's memory, never the result's.
            let out = unsafe { core::slice::from_raw_parts_mut(into.add(at), len) };
            let piece = &piece[..len];
            match (in_place, peer_first) {
                (true, false) => fold.pair_left(out, piece, factors),
                (true, true) => fold.pair_right(piece, out, factors),
                (false, first) => {
                    // SAFETY: `own` is valid for reads of `total_bytes` and does not overlap
                    // `into` when it is not the same, by the caller's contract.
                    let own = unsafe { core::slice::from_raw_parts(own.add(at), len) };
                    if first {
                        fold.pair(out, piece, own, factors);
                    } else {
                        fold.pair(out, own, piece, factors);
                    }
                }
            }
            at += len;
        });
        let taken = taken.map_err(|error| (peer, error))?;
        self.folded = at / elem_bytes;
        Ok(taken > 0)
    }

    /// Any number of contributions, chunk by chunk, in rank order.
    ///
    /// # Safety
    /// As [`FoldRun::progress`].
    unsafe fn many(
        &mut self,
        links: &mut [Option<Box<dyn Link>>],
        acc: &mut Vec<u8>,
    ) -> Result<bool, (usize, LinkError)> {
        let mut moved = false;
        acc.resize(CHUNK_ELEMENTS * 8, 0);
        while self.folded < self.count {
            let chunk = (self.count - self.folded).min(CHUNK_ELEMENTS);
            while self.place < self.sources.len() {
                // SAFETY: passed on from the caller.
                let progress = unsafe { self.contribution(chunk, links, acc) }?;
                moved |= progress;
                if self.given_bytes < chunk * self.elem_bytes {
                    return Ok(moved);
                }
                self.place += 1;
                self.given_bytes = 0;
            }
            let from = self.folded * self.elem_bytes;
            // SAFETY: the chunk lies within `count` elements, for which `into` is valid and ours.
            let out = unsafe {
                core::slice::from_raw_parts_mut(self.into.add(from), chunk * self.elem_bytes)
            };
            self.fold.finish(out, &acc[..chunk * self.fold.acc_bytes()]);
            self.folded += chunk;
            self.place = 0;
            moved = true;
        }
        Ok(moved)
    }

    /// Adds what is here of the current contribution to the accumulators of the chunk.
    ///
    /// # Safety
    /// As [`FoldRun::progress`].
    unsafe fn contribution(
        &mut self,
        chunk: usize,
        links: &mut [Option<Box<dyn Link>>],
        acc: &mut [u8],
    ) -> Result<bool, (usize, LinkError)> {
        let (fold, place, elem_bytes) = (self.fold, self.place, self.elem_bytes);
        let factor = self.factor(place);
        let acc_bytes = fold.acc_bytes();
        let mut given = self.given_bytes;
        let mut take = |piece: &[u8]| {
            let (first, count) = (given / elem_bytes, piece.len() / elem_bytes);
            let acc = &mut acc[first * acc_bytes..(first + count) * acc_bytes];
            if place == 0 {
                fold.start(acc, piece, factor);
            } else {
                fold.add(acc, piece, factor);
            }
            given += piece.len();
        };
        let limit = chunk * elem_bytes - self.given_bytes;
        let mut moved = true;
        match self.sources[place] {
            Source::Own => {
                let from = self.folded * elem_bytes + self.given_bytes;
                // SAFETY: the range lies within `count` elements, for which `own` is valid; nobody
                // writes it now: in place, this chunk's result is only written after its fold.
                take(unsafe { core::slice::from_raw_parts(self.own.add(from), limit) });
            }
            Source::Peer(peer) => {
                let Some(link) = links.get_mut(peer).and_then(Option::as_mut) else {
                    return Ok(false);
                };
                let mut left = limit;
                while left > 0 {
                    let taken = link.pull(left, &mut take).map_err(|error| (peer, error))?;
                    if taken == 0 {
                        break;
                    }
                    left -= taken.min(left);
                }
                moved = left < limit;
            }
        }
        self.given_bytes = given;
        Ok(moved)
    }
}

/// Folds local slices, in the order given.
///
/// # Safety
/// `into` is valid for writes of `count` elements, each part for reads; a part is `into` itself or
/// does not overlap it.
pub(super) unsafe fn fold_local(
    fold: Fold,
    into: *mut u8,
    parts: &[(*const u8, f64)],
    elem_bytes: usize,
    count: usize,
    acc: &mut Vec<u8>,
) {
    acc.resize(CHUNK_ELEMENTS * 8, 0);
    let mut folded = 0;
    while folded < count {
        let chunk = (count - folded).min(CHUNK_ELEMENTS);
        let (from, bytes) = (folded * elem_bytes, chunk * elem_bytes);
        let acc = &mut acc[..chunk * fold.acc_bytes()];
        for (place, (part, factor)) in parts.iter().enumerate() {
            // SAFETY: the range lies within `count` elements, for which each part is valid.
            let part = unsafe { core::slice::from_raw_parts(part.add(from), bytes) };
            if place == 0 {
                fold.start(acc, part, *factor);
            } else {
                fold.add(acc, part, *factor);
            }
        }
        // SAFETY: the range lies within `count` elements, for which `into` is valid; the parts of
        // this chunk are read no more.
        let out = unsafe { core::slice::from_raw_parts_mut(into.add(from), bytes) };
        fold.finish(out, acc);
        folded += chunk;
    }
}
