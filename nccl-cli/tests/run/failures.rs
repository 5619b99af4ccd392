//! Ranks that fail, that cannot be started, that are started again.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use std::time::Instant;

use crate::common::text;
use crate::helpers::assert_code;
use crate::helpers::assert_says;
use crate::helpers::launcher;
use crate::helpers::run;
use crate::helpers::shell;

#[test]
fn the_first_failure_is_named_with_its_last_lines_and_code() {
    let script = "if [ $RANK = 2 ]; then seq -f 'line %g' 30; echo boom >&2; exit 7; fi; sleep 60";
    let started = Instant::now();
    let output = run(shell("-n 4 --grace 0.2", script));
    assert_code(&output, 7);
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_says(&output, "failed first, after");
    assert_says(&output, "nccl run: rank 2 (pid ");
    assert_says(&output, ": exit code 7\n");
    assert_says(&output, "nccl run:   | boom\n");
    assert_says(&output, "nccl run:   | line 30\n");
    assert_says(&output, "SIGTERM to ranks 0, 1, 3\n");
    assert_says(&output, "ranks 0, 1, 3: killed by our SIGTERM\n");
    let shown = text(&output.stderr).matches("nccl run:   | ").count();
    assert_eq!(shown, 20);
    assert_says(&output, "nccl run:   | line 12\n");
}

#[test]
fn the_others_have_time_to_say_what_they_see() {
    let script = "[ $RANK = 1 ] && exit 3; sleep 0.3; echo rank 1 is gone >&2; exit 1";
    let output = run(shell("-n 3 --grace 10", script));
    assert_code(&output, 3);
    assert_says(&output, "[rank 0] rank 1 is gone");
    assert_says(&output, "[rank 2] rank 1 is gone");
    assert_says(&output, "ranks 0, 2: exit code 1\n");
    assert!(!text(&output.stderr).contains("SIGTERM to"));
}

#[test]
fn a_signal_is_named_and_gives_128_more() {
    let output = run(shell("-n 2 --grace 0.2", "[ $RANK = 0 ] && kill -SEGV $$; sleep 60"));
    assert_code(&output, 139);
    assert_says(&output, "killed by SIGSEGV");
    let output = run(shell("-n 2 --grace 0.2", "[ $RANK = 0 ] && kill -KILL $$; sleep 60"));
    assert_code(&output, 137);
    assert_says(&output, "OOM-killed");
}

#[test]
fn a_rank_that_ignores_sigterm_is_killed_after_the_grace() {
    let script = "[ $RANK = 0 ] && exit 5; trap '' TERM; while :; do sleep 0.05; done";
    let started = Instant::now();
    let output = run(shell("-n 2 --grace 0.3", script));
    assert_code(&output, 5);
    assert!(started.elapsed() > Duration::from_millis(600));
    assert_says(&output, "SIGKILL to rank 1, still there after the grace period");
    assert_says(&output, "rank 1: killed by our SIGKILL");
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("data");
    fs::write(&file, "x").unwrap();
    for (program, code, expected) in [
        ("no-such-program-here", 127, "cannot start no-such-program-here: not found in PATH"),
        ("/no/such/file", 127, "cannot start /no/such/file: no such file"),
        (temp.path().to_str().unwrap(), 126, "it is a folder"),
        (file.to_str().unwrap(), 126, "not executable"),
    ] {
        let mut command = launcher("-n 3 --");
        command.arg(program);
        let output = run(command);
        assert_code(&output, code);
        assert_says(&output, expected);
    }
}

#[test]
fn restarts_count_up_and_change_the_port() {
    let script = "echo $TORCHELASTIC_RESTART_COUNT $MASTER_PORT; \
                  [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT -lt 2 ] && exit 4; exit 0";
    let output = run(shell("-n 2 --max-restarts 3 --grace 0.5", script));
    assert_code(&output, 0);
    let printed = text(&output.stdout);
    let seen: BTreeSet<(&str, &str)> = printed
        .lines()
        .map(|line| line.split_once("] ").unwrap().1.split_once(' ').unwrap())
        .collect();
    assert_eq!(seen.iter().map(|(count, _)| *count).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(seen.iter().map(|(_, port)| port).collect::<BTreeSet<_>>().len(), 3);
    assert_says(&output, "starting all ranks again: 2 of 3");

    let output = run(shell("-n 2 --max-restarts 1 --grace 0.5", "exit 6"));
    assert_code(&output, 6);
    assert_eq!(text(&output.stderr).matches("failed first").count(), 2);
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_names_the_ranks() {
    let script = "[ $RANK = 1 ] && exit 0; exec sleep 60";
    let output = run(shell("-n 3 --timeout 0.3 --grace 0.5", script));
    assert_code(&output, 124);
    assert_says(&output, "--timeout of 300ms passed; still running: ranks 0, 2");
}
