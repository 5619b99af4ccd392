//! What the benches share: how an operation of several ranks is timed.
//!
//! The ranks are threads of one process; `nccl perf` measures processes and hosts. Each bench
//! answers one question: `latency` (how long does the smallest operation take), `bandwidth` (how
//! fast do bytes move), `store` (what does a request cost), `groups` (what does a group cost).

use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::config::TransportChoice;

/// The seven operations of the comparison with other libraries.
pub const COLLECTIVES: [&str; 7] = [
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "broadcast",
    "all_to_all",
    "barrier",
    "sendrecv",
];

/// The time of `iterations` calls of `collective` on `bytes` bytes (as nccl-tests counts them) by
/// `ranks` threads: that of the slowest rank. Worlds are made anew, outside the time.
///
/// # Panics
/// When a rank fails.
#[must_use]
pub fn time(
    collective: &str,
    transport: Option<TransportChoice>,
    ranks: usize,
    bytes: usize,
    iterations: u64,
) -> Duration {
    let times = in_world(ranks, transport, |group| {
        let mut buffers = Buffers::new(bytes, ranks);
        buffers.once(group, collective)?; // connects
        group.barrier()?;
        let begun = Instant::now();
        for _ in 0..iterations {
            buffers.once(group, collective)?;
        }
        Ok(begun.elapsed())
    });
    times.into_iter().max().unwrap_or_default()
}

/// Runs `body` on every rank of a world of threads.
///
/// # Panics
/// When a rank fails.
pub fn in_world<T: Send>(
    ranks: usize,
    transport: Option<TransportChoice>,
    body: impl Fn(&ProcessGroup) -> Result<T> + Sync,
) -> Vec<T> {
    let store: nccl::store::SharedStore =
        std::sync::Arc::new(nccl::store::MemoryStore::new(Duration::from_secs(60)));
    let run = |rank: usize| {
        let builder = ProcessGroup::builder().rank(rank).world_size(ranks).store(store.clone());
        let builder = match transport {
            Some(transport) => builder.transport(transport),
            None => builder,
        };
        let group = builder.build()?;
        let value = body(&group)?;
        group.finalize().map(|()| value)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || run(rank))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<T>>| match thread.join() {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => panic!("a rank failed: {error}"),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

/// Input and output of a rank.
struct Buffers {
    send: Vec<f32>,
    recv: Vec<f32>,
    count: usize,
    share: usize,
}

impl Buffers {
    fn new(bytes: usize, ranks: usize) -> Self {
        let count = (bytes / 4).max(1);
        let share = (count / ranks).max(1);
        let all = count.max(share * ranks);
        Self { send: vec![1.0; all], recv: vec![0.0; all], count, share }
    }

    fn once(&mut self, group: &ProcessGroup, collective: &str) -> Result<()> {
        let (count, share) = (self.count, self.share);
        let all = share * group.world_size();
        match collective {
            "all_reduce" => group.all_reduce_in_place(&mut self.send[..count], ReduceOp::Max),
            "all_gather" => group.all_gather(&self.send[..share], &mut self.recv[..all]),
            "reduce_scatter" => {
                group.reduce_scatter(&self.send[..all], &mut self.recv[..share], ReduceOp::Sum)
            }
            "broadcast" => group.broadcast(&mut self.send[..count], 0),
            "all_to_all" => group.all_to_all(&self.send[..all], &mut self.recv[..all]),
            "barrier" => group.barrier(),
            "sendrecv" => match group.rank() {
                0 => group
                    .send(&self.send[..count], 1)
                    .and_then(|()| group.recv(&mut self.recv[..count], 1)),
                1 => group
                    .recv(&mut self.recv[..count], 0)
                    .and_then(|()| group.send(&self.send[..count], 0)),
                _ => Ok(()),
            },
            other => panic!("no such collective: {other}"),
        }
    }
}
