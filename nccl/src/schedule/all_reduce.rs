//! Every rank gets the fold of all inputs.

use super::Action;
use super::Algorithm;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::all_gather;
use super::broadcast;
use super::parts::Blocks;
use super::parts::Circle;
use super::reduce_scatter;
use super::tuning::SCRATCH_LIMIT_BYTES;

/// `all_reduce`.
pub(super) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    match choose(shape, tuning) {
        Algorithm::Flat => flat(shape),
        Algorithm::Bruck => bruck(shape),
        Algorithm::Tree => tree(shape),
        Algorithm::Ring | Algorithm::Direct => direct(shape, tuning),
    }
}

fn choose(shape: &Shape, tuning: &Tuning) -> Algorithm {
    let ranks = shape.member.world_size;
    let received_bytes = shape.bytes().saturating_mul(ranks - 1);
    match tuning.algorithm {
        // Relayed inputs would lose their ranks' factors.
        Some(Algorithm::Bruck) if shape.factor_per_rank => Algorithm::Flat,
        Some(Algorithm::Bruck) if received_bytes > SCRATCH_LIMIT_BYTES => Algorithm::Direct,
        Some(forced) => forced,
        None if ranks <= tuning.flat_ranks => {
            let small = received_bytes <= tuning.all_reduce_flat_bytes;
            if small { Algorithm::Flat } else { Algorithm::Direct }
        }
        None if received_bytes > tuning.all_reduce_bruck_bytes => Algorithm::Direct,
        None if shape.factor_per_rank => Algorithm::Flat,
        None => Algorithm::Bruck,
    }
}

/// One step: every input to every rank, and every rank folds.
fn flat(shape: &Shape) -> Schedule {
    let peers = shape.member.world_size - 1;
    let into = shape.whole(Buf::Recv);
    let mut schedule = Schedule::named("flat", 1);
    let mut step = Step::with_room(peers + 2);
    let mut sent = shape.whole(shape.source());
    if shape.in_place {
        // The result may be written before the input has left: send a copy.
        sent = Slice::new(Buf::Scratch, schedule.reserve(shape.count), shape.count);
        step.copy(into, sent);
    }
    for distance in 1..=peers {
        step.send(shape.ahead(distance), sent);
    }
    let own = shape.whole(shape.source());
    step.actions.push(Action::Fold { into, own, from: shape.others() });
    schedule.push(step);
    schedule
}

/// The inputs are collected over doubling distances, then every rank folds.
fn bruck(shape: &Shape) -> Schedule {
    let circle = Circle::everybody(shape);
    let (ranks, me) = (circle.len, circle.me);
    let mut schedule = Schedule::named("bruck", ranks.ilog2() as usize + 2);
    let own = shape.whole(shape.source());
    let turned = all_gather::collect(&mut schedule, &circle, &Blocks::Even(shape.count), own);
    let part = |rank: usize| {
        let index = (rank + ranks - me) % ranks;
        turned.range(index, index + 1)
    };
    let mut step = Step::with_room(1);
    if shape.count > 0 {
        let parts = (0..ranks).map(part).collect();
        step.actions.push(Action::FoldLocal { into: shape.whole(Buf::Recv), parts });
    }
    schedule.push(step);
    schedule
}

/// Rank 0 folds, then a tree spreads the result.
fn tree(shape: &Shape) -> Schedule {
    const TOP: usize = 0;
    let mut schedule = Schedule::named("tree", shape.member.world_size.ilog2() as usize + 2);
    let mut step = Step::with_room(1);
    let own = shape.whole(shape.source());
    let into = shape.whole(Buf::Recv);
    if shape.member.rank == TOP {
        step.actions.push(Action::Fold { into, own, from: shape.others() });
    } else {
        step.send(TOP, own);
    }
    schedule.push(step);
    broadcast::append_tree(&mut schedule, shape, TOP, into, into);
    schedule
}

/// Every rank folds its chunk, then the chunks are gathered.
fn direct(shape: &Shape, tuning: &Tuning) -> Schedule {
    let circle = Circle::everybody(shape);
    let gathering = tuning.gathering(circle.len, shape.bytes());
    let name = match gathering {
        Algorithm::Ring => "direct+ring",
        Algorithm::Bruck => "direct+bruck",
        _ => "direct",
    };
    let mut schedule = Schedule::named(name, 2);
    let blocks = Blocks::split(shape, circle.len);
    let own = blocks.slice(Buf::Recv, circle.me);
    schedule.push(reduce_scatter::chunks(shape, &blocks, own));
    all_gather::append(&mut schedule, gathering, &circle, &blocks, own);
    schedule
}
