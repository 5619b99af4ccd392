//! Values that every type has, and whose sums, products and averages are exact in every type and
//! in every order: real NCCL reduces in the order it likes, and in the type itself.

use nccl::DataType;
use nccl::F8E4M3;
use nccl::F8E5M2;
use nccl::ReduceOp;
use nccl::bf16;
use nccl::f16;
use tests::oracle::Value;

/// A type with the small numbers of these tests: multiples of 1/4 up to 2, integers up to 8, 16.
pub(crate) trait Exact: Value {
    fn of(number: f32) -> Self;
}

macro_rules! exact {
    ($($type:ident: $of:expr),* $(,)?) => {$(
        impl Exact for $type {
            #[expect(clippy::allow_attributes, reason = "which casts warn depends on the type")]
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small numbers"
            )]
            fn of(number: f32) -> Self {
                ($of)(number)
            }
        }
    )*};
}

exact! {
    i8: |x| x as i8,
    u8: |x| x as u8,
    i32: |x| x as i32,
    u32: |x| x as u32,
    i64: |x| x as i64,
    u64: |x| x as u64,
    f16: f16::from_f32,
    bf16: bf16::from_f32,
    f32: |x| x,
    f64: f64::from,
    F8E4M3: F8E4M3::from_f32,
    F8E5M2: F8E5M2::from_f32,
}

/// The reductions that are compared, of a type, among so many ranks.
pub(crate) fn ops(dtype: DataType, world_size: usize) -> Vec<ReduceOp> {
    use ReduceOp::*;
    let mut ops = vec![Sum, Product, Min, Max];
    // NCCL multiplies floats by 1/n before the sum, which is exact for powers of two.
    if dtype.is_integer() || world_size.is_power_of_two() {
        ops.push(Avg);
    }
    if !dtype.is_integer() {
        ops.push(PreMulSum(0.5));
    }
    ops
}

/// What a rank puts in.
pub(crate) fn input(op: ReduceOp, rank: usize, index: usize, world_size: usize) -> f32 {
    let number = match op {
        ReduceOp::Product => 1 + (rank + index) % 2,
        ReduceOp::Min | ReduceOp::Max => (3 * rank + index) % 5,
        ReduceOp::Avg => (rank + index) % world_size,
        ReduceOp::PreMulSum(_) => 2 * ((rank + index) % 3),
        _ => (rank + index) % 3,
    };
    number as f32
}

/// What the reduction of all ranks' inputs is.
pub(crate) fn output(op: ReduceOp, index: usize, world_size: usize, integer: bool) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a power of two")]
    let scaled = |factor: f64| factor as f32;
    let all = (0..world_size).map(|rank| input(op, rank, index, world_size));
    match op {
        ReduceOp::Product => all.product(),
        ReduceOp::Min => all.fold(f32::INFINITY, f32::min),
        ReduceOp::Max => all.fold(0.0, f32::max),
        ReduceOp::Avg if integer => (all.sum::<f32>() / world_size as f32).floor(),
        ReduceOp::Avg => all.sum::<f32>() / world_size as f32,
        ReduceOp::PreMulSum(factor) => all.map(|one| one * scaled(factor)).sum(),
        _ => all.sum(),
    }
}

#[test]
fn the_values_are_exact_in_the_narrowest_types() {
    for n in 1..=4 {
        for op in ops(DataType::F8E5M2, n) {
            for index in 0..12 {
                for number in [input(op, 0, index, n), output(op, index, n, false)] {
                    assert_eq!(F8E5M2::of(number).to_f32(), number, "{op} of {n}");
                    assert_eq!(F8E4M3::of(number).to_f32(), number, "{op} of {n}");
                }
            }
        }
    }
}
