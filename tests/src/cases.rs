//! Which calls are made of all that are possible.

use nccl::DataType;
use nccl::Kind;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

use crate::matrix;
use crate::matrix::Case;
use crate::oracle::Flavour;

/// The world sizes of the matrix.
pub const WORLD_SIZES: [usize; 7] = [1, 2, 3, 4, 5, 7, 8];

/// All collectives.
pub const KINDS: [Kind; 12] = [
    Kind::AllReduce,
    Kind::Reduce,
    Kind::Broadcast,
    Kind::AllGather,
    Kind::AllGatherV,
    Kind::ReduceScatter,
    Kind::ReduceScatterV,
    Kind::Gather,
    Kind::Scatter,
    Kind::AllToAll,
    Kind::AllToAllV,
    Kind::Barrier,
];

/// Counts that are crossed with everything.
pub const SMALL_COUNTS: [usize; 4] = [0, 1, 2, 7];
/// A count crossed with everything but the places and roots, which take turns.
pub const MIDDLE_COUNT: usize = 1001;
/// A count that meets every type, collective and operation by turns.
pub const LARGE_COUNT: usize = 65537;

/// The reductions that exist for a type.
#[must_use]
pub fn ops(dtype: DataType) -> &'static [ReduceOp] {
    use ReduceOp::*;
    if dtype.is_integer() {
        &[Sum, Product, Min, Max, Avg, BitAnd, BitOr, BitXor]
    } else {
        &[Sum, Product, Min, Max, Avg, PreMulSum(0.0)]
    }
}

/// The cases of the matrix for one world.
///
/// - Fully crossed: collective x type x operation x counts 0, 1, 2, 7 x in place and not x roots
///   (first, last, middle).
/// - Count 1001: collective x type x operation; place and root take turns.
/// - Count 65537: collective x type in every third world size, so that each pair is met in two or
///   three of the seven; operation, place and root take turns.
/// - Infinities and NaNs: reducing collective x floating-point type x operation, counts 7 and
///   1001; place and root take turns.
#[must_use]
pub fn matrix(world_size: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (k, kind) in KINDS.into_iter().enumerate() {
        if kind == Kind::Barrier {
            cases.extend((0..5).map(|_| case(kind, DataType::U8, ReduceOp::Sum, 0)));
            continue;
        }
        for (d, dtype) in DataType::ALL.into_iter().enumerate() {
            let reductions = if matrix::reduces(kind) { ops(dtype) } else { &[ReduceOp::Sum] };
            for (o, op) in reductions.iter().enumerate() {
                for count in SMALL_COUNTS {
                    cases.extend(variants(case(kind, dtype, *op, count), world_size));
                }
                let turn = k + 3 * d + o;
                cases.push(turned(case(kind, dtype, *op, MIDDLE_COUNT), world_size, turn));
                let special = matrix::reduces(kind) && !dtype.is_integer();
                for (i, count) in [7, MIDDLE_COUNT].into_iter().enumerate().filter(|_| special) {
                    let odd = world_size > 1 && (turn + i) % 2 == 1;
                    let flavour = if odd { Flavour::OddNans } else { Flavour::Special };
                    let special = Case { flavour, ..case(kind, dtype, *op, count) };
                    cases.push(turned(special, world_size, turn + i));
                }
            }
            if (d + k + world_size_index(world_size)).is_multiple_of(3) {
                let turn = d + k + world_size;
                let op = reductions[turn % reductions.len()];
                cases.push(turned(case(kind, dtype, op, LARGE_COUNT), world_size, turn));
            }
        }
    }
    for (seed, case) in (0..).zip(&mut cases) {
        case.seed = seed;
    }
    cases
}

/// What takes turns in [`matrix()`], crossed: collective x type x operation with count 65537, in both
/// places; the root takes turns. Minutes, so it is a test by itself.
#[must_use]
pub fn large(world_size: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (k, kind) in KINDS.into_iter().enumerate().filter(|(_, kind)| *kind != Kind::Barrier) {
        for (d, dtype) in DataType::ALL.into_iter().enumerate() {
            let reductions = if matrix::reduces(kind) { ops(dtype) } else { &[ReduceOp::Sum] };
            for (o, op) in reductions.iter().enumerate() {
                let variants = variants(case(kind, dtype, *op, LARGE_COUNT), world_size);
                let root = variants[(k + d + o) % variants.len()].root;
                cases.extend(variants.into_iter().filter(|case| case.root == root));
            }
        }
    }
    for (seed, case) in (0..).zip(&mut cases) {
        case.seed = seed;
    }
    cases
}

/// Makes the calls, and compares all that this rank gets; gives the number of cases.
///
/// # Errors
/// Those of the group.
///
/// # Panics
/// With the first differences, once all calls are made.
pub fn check_all(group: &ProcessGroup, cases: &[Case]) -> Result<usize> {
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(matrix::check(group, case)?);
    }
    group.barrier()?;
    let shown = wrong.len().min(5);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..shown].join("\n"));
    Ok(cases.len())
}

fn world_size_index(world_size: usize) -> usize {
    WORLD_SIZES.iter().position(|size| *size == world_size).unwrap_or(world_size)
}

fn case(kind: Kind, dtype: DataType, op: ReduceOp, count: usize) -> Case {
    let flavour = Flavour::Plain;
    Case { kind, dtype, op, count, root: 0, in_place: false, flavour, seed: 0 }
}

fn roots(kind: Kind, world_size: usize) -> Vec<usize> {
    let mut roots = vec![0];
    if matrix::has_root(kind) {
        roots.extend([world_size / 2, world_size - 1]);
    }
    roots.dedup();
    roots.retain(|root| *root < world_size);
    roots
}

/// `case` in both places and with all roots.
fn variants(case: Case, world_size: usize) -> Vec<Case> {
    let places = if matrix::has_both_places(case.kind) { &[false, true][..] } else { &[false] };
    let roots = roots(case.kind, world_size);
    let at = |root| places.iter().map(move |in_place| Case { root, in_place: *in_place, ..case });
    roots.into_iter().flat_map(at).collect()
}

/// `case` in one place and with one root.
fn turned(case: Case, world_size: usize, turn: usize) -> Case {
    let variants = variants(case, world_size);
    variants[turn % variants.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_collective_meets_the_large_count() {
        let cases: Vec<Case> = WORLD_SIZES.into_iter().flat_map(matrix).collect();
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Barrier) {
            for dtype in DataType::ALL {
                let is = |case: &&Case| {
                    case.kind == kind && case.dtype == dtype && case.count == LARGE_COUNT
                };
                assert!(cases.iter().filter(is).count() >= 2, "{kind:?} {dtype}");
            }
        }
    }

    #[test]
    fn every_reduction_that_exists_meets_every_small_count_in_both_places() {
        let cases = matrix(5);
        for dtype in DataType::ALL {
            for op in ops(dtype) {
                for count in SMALL_COUNTS {
                    let is = |case: &&Case| {
                        case.kind == Kind::Reduce
                            && (case.dtype, case.op, case.count) == (dtype, *op, count)
                            && case.flavour == Flavour::Plain
                    };
                    assert_eq!(cases.iter().filter(is).count(), 6);
                }
            }
        }
    }
}
