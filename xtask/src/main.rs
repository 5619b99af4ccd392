//! Tasks of this repository: `cargo xtask NAME`.

use std::path::Path;
use std::process::ExitCode;

/// What a task does, or why it could not.
type Task = fn() -> Result<(), String>;

/// The tasks: name, what it does, and how.
const TASKS: [(&str, &str, Task); 1] =
    [("env-docs", "writes docs/environment.md from the table of variables", env_docs)];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, _, task)) = TASKS.iter().find(|(known, _, _)| *known == name) else {
        eprintln!("cargo xtask NAME, where NAME is one of:");
        for (name, what, _) in TASKS {
            eprintln!("  {name:12} {what}");
        }
        return ExitCode::FAILURE;
    };
    match task() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask {name}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Writes docs/environment.md.
fn env_docs() -> Result<(), String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let path = docs.join("environment.md");
    std::fs::create_dir_all(&docs)
        .and_then(|()| std::fs::write(&path, nccl::config::environment_markdown()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
