//! `nccl perf`: measures and checks every collective, as nccl-tests does, on any backend.

mod args;
mod buffers;
mod cell;
mod check;
mod csv;
mod device;
mod enqueue;
mod gpu;
mod host;
mod issue;
mod json;
mod matrix;
mod measure;
mod memory;
mod plot;
mod report;
mod sizes;
mod start;
mod table;
mod time;
mod value;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nccl::config::BackendChoice;
use nccl::config::TransportChoice;

use crate::options;
use crate::perf::memory::Memory;

/// A result was wrong.
const CODE_WRONG: u8 = 1;
/// The arguments are wrong.
const CODE_USAGE: u8 = 2;
/// A rank or a file failed.
const CODE_FAILED: u8 = 3;

const AFTER_HELP: &str = "\
With -n, the ranks are started here. Without it, the ranks are those of the launch that this process
is part of (mpirun, srun, torchrun, nccl run, ...); where there is none, two are started.

Exit codes:
  0    every result was right
  1    a result was wrong (#wrong)
  2    wrong arguments
  3    a rank failed, or a file cannot be written
  other codes as `nccl run` has them

Examples:
  nccl perf all -n 4
  nccl perf all_reduce -n 8 -b 8 -e 128M -f 2 -d bf16 --plot all_reduce.svg
  mpirun -n 4 nccl perf all --sizes 4,1K,1M --csv nccl.csv
  torchrun --no-python --nproc-per-node 2 nccl perf sendrecv --transport tcp
  nccl perf all -n 8 --backend nccl -b 8 -e 1G

docs/perf.md has the columns and the formulas.";

/// What `nccl perf` is told.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// all_reduce (the default), all_gather, reduce_scatter, all_to_all, broadcast, reduce,
    /// gather, scatter, sendrecv, barrier, or all
    #[arg(value_name = "COLLECTIVE")]
    collectives: Vec<String>,

    /// Starts so many ranks on this host
    #[arg(short = 'n', long = "ranks", value_name = "RANKS",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    ranks: Option<u32>,

    /// Ranks are threads of this process instead of processes
    #[arg(long)]
    threads: bool,

    /// Smallest size (default 8); sizes are bytes with K, M, G for powers of 1024
    #[arg(short = 'b', long = "minbytes", value_name = "SIZE", value_parser = options::size)]
    min: Option<usize>,

    /// Largest size (default 4M)
    #[arg(short = 'e', long = "maxbytes", value_name = "SIZE", value_parser = options::size)]
    max: Option<usize>,

    /// From one size to the next (default 8)
    #[arg(short = 'f', long = "stepfactor", value_name = "FACTOR", conflicts_with = "step")]
    factor: Option<usize>,

    /// From one size to the next, added instead of multiplied
    #[arg(short = 'i', long = "stepbytes", value_name = "SIZE", value_parser = options::size)]
    step: Option<usize>,

    /// Exactly these sizes, with commas between them
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = options::size,
        conflicts_with_all = ["min", "max", "factor", "step"])]
    sizes: Vec<usize>,

    /// Types of elements, with commas between them, or all
    #[arg(short = 'd', long = "datatype", value_name = "TYPE", default_value = "f32")]
    dtype: String,

    /// Reductions: sum, prod, min, max, avg, mulsum, band, bor, bxor, or all
    #[arg(short = 'o', long, value_name = "OP", default_value = "sum")]
    op: String,

    /// Root of the collectives that have one, or all
    #[arg(short = 'r', long, value_name = "RANK", default_value = "0", allow_hyphen_values = true)]
    root: String,

    /// Measured iterations (default: as many as fit into --budget, at least 7)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    iters: Option<u64>,

    /// Iterations before those (default: by size)
    #[arg(short = 'w', long = "warmup", value_name = "N",
        value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    warmup: Option<u64>,

    /// Time for the measured iterations of one cell
    #[arg(long, value_name = "SECONDS", default_value = "0.1", value_parser = options::seconds)]
    budget: Duration,

    /// Whether every element of every rank is compared with what it must be
    #[arg(short = 'c', long = "check", value_name = "0|1", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(0..=1))]
    check: u8,

    /// What carries the collectives (default auto)
    #[arg(long, value_name = "NAME", value_parser = options::backend)]
    backend: Option<BackendChoice>,

    /// Which buffers: host or device (default: device where the backend is NCCL, else host)
    #[arg(long, value_name = "NAME", value_parser = Memory::parse)]
    memory: Option<Memory>,

    /// One transport for all pairs (default: by pair)
    #[arg(long, value_name = "NAME", value_parser = options::transport)]
    transport: Option<TransportChoice>,

    /// Only with input and output in one buffer
    #[arg(long)]
    in_place: bool,

    /// Only with input and output in two buffers
    #[arg(long)]
    out_of_place: bool,

    /// Writes the results as JSON; `-` is standard output, without the tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Writes the results as CSV; `-` is standard output, without the tables
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// First column of the CSV
    #[arg(long, value_name = "NAME", default_value = "nccl-rs")]
    peer: String,

    /// Draws bandwidth and latency over size as SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// How long one operation may take before it is an error
    #[arg(long, value_name = "SECONDS", value_parser = options::seconds)]
    timeout: Option<Duration>,

    /// Only prints the ranks and what connects each pair of them
    #[arg(long)]
    matrix: bool,

    /// This process is a rank that `nccl perf` started
    #[arg(long, hide = true)]
    joined: bool,

    /// Prints how far it is on standard error
    #[arg(long, hide = true)]
    progress: bool,

    /// Makes one element of every result wrong, to test that it is found
    #[arg(long, hide = true)]
    corrupt: bool,
}

/// Runs the subcommand.
pub(crate) fn main(args: &Args) -> ExitCode {
    match start::start(args) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("nccl perf: {}", why.text);
            ExitCode::from(why.code)
        }
    }
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For people.
    text: String,
    /// Of the process.
    code: u8,
}

impl Failure {
    fn usage(problem: impl std::fmt::Display) -> Self {
        let text = format!("{problem}\nFor the options, try `nccl perf --help`.");
        Self { text, code: CODE_USAGE }
    }

    fn other(problem: impl Into<String>) -> Self {
        Self { text: problem.into(), code: CODE_FAILED }
    }
}

impl From<nccl::Error> for Failure {
    fn from(why: nccl::Error) -> Self {
        Self::other(why.to_string())
    }
}
