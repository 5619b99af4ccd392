//! A world whose ranks are threads of this process.

use std::sync::Arc;
use std::time::Duration;

use super::ProcessGroup;
use crate::error::Error;
use crate::error::Result;
use crate::rank::Member;
use crate::store::MemoryStore;
use crate::store::SharedStore;

/// How long the ranks may take to come.
const STORE_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs `rank` on `world_size` threads, each a rank of one world, and returns what they return, in
/// rank order.
///
/// For tests, examples, and programs that drive several devices from one process. The ranks reach
/// each other through memory; `NCCL_RS_TRANSPORT=tcp` makes them use sockets.
///
/// # Errors
/// The error of the lowest rank that failed, preferring one that is a cause.
///
/// # Panics
/// When a rank panics; the others are told that it left.
pub fn run_threads<T: Send>(
    world_size: usize,
    rank: impl Fn(ProcessGroup) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let store: SharedStore = Arc::new(MemoryStore::new(STORE_TIMEOUT));
    let run = |member: Member| {
        let store = store.clone();
        let group = ProcessGroup::builder().member(member).store(store).build()?;
        rank(group)
    };
    let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
        let start = |rank| {
            let member = Member { rank, world_size };
            let name = format!("rank {rank}");
            let run = &run;
            std::thread::Builder::new().name(name).spawn_scoped(scope, move || run(member)).map_err(
                |source| Error::system(format!("cannot start the thread of rank {rank}"), source),
            )
        };
        let threads: Vec<_> = (0..world_size).map(start).collect();
        let end = |thread: Result<std::thread::ScopedJoinHandle<'_, Result<T>>>| {
            thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(end).collect()
    });
    outcomes.into_iter().collect()
}
