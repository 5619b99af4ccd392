//! A block of its own from every rank to every rank.

use super::Action;
use super::Algorithm;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::index;
use super::parts::Blocks;
use crate::desc::Kind;

/// `all_to_all` and `all_to_all_v`. A rank of the latter knows only its own counts, so nothing
/// but the group's size may decide there.
pub(super) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    let ranks = shape.member.world_size;
    let even = shape.kind == Kind::AllToAll;
    if even && tuning.relays(ranks, shape.bytes(), false) {
        return index::all_to_all(shape);
    }
    let width = match tuning.algorithm {
        Some(Algorithm::Flat) => ranks - 1,
        Some(Algorithm::Ring) => 1,
        _ if ranks <= tuning.window_ranks => ranks - 1,
        _ => tuning.window_ranks.max(1),
    };
    let (sent, received) = if even {
        (Blocks::Even(shape.count), Blocks::Even(shape.count))
    } else {
        (Blocks::listed(&shape.send_counts), Blocks::listed(&shape.recv_counts))
    };
    pairwise(shape, width, &sent, &received)
}

/// In each step a rank sends to the `width` next ranks ahead and receives from as many behind.
fn pairwise(shape: &Shape, width: usize, sent: &Blocks, received: &Blocks) -> Schedule {
    let (rank, ranks) = (shape.member.rank, shape.member.world_size);
    let name = if width >= ranks - 1 { "flat" } else { "pairwise" };
    let mut schedule = Schedule::named(name, (ranks - 1).div_ceil(width));
    let mut source = Buf::Send;
    let mut begin = Step::default();
    if shape.in_place {
        source = save(shape, sent, received, &mut schedule, &mut begin);
    } else {
        begin.copy(sent.slice(source, rank), received.slice(Buf::Recv, rank));
    }
    for first in (1..ranks).step_by(width) {
        let distances = first..ranks.min(first + width);
        let mut step = core::mem::take(&mut begin);
        step.actions.reserve_exact(2 * distances.len());
        for to in distances.clone().map(|distance| shape.ahead(distance)) {
            step.send(to, sent.slice(source, to));
        }
        for from in distances.map(|distance| shape.behind(distance)) {
            step.recv(from, received.slice(Buf::Recv, from));
        }
        schedule.push(step);
    }
    schedule
}

/// Copies the input out of the way of the output; this rank's block moves to its new place.
fn save(
    shape: &Shape,
    sent: &Blocks,
    received: &Blocks,
    schedule: &mut Schedule,
    begin: &mut Step,
) -> Buf {
    let (rank, ranks) = (shape.member.rank, shape.member.world_size);
    schedule.reserve(sent.start(ranks));
    let place = received.slice(Buf::Recv, rank);
    if sent.slice(Buf::Recv, rank) == place {
        begin.copy(sent.range(Buf::Recv, 0, rank), sent.range(Buf::Scratch, 0, rank));
        begin.copy(
            sent.range(Buf::Recv, rank + 1, ranks),
            sent.range(Buf::Scratch, rank + 1, ranks),
        );
    } else {
        begin.copy(sent.range(Buf::Recv, 0, ranks), sent.range(Buf::Scratch, 0, ranks));
        let own = sent.slice(Buf::Scratch, rank);
        if own.count > 0 {
            begin
                .actions
                .push(Action::Copy { from: own, into: Slice { count: own.count, ..place } });
        }
    }
    Buf::Scratch
}
