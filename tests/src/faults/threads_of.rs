//! A world of threads with everything said explicitly.

use std::sync::Arc;
use std::time::Duration;

use nccl::Member;
use nccl::ProcessGroup;
use nccl::config::Env;
use nccl::config::TransportChoice;
use nccl::store::MemoryStore;
use nccl::store::SharedStore;

/// Runs `act` on a thread per rank, over one transport or the fastest, and gives what they return.
///
/// # Panics
/// When the world cannot be made, or a rank panics.
pub fn threads_of<T: Send>(
    world_size: usize,
    transport: Option<TransportChoice>,
    timeout: Duration,
    act: impl Fn(ProcessGroup) -> T + Sync,
) -> Vec<T> {
    let store: SharedStore = Arc::new(MemoryStore::new(Duration::from_secs(20)));
    let act = &act;
    std::thread::scope(|scope| {
        let start = |rank| {
            let store = store.clone();
            scope.spawn(move || {
                let mut builder = ProcessGroup::builder()
                    .env(Env::empty())
                    .member(Member { rank, world_size })
                    .store(store)
                    .timeout(timeout)
                    .init_timeout(Duration::from_secs(20));
                if let Some(transport) = transport {
                    builder = builder.transport(transport);
                }
                act(builder.build().expect("the world is there"))
            })
        };
        let threads: Vec<_> = (0..world_size).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no rank panics")).collect()
    })
}
