//! What can be made to go wrong, by variables that README.md lists.
//!
//! A rule is `WHAT=VALUE[@FIRST][#RANK]`: from the FIRST-th time on (1 if not given), on one rank
//! only or on all. Rules of one variable are separated by commas. The rank is that of the
//! communicator at hand, or for calls without one, of `FAKE_NCCL_RANK`.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::fail::lock;

/// A rule of a variable.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    what: String,
    value: String,
    first: u64,
    rank: Option<usize>,
}

static FAIL: LazyLock<Vec<Rule>> = LazyLock::new(|| rules("FAKE_NCCL_FAIL"));
static HANG: LazyLock<Vec<Rule>> = LazyLock::new(|| rules("FAKE_NCCL_HANG"));
static DELAY: LazyLock<Vec<Rule>> = LazyLock::new(|| rules("FAKE_NCCL_DELAY_MS"));
static PROGRESS: LazyLock<Vec<Rule>> = LazyLock::new(|| rules("FAKE_NCCL_IN_PROGRESS"));
static ASYNC: LazyLock<Vec<Rule>> = LazyLock::new(|| rules("FAKE_NCCL_ASYNC_ERROR"));
static COUNTS: Mutex<BTreeMap<Counted, u64>> = Mutex::new(BTreeMap::new());

/// What is counted: a variable, a function, and the rank if it is known.
type Counted = (&'static str, String, Option<usize>);

/// How long an operation stays in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Progress {
    /// For so many calls of `ncclCommGetAsyncError`.
    Polls(u64),
    /// For so long.
    Time(Duration),
}

/// The code that a function shall return now instead of working, if any.
pub(crate) fn failure(function: &str) -> Option<i32> {
    find("FAIL", &FAIL, function, None).map(|rule| number("FAKE_NCCL_FAIL", &rule.value))
}

/// The same for a function of a communicator: for rules that name a rank.
pub(crate) fn failure_of(function: &str, rank: usize) -> Option<i32> {
    let rule = find("FAIL#", &FAIL, function, Some(rank))?;
    Some(number("FAKE_NCCL_FAIL", &rule.value))
}

/// Functions that hang in the caller's thread, if they hang; others hang in their stream.
const OF_THE_CALLER: [&str; 9] = [
    "ncclCommAbort",
    "ncclCommDestroy",
    "ncclCommFinalize",
    "ncclCommGetAsyncError",
    "ncclCommRevoke",
    "ncclGetUniqueId",
    "ncclGetVersion",
    "ncclGroupEnd",
    "ncclMemAlloc",
];

/// Hangs for ever if the function shall hang in the caller's thread: by rules for all ranks or for
/// this process's, or, for a function of a communicator, by rules for its rank.
pub(crate) fn hang_call(function: &str, rank: Option<usize>) {
    let rules = if rank.is_some() { "CALL#" } else { "CALL" };
    if OF_THE_CALLER.contains(&function) && find(rules, &HANG, function, rank).is_some() {
        eprintln!("fake nccl: {function} hangs, as FAKE_NCCL_HANG says");
        loop {
            thread::park();
        }
    }
}

/// Whether an operation on a stream, or the making of a communicator (`init`), shall hang.
pub(crate) fn hangs(what: &str, rank: usize) -> bool {
    find("HANG#", &HANG, what, Some(rank)).is_some()
}

/// How much longer an operation on a stream, or the making of a communicator (`init`), shall take.
pub(crate) fn delay(what: &str, rank: usize) -> Duration {
    let rule = find("DELAY", &DELAY, what, Some(rank));
    let ms = rule.map_or(0, |rule| number("FAKE_NCCL_DELAY_MS", &rule.value));
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// How long a call on a communicator that does not block shall stay in progress.
pub(crate) fn progress(function: &str, rank: usize) -> Option<Progress> {
    let rule = find("PROGRESS", &PROGRESS, function, Some(rank))?;
    let amount = |text: &str| u64::try_from(number("FAKE_NCCL_IN_PROGRESS", text)).ok();
    Some(match rule.value.strip_suffix("ms") {
        Some(ms) => Progress::Time(Duration::from_millis(amount(ms)?)),
        None => Progress::Polls(amount(&rule.value)?),
    })
}

/// The asynchronous error that a communicator shall have now, if any: `ops=CODE@N` after N
/// operations, `init=CODE`, `ms=CODE@N` after N milliseconds of life.
pub(crate) fn async_error(rank: usize, operations: u64, age: Duration) -> Option<i32> {
    let due = |rule: &&Rule| {
        rule.rank.is_none_or(|wanted| wanted == rank)
            && match rule.what.as_str() {
                "ops" => operations >= rule.first,
                "ms" => age >= Duration::from_millis(rule.first),
                _ => true,
            }
    };
    ASYNC.iter().find(due).map(|rule| number("FAKE_NCCL_ASYNC_ERROR", &rule.value))
}

/// Whether a switch is on: `1`.
pub(crate) fn is_on(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// Whether a switch that is on by default is off: `0`.
pub(crate) fn is_off(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "0")
}

/// The first rule that holds now. Counts the call, per variable, function and rank.
fn find<'a>(
    variable: &'static str,
    rules: &'a [Rule],
    what: &str,
    rank: Option<usize>,
) -> Option<&'a Rule> {
    if !rules.iter().any(|rule| rule.what == what) {
        return None;
    }
    let mut counts = lock(&COUNTS);
    let count = counts.entry((variable, what.to_owned(), rank)).or_default();
    *count += 1;
    let count = *count;
    drop(counts);
    let holds = |rule: &&Rule| {
        let rank_fits = match (rule.rank, rank) {
            (Some(wanted), Some(rank)) => wanted == rank,
            (Some(wanted), None) => own_rank() == Some(wanted),
            (None, Some(_)) if ["FAIL#", "CALL#"].contains(&variable) => false,
            (None, _) => true,
        };
        rule.what == what && rank_fits && count >= rule.first
    };
    rules.iter().find(holds)
}

/// The rank of this process for calls without a communicator.
fn own_rank() -> Option<usize> {
    let variables = ["FAKE_NCCL_RANK", "RANK"];
    variables.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

fn rules(variable: &str) -> Vec<Rule> {
    let text = std::env::var(variable).unwrap_or_default();
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(|entry| rule(variable, entry)).collect()
}

fn rule(variable: &str, entry: &str) -> Rule {
    let broken = || -> ! { panic!("{variable}: {entry} is not WHAT[=VALUE][@FIRST][#RANK]") };
    let (rest, rank) = match entry.split_once('#') {
        Some((rest, rank)) => (rest, Some(rank.parse().unwrap_or_else(|_| broken()))),
        None => (entry, None),
    };
    let (rest, first) = match rest.split_once('@') {
        Some((rest, first)) => (rest, first.parse().unwrap_or_else(|_| broken())),
        None => (rest, 1),
    };
    let (what, value) = rest.split_once('=').unwrap_or((rest, ""));
    Rule { what: what.to_owned(), value: value.to_owned(), first, rank }
}

fn number(variable: &str, text: &str) -> i32 {
    text.parse().unwrap_or_else(|_| panic!("{variable}: {text} is no number"))
}
