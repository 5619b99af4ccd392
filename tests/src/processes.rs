//! Worlds whose ranks are processes: the test's own binary, started again for each rank.
//!
//! A file of tests that wants them has a test [`RANK_TEST`] that calls [`serve`] with the
//! functions a rank can run; without the variables of a rank it does nothing.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::exit;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::Result;
use nccl::store::TcpStoreServer;
use rustix::process::Signal;
use rustix::process::set_parent_process_death_signal;
use tempfile::TempDir;

/// The name of the test that serves as a rank.
pub const RANK_TEST: &str = "a_rank_of_a_world_of_processes";

const CASE: &str = "NCCL_TESTS_CASE";
const FOLDER: &str = "NCCL_TESTS_FOLDER";
const METHOD: &str = "NCCL_TESTS_METHOD";

/// What a rank runs; the text is what the parent gets.
pub type Rank = fn(ProcessGroup) -> Result<String>;

/// A world of processes to be started.
#[derive(Debug)]
#[must_use = "nothing runs before `run`"]
pub struct Processes {
    world_size: usize,
    env: Vec<(String, String)>,
    /// As `env`, for one rank.
    own: Vec<(usize, String, String)>,
    over_tcp_store: bool,
    limit: Duration,
}

/// What became of one rank.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// What its function returned; `None` if it did not come that far.
    pub text: Option<String>,
    /// How it ended; `None` if it had to be killed.
    pub status: Option<ExitStatus>,
    /// What it wrote.
    pub log: String,
}

impl Processes {
    /// A world of so many processes.
    pub fn new(world_size: usize) -> Self {
        let (env, own, limit) = (Vec::new(), Vec::new(), Duration::from_secs(120));
        Self { world_size, env, own, over_tcp_store: false, limit }
    }

    /// With a variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a variable of one rank.
    pub fn with_own(mut self, rank: usize, name: &str, value: &str) -> Self {
        self.own.push((rank, name.to_owned(), value.to_owned()));
        self
    }

    /// Meeting in a store that this process serves, not in a file.
    pub fn tcp_store(mut self) -> Self {
        self.over_tcp_store = true;
        self
    }

    /// With a bound on the whole.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts all ranks, waits for them, and gives what they returned, in rank order.
    ///
    /// # Panics
    /// If a rank does not return; with what all of them wrote.
    #[must_use]
    pub fn run(&self, case: &str) -> Vec<String> {
        let ended = self.run_to_the_end(case);
        let bad = |ended: &Ended| !ended.status.is_some_and(|status| status.success());
        if ended.iter().any(|ended| bad(ended) || ended.text.is_none()) {
            let tell = |(rank, ended): (usize, &Ended)| {
                let log = ended.log.trim();
                let tail: Vec<&str> = log.lines().rev().take(25).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                format!("--- rank {rank}: {:?}\n{}", ended.status, tail.join("\n"))
            };
            let told: Vec<String> = ended.iter().enumerate().map(tell).collect();
            panic!("{case} with {} processes:\n{}", self.world_size, told.join("\n"));
        }
        ended.into_iter().filter_map(|ended| ended.text).collect()
    }

    /// Starts all ranks and waits until all have ended or the limit has passed.
    ///
    /// # Panics
    /// If a process cannot be started.
    #[must_use]
    pub fn run_to_the_end(&self, case: &str) -> Vec<Ended> {
        let folder = TempDir::new().expect("a folder for temporary files");
        let address = ([127, 0, 0, 1], 0).into();
        let server = self.over_tcp_store.then(|| TcpStoreServer::bind(address).expect("a port"));
        let method = match &server {
            Some(server) => format!("tcp://127.0.0.1:{}", server.local_addr().port()),
            None => format!("file://{}", folder.path().join("store").display()),
        };
        let mut children = Children(Vec::new());
        for rank in 0..self.world_size {
            children.0.push(self.start(case, rank, folder.path(), &method));
        }
        let deadline = Instant::now() + self.limit;
        let mut statuses = vec![None; self.world_size];
        while statuses.iter().any(Option::is_none) && Instant::now() < deadline {
            for (child, status) in children.0.iter_mut().zip(&mut statuses) {
                if status.is_none() {
                    *status = child.try_wait().expect("the state of a child");
                }
            }
            thread::sleep(Duration::from_millis(2)); // for a child to end
        }
        drop(children);
        let end = |(rank, status)| Ended {
            text: fs::read_to_string(folder.path().join(format!("out.{rank}"))).ok(),
            status,
            log: fs::read_to_string(folder.path().join(format!("log.{rank}"))).unwrap_or_default(),
        };
        statuses.into_iter().enumerate().map(end).collect()
    }

    fn start(&self, case: &str, rank: usize, folder: &Path, method: &str) -> Child {
        let own = std::env::current_exe().expect("the path of this program");
        let log = File::create(folder.join(format!("log.{rank}"))).expect("a file");
        let both = log.try_clone().expect("a descriptor");
        let mut command = Command::new(own);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("NCCL_") || name.starts_with("MASTER_") {
                command.env_remove(&*name);
            }
        }
        command
            .args([RANK_TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env("RANK", rank.to_string())
            .env("WORLD_SIZE", self.world_size.to_string())
            .env("NCCL_SOCKET_IFNAME", "lo")
            .env("NCCL_RS_TIMEOUT_MS", "60000")
            .env("NCCL_RS_INIT_TIMEOUT_MS", "60000")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(self.own.iter().filter(|own| own.0 == rank).map(|(_, name, value)| (name, value)))
            .env(CASE, case)
            .env(FOLDER, folder)
            .env(METHOD, method)
            .stdin(std::process::Stdio::null())
            .stdout(log)
            .stderr(both)
            .spawn()
            .expect("a process for a rank")
    }
}

/// Children that do not outlive this value.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Runs the function of the case that the parent named, if this process is a rank.
///
/// # Panics
/// If there is no such case.
pub fn serve(cases: &[(&str, Rank)]) {
    let Ok(name) = std::env::var(CASE) else { return };
    // A rank does not outlive the test that started it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let (_, run) = cases.iter().find(|(case, _)| *case == name).expect("a case of this file");
    match build().and_then(run) {
        Ok(text) => {
            let var = |name| std::env::var(name).expect("set by the parent");
            let rank: String = var("RANK");
            let out = Path::new(&var(FOLDER)).join(format!("out.{rank}"));
            fs::write(out, text).expect("a file for the result");
            exit(0);
        }
        Err(error) => {
            eprintln!("error: {error}");
            exit(1);
        }
    }
}

/// The group of this rank.
fn build() -> Result<ProcessGroup> {
    let number = |name: &str| -> usize {
        let text = std::env::var(name).expect("set by the parent");
        text.parse().expect("a number")
    };
    let method = std::env::var(METHOD).expect("set by the parent");
    let builder = ProcessGroup::builder().rank(number("RANK")).world_size(number("WORLD_SIZE"));
    match method.strip_prefix("tcp://127.0.0.1:") {
        Some(port) => {
            let port = port.parse().expect("a port");
            let timeout = Duration::from_secs(60);
            let store = nccl::store::TcpStore::connect("127.0.0.1", port, timeout)?;
            builder.store(std::sync::Arc::new(store)).build()
        }
        None => builder.init_method(&method)?.build(),
    }
}
