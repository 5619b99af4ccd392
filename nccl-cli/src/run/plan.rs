//! The arguments of `nccl run`, checked and completed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use crate::run::Args;
use crate::run::env;
use crate::run::env::Endpoint;
use crate::run::env::World;
use crate::run::example;

/// What to run and how.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The program; empty until [`Plan::with_program`] where an example is asked for.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// The ranks.
    pub(crate) world: World,
    /// Where rank 0 opens its store; without it, a free port of this host for each attempt.
    pub(crate) endpoint: Option<Endpoint>,
    /// The launch's name.
    pub(crate) run_id: String,
    /// Variables for all ranks.
    pub(crate) env: Vec<(String, String)>,
    /// Whether lines say their rank.
    pub(crate) tag: bool,
    /// Whether lines on standard output never do.
    pub(crate) bare_stdout: bool,
    /// An exit code that all ranks give by agreement: a result, and no failure to report.
    pub(crate) verdict: Option<u8>,
    /// Limit of the whole run.
    pub(crate) timeout: Option<Duration>,
    /// Time between a failure, SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// How often the ranks may be started again.
    pub(crate) max_restarts: u32,
    /// Where a folder with log files is to be made.
    pub(crate) log_dir: Option<PathBuf>,
    example: Option<String>,
}

impl Plan {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// Names the option and says what to write.
    pub(crate) fn new(args: Args) -> Result<Self, String> {
        let world = world(&args)?;
        let endpoint = match &args.rdzv {
            Some(text) => {
                Some(env::endpoint(text).map_err(|why| format!("--rdzv {text:?} {why}"))?)
            }
            None => None,
        };
        let mut variables = Vec::with_capacity(args.env.len());
        for text in &args.env {
            variables.push(env::assignment(text).map_err(|why| format!("--env {text:?} {why}"))?);
        }
        let run_id = match args.run_id {
            Some(id) if id.is_empty() || id.contains('\0') => {
                return Err(format!("--run-id {id:?} cannot be empty or hold zero bytes"));
            }
            Some(id) => id,
            None if world.nnodes > 1 => "none".to_owned(),
            None => random_hex(),
        };
        let mut command = args.command.into_iter();
        let program = match args.example {
            Some(_) => OsString::new(),
            None => command.next().filter(|program| !program.is_empty()).ok_or(
                "no program; write `nccl run -n 4 -- PROGRAM ARGS` or `nccl run -n 4 --example NAME`",
            )?,
        };
        Ok(Self {
            program,
            args: command.collect(),
            world,
            endpoint,
            run_id,
            env: variables,
            tag: !args.no_tag_output,
            bare_stdout: false,
            verdict: None,
            timeout: args.timeout,
            grace: args.grace,
            max_restarts: args.max_restarts,
            log_dir: args.log_dir,
            example: args.example,
        })
    }

    /// Starts `nproc` ranks of `program` on this host; only rank 0 writes to standard output.
    pub(crate) fn of_ranks(
        nproc: u32,
        program: OsString,
        args: Vec<OsString>,
        verdict: Option<u8>,
    ) -> Self {
        // Whoever told us to start ranks here meant us, not them.
        let launcher = ("NCCL_RS_LAUNCHER".to_owned(), "plain".to_owned());
        Self {
            program,
            args,
            world: World { nproc, nnodes: 1, node_rank: 0 },
            endpoint: None,
            run_id: random_hex(),
            env: vec![launcher],
            tag: true,
            bare_stdout: true,
            verdict,
            timeout: None,
            grace: Duration::from_secs(5),
            max_restarts: 0,
            log_dir: None,
            example: None,
        }
    }

    /// Builds the example where one is asked for.
    ///
    /// # Errors
    /// As [`example::build`].
    pub(crate) fn with_program(mut self) -> Result<Self, String> {
        if let Some(name) = self.example.take() {
            self.program = example::build(&name)?.into_os_string();
        }
        Ok(self)
    }
}

fn world(args: &Args) -> Result<World, String> {
    let nnodes = args.nnodes;
    let node_rank = match args.node_rank {
        Some(node_rank) if node_rank >= nnodes => {
            return Err(format!(
                "--node-rank {node_rank} is not one of the {nnodes} host(s) of --nnodes; it \
                 counts from 0, so at most {}",
                nnodes.saturating_sub(1)
            ));
        }
        Some(node_rank) => node_rank,
        None if nnodes > 1 => {
            return Err(format!(
                "--nnodes {nnodes} needs --node-rank K: which host this is, 0 to {}",
                nnodes.saturating_sub(1)
            ));
        }
        None => 0,
    };
    if nnodes > 1 && args.rdzv.is_none() {
        return Err(format!(
            "--nnodes {nnodes} needs --rdzv HOST:PORT, the same on all hosts: where rank 0 opens \
             its store, as --rdzv node0:29500"
        ));
    }
    Ok(World { nproc: args.nproc, nnodes, node_rank })
}

/// 32 random digits; where there is no `/dev/urandom`, std's own random keys.
pub(crate) fn random_hex() -> String {
    use std::hash::BuildHasher;
    use std::hash::RandomState;

    let mut bytes = [0_u8; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    let value = match read {
        Ok(()) => u128::from_ne_bytes(bytes),
        Err(_) => {
            let half = |n: u8| u128::from(RandomState::new().hash_one(n));
            half(0) << 64 | half(1)
        }
    };
    format!("{value:032x}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Cli::try_parse_from(words)
            .map_err(|why| why.to_string())
            .and_then(|cli| Plan::new(cli.args))
    }

    #[test]
    fn the_program_takes_all_that_follows_it() {
        for line in [
            "-n 4 -- prog -n 7 --env",
            "-n 4 prog -n 7 --env",
            "--nproc-per-node 4 prog -n 7 --env",
        ] {
            let plan = plan(line).unwrap();
            assert_eq!(plan.program, "prog", "{line}");
            assert_eq!(plan.args, ["-n", "7", "--env"], "{line}");
            assert_eq!(plan.world, World { nproc: 4, nnodes: 1, node_rank: 0 });
        }
    }

    #[test]
    fn an_example_takes_all_as_its_arguments() {
        let plan = plan("--example ring -- -x 1").unwrap();
        assert_eq!(plan.args, ["-x", "1"]);
        assert_eq!(plan.example.as_deref(), Some("ring"));
    }

    #[test]
    fn one_rank_and_five_seconds_are_the_defaults() {
        let plan = plan("prog").unwrap();
        assert_eq!(plan.world.size(), 1);
        assert_eq!(plan.grace, Duration::from_secs(5));
        assert!(plan.tag && plan.timeout.is_none() && plan.max_restarts == 0);
        assert_eq!(plan.run_id.len(), 32);
    }

    #[test]
    fn wrong_arguments_are_named_with_what_to_do() {
        for (line, expected) in [
            ("-n 0 prog", "0 is not in 1..="),
            ("-n x prog", "invalid"),
            ("-n 4", "no program"),
            ("--nnodes 2 --rdzv a:1 prog", "needs --node-rank"),
            ("--nnodes 2 --node-rank 1 prog", "needs --rdzv HOST:PORT"),
            ("--nnodes 2 --node-rank 2 --rdzv a:1 prog", "--node-rank 2 is not one of the 2"),
            ("--node-rank 1 prog", "--node-rank 1 is not one of the 1"),
            ("--rdzv a prog", "--rdzv \"a\" has no port"),
            ("--env A prog", "--env \"A\" has no `=`"),
            ("--env RANK=1 prog", "sets RANK"),
            ("--timeout 0 prog", "more than 0 seconds"),
            ("--graze 1 prog", "unexpected argument '--graze'"),
        ] {
            let said = plan(line).map(|_| ()).unwrap_err();
            assert!(said.contains(expected), "{line}: {said}");
        }
    }

    #[test]
    fn the_last_word_on_tags_wins() {
        assert!(!plan("--no-tag-output prog").unwrap().tag);
        assert!(plan("--no-tag-output --tag-output prog").unwrap().tag);
        assert!(!plan("--tag-output --no-tag-output prog").unwrap().tag);
    }

    #[test]
    fn two_launches_have_two_names() {
        assert_ne!(random_hex(), random_hex());
    }
}
