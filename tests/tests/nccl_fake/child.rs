//! Children: this program again, with the fakes as its libraries.

use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use tests::fakes;
use tests::fakes::Folder;

/// The test that serves as a child.
const TEST: &str = "child::a_child_of_a_test";
/// Which case it runs.
const CASE: &str = "NCCL_FAKE_CASE";
/// The longest that a child may take: all bounds inside are far below.
const LIMIT: Duration = Duration::from_secs(60);

/// A case, to be run by a child.
pub(crate) struct Child {
    case: &'static str,
    env: Vec<(String, String)>,
    folder: Folder,
}

impl Child {
    pub(crate) fn new(case: &'static str) -> Self {
        let env = vec![
            ("FAKE_NCCL_STRICT".to_owned(), "1".to_owned()),
            ("FAKE_CUDA_STRICT".to_owned(), "1".to_owned()),
        ];
        Self { case, env, folder: Folder::new() }
    }

    /// With a library that looks like another version.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.folder = Folder::with(&fakes::cuda(), &fakes::nccl_as(version));
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it, and gives what it wrote.
    #[track_caller]
    pub(crate) fn run(self) -> String {
        let case = self.case;
        let output = self.output();
        let out = String::from_utf8_lossy(&output.stdout);
        let text = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{case}: {}\n{text}", output.status);
        assert!(text.contains("1 passed"), "{case} did not run:\n{text}");
        assert!(!text.contains("VIOLATION"), "{case}:\n{text}");
        text
    }

    fn output(self) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("NCCL_") || name.starts_with("FAKE_") {
                command.env_remove(&*name);
            }
        }
        command.args([TEST, "--exact", "--nocapture", "--test-threads=1"]);
        command.envs(self.folder.env()).envs(self.env).env(CASE, self.case);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + LIMIT;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                break;
            }
            thread::sleep(Duration::from_millis(5)); // for the child to end
        }
        child.wait_with_output().unwrap()
    }
}

#[test]
fn a_child_of_a_test() {
    let Ok(name) = std::env::var(CASE) else { return };
    let case = crate::cases::ALL.iter().find(|(case, _)| *case == name);
    let (_, run) = case.unwrap_or_else(|| panic!("no case {name}"));
    run();
}

#[test]
fn every_case_is_named_once() {
    let mut names: Vec<_> = crate::cases::ALL.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), crate::cases::ALL.len());
}
