//! Collectives as data: who sends which range to whom, in which step.
//!
//! [`plan`] turns what one rank was asked into that rank's [`Schedule`]; nothing here moves a
//! byte, waits, or knows of links, so all ranks' schedules can be run against each other in
//! memory. Three properties hold for every schedule:
//!
//! - **One fold in rank order.** Every element of a reduction is the left fold of the ranks'
//!   inputs, done once, at one place per receiver; partial sums never travel. So the result does
//!   not depend on the algorithm, and narrow types are rounded once.
//! - **Agreement.** Before a rank's schedule ends it has heard, directly or through others, from
//!   every other rank, whatever the count: empty messages are sent where data is not. Every
//!   message carries the sender's description of the operation, so no rank ends an operation
//!   that another one called differently.
//! - **Equal messages on both sides.** What travels depends on kind, group size, root, counts,
//!   element size and [`Tuning`], which are equal on all ranks, and never on `in_place`, which
//!   need not be.

mod agree;
mod all_gather;
mod all_reduce;
mod all_to_all;
mod broadcast;
#[cfg(test)]
mod cost;
mod index;
#[cfg(test)]
mod interpret;
mod parts;
mod reduce;
mod reduce_scatter;
#[cfg(test)]
mod sweep;
mod tuning;

pub(crate) use tuning::Algorithm;
pub(crate) use tuning::Tuning;

use crate::desc::Kind;
use crate::rank::Member;

/// Which memory a range lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Buf {
    /// The caller's input; never written, and not used at all in place.
    Send,
    /// The caller's output; in place also the input.
    Recv,
    /// [`Schedule::scratch`] elements that live as long as the operation.
    Scratch,
}

/// `count` elements of `buf` from `at` (elements).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The memory.
    pub(crate) buf: Buf,
    /// The first element.
    pub(crate) at: usize,
    /// How many elements.
    pub(crate) count: usize,
}

impl Slice {
    /// What an empty message holds: no element of no buffer in particular.
    pub(crate) const EMPTY: Self = Self { buf: Buf::Scratch, at: 0, count: 0 };

    /// The elements `at..at + count` of `buf`.
    pub(crate) const fn new(buf: Buf, at: usize, count: usize) -> Self {
        Self { buf, at, count }
    }
}

/// One thing to do in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sends one message, possibly empty.
    Send {
        /// The rank it goes to.
        to: usize,
        /// What it holds.
        from: Slice,
    },
    /// Receives one message of exactly `into.count` elements.
    Recv {
        /// The rank it comes from.
        from: usize,
        /// Where it goes.
        into: Slice,
    },
    /// Receives a message of `into.count` elements from each rank of `from` and left-folds them
    /// in rank order together with `own` at this rank's place.
    Fold {
        /// Where the result goes.
        into: Slice,
        /// This rank's contribution; the same slice as `into`, or disjoint from it.
        own: Slice,
        /// The other ranks, ascending.
        from: Vec<usize>,
    },
    /// Left-folds slices of this rank in the given order; one part is folded too.
    FoldLocal {
        /// Where the result goes; disjoint from the parts, except that one sole part may be it.
        into: Slice,
        /// The contributions, each of `into.count` elements.
        parts: Vec<Slice>,
    },
    /// Copies within this rank.
    Copy {
        /// The source.
        from: Slice,
        /// The destination, of the same count and disjoint from the source.
        into: Slice,
    },
}

/// Actions that may overlap in time.
///
/// The local actions ([`Action::Copy`], [`Action::FoldLocal`]) run first, in order; then all
/// others progress at once; the next step begins when all are done. The k-th message that one
/// rank's schedule sends to a peer is the k-th that the peer's schedule receives from it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Step {
    /// What to do.
    pub(crate) actions: Vec<Action>,
}

impl Step {
    /// A step with room for `actions`.
    fn with_room(actions: usize) -> Self {
        Self { actions: Vec::with_capacity(actions) }
    }

    /// Adds a message to `to`.
    fn send(&mut self, to: usize, from: Slice) {
        self.actions.push(Action::Send { to, from });
    }

    /// Adds a message from `from`.
    fn recv(&mut self, from: usize, into: Slice) {
        self.actions.push(Action::Recv { from, into });
    }

    /// Adds a copy, unless there is nothing to copy.
    fn copy(&mut self, from: Slice, into: Slice) {
        if from != into && into.count > 0 {
            self.actions.push(Action::Copy { from, into });
        }
    }
}

/// All that one rank does for one operation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Schedule {
    /// One after the other.
    pub(crate) steps: Vec<Step>,
    /// How many elements [`Buf::Scratch`] must have.
    pub(crate) scratch: usize,
    /// How the algorithm is called in logs and tables.
    pub(crate) algorithm: &'static str,
}

impl Schedule {
    /// A schedule without steps.
    fn named(algorithm: &'static str, steps: usize) -> Self {
        Self { steps: Vec::with_capacity(steps), scratch: 0, algorithm }
    }

    /// A schedule of one step.
    fn single(algorithm: &'static str, step: Step) -> Self {
        Self { steps: vec![step], scratch: 0, algorithm }
    }

    /// Adds a step, unless it is empty.
    fn push(&mut self, step: Step) {
        if !step.actions.is_empty() {
            self.steps.push(step);
        }
    }

    /// Takes the empty messages out: the same ones on both ends, which count the same elements.
    fn keep_data_only(&mut self) {
        let is_data = |action: &Action| match action {
            Action::Send { from, .. } => from.count > 0,
            Action::Recv { into, .. } | Action::Fold { into, .. } => into.count > 0,
            Action::FoldLocal { .. } | Action::Copy { .. } => true,
        };
        for step in &mut self.steps {
            step.actions.retain(is_data);
        }
        self.steps.retain(|step| !step.actions.is_empty());
    }

    /// Reserves `count` elements of scratch and returns where they begin.
    fn reserve(&mut self, count: usize) -> usize {
        let at = self.scratch;
        self.scratch += count;
        at
    }
}

/// What is asked, seen from one rank. The lengths were checked against the buffers before.
///
/// | kind | `count` is the number of elements | in place, this rank's input is |
/// |---|---|---|
/// | `all_reduce`, `broadcast`, `reduce` | of the buffer | all of `Recv` |
/// | `all_gather`, `gather` | that each rank sends | block `rank` of `Recv`; on the other ranks of a `gather` all of it |
/// | `reduce_scatter`, `scatter` | that each rank receives | all of `Recv`, where the result is block `rank` |
/// | `all_to_all` | per pair | all of `Recv` |
/// | `send`, `recv` | of the message | all of `Recv` |
///
/// `Recv` is not used where a rank receives no result, unless in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The operation.
    pub(crate) kind: Kind,
    /// Who this rank is.
    pub(crate) member: Member,
    /// Elements, see above; unused by the `_v` forms.
    pub(crate) count: usize,
    /// The root, the peer of a `send` or `recv`, or 0.
    pub(crate) root: usize,
    /// Bytes of one element.
    pub(crate) elem_bytes: usize,
    /// Whether the input lies in `Recv`. Ranks of one operation may differ in it.
    pub(crate) in_place: bool,
    /// Elements sent to each rank: `reduce_scatter_v`, `all_to_all_v`; empty otherwise.
    pub(crate) send_counts: Vec<usize>,
    /// Elements received from each rank: `all_gather_v`, `all_to_all_v`; empty otherwise.
    pub(crate) recv_counts: Vec<usize>,
    /// Whether a contribution must come straight from its rank, because its message brings the
    /// rank's own factor.
    pub(crate) factor_per_rank: bool,
    /// Whether elements are folded.
    pub(crate) reduces: bool,
}

impl Shape {
    /// Where this rank's input lies.
    const fn source(&self) -> Buf {
        if self.in_place { Buf::Recv } else { Buf::Send }
    }

    /// The whole buffer of `count` elements.
    const fn whole(&self, buf: Buf) -> Slice {
        Slice::new(buf, 0, self.count)
    }

    /// Bytes of `count` elements.
    const fn bytes(&self) -> usize {
        self.count.saturating_mul(self.elem_bytes)
    }

    /// All other ranks, ascending.
    fn others(&self) -> Vec<usize> {
        let mut others = Vec::with_capacity(self.member.world_size.saturating_sub(1));
        others.extend((0..self.member.world_size).filter(|rank| *rank != self.member.rank));
        others
    }

    /// The rank `distance` after this one, around the end.
    const fn ahead(&self, distance: usize) -> usize {
        (self.member.rank + distance) % self.member.world_size
    }

    /// The rank `distance` before this one, around the end.
    const fn behind(&self, distance: usize) -> usize {
        (self.member.rank + self.member.world_size - distance) % self.member.world_size
    }
}

/// This rank's schedule for an operation. Every rank must plan with an equal `tuning`.
pub(crate) fn plan(shape: &Shape, tuning: &Tuning) -> Schedule {
    let mut schedule = plan_with_agreement(shape, tuning);
    let rooted =
        matches!(shape.kind, Kind::Broadcast | Kind::Reduce | Kind::Gather | Kind::Scatter);
    // Where all messages are empty they stay, so that a rank whose count is not 0 hears of it.
    if rooted && !tuning.agreement && shape.count > 0 {
        schedule.keep_data_only();
    }
    schedule
}

fn plan_with_agreement(shape: &Shape, tuning: &Tuning) -> Schedule {
    match shape.kind {
        Kind::Send | Kind::Recv => point_to_point(shape),
        _ if shape.member.world_size <= 1 => alone(shape),
        Kind::AllReduce => all_reduce::plan(shape, tuning),
        Kind::Broadcast => broadcast::plan(shape, tuning),
        Kind::Reduce => reduce::plan(shape, tuning),
        Kind::AllGather | Kind::AllGatherV => all_gather::plan(shape, tuning),
        Kind::ReduceScatter | Kind::ReduceScatterV => reduce_scatter::plan(shape, tuning),
        Kind::AllToAll | Kind::AllToAllV => all_to_all::plan(shape, tuning),
        Kind::Gather => agree::gather(shape, tuning),
        Kind::Scatter => agree::scatter(shape, tuning),
        Kind::Barrier => agree::barrier(shape, tuning),
    }
}

/// One message to or from `shape.root`.
fn point_to_point(shape: &Shape) -> Schedule {
    let mut step = Step::with_room(1);
    if shape.kind == Kind::Send {
        step.send(shape.root, shape.whole(shape.source()));
    } else {
        step.recv(shape.root, shape.whole(Buf::Recv));
    }
    Schedule::single("p2p", step)
}

/// A group of one: the result is the input, folded if the operation folds, since a factor or a
/// division may belong to it.
fn alone(shape: &Shape) -> Schedule {
    let first = |counts: &[usize]| counts.first().copied().unwrap_or(0);
    let count = match shape.kind {
        Kind::Barrier => 0,
        Kind::AllGatherV | Kind::AllToAllV => first(&shape.recv_counts),
        Kind::ReduceScatterV => first(&shape.send_counts),
        _ => shape.count,
    };
    let (own, into) = (Slice::new(shape.source(), 0, count), Slice::new(Buf::Recv, 0, count));
    let mut schedule = Schedule::named("local", 1);
    let mut step = Step::default();
    if shape.reduces && count > 0 {
        step.actions.push(Action::FoldLocal { into, parts: vec![own] });
    } else {
        step.copy(own, into);
    }
    schedule.push(step);
    schedule
}
