//! Operations in which data goes straight to or from one root, and the empty messages by which
//! all ranks hear from all.

use super::Action;
use super::Buf;
use super::Schedule;
use super::Shape;
use super::Slice;
use super::Step;
use super::Tuning;
use super::parts::Blocks;
use super::parts::doubling;

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// From each rank to the root.
    ToRoot,
    /// From the root to each rank.
    FromRoot,
}

impl Flow {
    /// Whether this rank's message to `to` holds data.
    fn sends(self, shape: &Shape, to: usize) -> bool {
        match self {
            Self::ToRoot => to == shape.root,
            Self::FromRoot => shape.member.rank == shape.root,
        }
    }

    /// Whether this rank's message from `from` holds data.
    fn receives(self, shape: &Shape, from: usize) -> bool {
        match self {
            Self::ToRoot => shape.member.rank == shape.root,
            Self::FromRoot => from == shape.root,
        }
    }
}

/// Every rank exchanges a message with every other one; those to or from the root hold data.
///
/// `begin` holds local actions. `data` is the range that travels between this rank and a peer.
/// With `fold`, which the root of a reduction gives, that action receives instead.
pub(super) fn flat(
    shape: &Shape,
    flow: Flow,
    begin: Step,
    data: impl Fn(usize) -> Slice,
    fold: Option<Action>,
) -> Schedule {
    let peers = shape.member.world_size - 1;
    let mut step = begin;
    step.actions.reserve_exact(2 * peers);
    for distance in 1..=peers {
        let to = shape.ahead(distance);
        step.send(to, if flow.sends(shape, to) { data(to) } else { Slice::EMPTY });
    }
    if let Some(fold) = fold {
        step.actions.push(fold);
    } else {
        for distance in 1..=peers {
            let from = shape.behind(distance);
            step.recv(from, if flow.receives(shape, from) { data(from) } else { Slice::EMPTY });
        }
    }
    Schedule::single("flat", step)
}

/// Data goes as in [`flat`], in the first step; agreement takes one round per doubling of the
/// group. A message of data is the first round's message too where their ways are one.
pub(super) fn disseminated(
    shape: &Shape,
    flow: Flow,
    begin: Step,
    data: impl Fn(usize) -> Slice,
    fold: Option<Action>,
) -> Schedule {
    let world_size = shape.member.world_size;
    let mut schedule = Schedule::named("dissemination", world_size.ilog2() as usize + 1);
    let mut step = begin;
    let (to, from) = (shape.ahead(1), shape.behind(1));
    for peer in (1..world_size).map(|distance| shape.ahead(distance)) {
        if flow.sends(shape, peer) {
            step.send(peer, data(peer));
        }
    }
    if !flow.sends(shape, to) {
        step.send(to, Slice::EMPTY);
    }
    if let Some(fold) = fold {
        step.actions.push(fold);
    } else {
        for peer in (1..world_size).map(|distance| shape.behind(distance)) {
            if flow.receives(shape, peer) {
                step.recv(peer, data(peer));
            }
        }
        if !flow.receives(shape, from) {
            step.recv(from, Slice::EMPTY);
        }
    }
    schedule.push(step);
    for distance in doubling(world_size).skip(1) {
        let mut step = Step::with_room(2);
        step.send(shape.ahead(distance), Slice::EMPTY);
        step.recv(shape.behind(distance), Slice::EMPTY);
        schedule.push(step);
    }
    schedule
}

/// The one of the two that fits the group.
pub(super) fn rooted(
    shape: &Shape,
    tuning: &Tuning,
    flow: Flow,
    begin: Step,
    data: impl Fn(usize) -> Slice,
    fold: Option<Action>,
) -> Schedule {
    if tuning.agrees_flat(shape.member.world_size) {
        flat(shape, flow, begin, data, fold)
    } else {
        disseminated(shape, flow, begin, data, fold)
    }
}

/// Nothing but agreement.
pub(super) fn barrier(shape: &Shape, tuning: &Tuning) -> Schedule {
    // All data are empty, so the way they go is of no meaning in the flat form.
    if tuning.agrees_flat(shape.member.world_size) {
        return flat(shape, Flow::ToRoot, Step::default(), |_| Slice::EMPTY, None);
    }
    let mut schedule = Schedule::named("dissemination", 0);
    for distance in doubling(shape.member.world_size) {
        let mut step = Step::with_room(2);
        step.send(shape.ahead(distance), Slice::EMPTY);
        step.recv(shape.behind(distance), Slice::EMPTY);
        schedule.push(step);
    }
    schedule
}

/// Every rank's block goes to the root.
pub(super) fn gather(shape: &Shape, tuning: &Tuning) -> Schedule {
    let blocks = Blocks::Even(shape.count);
    let at_root = shape.member.rank == shape.root;
    let mut begin = Step::default();
    if at_root && !shape.in_place {
        begin.copy(shape.whole(Buf::Send), blocks.slice(Buf::Recv, shape.root));
    }
    let data = |peer| {
        if at_root { blocks.slice(Buf::Recv, peer) } else { shape.whole(shape.source()) }
    };
    rooted(shape, tuning, Flow::ToRoot, begin, data, None)
}

/// Every rank gets its block from the root.
pub(super) fn scatter(shape: &Shape, tuning: &Tuning) -> Schedule {
    let blocks = Blocks::Even(shape.count);
    let at_root = shape.member.rank == shape.root;
    let mut begin = Step::default();
    if at_root && !shape.in_place {
        begin.copy(blocks.slice(Buf::Send, shape.root), shape.whole(Buf::Recv));
    }
    let data = |peer| {
        if at_root { blocks.slice(shape.source(), peer) } else { shape.whole(Buf::Recv) }
    };
    rooted(shape, tuning, Flow::FromRoot, begin, data, None)
}
