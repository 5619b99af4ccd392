//! Every rank folds its own chunk, straight from all inputs.

use super::Action;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::index;
use super::parts::Blocks;
use crate::desc::Kind;

/// `reduce_scatter` and `reduce_scatter_v`.
pub(super) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    let world_size = shape.member.world_size;
    let even = shape.kind == Kind::ReduceScatter;
    let blocks = if even { Blocks::Even(shape.count) } else { Blocks::listed(&shape.send_counts) };
    let place = blocks.slice(Buf::Recv, shape.member.rank);
    let into = if shape.in_place { place } else { Slice::new(Buf::Recv, 0, place.count) };
    if even && tuning.relays(world_size, shape.bytes(), shape.factor_per_rank) {
        return index::reduce_scatter(shape, into);
    }
    Schedule::single("flat", chunks(shape, &blocks, into))
}

/// The step in which every rank sends every other one its chunk and folds its own into `into`.
pub(super) fn chunks(shape: &Shape, blocks: &Blocks, into: Slice) -> Step {
    let peers = shape.member.world_size - 1;
    let mut step = Step::with_room(peers + 1);
    for distance in 1..=peers {
        let to = shape.ahead(distance);
        step.send(to, blocks.slice(shape.source(), to));
    }
    let own = blocks.slice(shape.source(), shape.member.rank);
    step.actions.push(Action::Fold { into, own, from: shape.others() });
    step
}
