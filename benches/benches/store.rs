//! What a request to a store costs.

use std::time::Duration;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use nccl::store::MemoryStore;
use nccl::store::Store;
use nccl::store::TcpStore;
use nccl::store::TcpStoreServer;

fn store(criterion: &mut Criterion) {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = TcpStoreServer::bind(any).expect("a free port");
    let timeout = Duration::from_secs(10);
    let tcp = TcpStore::connect_addr(server.local_addr(), timeout).expect("the server is here");
    let memory = MemoryStore::new(timeout);
    let stores: [(&str, &dyn Store); 2] = [("tcp", &tcp), ("memory", &memory)];
    for (name, store) in stores {
        let mut group = criterion.benchmark_group(format!("store/{name}"));
        group.sample_size(20);
        store.set("there", &[7; 64]).expect("set");
        group.bench_function("set", |b| b.iter(|| store.set("key", &[7; 64]).expect("set")));
        group.bench_function("get", |b| b.iter(|| store.get("there").expect("get")));
        group.bench_function("add", |b| b.iter(|| store.add("number", 1).expect("add")));
        group.bench_function("check", |b| b.iter(|| store.check(&["there"]).expect("check")));
        group.finish();
    }
}

criterion_group!(all, store);
criterion_main!(all);
