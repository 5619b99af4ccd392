//! Every type and operation against a serial fold written differently.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the oracle computes in i128 and f64 and cuts on purpose"
)]

use half::bf16;
use half::f16;

use super::Fold;
use super::isa::Isa;
use crate::count::check_op;
use crate::dtype::DataType;
use crate::dtype::F8E4M3;
use crate::dtype::F8E5M2;
use crate::op::ReduceOp;

/// Every operation.
pub(super) const OPS: [ReduceOp; 9] = [
    ReduceOp::Sum,
    ReduceOp::Product,
    ReduceOp::Min,
    ReduceOp::Max,
    ReduceOp::Avg,
    ReduceOp::PreMulSum(1.0),
    ReduceOp::BitAnd,
    ReduceOp::BitOr,
    ReduceOp::BitXor,
];

const LENGTHS: [usize; 17] = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1000, 1023];

/// Contributions of `ranks` ranks: random bits, with the special codes of the type among them.
fn contributions(dtype: DataType, ranks: usize, count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let specials = specials(dtype);
    let size = dtype.size_bytes();
    let mut element = || {
        let (word, kind) = (next(), next());
        let bits = match kind % 8 {
            0 => specials[usize::try_from(kind / 8 % 64).unwrap() % specials.len()],
            // Numbers of like magnitude, so that sums round and do not only absorb.
            1..=5 => moderate(dtype, word),
            _ => word,
        };
        bits.to_le_bytes()[..size].to_vec()
    };
    (0..ranks).map(|_| (0..count).flat_map(|_| element()).collect::<Vec<u8>>()).collect()
}

/// Bits of a number near 1 of either sign.
fn moderate(dtype: DataType, word: u64) -> u64 {
    let small = (word % 4001) as f64 / 500.0 - 4.0;
    match dtype {
        DataType::F16 => u64::from(f16::from_f64(small).to_bits()),
        DataType::BF16 => u64::from(bf16::from_f64(small).to_bits()),
        DataType::F8E4M3 => u64::from(F8E4M3::from_f32(small as f32).0),
        DataType::F8E5M2 => u64::from(F8E5M2::from_f32(small as f32).0),
        DataType::F32 => u64::from((small as f32 * 1.000_123).to_bits()),
        DataType::F64 => (small * 1.000_123).to_bits(),
        _ => (word as i64 % 7) as u64,
    }
}

/// Zeros, infinities, NaNs of several payloads, subnormals and extremes.
fn specials(dtype: DataType) -> Vec<u64> {
    let halves = |inf: u64| {
        let sign = 0x8000;
        let mut all = vec![0, sign, inf, inf | sign, inf | 1, inf | sign | 0x55, inf - 1, 1, 2];
        all.extend([sign | 1, 0x7fff, 0xffff, sign | (inf - 1)]);
        all
    };
    match dtype {
        DataType::F16 => halves(0x7c00),
        DataType::BF16 => halves(0x7f80),
        DataType::F8E4M3 | DataType::F8E5M2 => (0..=255).step_by(3).chain([0x80, 0x7c]).collect(),
        DataType::F32 => {
            let mut all: Vec<u64> = halves(0x7f80).iter().map(|code| code << 16).collect();
            all.extend([1, 0x8000_0001, 0x7f80_0001, 0x7f7f_ffff, 0xffff_ffff, 0x7fc0_1234]);
            all
        }
        DataType::F64 => {
            let mut all: Vec<u64> = halves(0x7ff0).iter().map(|code| code << 48).collect();
            all.extend([1, 0x7ff0_0000_0000_0001, 0x7fef_ffff_ffff_ffff, u64::MAX]);
            all
        }
        _ => vec![0, 1, u64::MAX, 0x8080_8080_8080_8080 & !0x80, 1 << 31, 1 << 63, 0x7f, 0x80],
    }
}

/// The oracle for one element: written with `half`, `i128` and `total_cmp`.
#[expect(clippy::too_many_lines, reason = "one arm per type")]
fn oracle(dtype: DataType, op: ReduceOp, values: &[&[u8]], factors: &[f64]) -> Vec<u8> {
    macro_rules! integer {
        ($type:ident) => {{
            let all: Vec<i128> = values
                .iter()
                .map(|v| i128::from($type::from_le_bytes((*v).try_into().unwrap())))
                .collect();
            let wrapped_sum = |all: &[i128]| all.iter().sum::<i128>() as $type;
            let result: $type = match op {
                ReduceOp::Sum => wrapped_sum(&all),
                ReduceOp::Avg => (i128::from(wrapped_sum(&all)) / all.len() as i128) as $type,
                ReduceOp::Product => {
                    all.iter().fold(1, |a: i128, b| i128::from(a.wrapping_mul(*b) as $type))
                        as $type
                }
                ReduceOp::Min => *all.iter().min().unwrap() as $type,
                ReduceOp::Max => *all.iter().max().unwrap() as $type,
                ReduceOp::BitAnd => all.iter().fold(-1, |a, b| a & b) as $type,
                ReduceOp::BitOr => all.iter().fold(0, |a, b| a | b) as $type,
                ReduceOp::BitXor => all.iter().fold(0, |a, b| a ^ b) as $type,
                ReduceOp::PreMulSum(_) => unreachable!(),
            };
            result.to_le_bytes().to_vec()
        }};
    }
    macro_rules! float {
        ($acc:ident, $widen:expr, $narrow:expr, $nan:expr) => {{
            let all: Vec<$acc> = values.iter().map(|v| $widen(*v)).collect();
            let factor = |at: usize| factors[at] as $acc;
            let fold = |start: $acc, f: fn($acc, $acc) -> $acc| {
                all[1..].iter().fold(start, |a, b| f(a, *b))
            };
            let result: $acc = match op {
                ReduceOp::Sum => fold(all[0], |a, b| a + b),
                ReduceOp::Avg => fold(all[0], |a, b| a + b) / all.len() as $acc,
                ReduceOp::Product => fold(all[0], |a, b| a * b),
                ReduceOp::Min if all.iter().any(|x| x.is_nan()) => $acc::NAN,
                ReduceOp::Max if all.iter().any(|x| x.is_nan()) => $acc::NAN,
                ReduceOp::Min => all.iter().copied().min_by($acc::total_cmp).unwrap(),
                ReduceOp::Max => all.iter().copied().max_by($acc::total_cmp).unwrap(),
                ReduceOp::PreMulSum(_) => {
                    (1..all.len()).fold(all[0] * factor(0), |sum, at| sum + all[at] * factor(at))
                }
                _ => unreachable!(),
            };
            if result.is_nan() { $nan.to_le_bytes().to_vec() } else { $narrow(result) }
        }};
    }
    let is_choice = matches!(op, ReduceOp::Min | ReduceOp::Max);
    match dtype {
        DataType::I8 => integer!(i8),
        DataType::U8 => integer!(u8),
        DataType::I32 => integer!(i32),
        DataType::U32 => integer!(u32),
        DataType::I64 => integer!(i64),
        DataType::U64 => integer!(u64),
        DataType::F32 => float!(
            f32,
            |v: &[u8]| f32::from_le_bytes(v.try_into().unwrap()),
            |x: f32| x.to_le_bytes().to_vec(),
            0x7fc0_0000_u32
        ),
        DataType::F64 => float!(
            f64,
            |v: &[u8]| f64::from_le_bytes(v.try_into().unwrap()),
            |x: f64| x.to_le_bytes().to_vec(),
            0x7ff8_0000_0000_0000_u64
        ),
        DataType::F16 => float!(
            f32,
            |v: &[u8]| f16::from_le_bytes(v.try_into().unwrap()).to_f32(),
            |x: f32| f16::from_f32(x).to_le_bytes().to_vec(),
            0x7e00_u16
        ),
        DataType::BF16 => float!(
            f32,
            |v: &[u8]| bf16::from_le_bytes(v.try_into().unwrap()).to_f32(),
            |x: f32| bf16::from_f32(x).to_le_bytes().to_vec(),
            0x7fc0_u16
        ),
        DataType::F8E4M3 => float!(
            f32,
            |v: &[u8]| F8E4M3(v[0]).to_f32(),
            |x: f32| vec![F8E4M3::from_f32(x).0],
            0x7f_u8
        ),
        DataType::F8E5M2 => float!(
            f32,
            |v: &[u8]| F8E5M2(v[0]).to_f32(),
            // A chosen infinity stays; a computed one saturates.
            |x: f32| match x.is_infinite() && is_choice {
                true => vec![if x > 0.0 { 0x7c } else { 0xfc }],
                false => vec![F8E5M2::from_f32(x).0],
            },
            0x7e_u8
        ),
    }
}

fn expected(dtype: DataType, op: ReduceOp, ranks: &[Vec<u8>], factors: &[f64]) -> Vec<u8> {
    let size = dtype.size_bytes();
    let count = ranks[0].len() / size;
    (0..count)
        .flat_map(|at| {
            let values: Vec<&[u8]> =
                ranks.iter().map(|rank| &rank[at * size..(at + 1) * size]).collect();
            oracle(dtype, op, &values, factors)
        })
        .collect()
}

/// Every type with every operation that exists for it.
fn all_folds() -> impl Iterator<Item = (DataType, ReduceOp)> {
    DataType::ALL
        .into_iter()
        .flat_map(|dtype| OPS.map(|op| (dtype, op)))
        .filter(|(dtype, op)| check_op("test", *op, *dtype).is_ok())
}

fn fold_for(isa: Isa, dtype: DataType, op: ReduceOp, world_size: usize) -> Fold {
    let mut fold = Fold::new(dtype, op, world_size);
    fold.choice.isa = isa;
    fold
}

/// A copy of `bytes` at an address that is `offset` past a multiple of 64, in a larger buffer
/// whose other bytes must stay.
struct Guarded {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Guarded {
    const MARK: u8 = 0xa5;

    fn new(bytes: &[u8], offset: usize) -> Self {
        let mut all = vec![Self::MARK; bytes.len() + 192];
        let from = 64 - all.as_ptr() as usize % 64 + offset;
        all[from..from + bytes.len()].copy_from_slice(bytes);
        Self { bytes: all, from, len: bytes.len() }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.len]
    }

    fn take(self) -> Vec<u8> {
        let (before, rest) = self.bytes.split_at(self.from);
        let (inside, after) = rest.split_at(self.len);
        assert!(before.iter().chain(after).all(|b| *b == Self::MARK), "wrote outside");
        inside.to_vec()
    }
}

/// The result by start, add and finish.
fn serial(fold: &Fold, ranks: &[Vec<u8>], factors: &[f64], offset: usize) -> Vec<u8> {
    let size = fold.choice.dtype.size_bytes();
    let acc_bytes = ranks[0].len() / size * fold.acc_bytes();
    let mut acc = Guarded::new(&vec![0x5a; acc_bytes], offset);
    let mut inputs = ranks.iter().map(|rank| Guarded::new(rank, offset + 1)).zip(factors);
    if let Some((mut x, factor)) = inputs.next() {
        fold.start(acc.get(), x.get(), *factor);
    }
    for (mut x, factor) in inputs {
        fold.add(acc.get(), x.get(), *factor);
    }
    if fold.is_wide() {
        let mut out = Guarded::new(&vec![0; ranks[0].len()], offset + 2);
        fold.finish(out.get(), acc.get());
        let acc = acc.take();
        assert_eq!(acc.len(), acc_bytes);
        out.take()
    } else {
        let mut out = Guarded::new(&vec![0; ranks[0].len()], offset + 2);
        fold.finish(out.get(), acc.get());
        fold.finish_in_place(acc.get());
        let (out, acc) = (out.take(), acc.take());
        assert_eq!(out, acc, "finish and finish_in_place");
        out
    }
}

#[track_caller]
fn assert_same(got: &[u8], wanted: &[u8], fold: &Fold, what: &str, ranks: &[Vec<u8>]) {
    let size = fold.choice.dtype.size_bytes();
    assert_eq!(got.len(), wanted.len());
    for at in 0..got.len() / size {
        let range = at * size..(at + 1) * size;
        let inputs: Vec<&[u8]> = ranks.iter().map(|rank| &rank[range.clone()]).collect();
        assert_eq!(
            got[range.clone()],
            wanted[range.clone()],
            "{what}, element {at} of {}, inputs {inputs:02x?}, {fold:?}",
            got.len() / size
        );
    }
}

#[test]
fn folds_of_one_to_eight_ranks_are_the_serial_fold_on_every_instruction_set() {
    let factors = [0.5, 3.0, -1.25, 0.1, 1e-3, 1.0, 7.0, -0.0];
    for (dtype, op) in all_folds() {
        for ranks in 1..=8 {
            let count = LENGTHS[ranks + 8];
            let inputs = contributions(dtype, ranks, count, ranks as u64);
            let factors = &factors[..ranks];
            let wanted = expected(dtype, op, &inputs, factors);
            for isa in Isa::all() {
                let fold = fold_for(isa, dtype, op, ranks);
                let got = serial(&fold, &inputs, factors, ranks);
                // A single contribution is copied: its NaNs keep their bits in narrow types.
                let copied = ranks == 1
                    && !fold.is_wide()
                    && !matches!(op, ReduceOp::Avg)
                    && !matches!(op, ReduceOp::PreMulSum(_));
                let wanted = if copied { &inputs[0] } else { &wanted };
                assert_same(&got, wanted, &fold, "start+add+finish", &inputs);
            }
        }
    }
}

#[test]
fn pairs_are_the_serial_fold_at_every_length_and_alignment() {
    let factors = [0.75, -1.5];
    for (dtype, op) in all_folds() {
        for (at, count) in LENGTHS.into_iter().enumerate() {
            let inputs = contributions(dtype, 2, count, 100 + at as u64);
            let wanted = expected(dtype, op, &inputs, &factors);
            for isa in Isa::all() {
                let fold = fold_for(isa, dtype, op, 2);
                let offset = at % 7;
                let mut left = Guarded::new(&inputs[0], offset);
                let mut right = Guarded::new(&inputs[1], offset + 3);
                let mut out = Guarded::new(&vec![0x77; wanted.len()], offset + 1);
                fold.pair(out.get(), left.get(), right.get(), factors);
                assert_same(&out.take(), &wanted, &fold, "pair", &inputs);

                let mut out = Guarded::new(&inputs[0], offset + 1);
                fold.pair_left(out.get(), right.get(), factors);
                assert_same(&out.take(), &wanted, &fold, "pair_left", &inputs);

                let mut out = Guarded::new(&inputs[1], offset + 1);
                fold.pair_right(left.get(), out.get(), factors);
                assert_same(&out.take(), &wanted, &fold, "pair_right", &inputs);

                let got = serial(&fold, &inputs, &factors, offset);
                assert_same(&got, &wanted, &fold, "start+add+finish", &inputs);
            }
        }
    }
}

#[test]
fn every_pair_of_small_floats_is_the_oracles() {
    let all: Vec<u8> = (0..=255).collect();
    for (dtype, op) in all_folds() {
        if dtype.is_integer() || dtype.size_bytes() != 1 {
            continue;
        }
        for left in 0..=255 {
            let inputs = vec![vec![left; 256], all.clone()];
            let wanted = expected(dtype, op, &inputs, &[1.0, -2.0]);
            for isa in Isa::all() {
                let fold = fold_for(isa, dtype, op, 2);
                let mut out = vec![0; 256];
                fold.pair(&mut out, &inputs[0], &inputs[1], [1.0, -2.0]);
                assert_same(&out, &wanted, &fold, "pair", &inputs);
            }
        }
    }
}

#[test]
fn every_half_survives_a_fold_of_one() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for dtype in [DataType::F16, DataType::BF16] {
        let inputs = [all.clone()];
        let wanted = expected(dtype, ReduceOp::Sum, &inputs, &[1.0]);
        for isa in Isa::all() {
            let fold = fold_for(isa, dtype, ReduceOp::Sum, 1);
            assert!(fold.is_wide());
            let got = serial(&fold, &inputs, &[1.0], 0);
            assert_same(&got, &wanted, &fold, "fold of one", &inputs);
        }
    }
}

#[test]
fn halves_are_rounded_once_at_the_end() {
    // 1 + 2^-8 + 2^-8 in bf16: rounding after each step would lose both small ones.
    let one = bf16::from_f32(1.0).to_le_bytes();
    let small = bf16::from_f32(2_f32.powi(-8)).to_le_bytes();
    let fold = Fold::new(DataType::BF16, ReduceOp::Sum, 3);
    let (mut acc, mut out) = ([0; 4], [0; 2]);
    fold.start(&mut acc, &one, 1.0);
    fold.add(&mut acc, &small, 1.0);
    fold.add(&mut acc, &small, 1.0);
    fold.finish(&mut out, &acc);
    assert_eq!(bf16::from_le_bytes(out).to_f32(), 1.0 + 2_f32.powi(-7));
    assert_eq!(bf16::from_f32(1.0) + bf16::from_f32(2_f32.powi(-8)), bf16::from_f32(1.0));
}

#[test]
fn zeros_nans_and_averages_come_out_as_documented() {
    let pair = |op, left: f32, right: f32| {
        let mut out = left.to_ne_bytes();
        Fold::new(DataType::F32, op, 2).pair_left(&mut out, &right.to_ne_bytes(), [1.0; 2]);
        f32::from_ne_bytes(out)
    };
    for (left, right) in [(0.0, -0.0), (-0.0, 0.0)] {
        assert_eq!(pair(ReduceOp::Min, left, right).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(pair(ReduceOp::Max, left, right).to_bits(), 0);
    }
    for op in [ReduceOp::Min, ReduceOp::Max, ReduceOp::Sum, ReduceOp::Product, ReduceOp::Avg] {
        assert_eq!(pair(op, f32::from_bits(0xffc0_1234), 1.0).to_bits(), 0x7fc0_0000);
        assert_eq!(pair(op, 1.0, f32::from_bits(0xff80_0001)).to_bits(), 0x7fc0_0000);
    }
    assert_eq!(pair(ReduceOp::Sum, f32::INFINITY, f32::NEG_INFINITY).to_bits(), 0x7fc0_0000);

    let average = |left: i8, right: i8| {
        let mut out = left.to_ne_bytes();
        Fold::new(DataType::I8, ReduceOp::Avg, 2).pair_left(
            &mut out,
            &right.to_ne_bytes(),
            [1.0; 2],
        );
        i8::from_ne_bytes(out)
    };
    assert_eq!(average(-3, 0), -1, "towards zero");
    assert_eq!(average(100, 100), -28, "the sum wraps first");
    assert_eq!(average(-128, 0), -64);
}

#[test]
fn an_average_over_many_ranks_divides_by_all_of_them() {
    for (world_size, expected) in [(1, 100_u8), (3, 33), (100, 1), (101, 0), (1 << 20, 0)] {
        let fold = Fold::new(DataType::U8, ReduceOp::Avg, world_size);
        let mut acc = [100];
        fold.finish_in_place(&mut acc);
        assert_eq!(acc, [expected]);
    }
    let fold = Fold::new(DataType::I64, ReduceOp::Avg, 1 << 20);
    let mut acc = i64::MIN.to_ne_bytes();
    fold.finish_in_place(&mut acc);
    assert_eq!(i64::from_ne_bytes(acc), -(1 << 43));
}

#[test]
fn accumulators_are_wide_for_sums_of_small_floats_only() {
    for (dtype, op) in all_folds() {
        let fold = Fold::new(dtype, op, 2);
        let small =
            matches!(dtype, DataType::F16 | DataType::BF16 | DataType::F8E4M3 | DataType::F8E5M2);
        let wide = small && !matches!(op, ReduceOp::Min | ReduceOp::Max);
        assert_eq!(fold.is_wide(), wide, "{dtype} {op}");
        assert_eq!(fold.acc_bytes(), if wide { 4 } else { dtype.size_bytes() }, "{dtype} {op}");
    }
}

#[test]
#[cfg(not(debug_assertions))]
fn slices_of_different_lengths_are_folded_up_to_the_shorter() {
    for (dtype, op) in all_folds() {
        let size = dtype.size_bytes();
        let inputs = contributions(dtype, 2, 20, 5);
        let wanted = expected(dtype, op, &inputs, &[1.0, 1.0]);
        let fold = Fold::new(dtype, op, 2);
        let mut out = vec![0; 20 * size];
        fold.pair(&mut out, &inputs[0], &inputs[1][..17 * size], [1.0; 2]);
        assert_eq!(out[..17 * size], wanted[..17 * size]);
        assert!(out[17 * size..].iter().all(|b| *b == 0));
        let mut out = inputs[0].clone();
        fold.pair_left(&mut out[..9 * size], &inputs[1], [1.0; 2]);
        assert_eq!(out[..9 * size], wanted[..9 * size]);
    }
}

#[test]
fn averages_divide_exactly_around_every_multiple() {
    for ranks in [1, 2, 3, 5, 7, 10, 127, 128, 255, 256, 1000, 65_537, u32::MAX as usize] {
        let fold = |dtype| Fold::new(dtype, ReduceOp::Avg, ranks);
        let mut bytes: Vec<u8> = (0..=255).collect();
        fold(DataType::U8).finish_in_place(&mut bytes);
        for (x, got) in bytes.iter().enumerate() {
            assert_eq!(usize::from(*got), x / ranks, "{x} / {ranks}");
        }
        let mut bytes: Vec<u8> = (0..=255).collect();
        fold(DataType::I8).finish_in_place(&mut bytes);
        for (x, got) in (0..=255_u8).zip(bytes) {
            let expected = i64::from(x.cast_signed()) / ranks as i64;
            assert_eq!(i64::from(got.cast_signed()), expected, "{} / {ranks}", x.cast_signed());
        }
        let divisor = u64::try_from(ranks).unwrap();
        let most = u64::from(u32::MAX) / divisor;
        let quotients = (0..300).chain(most.saturating_sub(300)..=most);
        let near = quotients.flat_map(|q| [q * divisor, (q * divisor).wrapping_sub(1)]);
        let words: Vec<u32> = near.filter_map(|x| u32::try_from(x).ok()).collect();
        let mut bytes: Vec<u8> = words.iter().flat_map(|x| x.to_ne_bytes()).collect();
        fold(DataType::U32).finish_in_place(&mut bytes);
        for (x, got) in words.iter().zip(bytes.chunks(4)) {
            let got = u32::from_ne_bytes(got.try_into().unwrap());
            assert_eq!(u64::from(got), u64::from(*x) / divisor, "{x} / {ranks}");
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|x| x.to_ne_bytes()).collect();
        fold(DataType::I32).finish_in_place(&mut bytes);
        for (x, got) in words.iter().zip(bytes.chunks(4)) {
            let got = i32::from_ne_bytes(got.try_into().unwrap());
            assert_eq!(i64::from(got), i64::from(x.cast_signed()) / ranks as i64, "{x} / {ranks}");
        }
    }
}
