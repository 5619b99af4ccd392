//! A second process that ends the ranks' process groups when the launcher was killed.
//!
//! The kernel's parent-death signal ends the ranks themselves, but not what they started
//! (`sh -c 'prepare; ./program'` has the program one level deeper). The guard waits on a pipe
//! from the launcher. When the pipe closes without the word that all is done, the launcher died,
//! and the guard sends SIGKILL to every group it was told of.

use std::io;
use std::io::BufRead;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::signals;

/// The only argument of the guard process; not for people, so not in the help.
const WORD: &str = "__guard";

/// The launcher's end.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard.
    ///
    /// # Errors
    /// This binary cannot be started again.
    pub(crate) fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("nccl")
            .arg(WORD)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, pipe })
    }

    /// Has the guard end the group `pgid` if this process dies.
    pub(crate) fn watch(&mut self, pgid: Pid) {
        self.tell(&format!("watch {}\n", pgid.as_raw_pid()));
    }

    /// The groups watched so far are gone; their numbers may soon be somebody else's.
    pub(crate) fn forget(&mut self) {
        self.tell("forget\n");
    }

    /// A guard that is gone cannot be told; the ranks still have their parent-death signal.
    fn tell(&mut self, line: &str) {
        let _ = self.pipe.write_all(line.as_bytes());
    }

    /// Sends the guard home.
    pub(crate) fn finish(mut self) {
        self.tell("forget\n");
        drop(self.pipe);
        let _ = self.child.wait();
    }
}

/// Whether this process was started as the guard.
pub(crate) fn is_guard() -> bool {
    let mut args = std::env::args_os().skip(1);
    args.next().is_some_and(|arg| arg == WORD) && args.next().is_none()
}

/// What the guard process does.
pub(crate) fn main() -> ExitCode {
    if signals::disregard().is_err() {
        return ExitCode::FAILURE;
    }
    for pgid in left_at_the_end(io::stdin().lock()) {
        let _ = rustix::process::kill_process_group(pgid, Signal::KILL);
    }
    ExitCode::SUCCESS
}

/// Reads to the end of the pipe: the groups that nobody said to forget.
fn left_at_the_end(from: impl BufRead) -> Vec<Pid> {
    let mut groups = Vec::new();
    for line in from.lines().map_while(Result::ok) {
        if line == "forget" {
            groups.clear();
        } else if let Some(pgid) = line.strip_prefix("watch ").and_then(parse_pid) {
            groups.push(pgid);
        }
    }
    groups
}

/// Group 1 is init's, and a number that is no group's could mean "everything".
fn parse_pid(text: &str) -> Option<Pid> {
    text.parse::<i32>().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_not_ended() {
        let text: &[u8] = b"watch 100\nwatch 101\nforget\nwatch 102\n";
        let left: Vec<i32> = left_at_the_end(text).into_iter().map(Pid::as_raw_pid).collect();
        assert_eq!(left, [102]);
    }

    #[test]
    fn numbers_that_mean_many_processes_are_not_groups() {
        for bad in ["0", "1", "-1", "-5", "x", ""] {
            assert_eq!(parse_pid(bad), None, "{bad}");
        }
    }
}
