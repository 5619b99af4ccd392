//! Worlds on one GPU: of processes, or of threads in one child.

use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::Result;
use tests::processes::Ended;
use tests::processes::Processes;
use tests::threads::Threads;

use crate::ALL;
use crate::PATIENCE;
use crate::WORLD;
use crate::cases;
use crate::machine::machine;
use crate::machine::report;

/// The case of a child whose ranks are threads.
pub(crate) const THREADS: &str = "threads";

const CASE: &str = "NCCL_TESTS_THREADS_CASE";
const COUNT: &str = "NCCL_TESTS_THREADS_COUNT";

/// What makes NCCL accept several ranks on a GPU, and be able to run them at once.
const SHARING: [(&str, &str); 4] = [
    ("NCCL_MULTI_RANK_GPU_ENABLE", "1"),
    ("NCCL_MAX_CTAS", "2"),
    ("NCCL_NVLS_ENABLE", "0"),
    ("NCCL_RAS_ENABLE", "0"),
];

/// What ranks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Processes,
    Threads,
}

/// A world to be started. While it lives no other one does.
#[must_use = "nothing runs before `run`"]
pub(crate) struct World {
    how: How,
    size: usize,
    env: Vec<(String, String)>,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    /// A world with NCCL; `None` where there is no GPU.
    #[track_caller]
    pub(crate) fn new(how: How, size: usize) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let machine = machine()?;
        // A test that failed has poisoned it, which is no reason not to run the next.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = Self { how, size, env: Vec::new(), _alone: alone };
        for (name, value) in &machine.env {
            world = world.with(name, value);
        }
        for (name, value) in SHARING {
            world = world.with(name, value);
        }
        let nccl = machine.nccl.display().to_string();
        Some(world.with("NCCL_RS_NCCL_LIB", &nccl).with("NCCL_RS_BACKEND", "nccl"))
    }

    /// With a variable, instead of one before of that name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(old, _)| old != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the ranks return: a text of each process, or one of each thread.
    #[track_caller]
    pub(crate) fn run(self, case: &str) -> Vec<String> {
        let begun = Instant::now();
        let (processes, name) = self.processes(case);
        let mut texts = processes.run(name);
        if self.how == How::Threads {
            texts = texts[0].lines().map(str::to_owned).collect();
            assert_eq!(texts.len(), self.size, "{texts:?}");
        }
        let backend = self.env.iter().rev().find(|(name, _)| name == "NCCL_RS_BACKEND").unwrap();
        let (how, size, took) = (self.how, self.size, begun.elapsed());
        report(case, &format!("{size} {how:?} {}: ok, {took:.1?}: {}", backend.1, texts[0]));
        texts
    }

    /// How the ranks end, of which some are killed.
    #[track_caller]
    pub(crate) fn run_to_the_end(self, case: &str) -> Vec<Ended> {
        assert_eq!(self.how, How::Processes, "threads end together");
        self.processes(case).0.run_to_the_end(case)
    }

    /// The children, and what they are told to run.
    fn processes<'a>(&self, case: &'a str) -> (Processes, &'a str) {
        static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
        let left = ALL.saturating_sub(BEGUN.elapsed());
        assert!(left > Duration::from_secs(5), "{case}: the time of all worlds, {ALL:?}, is over");
        let (children, name) = match self.how {
            How::Processes => (self.size, case),
            How::Threads => (1, THREADS),
        };
        let ms = PATIENCE.as_millis().to_string();
        let mut world = Processes::new(children)
            .limit(WORLD.min(left))
            .with("NCCL_RS_TIMEOUT_MS", &ms)
            .with("NCCL_RS_INIT_TIMEOUT_MS", &ms);
        for (name, value) in &self.env {
            // The child's own group carries nothing; the threads' group is the one of the test.
            let outer = self.how == How::Threads && name == "NCCL_RS_BACKEND";
            world = world.with(name, if outer { "cpu" } else { value });
            if outer {
                world = world.with("NCCL_TESTS_THREADS_BACKEND", value);
            }
        }
        if self.how == How::Threads {
            world = world.with(CASE, case).with(COUNT, &self.size.to_string());
        }
        (world, name)
    }
}

/// In the child: runs the case on threads. One line for each.
pub(crate) fn in_threads(_: ProcessGroup) -> Result<String> {
    let var = |name| std::env::var(name).expect("set by the parent");
    let case = var(CASE);
    let (_, run) = cases().into_iter().find(|(name, _)| *name == case).expect("a case");
    let count: usize = var(COUNT).parse().expect("a number");
    let mut threads = Threads::new(count)
        .with("NCCL_RS_BACKEND", &var("NCCL_TESTS_THREADS_BACKEND"))
        .timeout(PATIENCE);
    // What the group reads; NCCL reads the process's own environment.
    for name in ["NCCL_MULTI_RANK_GPU_ENABLE", "NCCL_RS_NCCL_BLOCKING", "NCCL_SOCKET_IFNAME"] {
        if let Ok(value) = std::env::var(name) {
            threads = threads.with(name, &value);
        }
    }
    Ok(threads.run(run)?.join("\n"))
}
