//! What can be made to go wrong, by variables that README.md lists.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;

use crate::registry::lock;

/// A rule of `FAKE_CUDA_FAIL`.
struct Rule {
    function: String,
    code: i32,
    from: u64,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let text = std::env::var("FAKE_CUDA_FAIL").unwrap_or_default();
    text.split(',').filter(|rule| !rule.is_empty()).map(parse_rule).collect()
});

static CALLS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// The code that the function shall return now instead of working, if any.
pub(crate) fn failure(function: &str) -> Option<i32> {
    static COUNTS: LazyLock<bool> = LazyLock::new(|| std::env::var("FAKE_CUDA_COUNT").is_ok());
    if RULES.is_empty() && !*COUNTS {
        return None;
    }
    let mut calls = lock(&CALLS);
    let count = calls.entry(function.to_owned()).or_default();
    *count += 1;
    let count = *count;
    RULES.iter().find(|rule| rule.function == function && count >= rule.from).map(|rule| rule.code)
}

/// How often the function was called; only known with `FAKE_CUDA_COUNT` or `FAKE_CUDA_FAIL`.
pub(crate) fn calls(function: &str) -> u64 {
    lock(&CALLS).get(function).copied().unwrap_or_default()
}

/// A number, or what holds without the variable.
///
/// # Panics
/// If it is no number: a test with a wrong knob would test nothing.
pub(crate) fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| panic!("{name}={text}: no number")),
        Err(_) => default,
    }
}

/// How long every operation of a stream takes more.
pub(crate) fn slowness() -> Duration {
    static SLOWNESS: LazyLock<Duration> = LazyLock::new(|| {
        Duration::from_micros(u64::try_from(number("FAKE_CUDA_SLOW_US", 0)).unwrap_or_default())
    });
    *SLOWNESS
}

fn parse_rule(rule: &str) -> Rule {
    let parse = || {
        let (function, rest) = rule.trim().split_once('=')?;
        let (code, from) = rest.split_once('@').unwrap_or((rest, "1"));
        let (code, from) = (code.parse().ok()?, from.parse().ok()?);
        Some(Rule { function: function.to_owned(), code, from })
    };
    parse().unwrap_or_else(|| panic!("FAKE_CUDA_FAIL: {rule} is not FUNCTION=CODE[@FIRST]"))
}
