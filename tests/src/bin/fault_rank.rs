//! One rank of a world that goes wrong on purpose. Its words say what it does; it prints what
//! happens, one line each, stays alive after an error, and ends when its standard input does.
//!
//! - `loop KIND COUNT`: the operation again and again, each result checked, and `going TURN` now and
//!   then
//! - `calls CALL / CALL / ...`: these operations, one after the other, then what is left
//! - `idle`: waits for a line, then a barrier
//! - `split`: subgroups again and again
//! - `build`: only joins
//! - `exit`, `panic`, `drop`: what the words say, after a first barrier
//! - `nofile N KIND COUNT`: `loop` with at most N descriptors
//! - `wait KIND COUNT`: joins, waits for a line, then `loop`
//! - `full KIND COUNT`: joins, takes itself every further descriptor, says `full`, then `loop`

use std::error::Error;
use std::io::BufRead;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use tests::faults::Call;
use tests::faults::checked;

type Outcome = Result<(), Box<dyn Error>>;

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The test may be gone already.
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Waits for a line; says whether there was one.
fn hear() -> bool {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok_and(|count| count > 0)
}

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["nofile", limit, ..] = words.as_slice() {
        limit_descriptors(limit.parse()?)?;
    }
    let begun = Instant::now();
    let group = match ProcessGroup::from_env() {
        Ok(group) => group,
        Err(error) => {
            say(&format!("refused {} {error}", begun.elapsed().as_millis()));
            while hear() {}
            return Ok(());
        }
    };
    say("joined");
    if let Err(error) = act(&group, &words) {
        say(&format!("error {error}"));
        let after = group.barrier().err().map_or_else(|| "ok".to_owned(), |e| e.to_string());
        say(&format!("after {after}"));
    } else {
        say("done");
    }
    while hear() {}
    Ok(())
}

/// Sets the soft limit of open descriptors.
fn limit_descriptors(limit: u64) -> std::io::Result<()> {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit { current: Some(limit), maximum: hard };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?)
}

/// Leaves no descriptor free: numbers up to 63, of which those that are open stay so.
fn fill_descriptors() -> std::io::Result<()> {
    limit_descriptors(64)?;
    while let Ok(file) = std::fs::File::open("/dev/null") {
        std::mem::forget(file);
    }
    Ok(())
}

fn act(group: &ProcessGroup, words: &[&str]) -> Result<(), nccl::Error> {
    match words {
        ["loop", kind, count] => forever(group, kind, count.parse().unwrap_or(1)),
        ["calls", calls @ ..] => run_calls(group, &calls.join(" ")),
        ["idle"] => {
            group.barrier()?;
            say("up");
            hear();
            group.barrier()
        }
        ["split"] => loop {
            // One group of all: in a part without the victim nobody would be missing.
            if let Some(again) = group.split(Some(0), 0)? {
                again.barrier()?;
            }
            say("up");
        },
        ["exit"] => {
            group.barrier()?;
            std::process::exit(0)
        }
        ["panic"] => {
            group.barrier()?;
            say("up");
            panic!("this rank panics on purpose")
        }
        ["drop"] => {
            group.barrier()?;
            Ok(())
        }
        ["wait", kind, count] => {
            hear();
            forever(group, kind, count.parse().unwrap_or(1))
        }
        ["full", kind, count] => {
            if let Err(error) = fill_descriptors() {
                say(&format!("cannot fill the descriptors: {error}"));
            }
            say("full");
            forever(group, kind, count.parse().unwrap_or(1))
        }
        ["nofile", _, kind, count] => forever(group, kind, count.parse().unwrap_or(1)),
        _ => Ok(()),
    }
}

/// The operation again and again, until it fails.
fn forever(group: &ProcessGroup, kind: &str, count: usize) -> Result<(), nccl::Error> {
    let mut turn = 0;
    let mut said = Instant::now();
    loop {
        if said.elapsed() > Duration::from_millis(100) {
            said = Instant::now();
            say(&format!("going {turn}"));
        }
        match checked(group, kind, turn, count) {
            Ok(true) => {}
            Ok(false) => say(&format!("wrong {kind} {turn}")),
            Err(error) => {
                say(&format!("turns {turn}"));
                return Err(error);
            }
        }
        turn += 1;
        if turn == 3 {
            let way = |peer| match group.transport_to(peer) {
                Some(way) => way,
                None if peer == group.rank() => "-",
                None => "?",
            };
            let ways: Vec<&str> = (0..group.world_size()).map(way).collect();
            say(&format!("ways {}", ways.join(" ")));
            say("up");
        }
    }
}

/// Calls one after the other, each outcome a line; then whether a sibling and the store work.
fn run_calls(group: &ProcessGroup, calls: &str) -> Result<(), nccl::Error> {
    let sibling = group.split(Some(0), 0)?;
    for call in calls.split(" / ") {
        // Everybody is done with what came before: an error cannot reach a rank earlier.
        if let Some(sibling) = &sibling {
            sibling.barrier()?;
        }
        let begun = Instant::now();
        let outcome = match call.strip_prefix("sleep ") {
            Some(ms) => {
                std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
                Ok(())
            }
            None => Call::new(call).run(group),
        };
        let failed = outcome.is_err();
        let text = outcome.err().map_or_else(|| "ok".to_owned(), |error| error.to_string());
        say(&format!("outcome {} {text}", begun.elapsed().as_millis()));
        if failed {
            break;
        }
    }
    if let Some(sibling) = sibling {
        let works = checked(&sibling, "all_reduce", 1, 1000);
        say(&format!("sibling {works:?}"));
    }
    let store = group.store();
    let key = format!("after/{}", group.rank());
    let works = store.set(&key, b"x").and_then(|()| store.get(&key));
    say(&format!("store {works:?}"));
    Ok(())
}
