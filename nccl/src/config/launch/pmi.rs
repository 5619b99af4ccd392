//! A client of PMI-1, the line protocol of hydra, Intel MPI, MVAPICH and Flux, just large enough
//! for rank 0 to tell the others its address.
//!
//! The launcher gives each process a socket, `PMI_FD`. One process can speak to it once: after
//! `finalize` the launcher closes its end, and without `finalize` hydra takes the first process
//! that ends for a crash and kills the others. So a program that also calls MPI must not come
//! here: it sets `MASTER_ADDR` and `MASTER_PORT`.

#![expect(unsafe_code, reason = "takes over the descriptor whose number the launcher passes")]

use std::io;
use std::os::fd::AsFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketType;

use crate::config::env::Env;
use crate::error::Error;
use crate::error::Result;

/// The key under which rank 0's address stands.
const KEY: &str = "nccl-rs-rank0";
/// The longest line that is read.
const MAX_LINE: usize = 4096;

/// What came of this process's one conversation; `None` before it.
static ONCE: Mutex<Option<Result<String>>> = Mutex::new(None);

/// Tells rank 0's address to all ranks: rank 0 gives it as `value`, every rank gets it back.
///
/// All ranks must call it. It works once in a process: later calls return the first call's address
/// or error without asking, see [`published`].
pub(crate) fn exchange_rank0_addr(
    env: &Env,
    rank: usize,
    value: Option<&str>,
    timeout: Duration,
) -> Result<String> {
    let mut once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = once.as_ref() {
        return before.clone();
    }
    let result = open(env).and_then(|fd| Wire::new(fd, timeout).exchange(rank, value));
    *once = Some(result.clone());
    result
}

/// The address that an earlier exchange in this process agreed on: rank 0 must listen there again
/// when it makes a second world.
pub(crate) fn published() -> Option<String> {
    let once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    once.as_ref().and_then(|result| result.clone().ok())
}

/// A descriptor of our own for the socket that `PMI_FD` names.
fn open(env: &Env) -> Result<OwnedFd> {
    let Some(text) = env.get("PMI_FD")? else {
        return Err(Error::env_missing("PMI_FD", "is missing; set MASTER_ADDR and MASTER_PORT"));
    };
    let wrong = |problem: &str| {
        Err(Error::env("PMI_FD", text, format!("{problem}; set MASTER_ADDR and MASTER_PORT")))
    };
    let Ok(number) = text.parse::<i32>() else { return wrong("is no number of a descriptor") };
    if number <= 2 {
        return wrong("is no descriptor a launcher would pass");
    }
    // SAFETY: F_DUPFD_CLOEXEC takes two integers and touches no memory of ours; for a number that
    // is not open it fails with EBADF. The descriptor itself stays with whoever has it.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return wrong(&format!("is not open here ({})", io::Error::last_os_error()));
    }
    // SAFETY: fcntl has just made `copy`, so it is open and nobody else knows it or closes it.
    let fd = unsafe { OwnedFd::from_raw_fd(copy) };
    match rustix::net::sockopt::socket_type(&fd) {
        Ok(SocketType::STREAM) => Ok(fd),
        _ => wrong("is open here, but is no stream socket, so no launcher is behind it"),
    }
}

/// A conversation, bounded as a whole.
struct Wire {
    fd: OwnedFd,
    begun: Instant,
    timeout: Duration,
    /// What was received behind the last line.
    rest: Vec<u8>,
}

impl Wire {
    fn new(fd: OwnedFd, timeout: Duration) -> Self {
        Self { fd, begun: Instant::now(), timeout, rest: Vec::new() }
    }

    fn exchange(mut self, rank: usize, value: Option<&str>) -> Result<String> {
        self.ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init")?;
        let line = self.ask("cmd=get_my_kvsname", "my_kvsname")?;
        let Some(kvs) = field(&line, "kvsname").map(str::to_owned) else {
            return Err(self.error(format!("it names no key-value space: {line:?}")));
        };
        if let (0, Some(value)) = (rank, value) {
            if value.is_empty() || value.contains(char::is_whitespace) || value.len() > 256 {
                return Err(self.error(format!("rank 0's address cannot be told: {value:?}")));
            }
            self.ask(&format!("cmd=put kvsname={kvs} key={KEY} value={value}"), "put_result")?;
        }
        self.ask("cmd=barrier_in", "barrier_out")?;
        let line = self.ask(&format!("cmd=get kvsname={kvs} key={KEY}"), "get_result")?;
        let Some(value) = field(&line, "value").map(str::to_owned) else {
            return Err(self.error(format!("it gave no value: {line:?}")));
        };
        // Some launchers end the conversation without an answer.
        match self.ask("cmd=finalize", "finalize_ack") {
            Ok(_) => {}
            Err(error) => log::debug!(target: "nccl::init", "PMI finalize: {error}"),
        }
        Ok(value)
    }

    /// Sends a request and returns the line that answers it.
    fn ask(&mut self, request: &str, answer: &str) -> Result<String> {
        let command = request.split(' ').next().unwrap_or(request);
        self.send(format!("{request}\n").as_bytes(), command)?;
        let line = self.line(command)?;
        let good = field(&line, "cmd") == Some(answer);
        if !good || field(&line, "rc").is_some_and(|rc| rc != "0") {
            return Err(self.error(format!("it answered {line:?} to {command}")));
        }
        Ok(line)
    }

    fn send(&mut self, mut bytes: &[u8], command: &str) -> Result<()> {
        while !bytes.is_empty() {
            self.wait(PollFlags::OUT, command)?;
            match rustix::net::send(&self.fd, bytes, send_flags()) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(self.error(format!("{command} cannot be sent: {error}"))),
            }
        }
        Ok(())
    }

    /// The next line, without its end.
    fn line(&mut self, command: &str) -> Result<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.rest.len() > MAX_LINE {
                return Err(self.error(format!("its answer to {command} does not end")));
            }
            self.wait(PollFlags::IN, command)?;
            let mut bytes = [0_u8; 1024];
            match rustix::net::recv(&self.fd, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    return Err(self.error(format!("it hung up instead of answering {command}")));
                }
                Ok((got, _)) => self.rest.extend(bytes.iter().take(got)),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(self.error(format!("no answer to {command}: {error}"))),
            }
        }
    }

    /// Waits until the socket is ready, or the time is over.
    fn wait(&self, ready: PollFlags, command: &str) -> Result<()> {
        loop {
            let left = self.timeout.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                let why = match command {
                    "cmd=barrier_in" => "not all ranks came".to_owned(),
                    _ => format!("no answer to {command}"),
                };
                return Err(self.error(why));
            }
            // An hour is long enough to look again.
            let limit = Timespec::try_from(left.min(Duration::from_secs(3600))).ok();
            let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), ready)];
            match rustix::event::poll(&mut fds, limit.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.error(format!("cannot wait for it: {error}"))),
            }
        }
    }

    fn error(&self, why: String) -> Error {
        Error::Connect {
            what: "the launcher's PMI",
            addr: "PMI_FD".into(),
            why: format!("{why}; MASTER_ADDR and MASTER_PORT make it unneeded"),
            waited: self.begun.elapsed(),
        }
    }
}

/// No signal if the launcher is gone.
fn send_flags() -> SendFlags {
    #[cfg(target_os = "linux")]
    return SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    return SendFlags::empty();
}

/// The value of a name in `cmd=x name=value ...`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::io::BufReader;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    const BOUND: Duration = Duration::from_secs(5);

    /// Answers every request as `reply` says, until it says nothing more.
    fn launcher(reply: impl Fn(&str) -> Option<String> + Send + 'static) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut out = theirs.try_clone().unwrap();
            for line in BufReader::new(theirs).lines() {
                let Some(answer) = line.ok().and_then(|line| reply(&line)) else { return };
                if out.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        ours.into()
    }

    fn good(line: &str) -> Option<String> {
        let answer = match field(line, "cmd")? {
            "init" => "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n",
            "get_my_kvsname" => "cmd=my_kvsname kvsname=kvs_1_0\n",
            "put" => "cmd=put_result rc=0 msg=success\n",
            "barrier_in" => "cmd=barrier_out\n",
            "get" => "cmd=get_result rc=0 msg=success value=10.0.0.1:4\n",
            _ => return None,
        };
        Some(answer.into())
    }

    fn failure(reply: impl Fn(&str) -> Option<String> + Send + 'static, bound: Duration) -> String {
        let error = Wire::new(launcher(reply), bound).exchange(1, None).unwrap_err();
        error.to_string()
    }

    #[test]
    fn a_rank_gets_rank_0s_address() {
        let told = Wire::new(launcher(good), BOUND).exchange(0, Some("10.0.0.1:4")).unwrap();
        assert_eq!(told, "10.0.0.1:4");
        assert_eq!(Wire::new(launcher(good), BOUND).exchange(1, None).unwrap(), "10.0.0.1:4");
    }

    #[test]
    fn a_launcher_that_hangs_up_or_talks_nonsense_is_an_error() {
        let text = failure(|_| None, BOUND);
        assert!(text.contains("PMI_FD: it hung up") || text.contains("cannot be sent"), "{text}");
        let text = failure(|_| Some("HTTP/1.1 400\n".into()), BOUND);
        assert!(text.contains("it answered \"HTTP/1.1 400\" to cmd=init"), "{text}");
        let text = failure(|_| Some("x".repeat(9000)), BOUND);
        assert!(text.contains("does not end"), "{text}");
        let refuse = |line: &str| match field(line, "cmd")? {
            "get" => Some("cmd=get_result rc=-1 msg=key_not_found value=unknown\n".into()),
            _ => good(line),
        };
        assert!(failure(refuse, BOUND).contains("rc=-1"));
    }

    #[test]
    fn a_barrier_that_not_all_ranks_reach_ends_at_the_deadline() {
        let silent = |line: &str| match field(line, "cmd")? {
            "barrier_in" => Some(String::new()),
            _ => good(line),
        };
        let begun = Instant::now();
        let text = failure(silent, Duration::from_millis(100));
        assert!(text.contains("not all ranks came"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn an_address_with_a_space_is_not_told() {
        let error = Wire::new(launcher(good), BOUND).exchange(0, Some("a b")).unwrap_err();
        assert!(error.to_string().contains("cannot be told"), "{error}");
    }

    #[test]
    fn pmi_fd_must_be_an_open_socket() {
        let problem =
            |value: &str| open(&Env::empty().with("PMI_FD", value)).unwrap_err().to_string();
        assert!(problem("x").contains("is no number"));
        assert!(problem("-1").contains("no descriptor a launcher"));
        assert!(problem("1").contains("no descriptor a launcher"));
        assert!(problem("1000000").contains("is not open here"));
        let file = tempfile::tempfile().unwrap();
        assert!(problem(&file.as_raw_fd().to_string()).contains("no stream socket"));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(open(&Env::empty().with("PMI_FD", ours.as_raw_fd().to_string())).is_ok());
    }

    /// Runs itself under the real mpiexec: there each rank says what it was told.
    #[test]
    fn the_real_hydra_tells_all_ranks() {
        const WORKER: &str = "NCCL_RS_TEST_PMI_WORKER";
        let env = Env::process();
        if env.has(WORKER) {
            let rank: usize = env.get("PMI_RANK").unwrap().unwrap().parse().unwrap();
            let value = (rank == 0).then_some("10.1.2.3:4567");
            let told = exchange_rank0_addr(&env, rank, value, BOUND).unwrap();
            // A second exchange answers from the first.
            assert_eq!(exchange_rank0_addr(&env, rank, None, BOUND).unwrap(), told);
            assert_eq!(published().as_deref(), Some(told.as_str()));
            if rank == 0 {
                // The others end at once; that must not kill this rank.
                thread::sleep(Duration::from_millis(300));
            }
            // One write a line, so that the ranks' lines do not mix.
            let line = format!("\ntold {rank} {told}\n");
            io::stdout().write_all(line.as_bytes()).unwrap();
            return;
        }
        let output = Command::new("mpiexec.mpich")
            .args(["-n", "3"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "config::launch::pmi::tests::the_real_hydra_tells_all_ranks"])
            .arg("--nocapture")
            .env(WORKER, "1")
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                let require = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
                assert!(!require.contains("mpi"), "mpiexec.mpich: {error}");
                eprintln!("skipped: mpiexec.mpich: {error}");
                return;
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        for rank in 0..3 {
            assert!(text.contains(&format!("told {rank} 10.1.2.3:4567")), "{text}");
        }
    }
}
