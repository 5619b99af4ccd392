//! A launch: prepares what all attempts share, and starts the ranks as often as is allowed.

use std::io;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::Instant;

use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;

use crate::run::attempt::Attempt;
use crate::run::attempt::End;
use crate::run::env::Endpoint;
use crate::run::env::Job;
use crate::run::guard::Guard;
use crate::run::logs::LogDir;
use crate::run::oom::OomWatch;
use crate::run::plan;
use crate::run::plan::Plan;
use crate::run::port::HeldPort;
use crate::run::print::Printer;
use crate::run::rank::Event;
use crate::run::rank::Rank;
use crate::run::rank::Shared;
use crate::run::rank::StartError;
use crate::signals;

/// Runs the plan to its end; the exit code of the launcher.
///
/// Must run on the main thread: see [`crate::run::spawn::spawn`].
///
/// # Errors
/// A program that cannot be started, or something the launcher lacks.
pub(crate) fn run(plan: &Plan) -> Result<u8, StartError> {
    let deadline = plan.timeout.map(|timeout| Instant::now() + timeout);
    let (sender, events) = mpsc::channel();
    let for_signals = sender.clone();
    signals::watch(move |signal| for_signals.send(Event::Signal(signal)).is_ok())
        .map_err(|why| StartError::own(format!("cannot handle signals: {why}")))?;
    let no_thread = |why: io::Error| StartError::own(format!("no thread: {why}"));
    let for_output = sender.clone();
    let output_gone = move || {
        let _ = for_output.send(Event::OutputGone);
    };
    let out = Printer::start("stdout", io::stdout(), output_gone).map_err(no_thread)?;
    let err = Printer::start("stderr", io::stderr(), || ()).map_err(no_thread)?;
    let logs = match &plan.log_dir {
        Some(parent) => Some(LogDir::create(parent, &plan::random_hex()).map_err(StartError::own)?),
        None => None,
    };
    if let Some(logs) = &logs {
        err.notice(&format!("log files in {}", logs.path().display()));
    }
    let shared = Shared { plan, out, err, logs, events: sender };
    let mut guard = Guard::start()
        .map_err(|why| StartError::own(format!("cannot start the guard process: {why}")))?;
    let result = attempts(&shared, &events, deadline, &mut guard);
    guard.finish();
    flush(&shared, &events);
    result
}

/// Starts the ranks, and starts them again while they fail and may.
fn attempts(
    shared: &Shared<'_>,
    events: &Receiver<Event>,
    deadline: Option<Instant>,
    guard: &mut Guard,
) -> Result<u8, StartError> {
    let plan = shared.plan;
    let oom = OomWatch::start();
    let mut restart = 0;
    loop {
        let (endpoint, held) = endpoint(plan)?;
        let job = Job {
            world: plan.world,
            endpoint: &endpoint,
            restart,
            max_restarts: plan.max_restarts,
            run_id: &plan.run_id,
        };
        let ranks = start_all(shared, &job, guard)?;
        let end = Attempt::new(shared, &oom, restart, ranks, deadline).watch(events);
        guard.forget();
        drop(held);
        match end {
            End::Success => return Ok(0),
            End::Failed(_) if restart < plan.max_restarts => restart += 1,
            End::Failed(code) | End::Stopped(code) => return Ok(code),
        }
        shared.err.notice(&format!("starting all ranks again: {restart} of {}", plan.max_restarts));
    }
}

/// Where rank 0 opens its store; the port is kept free for it as long as the second value lives.
fn endpoint(plan: &Plan) -> Result<(Endpoint, Option<HeldPort>), StartError> {
    if let Some(endpoint) = &plan.endpoint {
        return Ok((endpoint.clone(), None));
    }
    let held = HeldPort::any()
        .map_err(|why| StartError::own(format!("no free TCP port for rank 0: {why}")))?;
    Ok((Endpoint { host: "127.0.0.1".to_owned(), port: held.port() }, Some(held)))
}

/// Starts all ranks or none.
fn start_all(
    shared: &Shared<'_>,
    job: &Job<'_>,
    guard: &mut Guard,
) -> Result<Vec<Rank>, StartError> {
    let mut ranks = Vec::new();
    for (index, local) in (0..job.world.nproc).enumerate() {
        match Rank::start(shared, job, local, index) {
            Ok(rank) => {
                guard.watch(rank.pid);
                ranks.push(rank);
            }
            Err(why) => {
                ranks.into_iter().for_each(Rank::discard);
                return Err(why);
            }
        }
    }
    Ok(ranks)
}

/// Waits until everything is printed; a slow reader has all the time unless somebody wants us gone.
fn flush(shared: &Shared<'_>, events: &Receiver<Event>) {
    const STEP: Duration = Duration::from_millis(50);
    for printer in [&shared.out, &shared.err] {
        while !printer.flushed(STEP) {
            let gone = |event| matches!(event, Event::Signal(SIGINT | SIGTERM | SIGHUP));
            if events.try_iter().any(gone) {
                return;
            }
        }
    }
}
