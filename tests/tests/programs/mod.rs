//! Programs of this workspace and of others, started by the tests as users start them.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers; not every test uses all of them")]

use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

/// How long a program may take; nothing here needs more than a second or two.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program of the packages `examples` or `nccl-cli`, built with the profile of this test.
pub(crate) fn built(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

/// Builds them once, where cargo put this package's own programs.
fn build() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_print_launch")).parent().unwrap();
    let profile = match folder.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let target = folder.parent().unwrap();
    let status = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["build", "--quiet", "-p", "examples", "-p", "nccl-cli", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .status()
        .unwrap();
    assert!(status.success(), "the examples do not build");
    folder.to_owned()
}

/// A command without the variables by which this test itself may have been started as a rank.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let prefixes = [
        "OMPI_",
        "PMI",
        "SLURM_",
        "NCCL_",
        "MASTER_",
        "TORCHELASTIC_",
        "MV2_",
        "PALS_",
        "JSM_",
        "LSB_",
        "FLUX_",
        "LWS_",
        "PET_",
        "JOB_COMPLETION_INDEX",
        "MPI_",
        "HYDRA_",
        "PBS_",
    ];
    let names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if names.contains(&&*name) || prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    // A test that would hang ends with the library's own explanation instead.
    command.env("NCCL_RS_INIT_TIMEOUT_MS", "20000").env("NCCL_RS_TIMEOUT_MS", "20000");
    command
}

/// Whether a skip of this kind is a failure here: `NCCL_RS_REQUIRE` is a list of words.
pub(crate) fn required(what: &str) -> bool {
    let words = std::env::var("NCCL_RS_REQUIRE").unwrap_or_default();
    words.split([',', ' ']).any(|word| word == what)
}

/// Says why a test does nothing.
///
/// # Panics
/// Where `NCCL_RS_REQUIRE` has the word.
pub(crate) fn skip(what: &str, why: &str) {
    assert!(!required(what), "NCCL_RS_REQUIRE has {what}, but {why}");
    eprintln!("skipped: {why}");
}

/// Runs a command to its end; `None` if there is no such program.
///
/// # Panics
/// When it does not end in time.
pub(crate) fn run(command: &mut Command) -> Option<Output> {
    let text = format!("{command:?}");
    match start(command) {
        Ok(child) => Some(end(child, &text)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{text}: {error}"),
    }
}

/// Starts a command whose output is wanted.
pub(crate) fn start(command: &mut Command) -> std::io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Waits for a child, whose output is small enough for a pipe.
///
/// # Panics
/// When it does not end in time.
pub(crate) fn end(mut child: Child, text: &str) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > TIMEOUT {
            drop(child.kill());
            let output = child.wait_with_output().unwrap();
            panic!("{text} does not end: {}", both(&output));
        }
        std::thread::sleep(Duration::from_millis(5)); // the child's end; there is no bounded wait
    }
    child.wait_with_output().unwrap()
}

/// Both outputs as text, for messages.
pub(crate) fn both(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\nstdout:\n{out}\nstderr:\n{err}", output.status)
}

/// Standard output of a program that must succeed.
pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", both(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// This host's name, as the example `hello` prints it.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}
