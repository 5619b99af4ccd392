//! Prints in one line what the library makes of this process's environment.

use std::io::Write;
use std::process::ExitCode;

use nccl::config::Env;
use nccl::config::Launch;

fn main() -> ExitCode {
    let line = match Launch::from_env(&Env::process()) {
        Ok(found) => format!(
            "launch {} rank={} size={} local={:?}/{:?} job={:?} at {}\n",
            found.launcher,
            found.rank,
            found.world_size,
            found.local_rank,
            found.local_world_size,
            !found.job_id.is_empty(),
            found.rendezvous
        ),
        Err(error) => format!("error {error}\n"),
    };
    // One write, so that the lines of several ranks do not mix.
    match std::io::stdout().write_all(line.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
