//! The root's buffer to every rank.

use super::Algorithm;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::agree;
use super::agree::Flow;
use super::all_gather;
use super::parts::Blocks;
use super::parts::Circle;
use super::parts::doubling;

/// `broadcast`.
pub(super) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    match choose(shape, tuning) {
        Algorithm::Flat => {
            let data = |_| source(shape);
            agree::flat(shape, Flow::FromRoot, begin(shape), data, None)
        }
        Algorithm::Tree | Algorithm::Bruck => {
            let mut schedule = Schedule::named("tree", 0);
            let into = shape.whole(Buf::Recv);
            append_tree(&mut schedule, shape, shape.root, source(shape), into);
            schedule
        }
        Algorithm::Ring | Algorithm::Direct => scatter_gather(shape, tuning),
    }
}

fn choose(shape: &Shape, tuning: &Tuning) -> Algorithm {
    let (ranks, bytes) = (shape.member.world_size, shape.bytes());
    let flat_bytes = match ranks {
        // The one receiver needs everything from the root in any case.
        ..=2 => usize::MAX,
        _ if ranks > tuning.flat_ranks => 0,
        // Every receiver reads the root's memory by itself, at the same time.
        _ if tuning.single_copy => usize::MAX,
        3..=4 => tuning.broadcast_flat4_bytes,
        _ => tuning.broadcast_flat_bytes,
    };
    match tuning.algorithm {
        Some(forced) => forced,
        None if ranks <= tuning.flat_ranks && bytes <= flat_bytes => Algorithm::Flat,
        None if ranks > tuning.flat_ranks && bytes <= tuning.broadcast_tree_bytes => {
            Algorithm::Tree
        }
        None => Algorithm::Direct,
    }
}

/// Where this rank's outgoing data lies: on the root its input, on the others what they received.
fn source(shape: &Shape) -> Slice {
    let at_root = shape.member.rank == shape.root;
    shape.whole(if at_root { shape.source() } else { Buf::Recv })
}

/// The root's own result.
fn begin(shape: &Shape) -> Step {
    let mut step = Step::default();
    if shape.member.rank == shape.root {
        step.copy(source(shape), shape.whole(Buf::Recv));
    }
    step
}

/// Appends a binomial tree over doubling distances: in the round of distance d the d ranks from
/// the root on have the data, and send it d further. The other ranks send an empty message the
/// same way, so the rounds are those of the dissemination barrier and all hear from all.
pub(super) fn append_tree(
    schedule: &mut Schedule,
    shape: &Shape,
    root: usize,
    from: Slice,
    into: Slice,
) {
    let ranks = shape.member.world_size;
    let place = (shape.member.rank + ranks - root) % ranks;
    let holds = |place: usize, distance: usize| place < distance && place + distance < ranks;
    for distance in doubling(ranks) {
        let mut step = Step::with_room(3);
        if place == 0 && distance == 1 {
            step.copy(from, into);
        }
        let sent = if holds(place, distance) { from } else { Slice::EMPTY };
        step.send(shape.ahead(distance), sent);
        let before = (place + ranks - distance) % ranks;
        let received = if holds(before, distance) { into } else { Slice::EMPTY };
        step.recv(shape.behind(distance), received);
        schedule.push(step);
    }
}

/// The root sends each other rank one chunk, and these gather them (van de Geijn). The root
/// takes no part in the gathering: it has everything, and has heard from all in the first step.
fn scatter_gather(shape: &Shape, tuning: &Tuning) -> Schedule {
    let circle = Circle::without_root(shape);
    let gathering = tuning.gathering(circle.len, shape.bytes());
    let name = match gathering {
        Algorithm::Ring => "scatter+ring",
        Algorithm::Bruck => "scatter+bruck",
        _ => "scatter+flat",
    };
    let blocks = Blocks::split(shape, circle.len);
    let mut schedule = Schedule::named(name, 2);
    let mut step = begin(shape);
    if shape.member.rank == shape.root {
        step.actions.reserve_exact(2 * circle.len);
        for index in 0..circle.len {
            step.send(circle.rank(index), blocks.slice(shape.source(), index));
        }
        for index in 0..circle.len {
            step.recv(circle.rank(index), Slice::EMPTY);
        }
        schedule.push(step);
    } else {
        let own = blocks.slice(Buf::Recv, circle.me);
        step.send(shape.root, Slice::EMPTY);
        step.recv(shape.root, own);
        schedule.push(step);
        all_gather::append(&mut schedule, gathering, &circle, &blocks, own);
    }
    schedule
}
