//! Every example does what examples/README.md says, under each launcher that is here.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

mod programs;

use programs::both;
use programs::built;
use programs::clean;
use programs::host;
use programs::root;
use programs::run;
use programs::skip;
use programs::stdout;
use tests::fakes::Folder;

/// One program of the catalogue.
struct Example {
    name: String,
    ranks: String,
    /// What rank 0 prints, without tags.
    output: String,
}

impl Example {
    fn needs_torch(&self) -> bool {
        self.name == "meet_torch"
    }

    /// Whether it runs on GPUs; the catalogue shows what it prints without.
    fn needs_gpu(&self) -> bool {
        self.name.starts_with("device_")
    }

    /// Compares, after taking out what differs between machines.
    fn check(&self, found: &str, how: &str) {
        let found = found
            .replace(&format!(" on {},", host()), " on node0,")
            .replace("SHM/direct", "P2P/CMA");
        assert_eq!(found, self.output, "{} under {how}", self.name);
    }
}

fn readme() -> String {
    fs::read_to_string(root().join("examples/README.md")).unwrap()
}

/// The blocks of the catalogue that begin with a command.
fn catalogue() -> Vec<Example> {
    let text = readme();
    let blocks = text.split("```console\n$ ").skip(1);
    blocks
        .map(|block| {
            let (command, rest) = block.split_once('\n').unwrap();
            let words: Vec<&str> = command.split(' ').collect();
            let ["nccl", "run", "-n", ranks, "--example", name] = words[..] else {
                panic!("not a command of the catalogue: {command}");
            };
            let tagged = rest.split("```").next().unwrap();
            let untagged = |line: &str| format!("{}\n", line.strip_prefix("[rank 0] ").unwrap());
            let output = tagged.lines().map(untagged).collect();
            Example { name: name.to_owned(), ranks: ranks.to_owned(), output }
        })
        .collect()
}

/// A Python that has torch, if the user names one.
fn torch_python() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("NCCL_RS_TORCH_PYTHON")?);
    let probe = clean(&path).args(["-c", "import torch"]).output();
    probe.is_ok_and(|output| output.status.success()).then_some(path)
}

/// Runs the catalogue; `command` makes the one that starts so many ranks of a program.
fn all(how: &str, command: impl Fn(&str, &Path) -> Command) -> bool {
    for example in catalogue() {
        let mut command = command(&example.ranks, &built(&example.name));
        if example.needs_torch() {
            let Some(python) = torch_python() else {
                skip("torch", "NCCL_RS_TORCH_PYTHON names no Python with torch");
                continue;
            };
            command.env("NCCL_RS_TORCH_PYTHON", python);
        }
        if example.needs_gpu() {
            command.env("NCCL_RS_CUDA_LIB", "/nowhere/libcuda.so.1");
        }
        let Some(output) = run(&mut command) else { return false };
        example.check(&stdout(&output), how);
    }
    true
}

#[test]
fn the_catalogue_and_the_sources_say_the_same() {
    let text = readme();
    let mut names = Vec::new();
    for example in catalogue() {
        let path = root().join(format!("examples/src/bin/{}.rs", example.name));
        let source = fs::read_to_string(&path).unwrap();
        let command = format!("nccl run -n {} --example {}", example.ranks, example.name);
        assert!(source.contains(&command), "{}: {command}", path.display());
        let line = |line: &str| format!("//! [rank 0] {line}\n");
        let lines: String = example.output.lines().map(line).collect();
        assert!(source.contains(&lines), "{}: the output differs", path.display());
        assert!(text.contains(&format!("](src/bin/{}.rs)", example.name)), "{}", example.name);
        names.push(format!("{}.rs", example.name));
    }
    let files = fs::read_dir(root().join("examples/src/bin")).unwrap();
    let mut files: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names, "left: examples/src/bin, right: examples/README.md");
}

#[test]
fn they_run_under_nccl_run() {
    let ran = all("nccl run", |ranks, program| {
        let mut command = clean(built("nccl"));
        command.args(["run", "--no-tag-output", "-n", ranks]).arg(program);
        command
    });
    assert!(ran);
}

#[test]
fn nccl_run_tags_lines_as_the_catalogue_shows() {
    let example = catalogue().into_iter().find(|example| example.name == "all_reduce").unwrap();
    let mut command = clean(built("nccl"));
    command.args(["run", "-n", &example.ranks]).arg(built(&example.name));
    let found = stdout(&run(&mut command).unwrap());
    let block =
        format!("```console\n$ nccl run -n {} --example all_reduce\n{found}```", example.ranks);
    assert!(readme().contains(&block), "{found}");
}

#[test]
fn they_run_under_open_mpi() {
    let ran = all("mpirun.openmpi", |ranks, program| {
        let mut command = clean("mpirun.openmpi");
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", ranks]).arg(program);
        command
    });
    if !ran {
        skip("mpi", "mpirun.openmpi is not installed");
    }
}

#[test]
fn they_run_under_mpich() {
    let ran = all("mpiexec.mpich", |ranks, program| {
        let mut command = clean("mpiexec.mpich");
        command.args(["-n", ranks]).arg(program);
        command
    });
    if !ran {
        skip("mpi", "mpiexec.mpich is not installed");
    }
}

#[test]
fn hello_runs_under_torchrun() {
    let Some(python) = torch_python() else {
        return skip("torch", "NCCL_RS_TORCH_PYTHON names no Python with torch");
    };
    let example = catalogue().into_iter().find(|example| example.name == "hello").unwrap();
    let mut command = clean(python.with_file_name("torchrun"));
    command.args(["--no-python", "--nproc-per-node", &example.ranks]);
    command.args(["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]);
    let Some(output) = run(command.arg(built("hello"))) else {
        return skip("torch", "there is no torchrun beside NCCL_RS_TORCH_PYTHON");
    };
    example.check(&stdout(&output), "torchrun");
}

#[test]
fn they_run_with_other_numbers_of_ranks() {
    for example in catalogue().iter().filter(|example| !example.needs_torch()) {
        for ranks in ["1", "2", "5"] {
            let mut command = clean(built("nccl"));
            command.args(["run", "--no-tag-output", "-n", ranks]).arg(built(&example.name));
            let text = stdout(&run(&mut command).unwrap());
            assert!(!text.contains("false"), "{} with {ranks} ranks: {text}", example.name);
        }
    }
}

/// What the program prints on the fakes.
fn on_fakes(program: &Path, ranks: usize, more: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    let mut command = clean(built("nccl"));
    command.args(["run", "--no-tag-output", "-n", &ranks.to_string()]).arg(program);
    command.envs(folder.env()).env("FAKE_CUDA_STRICT", "1").env("FAKE_NCCL_STRICT", "1");
    command.envs(more.iter().copied());
    stdout(&run(&mut command).unwrap())
}

#[test]
fn with_the_fake_driver_and_the_fake_nccl_the_sum_in_device_memory_is_right() {
    let program = built("device_all_reduce");
    for backend in ["nccl", "cpu"] {
        let text = on_fakes(&program, 3, &[("NCCL_RS_BACKEND", backend)]);
        let line = |rank: usize| {
            format!(
                "rank {rank}: {backend} on device {rank} (Fake H200), 1024 elements, \
                 sum as expected: true\n"
            )
        };
        assert_eq!(text, (0..3).map(line).collect::<String>());
    }
    let text = on_fakes(&program, 2, &[("NCCL_RS_DEVICE", "5"), ("NCCL_RS_BACKEND", "cpu")]);
    assert!(text.contains("rank 1: cpu on device 5 "), "{text}");
}

/// Builds the package with cudarc, which `built` leaves out.
fn with_cudarc(name: &str) -> PathBuf {
    let program = built(name);
    let folder = program.parent().unwrap();
    let profile = if folder.ends_with("debug") { "dev" } else { "release" };
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["build", "--quiet", "-p", "examples-cudarc", "--profile"]);
    command.arg(profile).arg("--target-dir").arg(folder.parent().unwrap());
    assert!(command.status().unwrap().success(), "examples-cudarc does not build");
    program
}

#[test]
fn the_examples_with_cudarc_say_that_there_is_no_driver_and_sum_on_the_fakes() {
    for name in ["device_cudarc", "graph"] {
        let mut command = clean(built("nccl"));
        command.args(["run", "-n", "2"]).arg(with_cudarc(name));
        command.env("NCCL_RS_CUDA_LIB", "/nowhere/libcuda.so.1");
        let found = stdout(&run(&mut command).unwrap());
        let block = format!("[rank 0] rank 0: {0}\n[rank 0] rank 1: {0}\n", NOTHING);
        assert_eq!(found, block, "{name}");
        let source = root().join(format!("examples/cudarc/src/bin/{name}.rs"));
        let documented = block.lines().map(|line| format!("//! {line}\n")).collect::<String>();
        assert!(fs::read_to_string(source).unwrap().contains(&documented), "{name}");
        assert!(readme().contains(&block), "{name}");
    }
    for backend in ["nccl", "cpu"] {
        let text = on_fakes(&with_cudarc("device_cudarc"), 2, &[("NCCL_RS_BACKEND", backend)]);
        let line = |rank: usize| {
            format!(
                "rank {rank}: {backend} on device {rank}, 1024 elements, sum as expected: true\n"
            )
        };
        assert_eq!(text, (0..2).map(line).collect::<String>());
    }
}

/// What the programs with cudarc say where there is no driver.
const NOTHING: &str = "no CUDA driver on every rank, so nothing was run";

#[test]
fn alone_without_a_launcher_they_are_a_world_of_one() {
    let output = run(&mut clean(built("hello"))).unwrap();
    let found = stdout(&output).replace(&host(), "node0");
    assert_eq!(found, "rank 0 of 1 on node0, local rank 0, cpu; alone\n", "{}", both(&output));
}

#[test]
fn without_torch_the_example_says_so() {
    let mut command = clean(built("nccl"));
    command.args(["run", "--no-tag-output", "-n", "2"]).arg(built("meet_torch"));
    command.env("NCCL_RS_TORCH_PYTHON", "/nowhere/python");
    let text = stdout(&run(&mut command).unwrap());
    assert!(text.starts_with("skipped: /nowhere/python does not start ("), "{text}");
}
