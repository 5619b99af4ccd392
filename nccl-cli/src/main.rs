//! The command `nccl`: starts ranks and measures them.

mod options;
mod perf;
mod run;
mod signals;

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

/// Starts and measures programs that talk through process groups.
#[derive(Parser)]
#[command(name = "nccl", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant and one module per subcommand.
#[derive(Subcommand)]
enum Command {
    /// Starts N copies of a program as the ranks of one world
    Run(run::Args),
    /// Measures and checks every collective, as nccl-tests does
    Perf(Box<perf::Args>),
}

fn main() -> ExitCode {
    if run::guard::is_guard() {
        return run::guard::main();
    }
    match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Perf(args) => perf::main(&args),
    }
}
