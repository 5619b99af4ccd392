//! Large worlds, and random programs.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::time::Duration;
use std::time::Instant;

use nccl::DataType;
use nccl::Kind;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use tests::cases;
use tests::matrix;
use tests::matrix::Case;
use tests::oracle::Flavour;
use tests::oracle::mix;
use tests::processes;
use tests::processes::Processes;
use tests::threads::Threads;

#[test]
fn a_rank_of_a_world_of_processes() {
    processes::serve(&[("tour", tour), ("meeting", meeting), ("wide", wide)]);
}

/// One call of several kinds, small and larger than one message.
fn tour(group: ProcessGroup) -> Result<String> {
    let sum = (Kind::AllReduce, DataType::F32, ReduceOp::Sum);
    let exchange = (Kind::AllToAll, DataType::U64, ReduceOp::Sum);
    let nothing = (Kind::Barrier, DataType::U8, ReduceOp::Sum);
    let gather = (Kind::AllGather, DataType::BF16, ReduceOp::Sum);
    let calls = [(sum, 3), (sum, 1001), (nothing, 0), (exchange, 5), (exchange, 129), (gather, 9)];
    let cases: Vec<Case> =
        (0..).zip(calls).map(|(seed, (what, count))| call(what, count, seed)).collect();
    cases::check_all(&group, &cases)?;
    group.finalize()?;
    Ok("done".to_owned())
}

/// What every job does: a sum, a barrier; then how many descriptors this process has.
fn meeting(group: ProcessGroup) -> Result<String> {
    let cases = [call((Kind::AllReduce, DataType::F32, ReduceOp::Sum), 16, 1)];
    cases::check_all(&group, &cases)?;
    group.barrier()?;
    let count = descriptors();
    group.finalize()?;
    Ok(count.to_string())
}

/// As `meeting`, with a sum that every rank exchanges with every other.
fn wide(group: ProcessGroup) -> Result<String> {
    let cases = [call((Kind::AllReduce, DataType::F32, ReduceOp::Sum), 1001, 1)];
    cases::check_all(&group, &cases)?;
    let count = descriptors();
    group.finalize()?;
    Ok(count.to_string())
}

fn call((kind, dtype, op): (Kind, DataType, ReduceOp), count: usize, seed: u64) -> Case {
    Case { kind, dtype, op, count, root: 0, in_place: false, flavour: Flavour::Plain, seed }
}

/// Open descriptors of this process, without the one that counts them.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() - 1)
}

#[test]
fn sixty_four_threads_meet() {
    let begun = Instant::now();
    let done = Threads::new(64).run(tour).unwrap();
    assert_eq!(done, vec!["done"; 64]);
    println!("64 threads: {:.1?}", begun.elapsed());
}

#[test]
fn thirty_two_processes_meet() {
    for disable in ["NCCL_RS_NOTHING", "NCCL_SHM_DISABLE"] {
        let begun = Instant::now();
        let done = Processes::new(32).with(disable, "1").run("tour");
        assert_eq!(done, vec!["done"; 32]);
        println!("32 processes, {disable}=1: {:.1?}", begun.elapsed());
    }
}

#[test]
fn two_hundred_and_fifty_six_threads_meet() {
    // All ranks' sockets in one process.
    if !tests::threads::may_open(4096) {
        eprintln!("skipped: this process may not open 4096 descriptors (ulimit -Hn)");
        return;
    }
    let begun = Instant::now();
    let counts = Threads::new(256).run(meeting).unwrap();
    println!("256 threads: {:.1?}, up to {} descriptors in all", begun.elapsed(), most(&counts));
    assert_eq!(counts.len(), 256);
}

#[test]
fn two_hundred_and_fifty_six_processes_meet_with_few_descriptors() {
    let world = |n| Processes::new(n).limit(Duration::from_secs(60));
    // A sum of 1001 elements connects everyone with everyone.
    for (n, name, world, case) in [
        (256, "a sum of 16, store in a file", world(256), "meeting"),
        (256, "a sum of 16, store over TCP", world(256).tcp_store(), "meeting"),
        (256, "a sum of 1001", world(256), "wide"),
        (256, "a sum of 1001 over TCP", world(256).with("NCCL_SHM_DISABLE", "1"), "wide"),
    ] {
        let begun = Instant::now();
        let counts = world.run(case);
        let rank0 = &counts[0];
        let others = most(&counts[1..]);
        let took = begun.elapsed();
        println!(
            "{n} processes, {name}: {took:.1?}; descriptors: rank 0 {rank0}, others up to {others}"
        );
        assert!(most(&counts) < 600, "descriptors: {counts:?}");
    }
}

fn most(counts: &[String]) -> usize {
    counts.iter().map(|count| count.parse().unwrap()).max().unwrap()
}

/// Numbers that follow from a seed.
struct Random {
    seed: u64,
    turn: usize,
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.turn += 1;
        usize::try_from(mix(7, self.turn, self.seed) >> 11).unwrap() % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A call for a group of `world_size`.
    fn case(&mut self, world_size: usize) -> Case {
        let (kind, dtype) = (self.one_of(&cases::KINDS), self.one_of(&DataType::ALL));
        let op = if matrix::reduces(kind) { self.one_of(cases::ops(dtype)) } else { ReduceOp::Sum };
        let largest = self.one_of(&[1, 3, 20, 300, 5000, 60_000]);
        let flavours = [Flavour::Plain, Flavour::Plain, Flavour::Special, Flavour::OddNans];
        Case {
            kind,
            dtype,
            op,
            count: self.below(largest + 1),
            root: self.below(world_size),
            in_place: matrix::has_both_places(kind) && self.below(2) == 0,
            flavour: if world_size > 1 { self.one_of(&flavours) } else { Flavour::Plain },
            seed: self.below(1 << 30) as u64,
        }
    }
}

/// A program of one seed: groups are made and used in the same order on all ranks, with each call
/// compared with the oracle.
fn program(world: &ProcessGroup, seed: u64) -> Result<usize> {
    const GROUPS_MAX: usize = 5;
    let mut random = Random { seed, turn: 0 };
    let rank = world.rank();
    let mut groups = vec![Some(world.clone())];
    let mut calls = 0;
    for step in 0..12 {
        let chosen = random.below(groups.len());
        let colors = 1 + random.below(3);
        let splits = random.below(6) == 0;
        // The numbers drawn must be the same on ranks that are not in the group.
        let mut case = random.case(world.world_size());
        let Some(group) = &groups[chosen] else {
            if splits && groups.len() < GROUPS_MAX {
                groups.push(None);
            }
            continue;
        };
        if splits && groups.len() < GROUPS_MAX {
            let color = mix(rank, step, seed) % (colors as u64 + 1);
            let color = u32::try_from(color).ok().filter(|color| *color > 0);
            let key = i64::try_from(mix(rank, step + 99, seed) % 5).unwrap();
            groups.push(group.split(color, key)?);
            continue;
        }
        case.root %= group.world_size();
        if group.world_size() == 1 {
            case.flavour = Flavour::Plain;
        }
        if let Some(wrong) = matrix::check(group, &case)? {
            panic!("program {seed}, step {step}, {group:?}: {wrong}");
        }
        calls += 1;
    }
    Ok(calls)
}

#[test]
fn random_programs_give_what_the_oracle_gives() {
    const PROGRAMS: u64 = 300;
    const FIRST: u64 = 20_261_120;
    let (begun, mut calls) = (Instant::now(), 0);
    for seed in FIRST..FIRST + PROGRAMS {
        let mut random = Random { seed, turn: 1000 };
        let world = Threads::new(1 + random.below(9));
        let world = match random.below(4) {
            0 => world.tcp(),
            1 => world.with("NCCL_P2P_DISABLE", "1"),
            2 => world.with("NCCL_ALGO", random.one_of(&["ring", "tree", "pat"])),
            _ => world,
        };
        let ran = world.run(|group| program(&group, seed));
        match ran {
            Ok(counts) => calls += counts.iter().sum::<usize>(),
            Err(error) => panic!("program {seed} in {world:?}: {error}"),
        }
    }
    println!("{PROGRAMS} programs, {calls} calls of ranks, {:.1?}", begun.elapsed());
    assert!(calls > 5000);
}
