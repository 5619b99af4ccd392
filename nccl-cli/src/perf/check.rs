//! What goes into a collective and what must come out of it, by formula.
//!
//! Nothing here is read from another rank: each rank computes what every rank sends from its
//! number, the element's index and a seed. Data that is only moved is any bits at all. Data that is
//! reduced is made of small numbers whose sums, products and so on are small again, whatever the
//! order, so that each type holds them exactly and the comparison is of bits.

use nccl::ReduceOp;

use crate::perf::cell::Cell;
use crate::perf::cell::Collective;
use crate::perf::cell::Place;
use crate::perf::value::Value;

/// Elements behind each output that must stay as they were.
pub(crate) const GUARD: usize = 16;

/// What rank `rank` does in one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The call.
    pub(crate) cell: Cell,
    /// Its form.
    pub(crate) place: Place,
    /// Who this is.
    pub(crate) rank: usize,
    /// Other numbers for other cells.
    pub(crate) seed: u64,
}

impl Case {
    /// Elements of the input and of the output. In place, the input is what this rank must fill of
    /// the one buffer, and the output is that buffer.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let (count, total) = (self.cell.count(), self.cell.total());
        let is_root = self.cell.root == Some(self.rank);
        match (self.cell.collective, self.place) {
            (Collective::Barrier, _) => (0, 0),
            (Collective::AllGather, _) => (count, total),
            (Collective::ReduceScatter, Place::Out) => (total, count),
            (Collective::Broadcast, _) => (if is_root { count } else { 0 }, count),
            (Collective::Gather, _) => (count, if is_root { total } else { 0 }),
            (Collective::Scatter, _) => (if is_root { total } else { 0 }, count),
            (Collective::Reduce, Place::Out) => (count, if is_root { count } else { 0 }),
            _ => (total, total),
        }
    }

    /// Where the input begins in the one buffer.
    pub(crate) fn input_at(&self) -> usize {
        match self.cell.collective {
            Collective::AllGather => self.rank * self.cell.count(),
            _ => 0,
        }
    }

    /// Which elements of the output buffer are promised: first and number.
    fn promised(&self) -> (usize, usize) {
        let (_, output) = self.lengths();
        match (self.cell.collective, self.place) {
            (Collective::ReduceScatter, Place::In) => {
                (self.rank * self.cell.count(), self.cell.count())
            }
            (Collective::Reduce, Place::In) if self.cell.root != Some(self.rank) => (0, 0),
            _ => (0, output),
        }
    }

    /// Element `index` of this rank's input.
    pub(crate) fn input<T: Value>(&self, index: usize) -> T {
        match self.cell.op {
            Some(op) => self.term(op, index),
            None => self.moved(self.rank, index),
        }
    }

    /// Element `index` of this rank's output buffer.
    pub(crate) fn output<T: Value>(&self, index: usize) -> T {
        let count = self.cell.count().max(1);
        let root = self.cell.root.unwrap_or(0);
        let n = self.cell.world_size;
        let own = self.rank * count;
        match (self.cell.collective, self.cell.op, self.place) {
            (Collective::ReduceScatter, Some(op), Place::Out) => self.result(op, own + index),
            (_, Some(op), _) => self.result(op, index),
            (Collective::AllGather | Collective::Gather, ..) => {
                self.moved(index / count, index % count)
            }
            (Collective::AllToAll, ..) => self.moved(index / count, own + index % count),
            (Collective::Scatter, ..) => self.moved(root, own + index),
            (Collective::Broadcast, ..) => self.moved(root, index),
            _ => self.moved((self.rank + n - 1) % n, index),
        }
    }

    /// Makes every promised element of `buffer`, and the guard behind it, something else than it
    /// must become.
    pub(crate) fn spoil<T: Value>(&self, buffer: &mut [T]) {
        let (_, output) = self.lengths();
        for (index, element) in buffer.iter_mut().enumerate() {
            let bits = if index < output { self.output::<T>(index).bits() } else { guard(index) };
            *element = T::from_bits(!bits);
        }
    }

    /// How many elements of `buffer` are not what they must be.
    pub(crate) fn wrong<T: Value>(&self, buffer: &[T]) -> u64 {
        let (_, output) = self.lengths();
        let (first, number) = self.promised();
        let of_output =
            |(index, element): (usize, &T)| element.bits() != self.output::<T>(index).bits();
        let of_guard =
            |(index, element): (usize, &T)| element.bits() != T::from_bits(!guard(index)).bits();
        let promised = buffer.iter().enumerate().skip(first).take(number);
        let outputs = promised.filter(|pair| of_output(*pair)).count();
        let guards = buffer.iter().enumerate().skip(output).filter(|pair| of_guard(*pair)).count();
        (outputs + guards) as u64
    }

    /// Which element a test makes wrong, if there is one.
    pub(crate) fn first_promised(&self) -> Option<usize> {
        let (first, number) = self.promised();
        (number > 0).then_some(first)
    }

    fn moved<T: Value>(&self, rank: usize, index: usize) -> T {
        T::from_bits(hash(self.seed ^ hash(0, rank), index))
    }

    /// A step of a walk that all ranks take together: `step(r)` is the walk's place after rank
    /// `r` less the place before it, so that any run of ranks sums to the difference of two places.
    fn place(&self, rank: usize, index: usize) -> i32 {
        small(hash(self.seed, index).wrapping_add(2 * rank as u64), 5)
    }

    fn step(&self, rank: usize, index: usize) -> i32 {
        self.place(rank + 1, index) - self.place(rank, index)
    }

    fn walk(&self, index: usize) -> i32 {
        self.place(self.cell.world_size, index) - self.place(0, index)
    }

    /// The one rank whose element decides a minimum, a maximum and the like.
    fn decides(&self, index: usize) -> bool {
        let n = self.cell.world_size.max(1) as u64;
        hash(self.seed, index) % n == self.rank as u64
    }

    /// What this rank puts into a reduction.
    fn term<T: Value>(&self, op: ReduceOp, index: usize) -> T {
        let any = hash(self.seed ^ 1, index);
        let own = hash(self.seed ^ hash(2, self.rank), index);
        match op {
            ReduceOp::Product => T::power(self.step(self.rank, index), 5),
            ReduceOp::Min if self.decides(index) => T::from_int(small(any, 4)),
            ReduceOp::Min => T::from_int(small(any, 4) + 1 + small(own, 3)),
            ReduceOp::Max if self.decides(index) => T::from_int(small(any, 4) + 4),
            ReduceOp::Max => T::from_int(small(any, 4) + 3 - small(own, 3)),
            ReduceOp::Avg => {
                // The walk ends where it began, so that the sum is the ranks' number times `any`.
                let at = |rank: usize| {
                    let rank = if rank == self.cell.world_size { 0 } else { rank };
                    small(any.wrapping_add(2 * rank as u64), 3)
                };
                T::from_int(2 + small(own_less(any), 5) + at(self.rank + 1) - at(self.rank))
            }
            ReduceOp::PreMulSum(_) if self.rank.is_multiple_of(2) => {
                T::from_half(self.step(self.rank, index))
            }
            ReduceOp::PreMulSum(_) => T::from_int(2 * self.step(self.rank, index)),
            ReduceOp::BitAnd if self.decides(index) => T::from_bits(any),
            ReduceOp::BitAnd => T::from_bits(any | own),
            ReduceOp::BitOr if self.decides(index) => T::from_bits(any),
            ReduceOp::BitOr => T::from_bits(any & own),
            ReduceOp::BitXor => {
                let before = hash(self.seed ^ hash(3, self.rank), index);
                T::from_bits(before ^ hash(self.seed ^ hash(3, self.rank + 1), index))
            }
            _ => T::from_int(self.step(self.rank, index)),
        }
    }

    /// What the reduction over all ranks must give; no sum over ranks is made for it.
    fn result<T: Value>(&self, op: ReduceOp, index: usize) -> T {
        let n = self.cell.world_size;
        let any = hash(self.seed ^ 1, index);
        match op {
            ReduceOp::Product => {
                T::power(self.walk(index), u32::try_from(n).unwrap_or(u32::MAX).saturating_mul(5))
            }
            ReduceOp::Min => T::from_int(small(any, 4)),
            ReduceOp::Max => T::from_int(small(any, 4) + 4),
            ReduceOp::Avg => T::average(2 + small(own_less(any), 5), n),
            ReduceOp::BitAnd | ReduceOp::BitOr => T::from_bits(any),
            ReduceOp::BitXor => {
                let before = hash(self.seed ^ hash(3, 0), index);
                T::from_bits(before ^ hash(self.seed ^ hash(3, n), index))
            }
            _ => T::from_int(self.walk(index)),
        }
    }
}

/// This rank's own factor of a pre-multiplied sum.
pub(crate) fn factor(rank: usize) -> f64 {
    if rank.is_multiple_of(2) { 2.0 } else { 0.5 }
}

/// Other bits of a hash that belongs to no rank.
fn own_less(any: u64) -> u64 {
    any >> 20
}

/// What the guard behind an output holds, inverted.
fn guard(index: usize) -> u64 {
    hash(4, index)
}

/// A number below `limit`.
fn small(bits: u64, limit: u64) -> i32 {
    i32::try_from((bits & 0xffff_ffff) % limit).unwrap_or(0)
}

/// Mixes a seed and an index (the finisher of splitmix64).
#[inline]
fn hash(seed: u64, index: usize) -> u64 {
    let mut bits =
        (index as u64).wrapping_add(seed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use nccl::DataType;
    use nccl::F8E4M3;
    use nccl::F8E5M2;

    use super::*;

    fn case(op: ReduceOp, dtype: DataType, rank: usize, world_size: usize) -> Case {
        let collective = Collective::AllReduce;
        let cell =
            Cell { collective, asked_bytes: 400, dtype, op: Some(op), root: None, world_size };
        Case { cell, place: Place::Out, rank, seed: 77 }
    }

    /// Folds by brute force, in `f64` or `i128`, what [`Case::result`] has a formula for.
    fn fold_floats<T: Value>(to_f64: impl Fn(T) -> f64, ops: &[ReduceOp]) {
        for (op, n) in ops.iter().flat_map(|op| [1, 2, 3, 5, 8, 33].map(|n| (*op, n))) {
            for index in 0..200 {
                let cases = (0..n).map(|rank| case(op, T::DTYPE, rank, n));
                let terms: Vec<f64> = cases
                    .map(|case| {
                        let scale =
                            if let ReduceOp::PreMulSum(_) = op { factor(case.rank) } else { 1.0 };
                        to_f64(case.term(op, index)) * scale
                    })
                    .collect();
                let got = match op {
                    ReduceOp::Product => terms.iter().product(),
                    ReduceOp::Min => terms.iter().copied().fold(f64::INFINITY, f64::min),
                    ReduceOp::Max => terms.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    ReduceOp::Avg => terms.iter().sum::<f64>() / n as f64,
                    _ => terms.iter().sum(),
                };
                let expected = to_f64(case(op, T::DTYPE, 0, n).result(op, index));
                assert_eq!(got, expected, "{op} over {n} of {terms:?}");
            }
        }
    }

    const FLOAT_OPS: [ReduceOp; 6] = [
        ReduceOp::Sum,
        ReduceOp::Product,
        ReduceOp::Min,
        ReduceOp::Max,
        ReduceOp::Avg,
        ReduceOp::PreMulSum(2.0),
    ];

    #[test]
    fn results_of_floats_are_exact_even_in_eight_bits() {
        fold_floats::<F8E5M2>(|x| f64::from(x.to_f32()), &FLOAT_OPS);
        fold_floats::<F8E4M3>(|x| f64::from(x.to_f32()), &FLOAT_OPS);
        fold_floats::<f64>(|x| x, &FLOAT_OPS);
    }

    #[test]
    fn results_of_integers_are_those_of_wrapping_folds() {
        let ops = [
            ReduceOp::Sum,
            ReduceOp::Product,
            ReduceOp::Min,
            ReduceOp::Max,
            ReduceOp::BitAnd,
            ReduceOp::BitOr,
            ReduceOp::BitXor,
        ];
        for (op, n) in ops.into_iter().flat_map(|op| [1, 2, 3, 7, 40].map(|n| (op, n))) {
            for index in 0..200 {
                let terms =
                    (0..n).map(|rank| case(op, DataType::U8, rank, n).term::<u8>(op, index));
                let got = terms.reduce(|a, b| match op {
                    ReduceOp::Sum => a.wrapping_add(b),
                    ReduceOp::Product => a.wrapping_mul(b),
                    ReduceOp::Min => a.min(b),
                    ReduceOp::Max => a.max(b),
                    ReduceOp::BitAnd => a & b,
                    ReduceOp::BitOr => a | b,
                    _ => a ^ b,
                });
                let expected = case(op, DataType::U8, 0, n).result::<u8>(op, index);
                assert_eq!(got, Some(expected), "{op} over {n}, element {index}");
            }
        }
    }

    #[test]
    fn no_rank_can_be_left_out() {
        for op in FLOAT_OPS {
            for rank in 0..4 {
                let case = case(op, DataType::F32, rank, 4);
                let neutral = match op {
                    ReduceOp::Product => 1.0,
                    ReduceOp::Min => 7.0_f32,
                    ReduceOp::Max => 1.0,
                    _ => 0.0,
                };
                let counts = (0..100).filter(|index| case.term::<f32>(op, *index) != neutral);
                assert!(counts.count() > 20, "{op}, rank {rank}");
            }
        }
    }

    #[test]
    fn a_spoilt_buffer_is_wrong_everywhere_and_its_guard_is_right() {
        let case = case(ReduceOp::Sum, DataType::U8, 1, 3);
        let mut buffer = vec![0_u8; 400 + GUARD];
        case.spoil(&mut buffer);
        assert_eq!(case.wrong(&buffer), 400);
        for (index, element) in buffer.iter_mut().enumerate().take(400) {
            *element = case.output(index);
        }
        assert_eq!(case.wrong(&buffer), 0);
        buffer[7] ^= 1;
        buffer[400] ^= 1;
        assert_eq!(case.wrong(&buffer), 2);
    }
}
