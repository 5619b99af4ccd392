//! Finds or starts the ranks: those of a launch, processes of our own, or threads.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nccl::ProcessGroup;
use nccl::config::Env;
use nccl::config::Launch;
use nccl::config::Launcher;
use nccl::store::MemoryStore;
use nccl::store::SharedStore;

use crate::perf::Args;
use crate::perf::CODE_WRONG;
use crate::perf::Failure;
use crate::perf::args::Files;
use crate::perf::args::Settings;
use crate::perf::args::Work;
use crate::perf::measure::measure;
use crate::perf::report::Report;
use crate::run;

/// Ranks that are started where nobody says how many.
const DEFAULT_RANKS: u32 = 2;

/// Where the ranks come from.
enum Ranks {
    /// This process is one of them.
    Launched(Launch),
    /// They are to be started.
    Ours(u32),
}

/// Runs it all; the exit code.
///
/// # Errors
/// As [`Failure`] has them.
pub(crate) fn start(args: &Args) -> Result<u8, Failure> {
    match ranks(args)? {
        Ranks::Launched(launch) => {
            let work = Work::new(args, launch.world_size).map_err(Failure::usage)?;
            let report = (launch.rank == 0).then(|| Report::open(&files(args))).transpose()?;
            rank(&work, report, builder(&work.settings))
        }
        Ranks::Ours(count) => {
            let work = Work::new(args, count as usize).map_err(Failure::usage)?;
            let report = Report::open(&files(args))?;
            if args.threads {
                return threads(&work, report, count as usize);
            }
            drop(report); // only to learn now that a file cannot be written
            let code = run::again(count, &arguments(args), CODE_WRONG);
            code.map_err(|why| Failure { text: why.text, code: why.code })
        }
    }
}

/// Whether this process is a rank already.
fn ranks(args: &Args) -> Result<Ranks, Failure> {
    let launch = Launch::from_env(&Env::process())?;
    let alone = launch.launcher == Launcher::Single;
    if args.joined && !alone {
        return Ok(Ranks::Launched(launch));
    }
    let (rank, size) = (launch.rank, launch.world_size);
    let who = format!(
        "this process is rank {rank} of {size}, started by {} already",
        launch.launcher.name()
    );
    const HINT: &str = "or set NCCL_RS_LAUNCHER=single to start ranks inside of it";
    match args.ranks {
        _ if alone => Ok(Ranks::Ours(args.ranks.unwrap_or(DEFAULT_RANKS))),
        _ if args.threads => Err(Failure::usage(format!("--threads: {who}; leave it out, {HINT}"))),
        Some(count) if count as usize != size => {
            Err(Failure::usage(format!("-n {count}: {who}; leave out -n, {HINT}")))
        }
        _ => Ok(Ranks::Launched(launch)),
    }
}

/// The command line of a rank that we start: ours, and that it is one.
fn arguments(args: &Args) -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let at = words.len().min(1);
    words.insert(at, "--joined".into());
    if files(args).progress && !args.progress {
        words.insert(at, "--progress".into());
    }
    words
}

fn files(args: &Args) -> Files {
    // Where the table is on the terminal, its rows are the progress.
    let quiet = std::io::stdout().is_terminal() || !std::io::stderr().is_terminal();
    Files {
        json: args.json.clone(),
        csv: args.csv.clone(),
        plot: args.plot.clone(),
        peer: args.peer.clone(),
        progress: args.progress || !quiet,
    }
}

fn builder(settings: &Settings) -> nccl::Builder {
    let mut builder = ProcessGroup::builder();
    if let Some(backend) = settings.backend {
        builder = builder.backend(backend);
    }
    if let Some(transport) = settings.transport {
        builder = builder.transport(transport);
    }
    if let Some(timeout) = settings.timeout {
        builder = builder.timeout(timeout);
    }
    builder
}

/// One rank from its beginning to its end.
fn rank(work: &Work, mut report: Option<Report>, builder: nccl::Builder) -> Result<u8, Failure> {
    let measured = (|| {
        let group = builder.build()?;
        let wrong = measure(&group, work, report.as_mut())?;
        group.finalize()?;
        Ok(wrong)
    })();
    let why = measured.as_ref().err().map(|why: &Failure| why.text.as_str());
    let ended = report.map_or(Ok(()), |report| report.end(why));
    let wrong = measured?;
    ended?;
    Ok(if wrong > 0 { CODE_WRONG } else { 0 })
}

/// All ranks as threads of this process.
fn threads(work: &Work, report: Report, count: usize) -> Result<u8, Failure> {
    /// How long the threads may take to come.
    const STORE_TIMEOUT: Duration = Duration::from_secs(300);
    let store: SharedStore = Arc::new(MemoryStore::new(STORE_TIMEOUT));
    let mut report = Some(report);
    let codes: Vec<Result<u8, Failure>> = thread::scope(|scope| {
        let start = |number: usize| {
            let report = report.take(); // rank 0 comes first
            let builder = builder(&work.settings)
                .rank(number)
                .world_size(count)
                .local_rank(number)
                .store(store.clone());
            thread::Builder::new()
                .name(format!("rank {number}"))
                .spawn_scoped(scope, move || rank(work, report, builder))
                .map_err(|why| Failure::other(format!("no thread for rank {number}: {why}")))
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        let end = |(number, thread): (usize, Result<thread::ScopedJoinHandle<'_, _>, Failure>)| {
            let panicked = |_| Err(Failure::other(format!("rank {number} panicked")));
            thread?.join().unwrap_or_else(panicked)
        };
        threads.into_iter().enumerate().map(end).collect()
    });
    codes.into_iter().try_fold(0, |worst, code| Ok(code?.max(worst)))
}
