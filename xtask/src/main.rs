//! Tasks of this repository: `cargo xtask NAME`.

#[cfg(feature = "bindgen")]
mod bindings;
#[cfg(feature = "bindgen")]
mod bindings_docs;

use std::path::Path;
use std::process::ExitCode;

/// What a task does, or why it could not.
type Task = fn() -> Result<(), String>;

/// The tasks: name, what it does, and how.
const TASKS: [(&str, &str, Task); 2] = [
    ("bindgen", "writes nccl-sys/src/bindings.rs from the nccl.h named after it", bindgen),
    ("env-docs", "writes docs/environment.md from the table of variables", env_docs),
];

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

/// Says why there is no such task.
#[cfg(not(feature = "nccl"))]
fn env_docs() -> Result<(), String> {
    Err("needs xtask with its feature `nccl`".to_owned())
}

/// Writes docs/environment.md.
#[cfg(feature = "nccl")]
fn env_docs() -> Result<(), String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let path = docs.join("environment.md");
    std::fs::create_dir_all(&docs)
        .and_then(|()| std::fs::write(&path, nccl::config::environment_markdown()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Writes nccl-sys/src/bindings.rs from the header that the second argument names, or
/// `NCCL_RS_NCCL_HEADER`.
#[cfg(feature = "bindgen")]
fn bindgen() -> Result<(), String> {
    let header =
        std::env::args_os().nth(2).or_else(|| std::env::var_os("NCCL_RS_NCCL_HEADER")).ok_or(
            "which nccl.h? Name it, or set NCCL_RS_NCCL_HEADER; the PyPI wheels \
             nvidia-nccl-cu12 have it at nvidia/nccl/include/nccl.h",
        )?;
    bindings::write(Path::new(&header))
}

/// Starts this task with bindgen compiled in, which nobody else has to build.
#[cfg(not(feature = "bindgen"))]
fn bindgen() -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["run", "--quiet", "--package", "xtask", "--no-default-features"])
        .args(["--features", "bindgen", "--"])
        .args(std::env::args_os().skip(1))
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    status.success().then_some(()).ok_or_else(|| format!("cargo: {status}"))
}
