//! How fast bytes move, by transport and size; 2 ranks.

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use nccl::config::TransportChoice;

fn bandwidth(criterion: &mut Criterion) {
    for (name, transport) in [("memory", None), ("tcp", Some(TransportChoice::Tcp))] {
        for collective in benches::COLLECTIVES {
            if collective == "barrier" {
                continue;
            }
            let mut group = criterion.benchmark_group(format!("bandwidth/{name}/{collective}"));
            group.sample_size(10);
            for bytes in [1 << 10, 64 << 10, 1 << 20, 16 << 20_usize] {
                group.throughput(Throughput::Bytes(bytes as u64));
                group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                    bencher
                        .iter_custom(|iters| benches::time(collective, transport, 2, bytes, iters));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(all, bandwidth);
criterion_main!(all);
