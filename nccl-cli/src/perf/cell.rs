//! What one line of the report measures.

use nccl::DataType;
use nccl::ReduceOp;

/// An operation that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Collective {
    AllReduce,
    AllGather,
    ReduceScatter,
    AllToAll,
    Broadcast,
    Reduce,
    Gather,
    Scatter,
    SendRecv,
    Barrier,
}

/// Whether input and output are one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Two buffers.
    Out,
    /// One buffer.
    In,
}

/// One collective at one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    /// What is called.
    pub(crate) collective: Collective,
    /// The size asked for.
    pub(crate) asked_bytes: usize,
    /// Type of the elements.
    pub(crate) dtype: DataType,
    /// Of those that reduce.
    pub(crate) op: Option<ReduceOp>,
    /// Of those that have one.
    pub(crate) root: Option<usize>,
    /// Ranks.
    pub(crate) world_size: usize,
}

impl Collective {
    /// In the order they are reported.
    pub(crate) const ALL: [Self; 10] = [
        Self::AllReduce,
        Self::AllGather,
        Self::ReduceScatter,
        Self::AllToAll,
        Self::Broadcast,
        Self::Reduce,
        Self::Gather,
        Self::Scatter,
        Self::SendRecv,
        Self::Barrier,
    ];

    /// The word on the command line and in the reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::AllGather => "all_gather",
            Self::ReduceScatter => "reduce_scatter",
            Self::AllToAll => "all_to_all",
            Self::Broadcast => "broadcast",
            Self::Reduce => "reduce",
            Self::Gather => "gather",
            Self::Scatter => "scatter",
            Self::SendRecv => "sendrecv",
            Self::Barrier => "barrier",
        }
    }

    /// The collective of that name; nccl-tests' spelling counts too.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let flat = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let name = flat(name.strip_suffix("_perf").unwrap_or(name));
        Self::ALL.into_iter().find(|one| flat(one.name()) == name)
    }

    /// Whether it takes a reduction.
    pub(crate) fn reduces(self) -> bool {
        matches!(self, Self::AllReduce | Self::ReduceScatter | Self::Reduce)
    }

    /// Whether it has a root.
    pub(crate) fn is_rooted(self) -> bool {
        matches!(self, Self::Broadcast | Self::Reduce | Self::Gather | Self::Scatter)
    }

    /// The forms that the library has.
    pub(crate) fn places(self) -> &'static [Place] {
        match self {
            Self::AllReduce
            | Self::AllGather
            | Self::ReduceScatter
            | Self::AllToAll
            | Self::Reduce => &[Place::Out, Place::In],
            Self::Broadcast => &[Place::In],
            Self::Gather | Self::Scatter | Self::SendRecv | Self::Barrier => &[Place::Out],
        }
    }

    /// Whether a size is that of one part of every rank together.
    fn is_parted(self) -> bool {
        matches!(
            self,
            Self::AllGather | Self::ReduceScatter | Self::AllToAll | Self::Gather | Self::Scatter
        )
    }
}

impl Cell {
    /// Elements of the call: of one part where the collective has parts, else of the buffer.
    pub(crate) fn count(&self) -> usize {
        let elements = self.asked_bytes / self.dtype.size_bytes();
        match self.collective {
            Collective::Barrier => 0,
            one if one.is_parted() => (elements / self.world_size.max(1)).max(1),
            _ => elements.max(1),
        }
    }

    /// Elements of the larger buffer.
    pub(crate) fn total(&self) -> usize {
        let parts = if self.collective.is_parted() { self.world_size } else { 1 };
        self.count().saturating_mul(parts)
    }

    /// What really moves, in nccl-tests' counting.
    pub(crate) fn bytes(&self) -> usize {
        self.total().saturating_mul(self.dtype.size_bytes())
    }

    /// What the algorithm's bandwidth is multiplied with, by nccl-tests.
    pub(crate) fn bus_factor(&self) -> f64 {
        let n = self.world_size as f64;
        match self.collective {
            Collective::AllReduce => 2.0 * (n - 1.0) / n,
            one if one.is_parted() => (n - 1.0) / n,
            Collective::Barrier => 0.0,
            _ => 1.0,
        }
    }

    /// Two ranks play ping-pong; more pass on to the next in a ring.
    pub(crate) fn is_ping_pong(&self) -> bool {
        self.collective == Collective::SendRecv && self.world_size == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(collective: Collective, asked_bytes: usize, dtype: DataType) -> Cell {
        Cell { collective, asked_bytes, dtype, op: None, root: None, world_size: 4 }
    }

    #[test]
    fn names_are_read_back_also_as_nccl_tests_has_them() {
        for one in Collective::ALL {
            assert_eq!(Collective::from_name(one.name()), Some(one));
        }
        assert_eq!(Collective::from_name("alltoall"), Some(Collective::AllToAll));
        assert_eq!(Collective::from_name("all_reduce_perf"), Some(Collective::AllReduce));
        assert_eq!(Collective::from_name("all-reduce"), Some(Collective::AllReduce));
        assert_eq!(Collective::from_name("hypercube"), None);
    }

    #[test]
    fn sizes_are_rounded_to_one_element_a_rank() {
        let counts = |collective, asked, dtype| {
            let cell = cell(collective, asked, dtype);
            (cell.count(), cell.bytes())
        };
        assert_eq!(counts(Collective::AllReduce, 1, DataType::F32), (1, 4));
        assert_eq!(counts(Collective::AllGather, 4, DataType::F32), (1, 16));
        assert_eq!(counts(Collective::AllToAll, 68, DataType::F32), (4, 64));
        assert_eq!(counts(Collective::Scatter, 1024, DataType::BF16), (128, 1024));
        assert_eq!(counts(Collective::Broadcast, 1001, DataType::F64), (125, 1000));
        assert_eq!(counts(Collective::Barrier, 1024, DataType::U8), (0, 0));
    }

    #[test]
    fn factors_are_those_of_nccl_tests() {
        let factor = |collective| cell(collective, 8, DataType::F32).bus_factor();
        assert_eq!(factor(Collective::AllReduce), 1.5);
        for one in ["all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"] {
            assert_eq!(factor(Collective::from_name(one).unwrap()), 0.75, "{one}");
        }
        for one in ["broadcast", "reduce", "sendrecv"] {
            assert_eq!(factor(Collective::from_name(one).unwrap()), 1.0, "{one}");
        }
        assert_eq!(factor(Collective::Barrier), 0.0);
    }
}
