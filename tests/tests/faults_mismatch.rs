//! Ranks that call different things: an error on every rank, at once, with both views.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::config::Env;
use nccl::config::TransportChoice;
use nccl::store::MemoryStore;
use nccl::store::SharedStore;
use tests::faults::Call;
use tests::faults::World;
use tests::faults::threads_of;
use tests::threads::Threads;

const RANK: &str = env!("CARGO_BIN_EXE_fault_rank");
const PATIENCE: Duration = Duration::from_secs(20);
/// How soon every rank must know.
const KNOWN: Duration = Duration::from_secs(1);
/// The number of the first operation: making a sibling was the first.
const FIRST_SEQ: usize = 2;

/// What one rank calls where the others call something else; `N` is a count.
const CASES: [(&str, &str); 32] = [
    // Counts.
    ("all_reduce f32 N sum", "all_reduce f32 M sum"),
    ("all_gather f32 N", "all_gather f32 M"),
    ("reduce_scatter f32 N sum", "reduce_scatter f32 M sum"),
    ("all_to_all f32 N", "all_to_all f32 M"),
    ("broadcast f32 N root 0", "broadcast f32 M root 0"),
    ("reduce f32 N sum root 1", "reduce f32 M sum root 1"),
    ("gather f32 N root 0", "gather f32 M root 0"),
    ("scatter f32 N root 1", "scatter f32 M root 1"),
    ("all_reduce f32 8 sum", "all_reduce f32 100000 sum"),
    ("all_reduce f32 0 sum", "all_reduce f32 N sum"),
    // Types of the same width, and of another.
    ("all_reduce f32 N sum", "all_reduce i32 N sum"),
    ("all_gather i64 N", "all_gather f64 N"),
    ("broadcast f32 N root 0", "broadcast f64 N root 0"),
    ("reduce_scatter f32 N sum", "reduce_scatter u8 N sum"),
    // Reductions.
    ("all_reduce f32 N sum", "all_reduce f32 N max"),
    ("reduce_scatter i32 N min", "reduce_scatter i32 N prod"),
    ("reduce f32 N sum root 0", "reduce f32 N avg root 0"),
    // Roots.
    ("broadcast f32 N root 0", "broadcast f32 N root 1"),
    ("reduce f32 N sum root 0", "reduce f32 N sum root 1"),
    ("gather f32 N root 0", "gather f32 N root 1"),
    ("scatter f32 N root 1", "scatter f32 N root 0"),
    // Kinds.
    ("all_reduce f32 N sum", "all_gather f32 N"),
    ("barrier", "all_reduce f32 N sum"),
    ("broadcast f32 N root 0", "barrier"),
    ("all_to_all f32 N", "gather f32 N root 0"),
    ("scatter f32 N root 0", "reduce_scatter f32 N sum"),
    // Order; one that skips; one that does one more.
    (
        "all_reduce f32 N sum / broadcast f32 N root 0",
        "broadcast f32 N root 0 / all_reduce f32 N sum",
    ),
    ("all_gather f32 N / barrier", "barrier / all_gather f32 N"),
    ("barrier / all_reduce f32 N sum / all_gather i32 N", "barrier / all_gather i32 N"),
    ("barrier / all_reduce f32 N sum", "barrier / broadcast f32 N root 0 / all_reduce f32 N sum"),
    // Lists of counts.
    ("all_gather_v f32 0 recv V", "all_gather_v f32 0 recv W"),
    ("reduce_scatter_v f32 0 recv V sum", "reduce_scatter_v f32 0 recv W sum"),
];

/// A case's text with numbers.
fn filled(text: &str, count: usize, world_size: usize) -> String {
    let list = |extra: usize| {
        let counts: Vec<String> =
            (0..world_size).map(|r| (count + extra * r).to_string()).collect();
        counts.join(",")
    };
    text.replace('N', &count.to_string())
        .replace('M', &(count + 1).to_string())
        .replace('V', &list(0))
        .replace('W', &list(2))
}

/// What every rank calls: the first in which one rank differs counts.
struct Case {
    usual: Vec<String>,
    other: Vec<String>,
    deviant: usize,
    /// The place of the first difference.
    at: usize,
}

impl Case {
    fn new(usual: &str, other: &str, deviant: usize, count: usize, world_size: usize) -> Self {
        let list = |text: &str| -> Vec<String> {
            filled(text, count, world_size).split(" / ").map(str::to_owned).collect()
        };
        let (usual, other) = (list(usual), list(other));
        let at = usual.iter().zip(&other).position(|(a, b)| a != b).unwrap();
        Self { usual, other, deviant, at }
    }

    fn calls(&self, rank: usize) -> &[String] {
        if rank == self.deviant { &self.other } else { &self.usual }
    }

    /// The operation in which the ranks differ, as `rank` sees it.
    fn view(&self, rank: usize) -> String {
        Call::new(&self.calls(rank)[self.at]).described(FIRST_SEQ + self.at)
    }

    /// Whether `text` is what `rank` must say: it names the rank that differs and one other, each
    /// with its view.
    fn is_told(&self, text: &str, rank: usize, world_size: usize) -> bool {
        let text = without_digests(text);
        let here = format!("group \"world\", rank {rank}, {}: ", self.view(rank));
        let later = format!(
            "group \"world\" is no longer usable since it failed: group \"world\", rank {rank}: "
        );
        let Some(rest) = text.strip_prefix(&here).or_else(|| text.strip_prefix(&later)) else {
            return false;
        };
        let says = |a: usize, b: usize| {
            let (first, second) = (self.view(a), self.view(b));
            rest == format!("the ranks disagree: rank {a} called {first}, rank {b} called {second}")
        };
        let others = (0..world_size).filter(|other| *other != self.deviant);
        others.into_iter().any(|other| says(self.deviant, other) || says(other, self.deviant))
    }
}

/// Leaves out the sixteen digits of a digest.
fn without_digests(text: &str) -> String {
    let mut parts = text.split("counts-digest ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str("counts-digest ");
        kept.push_str(part.get(16..).unwrap_or_default());
    }
    kept
}

/// What a rank saw: the outcome of each call until the first error, and how long that one took.
type Seen = (Vec<Result<(), String>>, Duration, Vec<String>);

fn run_threads(case: &Case, world_size: usize, transport: Option<TransportChoice>) -> Vec<Seen> {
    threads_of(world_size, transport, Duration::from_secs(10), |group| {
        let sibling = group.split(Some(0), 0).unwrap().unwrap();
        let mut outcomes = Vec::new();
        let mut took = Duration::ZERO;
        for call in case.calls(group.rank()) {
            // Everybody is done with what came before: an error cannot reach a rank earlier.
            sibling.barrier().unwrap();
            let begun = Instant::now();
            let outcome = Call::new(call).run(&group).map_err(|error| error.to_string());
            took = begun.elapsed();
            let failed = outcome.is_err();
            outcomes.push(outcome);
            if failed {
                break;
            }
        }
        let mut after = Vec::new();
        after.push(group.barrier().map_or_else(|error| error.to_string(), |()| "ok".to_owned()));
        let mut sum = [1.0_f32];
        let works = sibling.all_reduce_in_place(&mut sum, nccl::ReduceOp::Sum).is_ok();
        after.push(format!("{works} {}", sum[0]));
        let store = group.store();
        let key = format!("k{}", group.rank());
        after.push(format!("{:?}", store.set(&key, b"v").and_then(|()| store.get(&key))));
        (outcomes, took, after)
    })
}

fn check(case: &Case, seen: &[Seen], name: &str) -> Result<Duration, String> {
    let world_size = seen.len();
    let mut slowest = Duration::ZERO;
    for (rank, (outcomes, took, after)) in seen.iter().enumerate() {
        let wrong = |what: &str| {
            let (usual, other) = (&case.usual, &case.other);
            let who = case.deviant;
            Err(format!(
                "{name}: {usual:?}, but rank {who} of {world_size} {other:?}: rank {rank}: {what}; \
                 {outcomes:?} {took:?} {after:?}"
            ))
        };
        if outcomes.len() != case.at + 1 || outcomes[..case.at].iter().any(Result::is_err) {
            return wrong("the error comes at another place");
        }
        match &outcomes[case.at] {
            Ok(()) => return wrong("no error"),
            Err(text) if !case.is_told(text, rank, world_size) => return wrong("another text"),
            Err(_) => {}
        }
        if *took > KNOWN {
            return wrong("late");
        }
        slowest = slowest.max(*took);
        let poisoned = "group \"world\" is no longer usable since it failed: group \"world\", rank";
        if !after[0].starts_with(poisoned) || !after[0].contains("the ranks disagree: rank ") {
            return wrong("not poisoned by the first cause");
        }
        if after[1] != format!("true {world_size}") || after[2] != "Ok([118])" {
            return wrong("the sibling or the store does not work");
        }
    }
    Ok(slowest)
}

fn all_cases(transport: Option<TransportChoice>, name: &str, worlds: &[usize]) {
    let mut problems = Vec::new();
    let (mut slowest, mut cases) = (Duration::ZERO, 0);
    for (turn, (usual, other)) in CASES.iter().enumerate() {
        for (at, world_size) in worlds.iter().enumerate() {
            let deviant = [world_size - 1, 0, 1][(turn + at) % 3];
            let count = if (turn + at).is_multiple_of(2) { 8 } else { 50_000 };
            let case = Case::new(usual, other, deviant, count, *world_size);
            match check(&case, &run_threads(&case, *world_size, transport), name) {
                Ok(took) => slowest = slowest.max(took),
                Err(problem) => problems.push(problem),
            }
            cases += 1;
        }
    }
    eprintln!("{name}: {cases} mismatches, the slowest rank knew after {slowest:.1?}");
    assert!(
        problems.is_empty(),
        "{} of {cases} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn threads_that_call_different_things_are_told_in_memory() {
    all_cases(None, "memory", &[2, 3, 4, 8]);
}

#[test]
fn threads_that_call_different_things_are_told_over_tcp() {
    all_cases(Some(TransportChoice::Tcp), "TCP", &[2, 3, 4, 8]);
}

#[test]
fn processes_that_call_different_things_are_told() {
    let ways: [&[(&str, &str)]; 3] =
        [&[], &[("NCCL_P2P_DISABLE", "1")], &[("NCCL_RS_TRANSPORT", "tcp")]];
    for (turn, (usual, other)) in CASES.iter().enumerate() {
        let world_size = [2, 3, 4][turn % 3];
        let (env, deviant) = (ways[turn / 3 % 3], [world_size - 1, 0, 1][turn % 3]);
        let count = if turn.is_multiple_of(2) { 50_000 } else { 8 };
        let case = Case::new(usual, other, deviant, count, world_size);
        let mut world = World::start(RANK, world_size, env, |rank| {
            vec!["calls".to_owned(), case.calls(rank).join(" / ")]
        });
        for rank in 0..world_size {
            for at in 0..=case.at {
                let line = world.nth(rank, "outcome ", at, PATIENCE);
                let (ms, text) = line.split_once(' ').unwrap();
                if at < case.at {
                    assert_eq!(text, "ok", "{usual} {other}");
                    continue;
                }
                assert!(case.is_told(text, rank, world_size), "{usual}, {other}: {text}");
                assert!(ms.parse::<u128>().unwrap() < KNOWN.as_millis(), "{usual}: {ms}");
            }
            assert_eq!(world.word(rank, "sibling ", PATIENCE), "Ok(true)");
            assert_eq!(world.word(rank, "store ", PATIENCE), "Ok([120])");
        }
        world.end();
    }
}

/// All-to-all counts are compared before any data moves: the same error on every rank, and the group
/// stays good.
#[test]
fn counts_of_an_all_to_all_v_that_do_not_match_are_told_everywhere() {
    for transport in [None, Some(TransportChoice::Tcp)] {
        for (world_size, count) in [(2, 3), (3, 40_000), (4, 5), (8, 1000)] {
            let seen = threads_of(world_size, transport, Duration::from_secs(10), |group| {
                // Rank 1 sends one more to rank 0 than rank 0 expects.
                let mut sends = vec![count; world_size];
                sends[0] += usize::from(group.rank() == 1);
                let recvs = vec![count; world_size];
                let send = vec![group.rank() as f32; sends.iter().sum()];
                let mut recv = vec![-1.0_f32; recvs.iter().sum()];
                let begun = Instant::now();
                let outcome = group.all_to_all_v(&send, &mut recv, &sends, &recvs);
                let took = begun.elapsed();
                assert!(recv.iter().all(|value| *value == -1.0), "nothing was written");
                let after = group.barrier().map_err(|error| error.to_string());
                (outcome.map_err(|error| error.to_string()), took, after)
            });
            let expected = format!(
                "all_to_all_v: rank 1 sends {} elements to rank 0, which expects {count} from it \
                 (group \"world\")",
                count + 1
            );
            for (rank, (outcome, took, after)) in seen.iter().enumerate() {
                assert_eq!(outcome.as_ref().unwrap_err(), &expected, "rank {rank} of {world_size}");
                assert!(*took < KNOWN, "rank {rank} of {world_size}: {took:?}");
                assert_eq!(after, &Ok(()), "the group stays good");
            }
        }
    }
}

/// A sender of a small message may be done before anybody looks; the receiver never is, and both
/// know by their next call.
#[test]
fn a_message_of_another_count_or_type_is_an_error_on_both_sides() {
    let cases = [
        ("send f32 N peer 1", "recv f32 M peer 0"),
        ("send f32 N peer 1", "recv i32 N peer 0"),
        ("send f32 N peer 1", "recv f64 N peer 0"),
        ("send f64 0 peer 1", "recv f64 N peer 0"),
    ];
    for transport in [None, Some(TransportChoice::Tcp)] {
        for count in [5, 300_000] {
            for (send, recv) in cases {
                let (send, recv) = (filled(send, count, 2), filled(recv, count, 2));
                let (sends, recvs) = (Call::new(&send), Call::new(&recv));
                let seen = threads_of(3, transport, Duration::from_secs(10), |group| {
                    let begun = Instant::now();
                    let barrier = Call::new("barrier");
                    let call = [&sends, &recvs, &barrier][group.rank()];
                    let mut outcome = call.run(&group);
                    if group.rank() == 0 && outcome.is_ok() {
                        outcome = group.barrier();
                    }
                    (outcome.map_err(|error| error.to_string()), begun.elapsed())
                });
                let cause = format!(
                    "the ranks disagree: rank 1 called {}, rank 0 called {}",
                    recvs.described(0),
                    sends.described(1)
                );
                for (rank, (outcome, took)) in seen.iter().enumerate() {
                    let text = outcome.as_ref().unwrap_err();
                    assert!(text.ends_with(&cause), "{send}, {recv}: rank {rank}: {text}\n{cause}");
                    assert!(*took < KNOWN, "{send}, {recv}: rank {rank}: {took:?}");
                }
            }
        }
    }
}

/// One that skips the last of several equal collectives only shows when nobody comes any more.
#[test]
fn a_collective_that_one_rank_leaves_out_ends_at_the_timeout() {
    for transport in [None, Some(TransportChoice::Tcp)] {
        let timeout = Duration::from_millis(600);
        let seen = threads_of(3, transport, timeout, |group| {
            let mut buf = vec![1.0_f32; 1000];
            group.all_reduce_in_place(&mut buf, nccl::ReduceOp::Sum).unwrap();
            let begun = Instant::now();
            if group.rank() == 1 {
                // It is alive, and calls nothing until the others have given up.
                let store = group.store();
                store.wait(&["over 0", "over 2"], PATIENCE).unwrap();
                return (group.barrier().unwrap_err().to_string(), begun.elapsed());
            }
            let error = group.all_reduce_in_place(&mut buf, nccl::ReduceOp::Sum).unwrap_err();
            group.store().set(&format!("over {}", group.rank()), b"").unwrap();
            (error.to_string(), begun.elapsed())
        });
        // Whoever called first waited all of it, and told those that called later.
        assert!(seen.iter().any(|(_, took)| *took >= timeout), "{seen:?}");
        let pid = std::process::id();
        for (rank, (text, took)) in seen.iter().enumerate() {
            assert!(*took < timeout + KNOWN, "rank {rank}: {took:?}");
            if rank == 1 && text.contains("the ranks disagree: rank 1 called #2 barrier") {
                // It called before the news was there, and that is true as well.
                continue;
            }
            assert!(text.contains("; not arrived: rank 1 (host "), "{text}");
            assert!(
                text.contains(&format!("pid {pid}): finished #1 all_reduce f32\u{d7}1000 sum"))
            );
        }
    }
}

#[test]
fn without_agreement_a_root_learns_of_a_mismatch_in_its_next_call() {
    let outcomes = Threads::new(3).with("NCCL_RS_CHECK", "0").run(|group| {
        let count = if group.rank() == 1 { 5 } else { 4 };
        let mut data = vec![group.rank() as f32; count];
        let first = group.broadcast(&mut data, 0).map_err(|error| error.to_string());
        // What comes after is one call, that waits for all.
        let second = group.barrier().map_err(|error| error.to_string());
        Ok((first, second))
    });
    let outcomes = outcomes.unwrap();
    assert_eq!(outcomes[0].0, Ok(()), "the root does not wait");
    for (rank, (first, second)) in outcomes.iter().enumerate() {
        let both = format!("{first:?} {second:?}");
        assert!(both.contains("rank 0 called #1 broadcast f32×4 root 0"), "{rank}: {both}");
        assert!(both.contains("rank 1 called #1 broadcast f32×5 root 0"), "{rank}: {both}");
        assert!(second.is_err(), "{rank}: the group has failed");
    }
}

#[test]
fn ranks_whose_settings_plan_differently_do_not_start() {
    for (name, value, shown) in [("NCCL_RS_CHECK", "0", "0"), ("NCCL_ALGO", "Ring", "ring")] {
        let store: SharedStore = Arc::new(MemoryStore::new(PATIENCE));
        let join = |rank: usize| {
            let env = Env::empty();
            let env = if rank == 1 { env.with(name, value) } else { env };
            let builder = ProcessGroup::builder().env(env).rank(rank).world_size(2);
            builder.store(store.clone()).init_timeout(PATIENCE).timeout(PATIENCE).build()
        };
        let error = thread::scope(|scope| {
            let first = scope.spawn(|| join(0));
            let error = join(1).unwrap_err().to_string();
            // Rank 0 may be in or not when the other one leaves.
            drop(first.join().unwrap());
            error
        });
        assert!(error.contains(&format!(" {name}={shown}")), "{error}");
        assert!(
            error.contains("set the same NCCL_ALGO, NCCL_RS_CHECK and NCCL_BUFFSIZE"),
            "{error}"
        );
    }
}
