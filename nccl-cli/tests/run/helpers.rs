//! Launchers, started and watched.

use std::fs;
use std::io::BufRead;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::pidfd_open;
use rustix::process::pidfd_send_signal;

use crate::common::finish_within;
use crate::common::text;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// `nccl run` with these arguments, cut at spaces.
pub(crate) fn launcher(options: &str) -> Command {
    // Whoever starts the tests may ignore signals (as shells do for what they run in the background),
    // and the launcher rightly keeps it so: begin with none ignored.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT,TERM,USR1,USR2,CHLD,PIPE"]);
    command.arg(env!("CARGO_BIN_EXE_nccl")).arg("run").args(options.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same with `sh -c SCRIPT` as the program.
pub(crate) fn shell(options: &str, script: &str) -> Command {
    let mut command = launcher(options);
    command.args(["--", "sh", "-c", script]);
    command
}

/// Starts a launcher that is killed after the limit, so that no test waits for it without end.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let child = command.spawn().unwrap();
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    thread::spawn(move || {
        thread::sleep(LIMIT);
        // Usually long gone; the descriptor names no other process.
        let _ = pidfd_send_signal(process, Signal::KILL);
    });
    child
}

pub(crate) fn run(mut command: Command) -> Output {
    finish(spawn(&mut command))
}

/// Asserts the exit code, showing what was said if it is another.
#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[track_caller]
pub(crate) fn assert_says(output: &Output, expected: &str) {
    let said = text(&output.stderr);
    assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
}

/// The next line of a launcher that still runs.
pub(crate) fn next_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Whether the process is there and not a zombie.
pub(crate) fn lives(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[track_caller]
pub(crate) fn assert_ends_within(pid: i32, limit: Duration) {
    let until = Instant::now() + limit;
    while lives(pid) {
        assert!(Instant::now() < until, "process {pid} is still there after {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn send(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

/// Reads both streams to their end and waits, or kills the launcher and fails.
pub(crate) fn finish(child: Child) -> Output {
    finish_within(LIMIT, child)
}
