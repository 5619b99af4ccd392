//! What a world and a subgroup cost.

use std::time::Instant;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;

fn groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("groups");
    group.sample_size(10);
    for ranks in [2, 8] {
        group.bench_function(BenchmarkId::new("world", ranks), |bencher| {
            bencher.iter(|| benches::in_world(ranks, None, |group| group.barrier()));
        });
        group.bench_function(BenchmarkId::new("split", ranks), |bencher| {
            bencher.iter_custom(|iters| {
                let times = benches::in_world(ranks, None, |group| {
                    group.barrier()?;
                    let begun = Instant::now();
                    for _ in 0..iters {
                        let color = u32::from(group.rank() % 2 == 1);
                        if let Some(half) = group.split(Some(color), 0)? {
                            half.barrier()?;
                        }
                    }
                    Ok(begun.elapsed())
                });
                times.into_iter().max().unwrap_or_default()
            });
        });
    }
    group.finish();
}

criterion_group!(all, groups);
criterion_main!(all);
