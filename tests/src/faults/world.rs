//! A world of processes: each rank runs the program `fault_rank` and says in lines what happens.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use super::machine::free_port;

/// What a rank said.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which rank.
    pub rank: usize,
    /// The line.
    pub text: String,
    /// When it was read.
    pub at: Instant,
    /// Whether it came on standard error.
    pub is_stderr: bool,
}

/// The processes, and what they have said so far.
#[derive(Debug)]
pub struct World {
    ranks: Vec<Option<Child>>,
    pids: Vec<u32>,
    lines: Receiver<Line>,
    sender: Sender<Line>,
    said: Vec<Line>,
}

impl World {
    /// Starts `world_size` processes of `program`, one per rank, on one store of rank 0; `args`
    /// gives each its words.
    #[must_use]
    pub fn start(
        program: &str,
        world_size: usize,
        env: &[(&str, &str)],
        args: impl Fn(usize) -> Vec<String>,
    ) -> Self {
        let mut world = Self::empty(world_size);
        let port = free_port().to_string();
        let size = world_size.to_string();
        for rank in 0..world_size {
            let number = rank.to_string();
            let base = [
                ("RANK", number.as_str()),
                ("WORLD_SIZE", &size),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
            ];
            let all: Vec<(&str, &str)> = base.into_iter().chain(env.iter().copied()).collect();
            world.spawn(rank, program, &all, &args(rank));
        }
        world
    }

    /// A world without processes.
    #[must_use]
    pub fn empty(world_size: usize) -> Self {
        let (sender, lines) = channel();
        let ranks = (0..world_size).map(|_| None).collect();
        Self { ranks, pids: vec![0; world_size], lines, sender, said: Vec::new() }
    }

    /// Starts the process of one rank.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&mut self, rank: usize, program: &str, env: &[(&str, &str)], args: &[String]) {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["NCCL_", "OMPI_", "PMI", "SLURM_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&*name);
            }
        }
        command
            .env("NCCL_RS_TIMEOUT_MS", "20000")
            .env("NCCL_RS_INIT_TIMEOUT_MS", "20000")
            .envs(env.iter().copied())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        self.pids[rank] = child.id();
        let out: [(Option<Box<dyn std::io::Read + Send>>, bool); 2] = [
            (child.stdout.take().map(|pipe| Box::new(pipe) as _), false),
            (child.stderr.take().map(|pipe| Box::new(pipe) as _), true),
        ];
        for (pipe, is_stderr) in out {
            let (Some(pipe), sender) = (pipe, self.sender.clone()) else { continue };
            std::thread::spawn(move || {
                for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let line = Line { rank, text, at: Instant::now(), is_stderr };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        self.ranks[rank] = Some(child);
    }

    /// The process of a rank.
    #[must_use]
    pub fn pid(&self, rank: usize) -> u32 {
        self.pids[rank]
    }

    /// Everything said so far, for messages of tests.
    #[must_use]
    pub fn transcript(&self) -> String {
        let lines = self.said.iter().map(|line| format!("  [{}] {}\n", line.rank, line.text));
        lines.collect()
    }

    /// Waits until `rank` says a line that begins with `prefix`, and gives the line.
    ///
    /// # Panics
    /// When it does not within `timeout`.
    pub fn expect(&mut self, rank: usize, prefix: &str, timeout: Duration) -> Line {
        let deadline = Instant::now() + timeout;
        loop {
            let found = self.said.iter().find(|l| l.rank == rank && l.text.starts_with(prefix));
            if let Some(line) = found {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!(
                    "rank {rank} has not said {prefix:?} within {timeout:?}; said so far:\n{}",
                    self.transcript()
                ),
            }
        }
    }

    /// Waits until `rank` says a line that begins with `prefix` after `since`.
    ///
    /// # Panics
    /// When it does not within `timeout`.
    pub fn expect_after(
        &mut self,
        since: Instant,
        rank: usize,
        prefix: &str,
        timeout: Duration,
    ) -> Line {
        let before = |l: &&Line| l.rank == rank && l.text.starts_with(prefix) && l.at <= since;
        let mut at = self.said.iter().filter(before).count();
        loop {
            // Lines from before may still be on their way to us.
            self.nth(rank, prefix, at, timeout);
            let fits = |l: &&Line| l.rank == rank && l.text.starts_with(prefix) && l.at > since;
            if let Some(line) = self.said.iter().find(fits) {
                return line.clone();
            }
            at += 1;
        }
    }

    /// What follows `prefix` in the line number `at` of `rank` that begins with it.
    ///
    /// # Panics
    /// When there is none within `timeout`.
    pub fn nth(&mut self, rank: usize, prefix: &str, at: usize, timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        loop {
            let found = |l: &&Line| l.rank == rank && l.text.starts_with(prefix);
            if let Some(line) = self.said.iter().filter(found).nth(at) {
                return line.text[prefix.len()..].to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!(
                    "rank {rank} has not said {prefix:?} {} times within {timeout:?}; so far:\n{}",
                    at + 1,
                    self.transcript()
                ),
            }
        }
    }

    /// Waits until `rank` says a line that begins with one of `prefixes`.
    ///
    /// # Panics
    /// When it does not within `timeout`.
    pub fn first_of(&mut self, rank: usize, prefixes: &[&str], timeout: Duration) -> Line {
        let deadline = Instant::now() + timeout;
        loop {
            let fits = |l: &&Line| {
                l.rank == rank && prefixes.iter().any(|prefix| l.text.starts_with(prefix))
            };
            if let Some(line) = self.said.iter().find(fits) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!(
                    "rank {rank} has said none of {prefixes:?} within {timeout:?}; so far:\n{}",
                    self.transcript()
                ),
            }
        }
    }

    /// As [`World::expect`], without the prefix in the line.
    pub fn word(&mut self, rank: usize, prefix: &str, timeout: Duration) -> String {
        let line = self.expect(rank, prefix, timeout);
        line.text[prefix.len()..].trim_start().to_owned()
    }

    /// Tells a rank a line.
    pub fn tell(&mut self, rank: usize, line: &str) {
        if let Some(stdin) = self.ranks[rank].as_mut().and_then(|child| child.stdin.as_mut()) {
            drop(writeln!(stdin, "{line}"));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, rank: usize, signal: Signal) {
        let pid = i32::try_from(self.pids[rank]).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills a rank, and gives the moment just before.
    pub fn kill(&self, rank: usize) -> Instant {
        let at = Instant::now();
        self.signal(rank, Signal::KILL);
        at
    }

    /// Closes what the ranks read, upon which they end; gives their exit codes, none for those
    /// that a signal ended or that had to be killed after ten seconds.
    pub fn end(&mut self) -> Vec<Option<i32>> {
        for child in self.ranks.iter_mut().flatten() {
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        let ranks: Vec<Option<Child>> = self.ranks.iter_mut().map(Option::take).collect();
        let code = |child: Option<Child>| {
            let mut child = child?;
            while Instant::now() < deadline {
                if let Ok(Some(status)) = child.try_wait() {
                    return status.code();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            drop(child.kill());
            drop(child.wait());
            None
        };
        let codes = ranks.into_iter().map(code).collect();
        while let Ok(line) = self.lines.recv_timeout(Duration::ZERO) {
            self.said.push(line);
        }
        codes
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.ranks.iter_mut().flatten() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
