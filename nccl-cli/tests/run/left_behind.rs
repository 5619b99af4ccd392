//! What is left of a run that has ended, one way or the other.

use std::fs;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::helpers::assert_code;
use crate::helpers::assert_ends_within;
use crate::helpers::assert_says;
use crate::helpers::finish;
use crate::helpers::lives;
use crate::helpers::next_line;
use crate::helpers::send;
use crate::helpers::shell;
use crate::helpers::spawn;

#[test]
fn a_grandchild_that_keeps_the_output_open_does_not_hang_the_launcher() {
    let started = Instant::now();
    let mut child = spawn(&mut shell("", "sleep 60 & echo $!"));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let pid: i32 = next_line(&mut out).strip_prefix("[rank 0] ").unwrap().parse().unwrap();
    child.stdout = Some(out.into_inner());
    let output = finish(child);
    assert_code(&output, 0);
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_says(&output, "rank 0 ended, but something started there did not; ending it");
    assert_ends_within(pid, Duration::from_secs(1));
}

#[test]
fn a_grandchild_in_another_session_is_not_waited_for() {
    // Its own output is closed for us, so that this test sees the end of the launcher's.
    let script = "setsid sh -c 'echo $$; exec sleep 5' & sleep 0.1";
    let mut child = spawn(&mut shell("", script));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let pid: i32 = next_line(&mut out).strip_prefix("[rank 0] ").unwrap().parse().unwrap();
    child.stdout = Some(out.into_inner());
    let output = finish(child);
    assert_code(&output, 0);
    assert_says(&output, "left the process group and holds the output open");
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Starts two ranks that each start a `sleep`, and returns all four processes.
fn tree(options: &str, script: &str) -> (Child, Vec<i32>) {
    let mut child = spawn(&mut shell(options, script));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let pids = (0..2)
        .flat_map(|_| {
            let line = next_line(&mut out);
            let words = line.split_once("] ").unwrap().1.to_owned();
            words.split(' ').map(|word| word.parse().unwrap()).collect::<Vec<i32>>()
        })
        .collect();
    child.stdout = Some(out.into_inner());
    (child, pids)
}

#[test]
fn a_killed_launcher_leaves_nobody() {
    let (child, pids) = tree("-n 2", "sleep 60 & echo $$ $!; wait");
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| lives(*pid)));
    send(&child, Signal::KILL);
    let status = finish(child).status;
    assert_eq!(status.signal(), Some(9));
    for pid in pids {
        assert_ends_within(pid, Duration::from_secs(1));
    }
}

#[test]
fn ranks_end_with_the_launcher_even_without_its_guard() {
    let (child, pids) = tree("-n 2", "echo $$ $$; exec sleep 60");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let is_guard = |pid: &&str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        line.windows(7).any(|bytes| bytes == b"__guard")
    };
    let children = fs::read_to_string(children).unwrap();
    let guard: i32 = children.split_whitespace().find(is_guard).unwrap().parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
    assert_ends_within(guard, Duration::from_secs(1));
    assert!(pids.iter().all(|pid| lives(*pid)));
    send(&child, Signal::KILL);
    assert_eq!(finish(child).status.signal(), Some(9));
    for pid in pids {
        assert_ends_within(pid, Duration::from_secs(1));
    }
}

#[test]
fn an_ended_run_leaves_nobody() {
    let script = "sleep 60 >/dev/null 2>&1 & echo $$ $!";
    let (child, pids) = tree("-n 2", script);
    assert_code(&finish(child), 0);
    for pid in pids {
        assert_ends_within(pid, Duration::from_secs(1));
    }
}
