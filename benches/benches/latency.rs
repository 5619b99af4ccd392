//! How long the smallest operations take, by transport and number of ranks.

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;

use nccl::config::TransportChoice;

fn latency(criterion: &mut Criterion) {
    for (name, transport) in [("memory", None), ("tcp", Some(TransportChoice::Tcp))] {
        for collective in benches::COLLECTIVES {
            let mut group = criterion.benchmark_group(format!("latency/{name}/{collective}"));
            group.sample_size(10);
            for ranks in [2, 4] {
                if collective == "sendrecv" && ranks > 2 {
                    continue;
                }
                group.bench_function(BenchmarkId::from_parameter(ranks), |bencher| {
                    bencher
                        .iter_custom(|iters| benches::time(collective, transport, ranks, 4, iters));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(all, latency);
criterion_main!(all);
