//! What an operation is, in one line that all ranks must agree on.

use core::fmt;

use crate::dtype::DataType;
use crate::op::ReduceOp;

/// The operations of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// `all_reduce`
    AllReduce = 1,
    /// `broadcast`
    Broadcast = 2,
    /// `reduce`
    Reduce = 3,
    /// `all_gather`
    AllGather = 4,
    /// `all_gather_v`: counts differ by rank
    AllGatherV = 5,
    /// `reduce_scatter`
    ReduceScatter = 6,
    /// `reduce_scatter_v`: counts differ by rank
    ReduceScatterV = 7,
    /// `all_to_all`
    AllToAll = 8,
    /// `all_to_all_v`: counts differ by pair
    AllToAllV = 9,
    /// `gather`
    Gather = 10,
    /// `scatter`
    Scatter = 11,
    /// `barrier`
    Barrier = 12,
    /// `send` of a pair
    Send = 13,
    /// `recv` of a pair
    Recv = 14,
}

impl Kind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 14] = [
        Self::AllReduce,
        Self::Broadcast,
        Self::Reduce,
        Self::AllGather,
        Self::AllGatherV,
        Self::ReduceScatter,
        Self::ReduceScatterV,
        Self::AllToAll,
        Self::AllToAllV,
        Self::Gather,
        Self::Scatter,
        Self::Barrier,
        Self::Send,
        Self::Recv,
    ];

    /// The method's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::Broadcast => "broadcast",
            Self::Reduce => "reduce",
            Self::AllGather => "all_gather",
            Self::AllGatherV => "all_gather_v",
            Self::ReduceScatter => "reduce_scatter",
            Self::ReduceScatterV => "reduce_scatter_v",
            Self::AllToAll => "all_to_all",
            Self::AllToAllV => "all_to_all_v",
            Self::Gather => "gather",
            Self::Scatter => "scatter",
            Self::Barrier => "barrier",
            Self::Send => "send",
            Self::Recv => "recv",
        }
    }

    /// The name of a number from the wire.
    pub(crate) fn name_of(code: u8) -> &'static str {
        Self::ALL.iter().find(|kind| **kind as u8 == code).map_or("unknown-operation", |k| k.name())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One operation as a rank called it: what travels with every message and is compared.
///
/// It is plain numbers, so that one from the wire is always representable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OpDesc {
    /// Number of the operation in its group (of the pair and direction, for send and recv).
    pub seq: u32,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`DataType`] as a number.
    pub dtype: u8,
    /// [`ReduceOp::code`], 0 without one.
    pub op: u8,
    /// Reserved; 0.
    pub flags: u8,
    /// The root, or `NO_ROOT`; the tag for send and recv.
    pub root: u32,
    /// Elements per rank as the operation's documentation counts them; for the `_v` forms a
    /// digest of the counts.
    pub count: u64,
}

/// `OpDesc::root` of operations without one.
pub(crate) const NO_ROOT: u32 = u32::MAX;

impl fmt::Display for OpDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.seq, Kind::name_of(self.kind))?;
        let p2p = self.kind == Kind::Send as u8 || self.kind == Kind::Recv as u8;
        let by_counts =
            [Kind::AllGatherV, Kind::ReduceScatterV].iter().any(|k| *k as u8 == self.kind);
        if self.kind != Kind::Barrier as u8 {
            let dtype = DataType::from_code(self.dtype).map_or("unknown-type", DataType::name);
            if by_counts {
                write!(f, " {dtype} counts-digest {:016x}", self.count)?;
            } else if self.kind == Kind::AllToAllV as u8 {
                write!(f, " {dtype}")?;
            } else {
                write!(f, " {dtype}\u{d7}{}", self.count)?;
            }
        }
        if self.op != 0 {
            write!(f, " {}", ReduceOp::name_of(self.op))?;
        }
        if p2p {
            write!(f, " tag {}", self.root)?;
        } else if self.root != NO_ROOT {
            write!(f, " root {}", self.root)?;
        }
        Ok(())
    }
}

impl fmt::Debug for OpDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_reads_as_a_line() {
        let mut desc = OpDesc {
            seq: 18,
            kind: Kind::AllReduce as u8,
            dtype: 7,
            op: 1,
            flags: 0,
            root: NO_ROOT,
            count: 1024,
        };
        assert_eq!(desc.to_string(), "#18 all_reduce f32\u{d7}1024 sum");
        desc.kind = Kind::Broadcast as u8;
        desc.op = 0;
        desc.root = 3;
        assert_eq!(desc.to_string(), "#18 broadcast f32\u{d7}1024 root 3");
        desc.kind = 99;
        desc.dtype = 200;
        assert_eq!(desc.to_string(), "#18 unknown-operation unknown-type\u{d7}1024 root 3");
    }
}
