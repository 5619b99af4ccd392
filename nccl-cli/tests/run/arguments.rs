//! Arguments and examples.

use std::fs;
use std::path::Path;

use crate::common::text;
use crate::helpers::assert_code;
use crate::helpers::assert_says;
use crate::helpers::launcher;
use crate::helpers::run;

#[test]
fn wrong_arguments_exit_with_2_and_say_what_to_write() {
    for (options, expected) in [
        ("-n 0 -- true", "0 is not in 1..=65536"),
        ("-n 2", "no program"),
        ("--nnodes 2 -- true", "needs --node-rank"),
        ("--env A -- true", "has no `=`"),
        ("--bogus -- true", "--bogus"),
    ] {
        let output = run(launcher(options));
        assert_code(&output, 2);
        assert_says(&output, expected);
    }
}

#[test]
fn the_help_lists_the_exit_codes() {
    let output = run(launcher("--help"));
    assert_code(&output, 0);
    let help = text(&output.stdout);
    for expected in ["Exit codes:", "124", "--max-restarts", "several hosts"] {
        assert!(help.to_lowercase().contains(&expected.to_lowercase()), "{expected}");
    }
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn an_example_is_built_once_and_started() {
    let temp = tempfile::tempdir().unwrap();
    write(
        &temp.path().join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"examples\"]\n",
    );
    let manifest = "[package]\nname = \"examples\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    write(&temp.path().join("examples/Cargo.toml"), manifest);
    let main = "fn main() { println!(\"{:?}\", std::env::args().nth(1)); }";
    write(&temp.path().join("examples/src/bin/hello.rs"), main);
    let inside = temp.path().join("examples/src");
    let start = |name: &str, extra: &[&str]| {
        let mut command = launcher("-n 2 --example");
        command.arg(name).args(extra).current_dir(&inside);
        command.env("CARGO_TARGET_DIR", temp.path().join("elsewhere"));
        run(command)
    };
    let output = start("hello", &["--", "--word"]);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout).matches("Some(\"--word\")").count(), 2);
    assert_eq!(text(&output.stderr).matches("Compiling").count(), 1);
    let output = start("hallo", &[]);
    assert_code(&output, 125);
    assert_says(&output, "the examples are: hello");

    let mut command = launcher("--example hello");
    command.current_dir("/");
    let output = run(command);
    assert_code(&output, 125);
    assert_says(&output, "run this inside a checkout");
}
