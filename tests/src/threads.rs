//! Worlds whose ranks are threads.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nccl::Builder;
use nccl::ProcessGroup;
use nccl::Result;
use nccl::config::Env;
use nccl::config::TransportChoice;
use nccl::store::MemoryStore;
use nccl::store::SharedStore;

/// Raises this process's limit of descriptors to `count`; says whether it may have so many.
#[must_use]
pub fn may_open(count: u64) -> bool {
    use rustix::process::Resource;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return true;
    }
    let raised = rustix::process::Rlimit { current: Some(count), maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).is_ok()
}

/// A world of threads to be started: [`nccl::run_threads`] with settings and bounds.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `run`"]
pub struct Threads {
    world_size: usize,
    env: Env,
    transport: Option<TransportChoice>,
    timeout: Duration,
}

impl Threads {
    /// A world of so many threads. What the process's environment says does not count.
    pub fn new(world_size: usize) -> Self {
        let timeout = Duration::from_secs(60);
        Self { world_size, env: Env::empty(), transport: None, timeout }
    }

    /// Over sockets, not through memory.
    pub fn tcp(mut self) -> Self {
        self.transport = Some(TransportChoice::Tcp);
        self
    }

    /// With a variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env = self.env.with(name, value);
        self
    }

    /// With a bound on each operation.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs `rank` on every thread; what they return, in rank order.
    ///
    /// # Errors
    /// The error of the lowest rank that failed.
    ///
    /// # Panics
    /// When a rank panics.
    pub fn run<T: Send>(&self, rank: impl Fn(ProcessGroup) -> Result<T> + Sync) -> Result<Vec<T>> {
        let store: SharedStore = Arc::new(MemoryStore::new(self.timeout));
        thread::scope(|scope| {
            let start = |number| {
                let (builder, rank) = (self.builder(number, store.clone()), &rank);
                scope.spawn(move || rank(builder.build()?))
            };
            let threads: Vec<_> = (0..self.world_size).map(start).collect();
            let ends: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            let ends = ends.into_iter().map(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
            let ends: Vec<Result<T>> = ends.collect();
            // The error returned may be a consequence of another rank's.
            for (rank, error) in
                ends.iter().enumerate().filter_map(|(r, e)| Some((r, e.as_ref().err()?)))
            {
                eprintln!("rank {rank} of {}: {error}", self.world_size);
            }
            ends.into_iter().collect()
        })
    }

    fn builder(&self, rank: usize, store: SharedStore) -> Builder {
        let builder = ProcessGroup::builder()
            .env(self.env.clone())
            .rank(rank)
            .world_size(self.world_size)
            .store(store)
            .timeout(self.timeout)
            .init_timeout(self.timeout);
        match self.transport {
            Some(transport) => builder.transport(transport),
            None => builder,
        }
    }
}
