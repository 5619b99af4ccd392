//! Runs `nccl perf` of the built binary and reads what it reports.
//!
//! Every wait is bounded by the ranks' own timeouts and by `LIMIT`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use common::text;

const LIMIT: Duration = Duration::from_secs(40);

const COLLECTIVES: [&str; 10] = [
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "reduce",
    "gather",
    "scatter",
    "sendrecv",
    "barrier",
];

/// `nccl` with these arguments, cut at spaces, outside of any launch.
fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nccl"));
    command.args(line.split_whitespace());
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "NCCL_RS_TRANSPORT", "NCCL_RS_BACKEND"] {
        command.env_remove(name);
    }
    command.env("NCCL_RS_TIMEOUT_MS", "20000").env("NCCL_RS_INIT_TIMEOUT_MS", "20000");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads both streams and waits, or kills it and fails.
fn finish(child: Child) -> Output {
    common::finish_within(LIMIT, child)
}

/// Runs it, asserts the exit code, and returns what it printed on its two streams.
#[track_caller]
fn run(line: &str, code: i32) -> (String, String) {
    let output = finish(command(line).spawn().unwrap());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}\n{out}\n{err}");
    (out, err)
}

/// The rows of the tables, in words, by collective.
fn rows(table: &str) -> Vec<(&str, Vec<&str>)> {
    let mut title = "";
    let mut rows = Vec::new();
    for line in table.lines() {
        let name = line.trim_start_matches("# ");
        if COLLECTIVES.contains(&name) {
            title = name;
        } else if !line.starts_with('#') {
            rows.push((title, line.split_whitespace().collect()));
        }
    }
    rows
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

#[test]
fn every_collective_is_right_on_three_ranks() {
    let (out, err) = run("perf all -n 3 --sizes 4,1000,100K --iters 3 -w 1", 0);
    let rows = rows(&out);
    assert_eq!(rows.len(), 9 * 3 + 1, "{out}");
    for (collective, words) in &rows {
        assert_eq!(words.len(), 18, "{collective}: {words:?}");
        let wrong = [words[8], words[12]];
        assert!(wrong.contains(&"0"), "{collective}: {words:?}");
        assert!(wrong.iter().all(|one| ["0", "N/A"].contains(one)), "{collective}: {words:?}");
        let time = if words[5] == "N/A" { words[9] } else { words[5] };
        assert!(time.parse::<f64>().unwrap() > 0.0, "{words:?}");
    }
    // What 4, 1000 and 102400 bytes come to: whole elements, the same for each of three ranks.
    let sizes = |of: &str| -> Vec<&str> {
        rows.iter().filter(|(name, _)| *name == of).map(|(_, words)| words[0]).collect()
    };
    assert_eq!(sizes("all_reduce"), ["4", "1000", "102400"]);
    assert_eq!(sizes("all_gather"), ["12", "996", "102396"]);
    assert_eq!(sizes("barrier"), ["0"]);
    assert!(out.contains("# Out of bounds values : 0 OK\n"), "{out}");
    assert!(out.contains("# Avg bus bandwidth    : "), "{out}");
    assert!(out.starts_with("# nccl perf "), "{out}");
    for rank in 0..3 {
        assert!(out.contains(&format!("#  Rank  {rank} Pid ")), "{out}");
    }
    assert!(out.contains("(6 of the pairs)"), "{out}");
    assert_eq!(err, "");
}

#[test]
fn every_type_and_reduction_is_right_on_three_ranks() {
    let (out, _) = run(
        "perf all_reduce reduce_scatter reduce -n 3 -d all -o all --sizes 120 --iters 1 -w 0 --json -",
        0,
    );
    let document = json(&out);
    assert_eq!(document["out_of_bounds"]["count"], 0);
    let rows = document["rows"].as_array().unwrap();
    let mut of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        assert_eq!(row["wrong"], 0, "{row}");
        assert_eq!(row["ranks"], 3);
        of.entry(row["dtype"].as_str().unwrap()).or_default().insert(row["op"].as_str().unwrap());
    }
    assert_eq!(of.len(), 12);
    assert_eq!(of["u8"].len(), 8, "all but mulsum: {of:?}");
    assert_eq!(of["f8e5m2"].len(), 6, "all but three of bits: {of:?}");
    assert_eq!(rows.len(), (6 * 8 + 6 * 6) * 3 * 2);
    assert_eq!(document["header"]["notes"].as_array().unwrap().len(), 4);
}

#[test]
fn every_type_is_moved_right_from_every_root_over_tcp() {
    let (out, _) = run(
        "perf all -n 3 -d i8,u64,bf16,f8e4m3 -r all --sizes 1001 --iters 1 -w 0 --json - --transport tcp",
        0,
    );
    let document = json(&out);
    assert_eq!(document["out_of_bounds"]["count"], 0);
    assert_eq!(document["header"]["transport"], "tcp");
    let rows = document["rows"].as_array().unwrap();
    let roots = |collective: &str| -> Vec<u64> {
        let of = rows.iter().filter(|row| row["collective"] == collective && row["dtype"] == "i8");
        of.map(|row| row["root"].as_u64().unwrap()).collect()
    };
    for rooted in ["broadcast", "gather", "scatter"] {
        assert_eq!(roots(rooted), [0, 1, 2], "{rooted}");
    }
    assert!(rows.iter().all(|row| row["transport"] == "tcp"));
}

#[test]
fn a_wrong_element_is_found_on_every_rank_and_is_the_exit_code() {
    for ranks in ["-n 3", "-n 3 --threads"] {
        let (out, err) = run(&format!("perf all {ranks} --sizes 64 --iters 1 --corrupt"), 1);
        for (collective, words) in rows(&out) {
            let forms = [words[8], words[12]];
            let expected = match collective {
                "barrier" => ["0", "N/A"], // nothing comes out of it
                "broadcast" => ["N/A", "3"],
                "reduce" => ["1", "1"],
                "gather" => ["1", "N/A"],
                "scatter" | "sendrecv" => ["3", "N/A"],
                _ => ["3", "3"],
            };
            assert_eq!(forms, expected, "{collective}: {out}");
        }
        assert!(out.contains("# Out of bounds values : 36 FAILED\n"), "{out}");
        assert_eq!(err, "", "a result is no failure of a rank");
    }
    let (out, _) = run("perf -n 2 --sizes 64 --iters 1 --corrupt -c 0", 0);
    assert!(out.contains("# Out of bounds values : not checked\n"), "{out}");
}

#[test]
fn the_csv_has_the_columns_of_the_other_benchmarks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    let line = format!("perf all -n 2 --sizes 4,1K --iters 5 --csv {} --peer me", path.display());
    let (out, _) = run(&line, 0);
    assert!(out.contains("# all_reduce\n"), "the table is there as well: {out}");
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "peer,transport,collective,bytes,ranks,median_us,p99_us,busbw_GBps,dtype,avg_us,iters"
    );
    let mut seen = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 11, "{line}");
        assert_eq!(
            [fields[0], fields[1], fields[4], fields[8], fields[10]],
            ["me", "shm", "2", "f32", "5"]
        );
        let [median, p99, busbw, avg] = [5, 6, 7, 9].map(|at| fields[at].parse::<f64>().unwrap());
        assert!(median > 0.0 && p99 >= median && avg > 0.0, "{line}");
        if fields[2] == "all_reduce" {
            // Factor 2 (n - 1) / n is 1; of printed numbers, so with their rounding.
            let bytes: f64 = fields[3].parse().unwrap();
            assert!((busbw - bytes / median / 1e3).abs() < 1e-4 + busbw * 0.01, "{line}");
        }
        seen.push((fields[2].to_owned(), fields[3].to_owned()));
    }
    assert_eq!(seen.len(), 9 * 2 + 1);
    assert!(seen.contains(&("sendrecv".to_owned(), "1024".to_owned())));
    assert_eq!(seen.last().unwrap(), &("barrier".to_owned(), "0".to_owned()));
}

#[test]
fn the_json_has_its_fields_and_formulas() {
    let (out, _) = run("perf all_gather -n 4 --threads --sizes 64K --iters 5 --json -", 0);
    let document = json(&out);
    let header = &document["header"];
    assert_eq!((&header["world_size"], &header["backend"]), (&Value::from(4), &Value::from("cpu")));
    assert_eq!(header["transport"], "local");
    assert_eq!(header["ranks"].as_array().unwrap().len(), 4);
    assert_eq!(header["ranks"][1]["links"][0], "P2P/direct pointer");
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, in_place) in rows.iter().zip([false, true]) {
        assert_eq!(row["collective"], "all_gather");
        assert_eq!((&row["bytes"], &row["count"]), (&Value::from(65536), &Value::from(4096)));
        assert_eq!(
            (&row["dtype"], &row["op"], &row["root"]),
            (&Value::from("f32"), &Value::Null, &Value::Null)
        );
        assert_eq!((&row["wrong"], &row["in_place"]), (&Value::from(0), &Value::from(in_place)));
        assert!(!row["algorithm"].as_str().unwrap().is_empty());
        let number = |name: &str| row[name].as_f64().unwrap();
        let algbw = 65536.0 / number("median_us") / 1e3;
        assert!((number("algbw_GBps") - algbw).abs() < 1e-9 * algbw);
        assert!((number("busbw_GBps") - algbw * 0.75).abs() < 1e-9 * algbw);
        assert!(number("p99_us") >= number("median_us"));
    }
    assert_eq!(document["error"], Value::Null);
}

#[test]
fn the_plot_is_well_formed_and_has_a_line_a_collective() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.svg");
    let line = format!("perf all -n 2 --sizes 64,4K,64K --iters 3 --plot {}", path.display());
    run(&line, 0);
    let svg = fs::read_to_string(path).unwrap();
    let names = elements(&svg);
    assert_eq!(names.first().map(String::as_str), Some("svg"));
    let number = |name: &str| names.iter().filter(|one| *one == name).count();
    assert_eq!(number("polyline"), 2 * 9, "barrier has no size");
    assert_eq!(number("circle"), 2 * 9 * 3);
    for text in ["all_reduce", "sendrecv", "Bus bandwidth (GB/s", "Latency (µs", "Size (bytes)"] {
        assert!(svg.contains(&format!(">{text}")), "{text}");
    }
    for bad in ["NaN", "inf", "barrier"] {
        assert!(!svg.contains(bad), "{bad}");
    }
}

/// Reads XML without comments or declarations; the names of its elements. Panics at what is not
/// well-formed: tags that do not nest, attributes without quotes, bare `<` and `&`.
fn elements(xml: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        assert!(open.last().is_some() || text.trim().is_empty(), "text outside: {text:?}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|one| entity.starts_with(one)));
        }
        let (tag, after) = tag[1..].split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let closed = tag.ends_with('/');
        attributes = attributes.trim_end_matches('/').trim();
        while !attributes.is_empty() {
            let (key, value) = attributes.split_once("=\"").unwrap();
            assert!(!key.is_empty() && !key.contains(['"', ' ']), "{tag}");
            let (_, more) = value.split_once('"').unwrap();
            attributes = more.trim_start();
        }
        names.push(name.to_owned());
        if !closed {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    names
}

#[test]
fn it_joins_the_ranks_of_a_launch() {
    let binary = env!("CARGO_BIN_EXE_nccl");
    let (out, err) = run(
        &format!("run -n 2 --no-tag-output -- {binary} perf sendrecv --sizes 8 --iters 3 --csv -"),
        0,
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "only rank 0 reports: {out} {err}");
    assert!(lines[1].starts_with("nccl-rs,shm,sendrecv,8,2,"), "{out}");
    // A wrong result is the exit code there too.
    run(&format!("run -n 2 -- {binary} perf --sizes 8 --iters 1 --corrupt"), 1);
    // -n may repeat the size of the launch, and nothing else.
    run(&format!("run -n 2 -- {binary} perf -n 2 --sizes 8 --iters 1"), 0);
    let (_, err) = run(&format!("run -n 2 -- {binary} perf -n 3 --sizes 8"), 2);
    assert!(err.contains("-n 3: this process is rank 0 of 2, started by"), "{err}");
}

#[test]
fn one_rank_alone_is_a_world_too() {
    let (out, _) = run("perf all -n 1 --sizes 64 --iters 2", 0);
    assert_eq!(rows(&out).len(), 10);
    assert!(out.contains("# Out of bounds values : 0 OK\n"), "{out}");
}

#[test]
fn the_matrix_alone_measures_nothing() {
    let (out, _) = run("perf -n 3 --matrix", 0);
    assert!(out.contains("\n#      1   A   .   A\n"), "{out}");
    assert!(rows(&out).is_empty() && !out.contains("bandwidth"), "{out}");
}

#[test]
fn a_rank_that_fails_is_named_and_the_exit_code_is_not_zero() {
    let (out, err) =
        run("perf -n 2 --transport tcp --sizes 16M --iters 5 -c 0 --timeout 0.0005", 3);
    assert!(out.contains("# FAILED: "), "{out} {err}");
    assert!(err.contains("failed first"), "{err}");
}

#[test]
fn wrong_arguments_are_refused_before_any_rank_is_started() {
    for (line, said) in [
        ("perf all_sum", "\"all_sum\" is no collective; there are all_reduce"),
        ("perf -n 2 -b 8 -e 4", "-b 8 is larger than -e 4"),
        ("perf -n 2 -r 2", "-r 2 is not one of the 2 ranks, 0 to 1"),
        ("perf -o band", "-o band exists for integers only, not for f32"),
        ("perf -d f12", "-d \"f12\" is no type; there are i8"),
        ("perf --sizes 8Q", "not a size"),
        ("perf -n 0", "0 is not in 1..="),
        ("perf -n 2 --json - --csv -", "cannot both be standard output"),
    ] {
        let (out, err) = run(line, 2);
        assert!(err.contains(said) && out.is_empty(), "{line}: {out} {err}");
    }
    let (_, err) = run("perf -n 2 --csv /no/such/folder/x.csv", 3);
    assert!(err.contains("--csv /no/such/folder/x.csv: cannot write"), "{err}");
}
