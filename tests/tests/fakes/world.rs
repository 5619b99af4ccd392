//! Worlds of threads in one process, and of processes.

use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::api::Api;
use crate::api::Id;

/// One rank at work.
pub(crate) struct Rank {
    pub(crate) api: &'static Api,
    pub(crate) comm: usize,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) stream: usize,
}

/// Runs a body on each rank of a world of threads.
pub(crate) fn threads<T: Send>(world_size: usize, body: impl Fn(&Rank) -> T + Sync) -> Vec<T> {
    // The checker would see ranks of several tests on one device.
    static ONE: Mutex<()> = Mutex::new(());
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let id = Api::get().id();
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..world_size)
            .map(|rank| {
                let body = &body;
                scope.spawn(move || {
                    let rank = Rank::join(world_size, rank, id);
                    let result = body(&rank);
                    rank.leave();
                    result
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

impl Rank {
    /// Comes to a world.
    pub(crate) fn join(world_size: usize, rank: usize, id: Id) -> Self {
        let api = Api::get();
        api.use_device(rank);
        let mut comm = 0;
        let numbers = (i32::try_from(world_size).unwrap(), i32::try_from(rank).unwrap());
        let code = api.ncclCommInitRank(&mut comm, numbers.0, id, numbers.1);
        assert_eq!(code, 0, "{}", api.last_error());
        Self { api, comm, rank, world_size, stream: api.stream() }
    }

    /// Leaves it in order.
    pub(crate) fn leave(self) {
        assert_eq!(self.api.cuStreamSynchronize(self.stream), 0);
        assert_eq!(self.api.ncclCommDestroy(self.comm), 0);
        assert_eq!(self.api.cuStreamDestroy_v2(self.stream), 0);
    }

    /// Device memory with these numbers.
    pub(crate) fn upload(&self, numbers: &[i32]) -> usize {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.api.upload(&bytes, self.stream)
    }

    /// So many numbers of device memory.
    pub(crate) fn download(&self, address: usize, count: usize) -> Vec<i32> {
        let bytes = self.api.download(address, 4 * count, self.stream);
        bytes.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk)).collect()
    }
}

/// The test that serves as a child.
pub(crate) const CHILD: &str = "cases::a_child_of_a_test";

/// Runs cases in children of their own, with variables, and gives what became of them.
pub(crate) fn children(case: &str, env: &[&[(&str, &str)]], limit: Duration) -> Vec<Output> {
    let start = |env: &&[(&str, &str)]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([CHILD, "--exact", "--nocapture", "--test-threads=1"]);
        command.env("FAKES_CASE", case).envs(env.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = env.iter().map(start).collect();
    let deadline = Instant::now() + limit;
    children.into_iter().map(|child| ended(child, deadline)).collect()
}

/// Runs one case in a child of its own, and gives what it wrote.
///
/// # Panics
/// If it fails.
pub(crate) fn child(case: &str, env: &[(&str, &str)]) -> String {
    let output = children(case, &[env], Duration::from_secs(30)).remove(0);
    let text = text(&output);
    assert!(output.status.success(), "{case}: {}\n{text}", output.status);
    assert!(text.contains("1 passed"), "{case} did not run:\n{text}");
    text
}

/// What a child wrote.
pub(crate) fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

fn ended(mut child: Child, deadline: Instant) -> Output {
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}
