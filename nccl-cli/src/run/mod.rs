//! `nccl run`: starts the ranks of a world on this host and looks after them.

mod attempt;
mod env;
mod example;
pub(crate) mod guard;
mod logs;
mod oom;
mod output;
mod plan;
mod port;
mod print;
mod rank;
mod report;
mod spawn;
mod supervise;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::options;
use crate::run::plan::Plan;
use crate::run::rank::StartError;

/// The launcher itself could not do its work.
const CODE_LAUNCHER: u8 = 125;

/// The arguments are wrong.
const CODE_USAGE: u8 = 2;

/// `--timeout` passed.
const CODE_TIMEOUT: u8 = 124;

/// At most as many ranks and hosts; a higher number is a slip of the keyboard.
const MOST: i64 = 65_536;

const AFTER_HELP: &str = "\
Each rank finds torchrun's variables in its environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
MASTER_PORT, ...). Standard input is empty. Each rank has its own process group, and ends with the
launcher, even if that is killed. SIGINT, SIGTERM and SIGHUP are passed on and end the run (SIGKILL
after --grace, or at the second SIGINT or SIGTERM); SIGUSR1 and SIGUSR2 are passed on.

Exit codes:
  0        all ranks exited with 0
  N        the rank that failed first exited with N
  128+S    the rank that failed first was killed by signal S,
           or the launcher got the ending signal S (SIGINT 130, SIGTERM 143, SIGHUP 129)
  2        wrong arguments
  124      --timeout passed
  125      the launcher failed (no port, no log folder, the example does not build)
  126, 127 the program cannot be executed, or does not exist
  141      nobody reads the output any more

Several hosts, one command on each:
  node0$ nccl run -n 8 --nnodes 2 --node-rank 0 --rdzv node0:29500 -- ./train
  node1$ nccl run -n 8 --nnodes 2 --node-rank 1 --rdzv node0:29500 -- ./train";

/// What `nccl run` is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = AFTER_HELP,
    override_usage = "nccl run [OPTIONS] [--] PROGRAM [ARGS]...\n       \
                      nccl run [OPTIONS] --example NAME [-- ARGS...]"
)]
pub(crate) struct Args {
    /// Ranks to start on this host
    #[arg(
        short = 'n', long = "nproc", visible_alias = "nproc-per-node", alias = "nproc_per_node",
        value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=MOST)
    )]
    nproc: u32,

    /// Hosts of the world, each with its own `nccl run`
    #[arg(
        long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=MOST)
    )]
    nnodes: u32,

    /// Which of the hosts this is, from 0; needed with --nnodes
    #[arg(long, alias = "node_rank", value_name = "K")]
    node_rank: Option<u32>,

    /// Where rank 0 opens its store; the same on all hosts, needed with --nnodes
    ///
    /// HOST is the host of node rank 0, as the others reach it. On one host the default is
    /// 127.0.0.1 and a port that is kept free for rank 0.
    #[arg(long, value_name = "HOST:PORT")]
    rdzv: Option<String>,

    /// Name of this launch, the same on all hosts (default: random; `none` with --nnodes)
    #[arg(long, alias = "rdzv-id", value_name = "ID")]
    run_id: Option<String>,

    /// Sets a variable for all ranks; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Puts `[rank R] ` before every line (the default)
    #[arg(long, overrides_with = "no_tag_output")]
    tag_output: bool,

    /// Prints the ranks' lines as they are
    #[arg(long, overrides_with = "tag_output")]
    no_tag_output: bool,

    /// Ends the run when it takes longer
    #[arg(long, value_name = "SECONDS", value_parser = options::seconds)]
    timeout: Option<Duration>,

    /// Time the other ranks have after a failure, and again after SIGTERM before SIGKILL
    #[arg(long, value_name = "SECONDS", value_parser = options::seconds, default_value = "5")]
    grace: Duration,

    /// How often all ranks are started again after a failure
    #[arg(long, alias = "max_restarts", value_name = "M", default_value_t = 0)]
    max_restarts: u32,

    /// Also writes each rank's output to files in a new folder in DIR
    #[arg(long, alias = "log_dir", value_name = "DIR")]
    log_dir: Option<PathBuf>,

    /// Builds (release) and starts this program of the checkout's package `examples`
    #[arg(long, value_name = "NAME")]
    example: Option<String>,

    /// The program and its arguments
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs the subcommand.
pub(crate) fn main(args: Args) -> ExitCode {
    let plan = match Plan::new(args) {
        Ok(plan) => plan,
        Err(problem) => {
            return fail(
                &format!("{problem}\nFor the options, try `nccl run --help`."),
                CODE_USAGE,
            );
        }
    };
    let plan = match plan.with_program() {
        Ok(plan) => plan,
        Err(problem) => return fail(&problem, CODE_LAUNCHER),
    };
    match supervise::run(&plan) {
        Ok(code) => ExitCode::from(code),
        Err(why) => fail(&why.text, why.code),
    }
}

/// Starts this program again as the ranks of one world on this host, with other arguments; the
/// exit code. If all ranks exit with `verdict`, that is a result like success.
///
/// Must run on the main thread, as [`supervise::run`].
///
/// # Errors
/// This program cannot be found or started.
pub(crate) fn again(nproc: u32, args: &[OsString], verdict: u8) -> Result<u8, StartError> {
    let program = std::env::current_exe()
        .map_err(|why| StartError::own(format!("cannot find this program's file: {why}")))?;
    let plan = Plan::of_ranks(nproc, program.into_os_string(), args.to_vec(), Some(verdict));
    supervise::run(&plan)
}

fn fail(problem: &str, code: u8) -> ExitCode {
    eprintln!("nccl run: {problem}");
    ExitCode::from(code)
}
