//! `--example NAME`: builds a program of the workspace's package `examples` once.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

/// Builds the example in release mode and returns the program.
///
/// # Errors
/// Not inside a checkout, no such example, or cargo's failure, each with what to do.
pub(crate) fn build(name: &str) -> Result<PathBuf, String> {
    let here = env::current_dir().map_err(|why| format!("no current folder: {why}"))?;
    let root = workspace_root(&here).ok_or_else(|| {
        format!(
            "--example {name}: neither {} nor a folder above it has a workspace's Cargo.toml and \
             examples/src/bin; run this inside a checkout",
            here.display()
        )
    })?;
    let known = names(&root.join("examples/src/bin"));
    if !known.iter().any(|one| one == name) {
        return Err(format!("--example {name}: there is none of that name; {}", list(&known)));
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(&cargo)
        .current_dir(&root)
        .args(["build", "--release", "-p", "examples", "--bin", name])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|why| format!("--example {name}: cannot start {}: {why}", cargo.display()))?;
    if !output.status.success() {
        return Err(format!("--example {name}: cargo build failed ({})", output.status));
    }
    built(&output.stdout, name)
        .ok_or_else(|| format!("--example {name}: cargo built it but named no program"))
}

/// The nearest folder upward that is this kind of workspace.
fn workspace_root(from: &Path) -> Option<PathBuf> {
    let is_root = |folder: &Path| {
        folder.join("examples/src/bin").is_dir()
            && fs::read_to_string(folder.join("Cargo.toml"))
                .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
    };
    from.ancestors().find(|folder| is_root(folder)).map(Path::to_owned)
}

/// The binaries that cargo finds by itself: `NAME.rs` and `NAME/main.rs`.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_file = path.extension().is_some_and(|extension| extension == "rs");
            let is_folder = path.join("main.rs").is_file();
            let stem = if is_file { path.file_stem() } else { path.file_name() };
            (is_file || is_folder).then(|| stem?.to_str().map(str::to_owned)).flatten()
        })
        .collect();
    names.sort();
    names
}

fn list(known: &[String]) -> String {
    match known {
        [] => "the package `examples` has no programs yet".to_owned(),
        known => format!("the examples are: {}", known.join(", ")),
    }
}

/// The program's path out of cargo's messages, wherever the target folder is.
fn built(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some(name))
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_of_that_name() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":"/t/a"}
not json
{"reason":"compiler-artifact","target":{"name":"b"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"b"},"executable":"/t/b"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(built(messages, "b"), Some(PathBuf::from("/t/b")));
        assert_eq!(built(messages, "c"), None);
    }

    #[test]
    fn both_kinds_of_programs_are_listed() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("ring.rs"), "").unwrap();
        fs::write(temp.path().join("notes.md"), "").unwrap();
        fs::create_dir(temp.path().join("big")).unwrap();
        fs::write(temp.path().join("big/main.rs"), "").unwrap();
        fs::create_dir(temp.path().join("empty")).unwrap();
        assert_eq!(names(temp.path()), ["big", "ring"]);
    }
}
