//! One operation, as it was asked for, and the checks that need no other rank.

use crate::comm::OwnOp;
use crate::fail::ARGUMENT;
use crate::fail::Outcome;
use crate::fail::fail;
use crate::version;

/// What kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    AllReduce = 1,
    Broadcast = 2,
    Reduce = 3,
    AllGather = 4,
    ReduceScatter = 5,
    AllToAll = 6,
    Gather = 7,
    Scatter = 8,
    Send = 9,
    Recv = 10,
    PutSignal = 11,
    Signal = 12,
    WaitSignal = 13,
}

/// An operation.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) function: &'static str,
    pub(crate) kind: Kind,
    pub(crate) send: usize,
    pub(crate) recv: usize,
    pub(crate) count: usize,
    pub(crate) dtype: i32,
    pub(crate) op: i32,
    /// Root, or peer of a message.
    pub(crate) root: i32,
    pub(crate) signal: Option<Signal>,
    /// The pre-multiplied sum, as it was when the call was made: it may be destroyed afterwards.
    pub(crate) own: Option<OwnOp>,
}

/// What one-sided operations have besides.
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    pub(crate) window: u64,
    pub(crate) offset: usize,
    pub(crate) index: i32,
    /// For waits: (peer, index, how many).
    pub(crate) waits: Vec<(usize, i32, u64)>,
}

/// `ncclSum` to `ncclAvg`; higher ones are made by the program.
pub(crate) const SUM: i32 = 0;
pub(crate) const PROD: i32 = 1;
pub(crate) const MAX: i32 = 2;
pub(crate) const MIN: i32 = 3;
pub(crate) const AVG: i32 = 4;

/// Bytes of an element, `None` for a type that the version does not know.
pub(crate) fn size_bytes(dtype: i32) -> Option<usize> {
    match dtype {
        0 | 1 => Some(1),
        6 | 9 => Some(2),
        2 | 3 | 7 => Some(4),
        4 | 5 | 8 => Some(8),
        10 | 11 if version::code() >= 22400 => Some(1),
        _ => None,
    }
}

impl Call {
    /// Bytes of one element; checked before.
    pub(crate) fn element(&self) -> usize {
        size_bytes(self.dtype).unwrap_or(1)
    }

    /// Whether it reduces.
    pub(crate) fn reduces(&self) -> bool {
        matches!(self.kind, Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter)
    }

    /// Whether it has a root.
    pub(crate) fn has_root(&self) -> bool {
        matches!(self.kind, Kind::Broadcast | Kind::Reduce | Kind::Gather | Kind::Scatter)
    }

    /// Whether it goes between two ranks.
    pub(crate) fn is_pair(&self) -> bool {
        matches!(self.kind, Kind::Send | Kind::Recv)
    }

    /// Bytes that this rank reads from its input and writes to its output.
    pub(crate) fn sizes_bytes(&self, world_size: usize, rank: usize) -> (usize, usize) {
        let one = self.count.saturating_mul(self.element());
        let all = one.saturating_mul(world_size);
        let is_root = usize::try_from(self.root) == Ok(rank);
        let at_root = |size: usize| if is_root { size } else { 0 };
        match self.kind {
            Kind::AllReduce => (one, one),
            Kind::Broadcast => (at_root(one), one),
            Kind::Reduce => (one, at_root(one)),
            Kind::AllGather => (one, all),
            Kind::ReduceScatter => (all, one),
            Kind::AllToAll => (all, all),
            Kind::Gather => (one, at_root(all)),
            Kind::Scatter => (at_root(all), one),
            Kind::Send | Kind::PutSignal => (one, 0),
            Kind::Recv => (0, one),
            Kind::Signal | Kind::WaitSignal => (0, 0),
        }
    }

    /// Checks type, op, root and peer as NCCL does.
    pub(crate) fn check(&self, world_size: usize, is_own_op: impl Fn(i32) -> bool) -> Outcome {
        let name = self.function.trim_start_matches("nccl");
        if size_bytes(self.dtype).is_none() {
            return fail(ARGUMENT, format!("{name} : invalid type {}", self.dtype));
        }
        if self.reduces() && !(SUM..=AVG).contains(&self.op) && !is_own_op(self.op) {
            return fail(ARGUMENT, format!("{name} : invalid reduction operation {}", self.op));
        }
        let in_range = usize::try_from(self.root).is_ok_and(|rank| rank < world_size);
        if (self.has_root() || self.is_pair()) && !in_range {
            let root = self.root;
            let text = format!(
                "{name} : invalid root {root} (root should be in the 0..{world_size} range)"
            );
            return fail(ARGUMENT, text);
        }
        Ok(())
    }
}
