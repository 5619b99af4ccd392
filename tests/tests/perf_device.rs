//! `nccl perf` on device memory, against the fake libcuda and libnccl: what passes here says nothing
//! about the times, nor about NCCL, but that every result is checked and every row is there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use tests::fakes;
use tests::fakes::Folder;

mod programs;

use programs::both;
use programs::built;
use programs::clean;
use programs::end;
use programs::start;

/// Far less than any timeout of the library.
const SOON: Duration = Duration::from_secs(10);
const IN_PLACE: &str =
    "#   N/A in place: all_to_all: NCCL has no all_to_all in place; pass two buffers\n";
const BARRIER: &str =
    "#   N/A out of place: a barrier is an operation of the host; --memory host measures it\n";

/// `nccl perf` with these arguments, cut at spaces, where the fakes are.
fn perf(folder: &Folder, line: &str) -> Command {
    let mut command = clean(built("nccl"));
    command.arg("perf").args(line.split_whitespace()).envs(folder.env());
    command.env("FAKE_NCCL_STRICT", "1").env("FAKE_CUDA_STRICT", "1");
    command
}

/// Runs it to its end, asserts the exit code, and returns what it printed.
#[track_caller]
fn run(command: &mut Command, code: i32) -> (String, Output) {
    let text = format!("{command:?}");
    let output = end(start(command).unwrap(), &text);
    assert_eq!(output.status.code(), Some(code), "{text}: {}", both(&output));
    (String::from_utf8_lossy(&output.stdout).into_owned(), output)
}

/// The rows of all tables, in words: size, count, type, redop, root, then of both forms time,
/// algbw, busbw and wrong, then of both forms p50 and p99, then the algorithm.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect()).collect()
}

/// The columns of wrong elements.
fn wrong<'a>(row: &[&'a str]) -> [&'a str; 2] {
    [row[8], row[12]]
}

/// Every row is right in the forms that there are, and nothing else is without a measurement.
#[track_caller]
fn assert_right(table: &str, without_any: usize) {
    let rows = rows(table);
    let is_measured = |row: &&Vec<&str>| wrong(row).contains(&"0");
    assert_eq!(rows.iter().filter(|row| !is_measured(row)).count(), without_any, "{table}");
    for row in rows {
        assert!(wrong(&row).iter().all(|one| ["0", "N/A"].contains(one)), "{row:?}\n{table}");
    }
    assert!(table.contains("# Out of bounds values : 0 OK\n"), "{table}");
}

#[test]
fn every_collective_is_right_on_two_fake_devices() {
    let (folder, files) = (Folder::new(), tempfile::tempdir().unwrap());
    let [csv, json, svg] = ["csv", "json", "svg"].map(|name| files.path().join(name));
    let line = format!(
        "all -n 2 --backend nccl --sizes 4,1000,100K --iters 3 -w 1 --csv {} --json {} --plot {}",
        csv.display(),
        json.display(),
        svg.display()
    );
    let (out, _) = run(&mut perf(&folder, &line), 0);
    assert_eq!(rows(&out).len(), 9 * 3 + 1, "{out}");
    assert_right(&out, 1);
    assert!(out.contains("2 ranks on 1 host, backend nccl, device memory"), "{out}");
    let library = format!("# NCCL 2.32.3 from {}\n", fakes::nccl().display());
    assert!(out.contains(&library), "{out}");
    for rank in 0..2 {
        let device = format!(" local rank  {rank} device  {rank} [0000:");
        let line = out.lines().find(|line| line.contains(&device));
        assert!(line.is_some_and(|line| line.ends_with("] Fake H200")), "{out}");
    }
    // Why a form is not there is said once, not for each size.
    let reasons: Vec<&str> = out.lines().filter(|line| line.starts_with("#   N/A")).collect();
    assert_eq!(reasons, [IN_PLACE.trim_end(), BARRIER.trim_end()]);
    assert!(out.contains("p50, p99: of calls that\n# are each waited for"), "{out}");

    let csv = fs::read_to_string(csv).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 9 * 3, "no line for the barrier: {csv}");
    for fields in lines {
        assert_eq!((fields.len(), fields[1], fields[10]), (11, "nccl", "3"), "{fields:?}");
        for at in [5, 6, 9] {
            assert!(fields[at].parse::<f64>().unwrap() > 0.0, "{fields:?}");
        }
    }
    let json = fs::read_to_string(json).unwrap();
    for text in [
        "\"memory\": \"device\"",
        "\"transport\": \"nccl\"",
        "\"version\": \"2.32.3\"",
        "\"name\": \"Fake H200\"",
        "\"why\": \"all_to_all: NCCL has no all_to_all in place; pass two buffers\"",
    ] {
        assert!(json.contains(text), "{text}: {json}");
    }
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.contains("<title>nccl-rs nccl, 2 ranks</title>"), "{svg}");
    assert_eq!(svg.matches("<polyline").count(), 2 * 9, "{svg}");
}

#[test]
fn types_and_reductions_are_right_and_those_that_nccl_has_not_say_so() {
    let folder = Folder::new();
    let (out, _) = run(
        &mut perf(
            &folder,
            "all_reduce reduce_scatter -n 2 -d all -o all --sizes 512 --iters 1 -w 0",
        ),
        0,
    );
    // 12 types with 6 or 5 reductions that NCCL has; 6 of integers with 3 that it has not.
    assert_eq!(rows(&out).len(), 2 * (72 - 6 + 18), "{out}");
    assert_right(&out, 2 * 18);
    for row in rows(&out) {
        let is_bitwise = ["band", "bor", "bxor"].contains(&row[3]);
        assert_eq!(wrong(&row), if is_bitwise { ["N/A"; 2] } else { ["0"; 2] }, "{row:?}");
    }
    // Once for both forms.
    let reason =
        "#   N/A: all_reduce: the reduction `bor` does not exist for u64: NCCL has no bitwise";
    assert_eq!(out.matches(reason).count(), 1, "{out}");
    assert_eq!(out.matches("#   N/A").count(), 2 * 18, "{out}");
}

#[test]
fn an_older_fake_nccl_has_no_eight_bit_floats_and_everything_else() {
    let folder = Folder::with(&fakes::cuda(), &fakes::nccl_as("2.18.3"));
    let line = "all_reduce all_to_all gather scatter -n 3 -d f32,f8e4m3 --sizes 600 --iters 2 -w 0";
    let (out, _) = run(&mut perf(&folder, line), 0);
    assert!(out.contains("# NCCL 2.18.3 from "), "{out}");
    assert_right(&out, 4);
    let lacking: Vec<_> = rows(&out).into_iter().filter(|row| wrong(row) == ["N/A"; 2]).collect();
    assert!(lacking.iter().all(|row| row[2] == "f8e4m3"), "{out}");
    assert!(out.contains("2.24") && out.contains("2.18.3"), "{out}");
}

#[test]
fn the_cpu_backend_takes_device_memory_on_request_only() {
    let folder = Folder::new();
    let line = "all -n 2 --backend cpu --sizes 4,100K --iters 2 -w 0";
    let (out, _) = run(&mut perf(&folder, &format!("{line} --memory device")), 0);
    assert!(out.contains("backend cpu, device memory") && out.contains(BARRIER), "{out}");
    assert!(!out.contains(IN_PLACE) && !out.contains("# NCCL"), "{out}");
    assert_right(&out, 1);
    let (out, _) = run(&mut perf(&folder, &format!("{line} --memory device --csv -")), 0);
    let lines = || out.lines().skip(1);
    assert!(lines().count() == 18 && lines().all(|line| line.starts_with("nccl-rs,staged,")));
    let (out, _) = run(&mut perf(&folder, line), 0);
    assert!(out.contains("backend cpu, host memory") && !out.contains("Fake H200"), "{out}");
    assert_right(&out, 0);
}

#[test]
fn beside_the_fake_nccl_host_memory_can_be_measured() {
    let folder = Folder::new();
    let line = "all_reduce barrier -n 2 --backend nccl --memory host --sizes 4K --iters 2";
    let (out, _) = run(&mut perf(&folder, line), 0);
    assert!(out.contains("backend nccl, host memory"), "{out}");
    assert!(out.contains("# note: NCCL carries nothing"), "{out}");
    assert_right(&out, 0);
}

#[test]
fn ranks_can_be_threads_with_a_fake_device_each() {
    let folder = Folder::new();
    let line = "all -n 2 --threads --backend nccl --sizes 4K --iters 2 -w 0";
    let (out, _) = run(&mut perf(&folder, line), 0);
    assert!(out.contains(" device  0 [") && out.contains(" device  1 ["), "{out}");
    assert_right(&out, 1);
    let (out, _) = run(&mut perf(&folder, "all -n 1 --backend nccl --sizes 4K --iters 2 -w 0"), 0);
    assert_right(&out, 1);
}

#[test]
fn a_fake_nccl_that_says_done_and_does_nothing_is_found_out() {
    let folder = Folder::new();
    // Each of 250 elements, on each of two ranks, in each of two forms.
    let line = "all_reduce -n 2 --backend nccl --sizes 1000 --iters 1 -w 0";
    let mut idle = perf(&folder, line);
    idle.env("FAKE_NCCL_FAIL", "ncclAllReduce=0");
    let (out, _) = run(&mut idle, 1);
    assert_eq!(wrong(&rows(&out)[0]), ["500"; 2], "{out}");
    assert!(out.contains("# Out of bounds values : 1000 FAILED\n"), "{out}");
    let (out, _) = run(&mut perf(&folder, &format!("{line} --corrupt")), 1);
    assert_eq!(wrong(&rows(&out)[0]), ["2"; 2], "one element of each rank: {out}");
}

#[test]
fn without_a_gpu_every_rank_says_at_once_what_is_missing() {
    let folder = Folder::new();
    for line in ["--backend nccl", "--memory device", "--backend cpu --memory device"] {
        let begun = Instant::now();
        let mut command = perf(&folder, &format!("-n 2 --sizes 8 {line}"));
        let (out, output) = run(command.env("NCCL_RS_CUDA_LIB", "/none/libcuda.so.1"), 3);
        assert!(begun.elapsed() < SOON, "{line}: {:?}", begun.elapsed());
        assert!(out.contains("# FAILED: ") && rows(&out).is_empty(), "{line}: {}", both(&output));
        let err = String::from_utf8_lossy(&output.stderr);
        for rank in 0..2 {
            let said = format!("[rank {rank}] nccl perf: ");
            let own = err.lines().find(|line| line.starts_with(&said));
            assert!(own.is_some_and(|own| own.contains("on rank 0, 1: ")), "{line}: {err}");
        }
        assert!(err.contains("/none/libcuda.so.1") && err.contains("NCCL_RS_CUDA_LIB"), "{err}");
    }
}

#[test]
fn a_rank_without_a_fake_device_is_named_by_all() {
    let folder = Folder::new();
    let port = tests::faults::free_port().to_string();
    let ranks = ["0", "1", "2"].map(|rank| {
        let mut command = perf(&folder, "--memory device --backend cpu --sizes 8");
        command.envs([("RANK", rank), ("WORLD_SIZE", "3"), ("LOCAL_RANK", rank)]);
        command.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port)]);
        if rank == "1" {
            command.env("FAKE_CUDA_DEVICES", "0");
        }
        start(&mut command).unwrap()
    });
    for rank in ranks {
        let output = end(rank, "nccl perf");
        assert_eq!(output.status.code(), Some(3), "{}", both(&output));
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains("no device memory on rank 1: rank 1: "), "{err}");
    }
}

#[test]
fn a_row_of_calls_may_last_longer_than_the_timeout_of_one() {
    let folder = Folder::new();
    // Six calls of 0.3 s each, of which none may take longer than 1.5 s.
    let line = "all_reduce -n 2 --backend nccl --sizes 8 --iters 6 -w 0 -c 0 --in-place";
    let mut slow = perf(&folder, &format!("{line} --timeout 1.5"));
    let (out, _) = run(slow.env("FAKE_NCCL_DELAY_MS", "ncclAllReduce=300"), 0);
    let (time, p50): (f64, f64) =
        (rows(&out)[0][9].parse().unwrap(), rows(&out)[0][15].parse().unwrap());
    assert!(time >= 300e3 && p50 >= 300e3, "in microseconds: {out}");
}

#[test]
fn an_operation_that_hangs_in_the_fake_nccl_ends_by_the_timeout() {
    let folder = Folder::new();
    let begun = Instant::now();
    let line = "all_reduce -n 2 --backend nccl --sizes 8 --iters 5 --timeout 2";
    let (out, output) = run(perf(&folder, line).env("FAKE_NCCL_HANG", "ncclAllReduce@3"), 3);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(out.contains("# FAILED: "), "{}", both(&output));
}
