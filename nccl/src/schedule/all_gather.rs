//! Every rank's block to every rank.

use super::Algorithm;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::parts::Blocks;
use super::parts::Circle;
use super::parts::doubling;
use crate::desc::Kind;

/// `all_gather` and `all_gather_v`.
pub(super) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    let circle = Circle::everybody(shape);
    let blocks = match shape.kind {
        Kind::AllGatherV => Blocks::listed(&shape.recv_counts),
        _ => Blocks::Even(shape.count),
    };
    let place = blocks.slice(Buf::Recv, circle.me);
    let own = if shape.in_place { place } else { Slice::new(Buf::Send, 0, place.count) };
    let total_bytes = blocks.start(circle.len).saturating_mul(shape.elem_bytes);
    let algorithm = tuning.gathering(circle.len, total_bytes);
    let mut schedule = Schedule::named(algorithm.name(), 1);
    append(&mut schedule, algorithm, &circle, &blocks, own);
    schedule
}

/// Appends the steps by which the ranks of a circle gather their blocks in `Recv`. This rank's
/// block is read from `own`, and copied to its place if it is not there.
pub(super) fn append(
    schedule: &mut Schedule,
    algorithm: Algorithm,
    circle: &Circle,
    blocks: &Blocks,
    own: Slice,
) {
    match algorithm {
        Algorithm::Bruck | Algorithm::Tree => bruck(schedule, circle, blocks, own),
        Algorithm::Ring => ring(schedule, circle, blocks, own),
        Algorithm::Flat | Algorithm::Direct => flat(schedule, circle, blocks, own),
    }
}

/// One step: to all, from all. Each rank begins with the next one, so that the load spreads.
fn flat(schedule: &mut Schedule, circle: &Circle, blocks: &Blocks, own: Slice) {
    let mut step = Step::with_room(2 * circle.len - 1);
    step.copy(own, blocks.slice(Buf::Recv, circle.me));
    for distance in 1..circle.len {
        step.send(circle.rank(circle.ahead(distance)), own);
    }
    for distance in 1..circle.len {
        let peer = circle.behind(distance);
        step.recv(circle.rank(peer), blocks.slice(Buf::Recv, peer));
    }
    schedule.push(step);
}

/// Each rank passes on what it received the step before; every block goes around once.
fn ring(schedule: &mut Schedule, circle: &Circle, blocks: &Blocks, own: Slice) {
    schedule.steps.reserve(circle.len - 1);
    for distance in 1..circle.len {
        let mut step = Step::with_room(3);
        if distance == 1 {
            step.copy(own, blocks.slice(Buf::Recv, circle.me));
        }
        let sent = circle.behind(distance - 1);
        let from = if distance == 1 { own } else { blocks.slice(Buf::Recv, sent) };
        step.send(circle.rank(circle.ahead(1)), from);
        let received = circle.behind(distance);
        step.recv(circle.rank(circle.behind(1)), blocks.slice(Buf::Recv, received));
        schedule.push(step);
    }
}

/// Doubling distances: collects the blocks in scratch, this rank's first, then turns them round.
fn bruck(schedule: &mut Schedule, circle: &Circle, blocks: &Blocks, own: Slice) {
    let turned = collect(schedule, circle, blocks, own);
    let mut step = Step::with_room(2);
    let behind = circle.len - circle.me;
    step.copy(turned.range(0, behind), blocks.range(Buf::Recv, circle.me, circle.len));
    step.copy(turned.range(behind, circle.len), blocks.range(Buf::Recv, 0, circle.me));
    schedule.push(step);
}

/// Blocks in scratch, turned so that this rank's is the first.
pub(super) struct Turned {
    base: usize,
    starts: Vec<usize>,
}

impl Turned {
    /// The blocks `first..end`, counted from this rank's.
    pub(super) fn range(&self, first: usize, end: usize) -> Slice {
        let start = |index: usize| self.starts.get(index).copied().unwrap_or(0);
        Slice::new(Buf::Scratch, self.base + start(first), start(end) - start(first))
    }
}

/// Appends the rounds that bring all blocks of a circle into scratch (Bruck et al. 1997,
/// concatenation): in the round of distance d a rank has the d blocks from its own on, and gets
/// the next d from the rank d ahead.
pub(super) fn collect(
    schedule: &mut Schedule,
    circle: &Circle,
    blocks: &Blocks,
    own: Slice,
) -> Turned {
    let mut starts = Vec::with_capacity(circle.len + 1);
    let mut at = 0;
    starts.push(at);
    for distance in 0..circle.len {
        let index = circle.ahead(distance);
        at += blocks.count(index, index + 1);
        starts.push(at);
    }
    let turned = Turned { base: schedule.reserve(at), starts };
    for distance in doubling(circle.len) {
        let moved = distance.min(circle.len - distance);
        let mut step = Step::with_room(3);
        if distance == 1 {
            step.copy(own, turned.range(0, 1));
        }
        step.send(circle.rank(circle.behind(distance)), turned.range(0, moved));
        step.recv(circle.rank(circle.ahead(distance)), turned.range(distance, distance + moved));
        schedule.push(step);
    }
    turned
}
