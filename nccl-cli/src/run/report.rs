//! The launcher's sentences about ranks.

use std::time::Duration;

use crate::run::output::TAIL_LINES;
use crate::signals;

/// How many lines of standard output a report shows even if there are many on standard error.
const OUT_LINES: usize = 5;

/// How a rank ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It exited.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Which.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
    /// Nobody knows; the text says why.
    Unknown(String),
}

impl Outcome {
    /// Whether the rank did what it was to do.
    pub(crate) fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }

    /// What a shell would give as the exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code & 0xff).unwrap_or(1),
            Self::Signal { signal, .. } => signal_code(*signal),
            Self::Unknown(_) => super::CODE_LAUNCHER,
        }
    }

    /// `exit code 3`, `killed by SIGSEGV (core dumped)`; `sent` is the signal that we sent last.
    pub(crate) fn text(&self, sent: Option<i32>) -> String {
        match self {
            Self::Code(code) => format!("exit code {code}"),
            Self::Signal { signal, core } => {
                let name = signals::name(*signal);
                let by = if sent == Some(*signal) { "our " } else { "" };
                let core = if *core { " (core dumped)" } else { "" };
                format!("killed by {by}{name}{core}")
            }
            Self::Unknown(why) => format!("ended, nobody knows how ({why})"),
        }
    }
}

/// 128 and the signal, as shells do.
pub(crate) fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

/// What we know of the failure that came first.
#[derive(Debug)]
pub(crate) struct First<'a> {
    /// Rank in the world.
    pub(crate) rank: u64,
    /// Its process.
    pub(crate) pid: i32,
    /// How it ended.
    pub(crate) outcome: &'a Outcome,
    /// After how long.
    pub(crate) after: Duration,
    /// Kills of the kernel's OOM killer in our cgroup since the start.
    pub(crate) oom_kills: u64,
    /// Its last lines on standard error.
    pub(crate) err: &'a [Vec<u8>],
    /// Its last lines on standard output.
    pub(crate) out: &'a [Vec<u8>],
}

/// The report on the rank that failed first; bytes, because the rank's lines need not be text.
pub(crate) fn first_failure(first: &First<'_>) -> Vec<u8> {
    let First { rank, pid, outcome, after, .. } = first;
    let how = outcome.text(None);
    let mut text =
        format!("nccl run: rank {rank} (pid {pid}) failed first, after {after:.1?}: {how}\n");
    if let Some(hint) = hint(outcome, first.oom_kills) {
        text.push_str(&format!("nccl run: {hint}\n"));
    }
    if first.err.is_empty() && first.out.is_empty() {
        text.push_str(&format!("nccl run: rank {rank} printed nothing\n"));
    }
    let mut bytes = text.into_bytes();
    // What matters is on standard error, and must not be lost among progress on the other.
    let room = TAIL_LINES.saturating_sub(first.err.len()).max(OUT_LINES);
    let out = first.out.get(first.out.len().saturating_sub(room)..).unwrap_or_default();
    for (name, lines) in [("stdout", out), ("stderr", first.err)] {
        if !lines.is_empty() {
            let head = format!("nccl run: the last lines of rank {rank} on {name}:\n");
            bytes.extend_from_slice(head.as_bytes());
        }
        for line in lines {
            bytes.extend_from_slice(b"nccl run:   | ");
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
    }
    bytes
}

/// What usually is behind such an end.
fn hint(outcome: &Outcome, oom_kills: u64) -> Option<String> {
    let Outcome::Signal { signal, .. } = outcome else { return None };
    match signals::name(*signal).as_str() {
        "SIGKILL" if oom_kills > 0 => Some(format!(
            "OOM-killed: the kernel's out-of-memory killer ended {oom_kills} process(es) of this \
             memory cgroup during the run; give it more memory or use less"
        )),
        "SIGKILL" => Some(
            "SIGKILL was not sent by the launcher: perhaps OOM-killed (see `dmesg`), or ended by \
             somebody or by the scheduler"
                .to_owned(),
        ),
        "SIGBUS" => Some(
            "SIGBUS often means that shared memory is full (see `df /dev/shm`) or that a mapped \
             file shrank"
                .to_owned(),
        ),
        "SIGILL" => Some("SIGILL often means a program built for a newer processor".to_owned()),
        _ => None,
    }
}

/// `rank 3`, `ranks 0-2, 5`; the ranks are in ascending order.
pub(crate) fn ranks(ranks: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &rank in ranks {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|&(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first}, {last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    let noun = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{noun} {}", words.join(", "))
}

/// `ranks 0-2: killed by our SIGTERM; rank 4: exit code 1`, from (rank, text) in order of rank.
pub(crate) fn endings(each: &[(u64, String)]) -> String {
    let mut kinds: Vec<(&str, Vec<u64>)> = Vec::new();
    for (rank, text) in each {
        match kinds.iter_mut().find(|(known, _)| known == text) {
            Some((_, list)) => list.push(*rank),
            None => kinds.push((text, vec![*rank])),
        }
    }
    let parts: Vec<String> =
        kinds.iter().map(|(text, list)| format!("{}: {text}", ranks(list))).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(Outcome::Code(3).exit_code(), 3);
        assert_eq!(Outcome::Signal { signal: 11, core: true }.exit_code(), 139);
        assert_eq!(Outcome::Signal { signal: 9, core: false }.exit_code(), 137);
        assert!(Outcome::Code(0).is_success());
        assert!(!Outcome::Signal { signal: 15, core: false }.is_success());
    }

    #[test]
    fn the_text_tells_our_signal_from_others() {
        let killed = Outcome::Signal { signal: 15, core: false };
        assert_eq!(killed.text(Some(15)), "killed by our SIGTERM");
        assert_eq!(killed.text(None), "killed by SIGTERM");
        assert_eq!(
            Outcome::Signal { signal: 6, core: true }.text(None),
            "killed by SIGABRT (core dumped)"
        );
    }

    #[test]
    fn ranks_are_shown_as_runs() {
        assert_eq!(ranks(&[3]), "rank 3");
        assert_eq!(ranks(&[0, 1, 2, 3, 7, 9, 10]), "ranks 0-3, 7, 9, 10");
    }

    #[test]
    fn equal_endings_share_one_place() {
        let each = [(0, "a".to_owned()), (1, "b".to_owned()), (2, "a".to_owned())];
        assert_eq!(endings(&each), "ranks 0, 2: a; rank 1: b");
    }

    #[test]
    fn the_report_shows_twenty_lines_with_some_of_both_streams() {
        let outcome = Outcome::Code(1);
        let lines: Vec<Vec<u8>> = (0..TAIL_LINES).map(|n| format!("{n}.").into_bytes()).collect();
        for (err, out, shown) in [(20, 20, 25), (3, 20, 20), (0, 20, 20), (20, 0, 20), (2, 1, 3)] {
            let first = First {
                rank: 0,
                pid: 7,
                outcome: &outcome,
                after: Duration::ZERO,
                oom_kills: 0,
                err: &lines[..err],
                out: &lines[..out],
            };
            let text = String::from_utf8(first_failure(&first)).unwrap();
            assert_eq!(text.matches("  | ").count(), shown, "{text}");
            if out > 0 {
                assert!(text.contains(&format!("| {}.\n", out - 1)), "{text}");
            }
        }
    }

    #[test]
    fn the_first_failure_keeps_bytes_that_are_no_text() {
        let outcome = Outcome::Signal { signal: 9, core: false };
        let out = [b"ok".to_vec()];
        let err = [b"\xff\xfe".to_vec()];
        let first = First {
            rank: 2,
            pid: 7,
            outcome: &outcome,
            after: Duration::from_millis(1200),
            oom_kills: 1,
            err: &err,
            out: &out,
        };
        let expected: &[u8] =
            b"nccl run: rank 2 (pid 7) failed first, after 1.2s: killed by SIGKILL\n\
            nccl run: OOM-killed: the kernel's out-of-memory killer ended 1 process(es) of this \
            memory cgroup during the run; give it more memory or use less\n\
            nccl run: the last lines of rank 2 on stdout:\n\
            nccl run:   | ok\n\
            nccl run: the last lines of rank 2 on stderr:\n\
            nccl run:   | \xff\xfe\n";
        assert_eq!(first_failure(&first), expected);
    }
}
