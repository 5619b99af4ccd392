//! What a child does: knobs are read once per process, so each case has a process of its own.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::api::Api;
use crate::api::Config;
use crate::api::Id;
use crate::collectives;
use crate::driver;
use crate::driver::Gate;
use crate::world;
use crate::world::Rank;

const I32: i32 = 2;
const IN_PROGRESS: i32 = 7;

#[test]
fn a_child_of_a_test() {
    let Ok(case) = std::env::var("FAKES_CASE") else { return };
    match case.as_str() {
        "rank_of_processes" => rank_of_processes(),
        "capture" => driver::capture_records_and_forbids(),
        "visible_devices" => driver::visible_devices(),
        "allocations" => allocations(),
        "death" => death(),
        "per_thread" => per_thread(),
        "group_fails" => group_fails(),
        "freed" => freed(),
        "threads_end" => threads_end(),
        "codes" => codes(),
        "late_error" => late_error(),
        "hang_and_abort" => hang_and_abort(),
        "abort" => abort(),
        "nonblocking" => nonblocking(),
        "never_comes" => never_comes(),
        "misuse" => misuse(),
        "parallel" => parallel(),
        "mismatch" => mismatch(),
        "graph" => graph(),
        "leak" => leak(),
        "config" => config(),
        "shared" => shared(),
        other => panic!("no case {other}"),
    }
}

/// A rank of a world of processes: ID and RANK in the environment.
fn rank_of_processes() {
    let text = std::env::var("ID").unwrap();
    let rank = Rank::join(3, std::env::var("RANK").unwrap().parse().unwrap(), id_of(&text));
    collectives::everything(&rank);
    rank.leave();
}

fn id_of(hex: &str) -> Id {
    Id(std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()))
}

/// The codes of three allocations.
fn allocations() {
    let api = Api::get();
    api.use_device(0);
    let codes: Vec<i32> = (0..3).map(|_| api.cuMemAlloc_v2(&mut 0, 8)).collect();
    println!("codes {codes:?}");
}

/// Rank 1's process dies when all have come; the others say what they hear.
fn death() {
    let text = std::env::var("ID").unwrap();
    let rank = Rank::join(3, std::env::var("RANK").unwrap().parse().unwrap(), id_of(&text));
    let buffer = rank.upload(&[0]);
    let sum = || rank.api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, rank.stream);
    assert_eq!(sum(), 0);
    assert_eq!(rank.api.cuStreamSynchronize(rank.stream), 0);
    if rank.rank == 1 {
        std::process::exit(0);
    }
    // The news may be here already.
    let code = sum();
    assert!([0, 6].contains(&code), "{code}");
    let patience = std::env::var("PATIENCE_MS").map_or(5000, |ms| ms.parse().unwrap());
    let until = Instant::now() + Duration::from_millis(patience);
    while rank.api.state(rank.comm) == 0 && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    println!("state {}", rank.api.state(rank.comm));
    let hangs = if code == 0 { 600 } else { 0 };
    assert_eq!(rank.api.cuStreamQuery(rank.stream), hangs, "until the abort");
    assert_eq!(rank.api.ncclCommAbort(rank.comm), 0);
    assert_eq!(rank.api.cuStreamSynchronize(rank.stream), 0);
}

/// The per-thread stream on communicators that block, and that do not.
fn per_thread() {
    let api = Api::get();
    api.use_device(0);
    for (mut config, violations) in [(Config::undefined(), 0), (Config::nonblocking(), 1)] {
        let (mut comm, before, id) = (0, api.violations(), api.id());
        api.ncclCommInitRankConfig(&mut comm, 1, id, 0, &mut config);
        poll(api, comm);
        let buffer = api.upload(&[0; 4], 2);
        api.ncclAllReduce(buffer, buffer, 1, I32, 0, comm, 2);
        poll(api, comm);
        assert_eq!(api.violations() - before, violations);
        assert_eq!(api.ncclCommAbort(comm), 0);
    }
}

/// The second of three groups fails at its end.
fn group_fails() {
    world::threads(1, |rank| {
        let buffer = rank.upload(&[4]);
        let codes: Vec<[i32; 3]> = (0..3)
            .map(|_| {
                let start = rank.api.ncclGroupStart();
                let (comm, stream) = (rank.comm, rank.stream);
                let sum = rank.api.ncclAllReduce(buffer, buffer, 1, I32, 0, comm, stream);
                [start, sum, rank.api.ncclGroupEnd()]
            })
            .collect();
        println!("{codes:?}");
    });
    assert_eq!(Api::get().violations(), 0);
}

/// A buffer is freed, by another stream, before the sum that uses it runs; and one after an abort,
/// which is fine.
fn freed() {
    let api = Api::get();
    for aborted in [true, false] {
        let before = api.violations();
        let freed = |rank: &Rank| {
            let (buffer, other) = (rank.upload(&[4]), api.stream());
            assert_eq!(api.cuStreamSynchronize(rank.stream), 0);
            let gate = Gate::new();
            gate.hold(rank.stream);
            let sum = api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, rank.stream);
            assert_eq!(sum, 0);
            if aborted {
                assert_eq!(api.ncclCommAbort(rank.comm), 0);
            }
            assert_eq!(api.cuMemFreeAsync(buffer, other), 0);
            assert_eq!(api.cuStreamSynchronize(other), 0);
            gate.open();
            assert_eq!(api.cuStreamSynchronize(rank.stream), 0);
        };
        let rank = Rank::join(1, 0, api.id());
        freed(&rank);
        assert_eq!(api.violations() > before, !aborted);
    }
}

/// Threads and descriptors are as before once all is destroyed.
fn threads_end() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    Api::get().use_device(0);
    let before = (count("task"), count("fd"));
    world::threads(3, |rank| {
        let buffer = rank.upload(&[0]);
        let sum = rank.api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, rank.stream);
        assert_eq!(sum, 0);
        // Waits for the device's legacy stream as well, whose thread stays.
        assert_eq!(rank.api.cuMemFree_v2(buffer), 0);
    });
    let until = Instant::now() + Duration::from_secs(5);
    while (count("task"), count("fd")) != before && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((count("task"), count("fd")), before);
}

/// The codes of five calls of ncclAllReduce on each of two ranks.
fn codes() {
    let codes = world::threads(2, |rank| {
        let buffer = rank.upload(&[0]);
        let call = || rank.api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, rank.stream);
        let codes: Vec<i32> = (0..5).map(|_| call()).collect();
        // Those who got through meet nobody.
        if codes.iter().any(|code| *code != 0) {
            println!("rank {} {codes:?}", rank.rank);
            std::process::exit(0);
        }
        thread::park_timeout(Duration::from_secs(5));
    });
    panic!("nobody failed: {codes:?}");
}

/// The state of rank 1 after each of three sums.
fn late_error() {
    world::threads(2, |rank| {
        let buffer = rank.upload(&[0]);
        let mut states = Vec::new();
        for _ in 0..3 {
            let code = rank.api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, rank.stream);
            if code != 0 {
                states.push(-code);
                break;
            }
            rank.download(buffer, 1);
            states.push(rank.api.state(rank.comm));
        }
        println!("rank {} {states:?}", rank.rank);
        if rank.rank == 1 {
            std::process::exit(0);
        }
        thread::park_timeout(Duration::from_secs(5));
    });
}

/// Rank 1 does not come to the sum; rank 0 looks, aborts, and is free.
fn hang_and_abort() {
    static BOTH: Barrier = Barrier::new(2);
    static FREE: Barrier = Barrier::new(2);
    world::threads(2, |rank| {
        let buffer = rank.upload(&[0]);
        let api = rank.api;
        assert_eq!(api.cuStreamSynchronize(rank.stream), 0);
        assert_eq!(api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, rank.stream), 0);
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            assert_eq!(api.cuStreamQuery(rank.stream), 600);
        }
        assert_eq!(api.state(rank.comm), 0, "it hangs without an error, as NCCL does");
        BOTH.wait();
        assert_eq!(api.ncclCommAbort(rank.comm), 0);
        assert_eq!(api.cuStreamSynchronize(rank.stream), 0);
        println!("rank {} is free", rank.rank);
        FREE.wait();
        std::process::exit(0);
    });
}

fn abort() {
    world::threads(1, |rank| {
        let api = rank.api;
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                println!("still inside");
                std::process::exit(0);
            });
            api.ncclCommAbort(rank.comm);
            println!("came back");
        });
    });
}

/// The codes of a communicator that does not block.
fn nonblocking() {
    let api = Api::get();
    api.use_device(0);
    let (mut comm, id) = (0, api.id());
    let code = api.ncclCommInitRankConfig(&mut comm, 1, id, 0, &mut Config::nonblocking());
    assert_eq!(code, IN_PROGRESS);
    let mut count = 0;
    let polls = poll(api, comm);
    assert_eq!(api.ncclCommCount(comm, &mut count), 0);
    let stream = api.stream();
    let buffer = api.upload(&[1, 0, 0, 0], stream);
    let code = api.ncclAllReduce(buffer, buffer, 1, I32, 0, comm, stream);
    let more = poll(api, comm);
    assert_eq!(api.download(buffer, 4, stream), [1, 0, 0, 0]);
    let finalize = api.ncclCommFinalize(comm);
    poll(api, comm);
    assert_eq!(api.ncclCommDestroy(comm), 0);
    println!("init {polls} polls, all_reduce {code} {more} polls, finalize {finalize}");
}

/// Asks until it is done, and gives how often it was in progress.
fn poll(api: &Api, comm: usize) -> usize {
    let until = Instant::now() + Duration::from_secs(10);
    let mut polls = 0;
    loop {
        match api.state(comm) {
            0 => return polls,
            IN_PROGRESS => polls += 1,
            error => panic!("{error}: {}", api.last_error()),
        }
        assert!(Instant::now() < until, "in progress for ever");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Rank 1 never comes; rank 0, which does not block, aborts.
fn never_comes() {
    let id = Api::get().id();
    thread::scope(|scope| {
        for rank in 0..2 {
            scope.spawn(move || {
                let api = Api::get();
                api.use_device(rank);
                let (mut comm, own) = (0, i32::try_from(rank).unwrap());
                let mut config = Config::nonblocking();
                let code = api.ncclCommInitRankConfig(&mut comm, 2, id, own, &mut config);
                assert_eq!(code, IN_PROGRESS);
                thread::sleep(Duration::from_millis(100));
                assert_eq!(api.state(comm), IN_PROGRESS);
                assert_eq!(api.ncclCommAbort(comm), 0);
            });
        }
    });
    println!("both aborted");
}

/// Each kind of misuse that one rank can commit.
fn misuse() {
    let api = Api::get();
    let mut seen = 0;
    let mut one_more = |what: &str| {
        assert!(api.violations() > seen, "{what}");
        seen = api.violations();
    };
    world::threads(1, |rank| {
        assert_eq!(rank.rank, 0);
    });
    api.use_device(0);
    let (mut comm, id, stream) = (0, api.id(), api.stream());
    assert_eq!(api.ncclCommInitRank(&mut comm, 1, id, 0), 0);
    let buffer = api.upload(&[0; 16], stream);
    let sum = |send: usize, recv: usize, count: usize, stream: usize| {
        api.ncclAllReduce(send, recv, count, I32, 0, comm, stream)
    };

    assert_eq!(api.ncclGroupEnd(), 5);
    one_more("unbalanced end");
    let host = [0_u8; 16];
    assert_eq!(sum(host.as_ptr().addr(), buffer, 1, stream), 4);
    one_more("host memory");
    assert_eq!(sum(buffer, buffer, 5, stream), 4);
    one_more("too short");
    assert_eq!(sum(buffer, buffer + 4, 2, stream), 0);
    one_more("overlap");
    assert_eq!(sum(buffer, buffer, 1, 0x1234), 4);
    one_more("no stream");
    api.use_device(1);
    let elsewhere = api.stream();
    assert_eq!(sum(buffer, buffer, 1, elsewhere), 0);
    one_more("stream of another device");
    assert_eq!(sum(buffer, buffer, 1, 0), 0);
    one_more("default stream of another device");
    api.use_device(0);
    assert_eq!(api.cuStreamSynchronize(stream), 0);
    let mut new = 0;
    assert_eq!(api.ncclCommSplit(0, 0, 0, &mut new, crate::api::none()), 4);
    one_more("split of NULL");
    // A scope would not wait for what the thread does at its very end.
    thread::spawn(|| assert_eq!(Api::get().ncclGroupStart(), 0)).join().unwrap();
    one_more("a thread that ends inside of a group");
    assert_eq!(api.ncclCommDestroy(comm), 0);
    assert_eq!(api.ncclCommAbort(comm), 4);
    one_more("abort after destroy");
    assert_eq!(sum(buffer, buffer, 1, stream), 4);
    one_more("use after destroy");
    println!("{seen} violations");
}

/// Two threads issue on two communicators of one device at once.
fn parallel() {
    let api = Api::get();
    let comms: Vec<usize> = (0..2)
        .map(|_| {
            api.use_device(0);
            let (mut comm, id) = (0, api.id());
            assert_eq!(api.ncclCommInitRank(&mut comm, 1, id, 0), 0);
            comm
        })
        .collect();
    thread::scope(|scope| {
        for comm in comms {
            scope.spawn(move || {
                api.use_device(0);
                let stream = api.stream();
                let buffer = api.upload(&[0; 4], stream);
                for _ in 0..20 {
                    assert_eq!(api.ncclAllReduce(buffer, buffer, 1, I32, 0, comm, stream), 0);
                }
            });
        }
    });
    println!("{} violations", api.violations());
}

/// The two ranks sum different counts.
fn mismatch() {
    world::threads(2, |rank| {
        let buffer = rank.upload(&[0; 4]);
        let count = 1 + rank.rank;
        let code = rank.api.ncclAllReduce(buffer, buffer, count, I32, 0, rank.comm, rank.stream);
        assert_eq!(code, 0);
        let until = Instant::now() + Duration::from_secs(5);
        while rank.api.violations() == 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(rank.api.cuStreamQuery(rank.stream), 600);
        println!("hangs");
        std::process::exit(0);
    });
}

/// A sum in a graph, launched three times, between sums outside of it.
fn graph() {
    let sums = world::threads(2, |rank| {
        let (api, stream) = (rank.api, rank.stream);
        let buffer = rank.upload(&[1]);
        let sum = || api.ncclAllReduce(buffer, buffer, 1, I32, 0, rank.comm, stream);
        assert_eq!(sum(), 0);
        let (mut graph, mut executable) = (0, 0);
        assert_eq!(api.cuStreamBeginCapture_v2(stream, 1), 0);
        assert_eq!(sum(), 0);
        assert_eq!(api.cuStreamEndCapture(stream, &mut graph), 0);
        assert_eq!(api.cuGraphInstantiateWithFlags(&mut executable, graph, 0), 0);
        for _ in 0..3 {
            assert_eq!(api.cuGraphLaunch(executable, stream), 0);
        }
        assert_eq!(sum(), 0);
        rank.download(buffer, 1)
    });
    println!("sums {sums:?}");
}

/// Making a communicator fails for want of a device, and leaves the thread inside of a group.
fn leak() {
    let api = Api::get();
    let (mut comm, mut config) = (0, Config::undefined());
    let code = api.ncclCommInitRankConfig(&mut comm, 1, Id([0; 128]), 0, &mut config);
    let ends = [api.ncclGroupEnd(), api.ncclGroupEnd()];
    println!("init {code} ends {ends:?} violations {}", api.violations());
}

/// Codes and violations of configurations, good and bad.
fn config() {
    let api = Api::get();
    api.use_device(0);
    let try_one = |change: &dyn Fn(&mut Config)| {
        let (mut comm, before, mut config) = (0, api.violations(), Config::undefined());
        change(&mut config);
        let code = api.ncclCommInitRankConfig(&mut comm, 1, api.id(), 0, &mut config);
        if code == 0 {
            assert_eq!(api.ncclCommDestroy(comm), 0);
        }
        (code, api.violations() - before)
    };
    assert_eq!(try_one(&|_| {}), (0, 0));
    assert_eq!(try_one(&|config| config.magic = 1), (4, 0));
    assert_eq!(try_one(&|config| config.ints[0] = 2), (4, 0), "blocking");
    assert_eq!(try_one(&|config| config.ints[2] = 4), (4, 0), "minCTAs alone");
    assert_eq!(try_one(&|config| config.ints[2..4].fill(4)), (0, 0));
    assert_eq!(try_one(&|config| config.size = 47), (0, 1));
    assert_eq!(try_one(&|config| config.version = 22703), (0, 1), "another size");
    println!("configurations tried");
}

/// Two ranks on device 0.
fn shared() {
    let id = Api::get().id();
    let join = |rank: i32| {
        move || {
            let api = Api::get();
            api.use_device(0);
            let mut comm = 0;
            let code = api.ncclCommInitRank(&mut comm, 2, id, rank);
            if code == 0 {
                assert_eq!(api.ncclCommDestroy(comm), 0);
            }
            code
        }
    };
    let (first, second) = (thread::spawn(join(0)), thread::spawn(join(1)));
    let codes = [first.join().unwrap(), second.join().unwrap()];
    match codes {
        [0, 0] => println!("both are there"),
        _ => println!("{codes:?} {}", Api::get().last_error()),
    }
}
