//! One started rank: its process, the threads that watch it, and what is known of it.

use std::io;
use std::io::Read;
use std::process::Child;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

use crate::run::env;
use crate::run::env::Job;
use crate::run::logs::LogDir;
use crate::run::logs::Stream;
use crate::run::output;
use crate::run::output::Sink;
use crate::run::output::Tail;
use crate::run::plan::Plan;
use crate::run::print::Printer;
use crate::run::report::Outcome;
use crate::run::spawn;

/// What the supervisor hears from the threads.
#[derive(Debug)]
pub(crate) enum Event {
    /// The process of a rank ended.
    Exited { attempt: u32, index: usize, outcome: Outcome },
    /// One of its two streams ended.
    Closed { attempt: u32, index: usize },
    /// This process got a signal.
    Signal(i32),
    /// Nobody reads our standard output any more.
    OutputGone,
}

/// What all ranks of one launch share.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    /// What to run.
    pub(crate) plan: &'a Plan,
    /// Our standard output.
    pub(crate) out: Printer,
    /// Our standard error, and the launcher's notices.
    pub(crate) err: Printer,
    /// The files of `--log-dir`.
    pub(crate) logs: Option<LogDir>,
    /// To the supervisor.
    pub(crate) events: Sender<Event>,
}

/// Why a rank was not started, with the exit code for it.
#[derive(Debug)]
pub(crate) struct StartError {
    /// For people.
    pub(crate) text: String,
    /// Of the launcher.
    pub(crate) code: u8,
}

impl StartError {
    /// The launcher's own trouble.
    pub(crate) fn own(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: super::CODE_LAUNCHER }
    }
}

/// A rank that was started.
#[derive(Debug)]
pub(crate) struct Rank {
    /// In the world.
    pub(crate) rank: u64,
    /// Its process, which leads a process group of the same number.
    pub(crate) pid: Pid,
    /// How and after how long it ended.
    pub(crate) ended: Option<(Outcome, Duration)>,
    /// Streams that still may bring something.
    pub(crate) open_streams: u8,
    /// Its last lines on standard output.
    pub(crate) out: Tail,
    /// Its last lines on standard error.
    pub(crate) err: Tail,
    /// The last signal we sent it to end it.
    pub(crate) sent: Option<i32>,
    started: Instant,
    child: Child,
}

impl Rank {
    /// Starts this host's rank `local`, numbered `index` in the events, which are of `attempt`.
    ///
    /// # Errors
    /// The program cannot be started, or the launcher lacks a file or a thread.
    pub(crate) fn start(
        shared: &Shared<'_>,
        job: &Job<'_>,
        local: u32,
        index: usize,
    ) -> Result<Self, StartError> {
        let number = job.world.rank(local);
        let log = |stream| match &shared.logs {
            Some(logs) => logs.file(number, stream, job.restart).map(Some).map_err(StartError::own),
            None => Ok(None),
        };
        let logs = [log(Stream::Out)?, log(Stream::Err)?];
        let mut command = command(shared.plan, job, local);
        let mut child = spawn::spawn(&mut command).map_err(|why| {
            let (text, code) = spawn::explain(&shared.plan.program, &why);
            StartError { text: format!("{text} (rank {number})"), code }
        })?;
        let streams = (child.stdout.take(), child.stderr.take());
        let pid = Pid::from_child(&child);
        let (out, err) = (Tail::default(), Tail::default());
        let started = Instant::now();
        let rank = Self {
            rank: number,
            pid,
            ended: None,
            open_streams: 2,
            out,
            err,
            sent: None,
            started,
            child,
        };
        let [out_log, err_log] = logs;
        let watched = match streams {
            (Some(stdout), Some(stderr)) => rank
                .read(shared, job.restart, index, stdout, Stream::Out, out_log)
                .and_then(|()| rank.read(shared, job.restart, index, stderr, Stream::Err, err_log))
                .and_then(|()| wait_for(pid, shared.events.clone(), job.restart, index)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match watched {
            Ok(()) => Ok(rank),
            Err(why) => {
                rank.discard();
                Err(StartError::own(format!("no thread for rank {number}: {why}")))
            }
        }
    }

    /// Starts the thread that reads one stream.
    fn read(
        &self,
        shared: &Shared<'_>,
        attempt: u32,
        index: usize,
        from: impl Read + Send + 'static,
        stream: Stream,
        log: Option<std::fs::File>,
    ) -> io::Result<()> {
        let tagged = shared.plan.tag && !(stream == Stream::Out && shared.plan.bare_stdout);
        let tag = if tagged { format!("[rank {}] ", self.rank) } else { String::new() };
        let (printer, tail) = match stream {
            Stream::Out => (&shared.out, &self.out),
            Stream::Err => (&shared.err, &self.err),
        };
        let sink = Sink {
            tag,
            printer: printer.clone(),
            tail: tail.clone(),
            log,
            notices: shared.err.clone(),
            name: format!("rank {} {stream}", self.rank),
        };
        let events = shared.events.clone();
        thread::Builder::new().name(format!("rank {} {stream}", self.rank)).spawn(move || {
            output::pump(from, sink);
            // Nobody listens any more when the launcher is about to exit.
            let _ = events.send(Event::Closed { attempt, index });
        })?;
        Ok(())
    }

    /// Sends a signal to the whole process group.
    ///
    /// The number cannot be somebody else's: the process, dead or not, is not reaped before
    /// [`Rank::reap`].
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }

    /// As [`Rank::signal`], and remembers that it was us who ended the rank.
    pub(crate) fn end(&mut self, signal: Signal) {
        if self.ended.is_none() {
            self.sent = Some(signal.as_raw());
        }
        self.signal(signal);
        // A stopped process takes no signal but SIGKILL before it is continued.
        self.signal(Signal::CONT);
    }

    /// Notes how it ended.
    pub(crate) fn exited(&mut self, outcome: Outcome) {
        self.ended = Some((outcome, self.started.elapsed()));
    }

    /// Ends what is left of the process group and frees its number.
    pub(crate) fn reap(mut self) {
        self.signal(Signal::KILL);
        if self.ended.is_some() {
            let _ = self.child.wait();
        }
    }

    /// Ends a rank that nobody watches.
    pub(crate) fn discard(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The command with its environment.
fn command(plan: &Plan, job: &Job<'_>, local: u32) -> Command {
    let mut command = Command::new(&plan.program);
    command.args(&plan.args);
    for name in env::REMOVED {
        command.env_remove(name);
    }
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        command.env("OMP_NUM_THREADS", "1");
    }
    command.envs(env::of_rank(job, local));
    command.envs(plan.env.iter().map(|(name, value)| (name, value)));
    command
}

/// Starts the thread that waits for the end of the process, without reaping it.
fn wait_for(pid: Pid, events: Sender<Event>, attempt: u32, index: usize) -> io::Result<()> {
    thread::Builder::new().name(format!("wait {}", pid.as_raw_pid())).spawn(move || {
        let outcome = outcome_of(pid);
        let _ = events.send(Event::Exited { attempt, index, outcome });
    })?;
    Ok(())
}

fn outcome_of(pid: Pid) -> Outcome {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        let status = match rustix::process::waitid(WaitId::Pid(pid), options) {
            Err(rustix::io::Errno::INTR) | Ok(None) => continue,
            Err(why) => return Outcome::Unknown(format!("waitid: {why}")),
            Ok(Some(status)) => status,
        };
        if let Some(code) = status.exit_status() {
            return Outcome::Code(code);
        }
        return match status.terminating_signal() {
            Some(signal) => Outcome::Signal { signal, core: status.dumped() },
            None => Outcome::Unknown(format!("{status:?}")),
        };
    }
}
