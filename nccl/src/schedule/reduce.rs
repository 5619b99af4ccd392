//! The root gets the fold of all inputs.

use super::Action;
use super::Algorithm;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::agree;
use super::agree::Flow;
use super::parts::Blocks;
use super::reduce_scatter;

/// `reduce`.
pub(super) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    let chunked = match tuning.algorithm {
        Some(Algorithm::Ring | Algorithm::Direct) => true,
        Some(_) => false,
        // With one peer the root receives everything in any case.
        None => {
            let peers = shape.member.world_size - 1;
            peers > 1 && shape.bytes().saturating_mul(peers) > tuning.reduce_flat_bytes
        }
    };
    if chunked { direct(shape) } else { at_root(shape, tuning) }
}

/// Every input goes to the root, which folds.
fn at_root(shape: &Shape, tuning: &Tuning) -> Schedule {
    let own = shape.whole(shape.source());
    let fold = (shape.member.rank == shape.root).then(|| Action::Fold {
        into: shape.whole(Buf::Recv),
        own,
        from: shape.others(),
    });
    agree::rooted(shape, tuning, Flow::ToRoot, Step::default(), |_| own, fold)
}

/// Every rank folds its chunk, then sends it to the root.
fn direct(shape: &Shape) -> Schedule {
    let (rank, root) = (shape.member.rank, shape.root);
    let blocks = Blocks::split(shape, shape.member.world_size);
    let place = blocks.slice(Buf::Recv, rank);
    let mut schedule = Schedule::named("direct", 2);
    let mut step = Step::default();
    if rank == root {
        schedule.push(reduce_scatter::chunks(shape, &blocks, place));
        step.actions.reserve_exact(shape.member.world_size - 1);
        for distance in 1..shape.member.world_size {
            let from = shape.behind(distance);
            step.recv(from, blocks.slice(Buf::Recv, from));
        }
    } else {
        // Only the root's output may be written.
        let into = Slice::new(Buf::Scratch, schedule.reserve(place.count), place.count);
        schedule.push(reduce_scatter::chunks(shape, &blocks, into));
        step.send(root, into);
    }
    schedule.push(step);
    schedule
}
