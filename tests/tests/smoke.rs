//! The shortest way through everything.

use nccl::ReduceOp;
use nccl::run_threads;

#[test]
fn every_world_size_sums() {
    for world_size in [1, 2, 3, 4, 5, 7, 8] {
        for count in [0, 1, 2, 7, 100, 5000, 100_003] {
            let sums = run_threads(world_size, |group| {
                let mut buf: Vec<f32> = (0..count).map(|i| (group.rank() + i) as f32).collect();
                group.all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
                group.barrier()?;
                Ok(buf)
            })
            .unwrap();
            let ranks = world_size * (world_size - 1) / 2;
            let expected: Vec<f32> = (0..count).map(|i| (ranks + world_size * i) as f32).collect();
            for sum in sums {
                assert!(sum == expected, "{world_size} ranks, {count} elements");
            }
        }
    }
}
