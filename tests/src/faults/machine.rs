//! What this process and this machine hold: to see that a fault leaves nothing behind.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// What this process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: usize,
    /// Mappings of shared memory of the library.
    pub mappings: usize,
    /// Files in /dev/shm.
    pub shm: usize,
}

impl Held {
    /// Counts.
    #[must_use]
    pub fn now() -> Self {
        let count = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self {
            fds: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mappings: maps.lines().filter(|line| line.contains("memfd:nccl-rs")).count(),
            shm: count("/dev/shm"),
        }
    }

    /// Whether no more is held than in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.fds <= other.fds
            && self.threads <= other.threads
            && self.mappings <= other.mappings
            && self.shm <= other.shm
    }

    /// Waits, at most two seconds, until no more is held than before; gives what is held then.
    #[must_use]
    pub fn settled(&self) -> Self {
        let begun = Instant::now();
        loop {
            let now = Self::now();
            if now.is_within(self) || begun.elapsed() > Duration::from_secs(2) {
                return now;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A port of this host that nobody listens on, below those that the system gives out.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Neighbouring processes begin far from one another.
    let base = 10_000 + u16::try_from(std::process::id() * 37 % 9_000).unwrap_or(0);
    for _ in 0..9_000 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 9_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {base} and {} is free", base + 9_000);
}
