//! Blocks for each pair of ranks, relayed over doubling distances (Bruck et al. 1997, index).
//!
//! A block for the rank at distance i travels the powers of two in i. After turning the blocks
//! so that number i is for the rank i ahead, the round of distance d sends all blocks whose
//! number has the bit d, packed into one message, d ranks ahead. At the end number i is the
//! block that the rank i behind sent to this one.

use super::Action;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::parts::Blocks;
use super::parts::doubling;

/// Few large messages instead of many small ones.
pub(super) fn all_to_all(shape: &Shape) -> Schedule {
    let ranks = shape.member.world_size;
    let (mut schedule, mut last) = exchange(shape);
    let blocks = Blocks::Even(shape.count);
    for distance in 0..ranks {
        let block = blocks.slice(Buf::Scratch, distance);
        last.copy(block, blocks.slice(Buf::Recv, shape.behind(distance)));
    }
    schedule.push(last);
    schedule
}

/// As [`all_to_all`], and each rank folds what it got.
pub(super) fn reduce_scatter(shape: &Shape, into: Slice) -> Schedule {
    let (rank, ranks) = (shape.member.rank, shape.member.world_size);
    let (mut schedule, mut last) = exchange(shape);
    let blocks = Blocks::Even(shape.count);
    if into.count > 0 {
        let part = |from| blocks.slice(Buf::Scratch, (rank + ranks - from) % ranks);
        last.actions.push(Action::FoldLocal { into, parts: (0..ranks).map(part).collect() });
    }
    schedule.push(last);
    schedule
}

/// The rounds, and the beginning of the local step behind them, after which the block from the
/// rank i behind is number i in scratch.
fn exchange(shape: &Shape) -> (Schedule, Step) {
    let (rank, ranks) = (shape.member.rank, shape.member.world_size);
    let blocks = Blocks::Even(shape.count);
    let mut schedule = Schedule::named("bruck", ranks.ilog2() as usize + 2);
    schedule.reserve(ranks * shape.count);
    // At most half of the numbers below `ranks` have any one bit.
    let most = (ranks / 2) * shape.count;
    let (out, back) = (schedule.reserve(most), schedule.reserve(most));

    let mut step = Step::default();
    let source = shape.source();
    step.copy(blocks.range(source, rank, ranks), blocks.range(Buf::Scratch, 0, ranks - rank));
    step.copy(blocks.range(source, 0, rank), blocks.range(Buf::Scratch, ranks - rank, ranks));
    for distance in doubling(ranks) {
        let mut packed = 0;
        for run in runs(distance, ranks) {
            let run = blocks.range(Buf::Scratch, run.0, run.1);
            step.copy(run, Slice { at: out + packed, ..run });
            packed += run.count;
        }
        step.send(shape.ahead(distance), Slice::new(Buf::Scratch, out, packed));
        step.recv(shape.behind(distance), Slice::new(Buf::Scratch, back, packed));
        schedule.push(core::mem::take(&mut step));
        let mut unpacked = 0;
        for run in runs(distance, ranks) {
            let run = blocks.range(Buf::Scratch, run.0, run.1);
            step.copy(Slice { at: back + unpacked, ..run }, run);
            unpacked += run.count;
        }
    }
    (schedule, step)
}

/// The runs `first..end` of numbers below `ranks` that have the bit `distance`.
fn runs(distance: usize, ranks: usize) -> impl Iterator<Item = (usize, usize)> {
    (distance..ranks).step_by(2 * distance).map(move |first| (first, ranks.min(first + distance)))
}
