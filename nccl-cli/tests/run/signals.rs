//! Signals to the launcher and to its ranks.

use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::common::text;
use crate::helpers::assert_code;
use crate::helpers::assert_says;
use crate::helpers::finish;
use crate::helpers::next_line;
use crate::helpers::run;
use crate::helpers::send;
use crate::helpers::shell;
use crate::helpers::spawn;

/// Waits until both ranks said `ready`.
fn when_ready(mut child: Child) -> Child {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let line = next_line(&mut out);
        assert!(line.ends_with("ready"), "{line:?}");
    }
    assert!(out.buffer().is_empty());
    child.stdout = Some(out.into_inner());
    child
}

#[test]
fn ending_signals_are_passed_on() {
    for (signal, name, code) in
        [(Signal::TERM, "TERM", 143), (Signal::INT, "INT", 130), (Signal::HUP, "HUP", 129)]
    {
        let script = format!(
            "trap 'echo got {name}; exit 0' {name}; echo ready; while :; do sleep 0.02; done"
        );
        let child = when_ready(spawn(&mut shell("-n 2", &script)));
        send(&child, signal);
        let output = finish(child);
        assert_code(&output, code);
        assert_eq!(text(&output.stdout).matches(&format!("got {name}")).count(), 2);
        assert_says(&output, &format!("SIG{name}: passed on to ranks 0, 1"));
    }
}

#[test]
fn user_signals_are_passed_on_and_end_nothing() {
    let script = "n=0; trap 'n=1' USR1; trap 'n=2$n' USR2; echo ready; \
                  until [ $n = 1 ]; do sleep 0.02; done; echo ready; \
                  until [ $n = 21 ]; do sleep 0.02; done; echo done";
    let child = when_ready(spawn(&mut shell("-n 2", script)));
    send(&child, Signal::USR1);
    let child = when_ready(child);
    send(&child, Signal::USR2);
    let output = finish(child);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout).matches("done").count(), 2);
}

#[test]
fn the_second_signal_kills_at_once() {
    let script = "trap '' INT TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = when_ready(spawn(&mut shell("-n 2 --grace 60", script)));
    send(&child, Signal::INT);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    assert!(next_line(&mut err).contains("SIGINT: passed on"));
    child.stderr = Some(err.into_inner());
    send(&child, Signal::INT);
    let output = finish(child);
    assert_code(&output, 130);
    assert_says(&output, "SIGINT again: killing the ranks");
    assert_says(&output, "ranks 0, 1: killed by our SIGKILL");
}

#[test]
fn the_grace_after_a_signal_ends_with_sigkill() {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let child = when_ready(spawn(&mut shell("-n 2 --grace 0.3", script)));
    send(&child, Signal::TERM);
    let output = finish(child);
    assert_code(&output, 143);
    assert_says(&output, "SIGKILL to ranks 0, 1");
}

#[test]
fn stopped_ranks_are_ended_too() {
    let script = "echo ready; kill -STOP $$";
    let child = when_ready(spawn(&mut shell("-n 2 --grace 10", script)));
    let started = Instant::now();
    send(&child, Signal::TERM);
    assert_code(&finish(child), 143);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_hang_up_that_was_ignored_stays_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" run -n 2 -- sh -c 'echo ready; sleep 0.3'"]);
    command.arg(env!("CARGO_BIN_EXE_nccl"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = when_ready(spawn(&mut command));
    send(&child, Signal::HUP);
    assert_code(&finish(child), 0);
}

#[test]
fn a_parent_that_ignores_sigchld_does_not_hide_exit_codes() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_nccl"), "run", "-n", "2", "--"]);
    command.args(["sh", "-c", "exit 9"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command);
    if text(&output.stderr).contains("unrecognized option") {
        eprintln!("skipped: this `env` cannot ignore signals");
        return;
    }
    assert_code(&output, 9);
}

#[test]
fn each_rank_leads_its_own_process_group() {
    let mut command = shell("-n 2", "cut -d' ' -f1,5 /proc/$$/stat");
    command.process_group(0);
    let output = run(command);
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 2);
    for line in printed.lines() {
        let (pid, group) = line.split_once("] ").unwrap().1.split_once(' ').unwrap();
        assert_eq!(pid, group);
    }
}
