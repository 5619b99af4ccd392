//! Ranks that die, stop or leave: every survivor is told within a second, by name.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use tests::faults::KINDS;
use tests::faults::World;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
/// How long anything may take that is not the fault itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// How soon every survivor must know of a death.
const KNOWN: Duration = Duration::from_secs(1);

/// The three ways of bytes between processes of one host.
const WAYS: [(&str, &[(&str, &str)]); 3] = [
    ("read in place", &[]),
    ("shared memory", &[("NCCL_P2P_DISABLE", "1")]),
    ("TCP", &[("NCCL_RS_TRANSPORT", "tcp")]),
];

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap().to_owned()
}

/// What every survivor must have said about `victims` by `bound` after `killed`; gives the slowest.
fn survivors_know(
    world: &mut World,
    what: &str,
    victims: &[usize],
    killed: Instant,
    bound: Duration,
    world_size: usize,
) -> Duration {
    let mut slowest = Duration::ZERO;
    for rank in (0..world_size).filter(|rank| !victims.contains(rank)) {
        let line = world.expect(rank, "error ", PATIENCE);
        let took = line.at.saturating_duration_since(killed);
        assert!(took <= bound, "{what}: rank {rank} knew after {took:?}: {}", line.text);
        slowest = slowest.max(took);
        let host = host();
        let names = |victim: &usize| {
            let place = format!(" (host {host}, pid {}) ", world.pid(*victim));
            // In a subgroup it has another number.
            let inside = line.text.starts_with("error group \"world\",");
            let rank = if inside { format!("rank {victim}") } else { String::new() };
            line.text.contains(&format!("{rank}{place}"))
        };
        assert!(victims.iter().any(names), "{what}: rank {rank} names nobody: {}", line.text);
        let after = world.expect(rank, "after ", PATIENCE);
        assert!(after.text.contains("is no longer usable since it failed"), "{what}: {after:?}");
    }
    assert!(!world.transcript().contains("] wrong"), "{what}:\n{}", world.transcript());
    slowest
}

fn kill_in(words_of: &str, way: &[(&str, &str)], world_size: usize, victim: usize) -> Duration {
    let what = format!("{words_of}, {way:?}, rank {victim} of {world_size} killed");
    let mut world = World::start(RANK, world_size, way, |_| words(words_of));
    for rank in 0..world_size {
        world.expect(rank, "up", PATIENCE);
    }
    let killed = world.kill(victim);
    if words_of == "idle" {
        (0..world_size).for_each(|rank| world.tell(rank, "go"));
    }
    let slowest = survivors_know(&mut world, &what, &[victim], killed, KNOWN, world_size);
    let codes = world.end();
    let ended = |(rank, code): (usize, &Option<i32>)| rank == victim || *code == Some(0);
    assert!(codes.iter().enumerate().all(ended), "{what}: {codes:?}\n{}", world.transcript());
    slowest
}

/// The victims: where hub and store are, another one, the last.
fn victim(turn: usize, world_size: usize) -> usize {
    [0, 1, world_size - 1][turn % 3]
}

fn killed_in_every_operation(way: usize) {
    let (name, env) = WAYS[way];
    let shm = std::fs::read_dir("/dev/shm").unwrap().count();
    let mut slowest = Duration::ZERO;
    for (turn, kind) in KINDS.iter().enumerate() {
        let world_size = 4 + turn % 2;
        let count = if *kind == "barrier" { 0 } else { 60_000 };
        let victim = victim(turn + way, world_size);
        slowest = slowest.max(kill_in(&format!("loop {kind} {count}"), env, world_size, victim));
    }
    eprintln!("killed in every operation, {name}: the slowest survivor knew after {slowest:.1?}");
    assert!(std::fs::read_dir("/dev/shm").unwrap().count() <= shm, "something is left in /dev/shm");
}

#[test]
fn a_rank_killed_in_any_operation_is_named_everywhere_reading_in_place() {
    killed_in_every_operation(0);
}

#[test]
fn a_rank_killed_in_any_operation_is_named_everywhere_over_shared_memory() {
    killed_in_every_operation(1);
}

#[test]
fn a_rank_killed_in_any_operation_is_named_everywhere_over_tcp() {
    killed_in_every_operation(2);
}

#[test]
fn a_rank_killed_between_operations_or_in_a_split_is_named_everywhere() {
    for (turn, (name, env)) in WAYS.iter().enumerate() {
        let mut slowest = Duration::ZERO;
        for at in 0..3 {
            let world_size = 4 + (turn + at) % 2;
            slowest = slowest.max(kill_in("idle", env, world_size, victim(at, world_size)));
            slowest = slowest.max(kill_in("split", env, world_size, victim(at + turn, world_size)));
        }
        eprintln!(
            "killed idle or in a split, {name}: the slowest survivor knew after {slowest:.1?}"
        );
    }
}

#[test]
fn two_ranks_killed_one_after_the_other_are_named() {
    for (victims, (_, env)) in [([1, 3], WAYS[0]), ([0, 2], WAYS[1]), ([4, 0], WAYS[2])] {
        let what = format!("ranks {victims:?} killed, {env:?}");
        let mut world = World::start(RANK, 5, env, |_| words("loop all_reduce 60000"));
        (0..5).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
        let killed = world.kill(victims[0]);
        std::thread::sleep(Duration::from_millis(10));
        world.kill(victims[1]);
        survivors_know(&mut world, &what, &victims, killed, KNOWN, 5);
        world.end();
    }
}

#[test]
fn a_stopped_rank_is_named_within_the_heartbeat_timeout() {
    for (turn, (name, env)) in WAYS.iter().enumerate() {
        let mut env = env.to_vec();
        env.push(("NCCL_RS_HEARTBEAT_TIMEOUT_MS", "2000"));
        let victim = victim(turn, 4);
        let what = format!("rank {victim} stopped, {name}");
        let mut world = World::start(RANK, 4, &env, |_| words("loop all_reduce 60000"));
        (0..4).for_each(|rank| drop(world.expect(rank, "up", PATIENCE)));
        let stopped = Instant::now();
        world.signal(victim, Signal::STOP);
        let bound = Duration::from_secs(3);
        let slowest = survivors_know(&mut world, &what, &[victim], stopped, bound, 4);
        eprintln!("{what}: known after {slowest:.1?} with a heartbeat timeout of 2 s");
        // It runs again and learns that it is out; it must not go on as if nothing was.
        world.signal(victim, Signal::CONT);
        let line = world.expect(victim, "error ", PATIENCE);
        assert!(line.text.contains("rank"), "{}", line.text);
        assert!(!world.transcript().contains("] wrong"), "{}", world.transcript());
        assert_eq!(world.end(), vec![Some(0); 4]);
    }
}

#[test]
fn a_rank_that_ends_without_leaving_is_named() {
    for victim in [0, 2] {
        for (way, (name, env)) in WAYS.iter().enumerate() {
            let last = if way == 1 { "panic" } else { "exit" };
            let what = format!("rank {victim} ends by {last}, {name}");
            let mut world = World::start(RANK, 4, env, |rank| {
                words(if rank == victim { last } else { "loop barrier 0" })
            });
            let begun = Instant::now();
            survivors_know(&mut world, &what, &[victim], begun, PATIENCE, 4);
            world.end();
        }
    }
}
