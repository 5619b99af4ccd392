//! Worlds of threads and processes on one machine, and what is done to them.

mod faults;
mod joining;
mod mesh;
mod store;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::*;
use crate::desc::OpDesc;
use crate::error::Result;
use crate::store::SharedStore;
use store::MemoryStore;

/// A bound on everything that must come soon.
const SOON: Duration = Duration::from_secs(5);

/// An empty store.
fn memory() -> SharedStore {
    Arc::new(MemoryStore::default())
}

/// How a rank of a test joins.
fn config(store: &SharedStore, rank: usize, world_size: usize) -> JoinConfig {
    JoinConfig {
        member: Member { rank, world_size },
        store: Arc::clone(store),
        timeout: Duration::from_secs(10),
        heartbeat_timeout: Duration::from_secs(10),
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        local_rank: None,
        wants: crate::config::BackendChoice::Cpu,
        lacks: String::new(),
        node: None,
        progress: Box::new(|_| {}),
    }
}

/// Joins all configurations at once, each on a thread of its own.
fn join_all(configs: Vec<JoinConfig>) -> Vec<Result<Arc<Control>>> {
    let joins = configs.into_iter().map(|config| std::thread::spawn(|| Control::join(config)));
    let joins: Vec<_> = joins.collect();
    joins.into_iter().map(|join| join.join().unwrap()).collect()
}

/// A world of threads, with a heartbeat timeout.
fn world_with(world_size: usize, heartbeat_timeout: Duration) -> Vec<Arc<Control>> {
    let store = memory();
    let configs = (0..world_size)
        .map(|rank| JoinConfig { heartbeat_timeout, ..config(&store, rank, world_size) })
        .collect();
    join_all(configs).into_iter().map(Result::unwrap).collect()
}

/// A world of threads.
fn world(world_size: usize) -> Vec<Arc<Control>> {
    world_with(world_size, Duration::from_secs(10))
}

/// Registers the group `id` of some world ranks on all of them; by group rank.
fn group(world: &[Arc<Control>], id: u64, members: &[usize]) -> Vec<Arc<GroupState>> {
    let states = members.iter().enumerate().map(|(rank, world_rank)| {
        let state = Arc::new(GroupState::new(id, "g".into(), rank, members.to_vec()));
        world[*world_rank].register(Arc::clone(&state));
        state
    });
    states.collect()
}

/// The operations of some answers.
fn doing(answers: &[Option<Status>]) -> Vec<Option<OpDesc>> {
    answers.iter().map(|one| one.map(|one| one.desc)).collect()
}

/// Waits until something holds; fails when it does not come soon. Returns how long it took.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

/// Runs the ignored test `name` of this binary as a process, with a variable for it.
fn process(name: &str, var: &str, value: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env(var, value)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
