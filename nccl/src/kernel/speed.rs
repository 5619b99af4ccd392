//! Prints how fast the loops are; asserts nothing about time.

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use super::Fold;
use super::isa::Isa;
use crate::dtype::DataType;

/// The best of a few rounds, in GB of destination per second.
fn speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let times = (2_000_000 / bytes.max(1)).clamp(1, 1000);
    // Unoptimised loops say nothing: there, once through is enough.
    let (rounds, times) = if cfg!(debug_assertions) { (1, 1) } else { (5, times) };
    for _ in 0..rounds {
        let begun = Instant::now();
        for _ in 0..times {
            work();
        }
        best = best.min(begun.elapsed() / u32::try_from(times).unwrap());
    }
    bytes as f64 / best.as_secs_f64() / 1e9
}

/// `cargo test --release -p nccl -- --nocapture speed_of`
#[test]
fn the_speed_of_every_reduction_is_printed() {
    let bytes = 64 << 10;
    println!("GB/s of destination at 64 KiB: pair_left / pair / start+add+finish of 3");
    let ones: Vec<u8> = (0..bytes).map(|at| if at % 2 == 0 { 0 } else { 0x3c }).collect();
    for dtype in DataType::ALL {
        for op in super::tests::OPS {
            if crate::count::check_op("test", op, dtype).is_err() {
                continue;
            }
            print!("{:>7} {:>7}", dtype.name(), op.name());
            for isa in Isa::all() {
                let mut fold = Fold::new(dtype, op, 3);
                fold.choice.isa = isa;
                let (mut out, left, right) = (ones.clone(), ones.clone(), ones.clone());
                let mut acc = vec![0; bytes / dtype.size_bytes() * fold.acc_bytes()];
                let into = speed(bytes, || {
                    fold.pair_left(black_box(&mut out), black_box(&right), [1.0; 2]);
                });
                let three = speed(bytes, || {
                    fold.pair(black_box(&mut out), black_box(&left), black_box(&right), [1.0; 2]);
                });
                let whole = speed(bytes, || {
                    fold.start(black_box(&mut acc), black_box(&left), 1.0);
                    fold.add(black_box(&mut acc), black_box(&right), 1.0);
                    fold.add(black_box(&mut acc), black_box(&left), 1.0);
                    fold.finish(black_box(&mut out), black_box(&acc));
                });
                print!("  {isa:?} {into:5.1} {three:5.1} {whole:5.1}");
            }
            println!();
        }
    }
}
