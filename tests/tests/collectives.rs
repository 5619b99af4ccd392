//! Every collective over every transport, compared with the oracle bit for bit.
//!
//! What is crossed and what takes turns: [`tests::cases::matrix`]. One world is made for each
//! transport and size, and all its cases run in it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::Result;
use tests::cases;
use tests::cases::WORLD_SIZES;
use tests::matrix;
use tests::processes;
use tests::processes::Processes;
use tests::threads::Threads;

/// Cases of all world sizes; one transport.
const CASES: usize = 33_763;

#[test]
fn a_rank_of_a_world_of_processes() {
    processes::serve(&[("matrix", every_case), ("large", every_large_case)]);
}

/// All cases, after which the first other rank must be reached as the test says.
fn every_case(group: ProcessGroup) -> Result<String> {
    let checked = cases::check_all(&group, &cases::matrix(group.world_size()))?;
    let transport = group.transport_to((group.rank() + 1) % group.world_size());
    group.finalize()?;
    Ok(format!("{checked} over {}", transport.unwrap_or("nothing")))
}

/// All cases of the large count.
fn every_large_case(group: ProcessGroup) -> Result<String> {
    let checked = cases::check_all(&group, &cases::large(group.world_size()))?;
    group.finalize()?;
    Ok(checked.to_string())
}

/// Runs all world sizes and compares what the ranks say.
fn every_world(name: &str, transport: &str, run: impl Fn(usize) -> Vec<String>) {
    let (begun, mut checked) = (Instant::now(), 0);
    for world_size in WORLD_SIZES {
        let cases = cases::matrix(world_size).len();
        let over = if world_size == 1 { "nothing" } else { transport };
        let expected = vec![format!("{cases} over {over}"); world_size];
        let at = Instant::now();
        assert_eq!(run(world_size), expected, "{name}, {world_size} ranks");
        println!("{name}: {world_size} ranks, {cases} cases, {:.1?}", at.elapsed());
        checked += cases;
    }
    println!("{name}: {checked} cases in {:.1?}", begun.elapsed());
    assert_eq!(checked, CASES, "the number of cases");
}

fn of_threads(world: Threads) -> Vec<String> {
    world.run(every_case).unwrap()
}

fn of_processes(world: Processes) -> Vec<String> {
    world.limit(Duration::from_secs(150)).run("matrix")
}

#[test]
fn threads_through_memory() {
    every_world("threads, memory", "P2P/direct pointer", |n| of_threads(Threads::new(n)));
}

#[test]
fn threads_through_memory_without_reading_each_others_buffers() {
    every_world("threads, slots", "SHM/direct", |n| {
        of_threads(Threads::new(n).with("NCCL_P2P_DISABLE", "1"))
    });
}

#[test]
fn threads_over_tcp() {
    every_world("threads, TCP", "NET/Socket/0", |n| of_threads(Threads::new(n).tcp()));
}

#[test]
fn threads_over_tcp_with_four_sockets() {
    every_world("threads, 4 sockets", "NET/Socket/0", |n| {
        let world = Threads::new(n).tcp().with("NCCL_SOCKET_NTHREADS", "2");
        of_threads(world.with("NCCL_NSOCKS_PERTHREAD", "2"))
    });
}

#[test]
fn processes_that_read_each_others_memory() {
    every_world("processes, CMA", "P2P/CMA", |n| of_processes(Processes::new(n)));
}

#[test]
fn processes_through_shared_memory_only() {
    every_world("processes, slots", "SHM/direct", |n| {
        of_processes(Processes::new(n).with("NCCL_P2P_DISABLE", "1"))
    });
}

#[test]
fn processes_over_tcp() {
    every_world("processes, TCP", "NET/Socket/0", |n| {
        of_processes(Processes::new(n).tcp_store().with("NCCL_SHM_DISABLE", "1"))
    });
}

/// A way to carry bytes: its name, and how a world is told.
type Way<W> = (&'static str, fn(W) -> W);

#[test]
#[ignore = "minutes; what takes turns in the others, crossed"]
fn large_counts_crossed_with_every_type_operation_and_transport() {
    let threads: [Way<Threads>; 4] = [
        ("threads, memory", |world| world),
        ("threads, slots", |world| world.with("NCCL_P2P_DISABLE", "1")),
        ("threads, TCP", Threads::tcp),
        ("threads, 4 sockets", |world| {
            world.tcp().with("NCCL_SOCKET_NTHREADS", "2").with("NCCL_NSOCKS_PERTHREAD", "2")
        }),
    ];
    let processes: [Way<Processes>; 3] = [
        ("processes, CMA", |world| world),
        ("processes, slots", |world| world.with("NCCL_P2P_DISABLE", "1")),
        ("processes, TCP", |world| world.tcp_store().with("NCCL_SHM_DISABLE", "1")),
    ];
    let mut checked = 0;
    for world_size in WORLD_SIZES {
        let expected = vec![cases::large(world_size).len().to_string(); world_size];
        for (name, way) in threads {
            let found = way(Threads::new(world_size)).run(every_large_case).unwrap();
            assert_eq!(found, expected, "{name}, {world_size} ranks");
        }
        for (name, way) in processes {
            let world = way(Processes::new(world_size)).limit(Duration::from_secs(600));
            assert_eq!(world.run("large"), expected, "{name}, {world_size} ranks");
        }
        checked += expected[0].parse::<usize>().unwrap() * (threads.len() + processes.len());
        println!("large counts: {world_size} ranks, {checked} cases so far");
    }
}

#[test]
fn a_forced_algorithm_is_the_one_that_runs() {
    for (algorithm, name) in [("ring", "direct+ring"), ("tree", "tree"), ("pat", "bruck")] {
        let world = Threads::new(3).with("NCCL_ALGO", algorithm);
        let names = world.run(|group| {
            group.all_reduce_in_place(&mut [1.0_f32; 5000], nccl::ReduceOp::Sum)?;
            Ok(group.last_algorithm())
        });
        assert_eq!(names.unwrap(), [name; 3], "NCCL_ALGO={algorithm}");
    }
}

/// Without agreement a root runs ahead of the others: the results are the same.
#[test]
fn without_agreement_the_results_are_the_same() {
    let mut checked = 0;
    for world_size in [2, 3, 8, 11] {
        for tcp in [false, true] {
            let world = Threads::new(world_size).with("NCCL_RS_CHECK", "0");
            let world = if tcp { world.tcp() } else { world };
            let cases = cases::matrix(world_size);
            let rooted: Vec<_> =
                cases.into_iter().filter(|case| matrix::has_root(case.kind)).collect();
            let counts = world.run(|group| cases::check_all(&group, &rooted)).unwrap();
            assert_eq!(counts, vec![rooted.len(); world_size]);
            checked += rooted.len();
        }
    }
    println!("without agreement: {checked} cases");
    assert!(checked > 1000, "{checked}");
}

/// The forced algorithms, in a few worlds: the results are those of the oracle, as the default's.
#[test]
fn forced_algorithms_give_the_same_bits() {
    let mut checked = 0;
    for world_size in [2, 3, 5, 8, 11] {
        for algorithm in ["ring", "tree", "pat"] {
            let world = Threads::new(world_size).with("NCCL_ALGO", algorithm);
            let cases = cases::matrix(world_size);
            let cases: Vec<_> = cases.into_iter().filter(|case| case.seed % 3 == 0).collect();
            let counts = world.run(|group| cases::check_all(&group, &cases)).unwrap();
            checked += counts[0];
        }
    }
    println!("forced algorithms: {checked} cases");
    assert_eq!(checked, 25_059, "the number of cases");
}
