//! One call of a collective as data: how it is made, and what it must give.

use nccl::DataType;
use nccl::Kind;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

use crate::oracle::Flavour;
use crate::oracle::Value;

/// One call, the same on all ranks.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "of tests")]
pub struct Case {
    /// Which collective.
    pub kind: Kind,
    /// Of which elements.
    pub dtype: DataType,
    /// With which reduction; `PreMulSum` stands for each rank's own factor.
    pub op: ReduceOp,
    /// Elements, of one part where there are parts.
    pub count: usize,
    /// From whom, or to whom.
    pub root: usize,
    /// With one buffer for input and output.
    pub in_place: bool,
    /// Which values.
    pub flavour: Flavour,
    /// Which of them.
    pub seed: u64,
}

/// Calls `$body` with `$type` standing for the type of a [`DataType`].
macro_rules! typed {
    ($dtype:expr, $type:ident => $body:expr) => {
        typed!(@ $dtype, $type, $body, I8 i8, U8 u8, I32 i32, U32 u32, I64 i64, U64 u64,
               F16 nccl::f16, F32 f32, F64 f64, BF16 nccl::bf16, F8E4M3 nccl::F8E4M3,
               F8E5M2 nccl::F8E5M2)
    };
    (@ $dtype:expr, $type:ident, $body:expr, $($name:ident $element:ty),*) => {
        match $dtype {
            $(nccl::DataType::$name => {
                type $type = $element;
                $body
            })*
            other => panic!("{other} has no test"),
        }
    };
}

pub mod device;

/// Whether a collective reduces.
#[must_use]
pub fn reduces(kind: Kind) -> bool {
    matches!(kind, Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter | Kind::ReduceScatterV)
}

/// Whether a collective has a root.
#[must_use]
pub fn has_root(kind: Kind) -> bool {
    matches!(kind, Kind::Reduce | Kind::Broadcast | Kind::Gather | Kind::Scatter)
}

/// Whether a collective can be called in place or not, at the caller's choice.
#[must_use]
pub fn has_both_places(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AllReduce | Kind::Reduce | Kind::AllGather | Kind::ReduceScatter | Kind::AllToAll
    )
}

/// Makes the call and compares what this rank gets with the oracle, bit for bit.
///
/// Gives the difference, if there is one.
///
/// # Errors
/// Those of the group.
pub fn check(group: &ProcessGroup, case: &Case) -> Result<Option<String>> {
    typed!(case.dtype, T => compare::<T>(group, case))
}

/// Makes the call and gives the bits of what this rank gets.
///
/// # Errors
/// Those of the group.
pub fn bits(group: &ProcessGroup, case: &Case) -> Result<Vec<u64>> {
    typed!(case.dtype, T => {
        Ok(outcome::<T>(group, case)?.middle().iter().map(|value| value.bits()).collect())
    })
}

fn compare<T: Value>(group: &ProcessGroup, case: &Case) -> Result<Option<String>> {
    Ok(difference(group, case, &outcome::<T>(group, case)?))
}

/// How what this rank got differs from the oracle's.
fn difference<T: Value>(group: &ProcessGroup, case: &Case, outcome: &Guarded<T>) -> Option<String> {
    let (rank, world_size) = (group.rank(), group.world_size());
    let expected = case.expected::<T>(rank, world_size);
    let got = outcome.middle();
    let told = |what: String| Some(format!("rank {rank} of {world_size}: {what} in {case:?}"));
    if got.len() != expected.len() {
        return told(format!("{} elements, expected {}", got.len(), expected.len()));
    }
    let mut pairs = got.iter().zip(&expected).enumerate();
    if let Some((at, (got, expected))) = pairs.find(|(_, (a, b))| a.bits() != b.bits()) {
        let (got, expected) = (got.bits(), expected.bits());
        return told(format!("element {at} is {got:#x}, expected {expected:#x}"));
    }
    if !outcome.is_intact() {
        return told("something was written outside of the buffer".to_owned());
    }
    None
}

/// A buffer among guards, at an address that is aligned for its elements only; `part` of it is
/// the result.
struct Guarded<T> {
    all: Vec<T>,
    begin: usize,
    end: usize,
    part: core::ops::Range<usize>,
}

const GUARD: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// What outputs hold before; never what they should hold afterwards.
const JUNK: u64 = 0x3c3c_3c3c_3c3c_3c3c;

impl<T: Value> Guarded<T> {
    fn new(seed: u64, content: impl Iterator<Item = T>) -> Self {
        let begin = 1 + usize::try_from(seed % 5).unwrap_or(0);
        let mut all = vec![T::of_bits(GUARD); begin];
        all.extend(content);
        let end = all.len();
        all.extend([T::of_bits(GUARD); 3]);
        Self { all, begin, end, part: 0..end - begin }
    }

    fn junk(seed: u64, len: usize) -> Self {
        Self::new(seed, core::iter::repeat_n(T::of_bits(JUNK), len))
    }

    fn whole(&mut self) -> &mut [T] {
        &mut self.all[self.begin..self.end]
    }

    fn only(mut self, part: core::ops::Range<usize>) -> Self {
        self.part = part;
        self
    }

    fn middle(&self) -> &[T] {
        &self.all[self.begin..self.end][self.part.clone()]
    }

    fn is_intact(&self) -> bool {
        let guard = T::of_bits(GUARD).bits();
        let mut guards = self.all[..self.begin].iter().chain(&self.all[self.end..]);
        guards.all(|value| value.bits() == guard)
    }
}

impl Case {
    /// The reduction as `rank` calls it.
    #[must_use]
    pub fn op_of(&self, rank: usize) -> ReduceOp {
        const FACTORS: [f64; 5] = [0.1, -1.25, 3.0, 1.0 / 3.0, 1.0e-3];
        match self.op {
            ReduceOp::PreMulSum(_) => {
                ReduceOp::PreMulSum(FACTORS[rank % 5] * (1.0 + rank as f64 / 16.0))
            }
            op => op,
        }
    }

    /// Elements of each rank's part where they differ: some are 0, the largest is `count`.
    #[must_use]
    pub fn counts(&self, world_size: usize) -> Vec<usize> {
        let seed = usize::try_from(self.seed % 97).unwrap_or(0);
        let count =
            |rank| self.count * ((rank + seed) % world_size.max(2)) / (world_size.max(2) - 1);
        (0..world_size).map(count).collect()
    }

    /// Elements that rank `from` sends rank `to` in an `all_to_all_v`.
    #[must_use]
    pub fn pair_count(&self, from: usize, to: usize) -> usize {
        let seed = usize::try_from(self.seed % 89).unwrap_or(0);
        (self.count * (from + 1) + 5 * to * self.count / 3 + seed * from) % (self.count + 1)
    }

    fn input<T: Value>(&self, rank: usize, index: usize) -> T {
        T::input(self.flavour, rank, index, self.seed)
    }

    fn inputs<T: Value>(&self, rank: usize, len: usize) -> impl Iterator<Item = T> {
        (0..len).map(move |index| self.input(rank, index))
    }

    /// The reduced elements `range`.
    fn folded<T: Value>(&self, range: core::ops::Range<usize>, world_size: usize) -> Vec<T> {
        let mut values = vec![T::of_bits(0); world_size];
        let mut fold = |index| {
            for (rank, value) in values.iter_mut().enumerate() {
                *value = self.input(rank, index);
            }
            T::fold(&values, |rank| self.op_of(rank))
        };
        range.map(&mut fold).collect()
    }

    /// What `rank` must get.
    #[must_use]
    pub fn expected<T: Value>(&self, rank: usize, world_size: usize) -> Vec<T> {
        let (count, n) = (self.count, world_size);
        let part = rank * count..(rank + 1) * count;
        match self.kind {
            Kind::AllReduce => self.folded(0..count, n),
            Kind::Reduce if rank == self.root => self.folded(0..count, n),
            Kind::Reduce => Vec::new(),
            Kind::Broadcast => self.inputs(self.root, count).collect(),
            Kind::AllGather => (0..n).flat_map(|from| self.inputs(from, count)).collect(),
            Kind::AllGatherV => {
                let counts = self.counts(n);
                (0..n).flat_map(|from| self.inputs(from, counts[from])).collect()
            }
            Kind::ReduceScatter => self.folded(part, n),
            Kind::ReduceScatterV => {
                let counts = self.counts(n);
                let begin: usize = counts[..rank].iter().sum();
                self.folded(begin..begin + counts[rank], n)
            }
            Kind::Gather if rank == self.root => {
                (0..n).flat_map(|from| self.inputs(from, count)).collect()
            }
            Kind::Gather => Vec::new(),
            Kind::Scatter => part.map(|index| self.input(self.root, index)).collect(),
            Kind::AllToAll => {
                (0..n).flat_map(|from| part.clone().map(move |i| self.input(from, i))).collect()
            }
            Kind::AllToAllV => (0..n).flat_map(|from| self.sent_by_pair(from, rank)).collect(),
            _ => Vec::new(),
        }
    }

    fn sent_by_pair<T: Value>(&self, from: usize, to: usize) -> impl Iterator<Item = T> {
        let begin: usize = (0..to).map(|before| self.pair_count(from, before)).sum();
        (begin..begin + self.pair_count(from, to)).map(move |index| self.input(from, index))
    }
}

/// Makes the call.
fn outcome<T: Value>(group: &ProcessGroup, case: &Case) -> Result<Guarded<T>> {
    let (rank, n) = (group.rank(), group.world_size());
    match case.kind {
        Kind::AllReduce | Kind::Reduce | Kind::ReduceScatter | Kind::ReduceScatterV => {
            reducing(group, case)
        }
        Kind::Broadcast => {
            let mine = case.inputs(rank, case.count);
            let junk = Guarded::junk(case.seed, case.count);
            let mut buf = if rank == case.root { Guarded::new(case.seed, mine) } else { junk };
            group.broadcast(buf.whole(), case.root)?;
            Ok(buf)
        }
        Kind::Gather => {
            let mut send = Guarded::new(case.seed + 1, case.inputs(rank, case.count));
            let len = if rank == case.root { n * case.count } else { 0 };
            let mut recv = Guarded::junk(case.seed, len);
            group.gather(send.whole(), recv.whole(), case.root)?;
            Ok(recv)
        }
        Kind::Scatter => {
            let len = if rank == case.root { n * case.count } else { 0 };
            let mut send = Guarded::new(case.seed + 1, case.inputs(rank, len));
            let mut recv = Guarded::junk(case.seed, case.count);
            group.scatter(send.whole(), recv.whole(), case.root)?;
            Ok(recv)
        }
        Kind::AllGather | Kind::AllGatherV | Kind::AllToAll | Kind::AllToAllV => {
            moving(group, case)
        }
        _ => {
            group.barrier()?;
            Ok(Guarded::junk(0, 0))
        }
    }
}

fn reducing<T: Value>(group: &ProcessGroup, case: &Case) -> Result<Guarded<T>> {
    let (rank, n, count) = (group.rank(), group.world_size(), case.count);
    let op = case.op_of(rank);
    let counts = case.counts(n);
    let total = match case.kind {
        Kind::ReduceScatter => n * count,
        Kind::ReduceScatterV => counts.iter().sum(),
        _ => count,
    };
    let mut send = Guarded::new(case.seed + 1, case.inputs(rank, total));
    if case.in_place && case.kind != Kind::ReduceScatterV {
        return match case.kind {
            Kind::AllReduce => {
                group.all_reduce_in_place(send.whole(), op)?;
                Ok(send)
            }
            Kind::Reduce => {
                group.reduce_in_place(send.whole(), op, case.root)?;
                Ok(send.only(0..if rank == case.root { count } else { 0 }))
            }
            _ => {
                group.reduce_scatter_in_place(send.whole(), op)?;
                Ok(send.only(rank * count..(rank + 1) * count))
            }
        };
    }
    let len = match case.kind {
        Kind::Reduce if rank != case.root => 0,
        Kind::ReduceScatterV => counts[rank],
        _ => count,
    };
    let mut recv = Guarded::junk(case.seed, len);
    match case.kind {
        Kind::AllReduce => group.all_reduce(send.whole(), recv.whole(), op)?,
        Kind::Reduce => group.reduce(send.whole(), recv.whole(), op, case.root)?,
        Kind::ReduceScatter => group.reduce_scatter(send.whole(), recv.whole(), op)?,
        _ => group.reduce_scatter_v(send.whole(), recv.whole(), &counts, op)?,
    }
    Ok(recv)
}

fn moving<T: Value>(group: &ProcessGroup, case: &Case) -> Result<Guarded<T>> {
    let (rank, n, count) = (group.rank(), group.world_size(), case.count);
    let mine = |len| Guarded::<T>::new(case.seed + 1, case.inputs(rank, len));
    let junk = |len| Guarded::<T>::junk(case.seed, len);
    match case.kind {
        Kind::AllGather if case.in_place => {
            let mut buf = junk(n * count);
            for (index, value) in buf.whole()[rank * count..][..count].iter_mut().enumerate() {
                *value = case.input(rank, index);
            }
            group.all_gather_in_place(buf.whole())?;
            Ok(buf)
        }
        Kind::AllGather => {
            let (mut send, mut recv) = (mine(count), junk(n * count));
            group.all_gather(send.whole(), recv.whole())?;
            Ok(recv)
        }
        Kind::AllGatherV => {
            let counts = case.counts(n);
            let (mut send, mut recv) = (mine(counts[rank]), junk(counts.iter().sum()));
            group.all_gather_v(send.whole(), recv.whole(), &counts)?;
            Ok(recv)
        }
        Kind::AllToAll if case.in_place => {
            let mut buf = mine(n * count);
            group.all_to_all_in_place(buf.whole())?;
            Ok(buf)
        }
        Kind::AllToAll => {
            let (mut send, mut recv) = (mine(n * count), junk(n * count));
            group.all_to_all(send.whole(), recv.whole())?;
            Ok(recv)
        }
        _ => {
            let sends: Vec<usize> = (0..n).map(|to| case.pair_count(rank, to)).collect();
            let receives: Vec<usize> = (0..n).map(|from| case.pair_count(from, rank)).collect();
            let (mut send, mut recv) = (mine(sends.iter().sum()), junk(receives.iter().sum()));
            group.all_to_all_v(send.whole(), recv.whole(), &sends, &receives)?;
            Ok(recv)
        }
    }
}
