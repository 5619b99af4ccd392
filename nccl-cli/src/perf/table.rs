//! The tables for people: nccl-tests' columns, then what we have more.

use nccl::ReduceOp;

use crate::perf::args::Work;
use crate::perf::cell::Collective;
use crate::perf::gpu::DeviceInfo;
use crate::perf::matrix::World;
use crate::perf::memory::Memory;
use crate::perf::report::Measured;
use crate::perf::report::Row;
use crate::perf::report::Total;
use crate::perf::sizes;

/// What stands before the first table.
pub(crate) fn header(world: &World, work: &Work) -> String {
    let (n, hosts) = (world.ranks.len(), world.hosts());
    let mut text = format!(
        "# nccl perf {}: {n} rank{} on {hosts} host{}, backend {}, {} memory, {} processors here\n",
        env!("CARGO_PKG_VERSION"),
        plural(n),
        plural(hosts),
        world.backend,
        world.memory(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    for (name, library) in [("NCCL", &world.libraries.nccl), ("CUDA", &world.libraries.cuda)] {
        if let Some([version, file]) = library {
            text.push_str(&format!("# {name} {version} from {file}\n"));
        }
    }
    if world.is_beside_nccl() {
        text.push_str(
            "# note: NCCL carries nothing of what is on host memory, the CPU backend does\n",
        );
    }
    if !work.matrix_only {
        let effort = &work.effort;
        let iters = match effort.iters {
            Some(iters) => format!("{iters} iterations"),
            None => format!("{:?} of iterations", effort.budget),
        };
        let sizes = || work.cells.iter().filter(|cell| cell.collective != Collective::Barrier);
        let least = sizes().map(|cell| cell.asked_bytes).min().unwrap_or(0);
        let most = sizes().map(|cell| cell.asked_bytes).max().unwrap_or(0);
        text.push_str(&format!(
            "# {} to {}, {iters} a cell, validation {}\n",
            sizes::show(least),
            sizes::show(most),
            if work.check { "on" } else { "off" },
        ));
    }
    for note in &work.notes {
        text.push_str(&format!("# note: {note}\n"));
    }
    text.push_str("#\n# Using ranks\n");
    for (number, rank) in world.ranks.iter().enumerate() {
        text.push_str(&format!(
            "#  Rank {number:2} Pid {:>7} on {:>10} local rank {:>2}",
            rank.pid, rank.host, rank.local_rank
        ));
        if let Some(DeviceInfo { ordinal, pci, name }) = &rank.device {
            text.push_str(&format!(" device {ordinal:>2} [{pci}] {name}"));
        }
        text.push('\n');
    }
    format!("{text}#\n{}", world.matrix(work.matrix_only))
}

/// What stands above the rows of one collective.
pub(crate) fn title(collective: Collective) -> String {
    let lines = [
        ("", "", "", "", "", ["out-of-place", "in-place", "out-of-place", "in-place"], ""),
        (
            "size",
            "count",
            "type",
            "redop",
            "root",
            [TIMES[0], TIMES[0], SPREAD[0], SPREAD[0]],
            "algorithm",
        ),
        ("(B)", "(elements)", "", "", "", [TIMES[1], TIMES[1], SPREAD[1], SPREAD[1]], ""),
    ];
    let mut text = format!("#\n# {}\n", collective.name());
    for (size, count, dtype, op, root, [out, inside, more_out, more_in], algorithm) in lines {
        let line = format!(
            "#{size:>10} {count:>10} {dtype:>6} {op:>6} {root:>4} {out:>WIDTH$} {inside:>WIDTH$} \
             {more_out:>MORE$} {more_in:>MORE$}  {algorithm}"
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// nccl-tests' columns of one form.
const WIDTH: usize = 29;
const TIMES: [&str; 2] = ["time  algbw  busbw #wrong", "(us) (GB/s) (GB/s)       "];
/// Ours.
const MORE: usize = 17;
const SPREAD: [&str; 2] = ["p50      p99", "(us)     (us)"];

/// One line.
pub(crate) fn row(row: &Row) -> String {
    let cell = &row.cell;
    let [out, inside] = &row.forms;
    let root = cell.root.map_or_else(|| "-1".to_owned(), |root| root.to_string());
    let mut algorithms: Vec<&str> =
        row.forms.iter().flatten().map(|form| form.timing.algorithm).collect();
    algorithms.dedup();
    let line = format!(
        "{:>11} {:>10} {:>6} {:>6} {root:>4} {:>WIDTH$} {:>WIDTH$} {:>MORE$} {:>MORE$}  {}",
        cell.bytes(),
        cell.count(),
        cell.dtype.name(),
        cell.op.map_or("none", ReduceOp::name),
        times(row, out.as_ref()),
        times(row, inside.as_ref()),
        spread(out.as_ref()),
        spread(inside.as_ref()),
        algorithms.join("/"),
    );
    format!("{}\n", line.trim_end())
}

/// Why forms are N/A: one line each, or one for both, if that was not said of the row before
/// already.
pub(crate) fn refusals(row: &Row, before: Option<&Row>) -> String {
    let line = |form: &str, why: &str| format!("#   N/A{form}: {}\n", why.replace('\n', " "));
    if before.is_some_and(|before| before.refusals == row.refusals) {
        return String::new();
    }
    match &row.refusals {
        [None, None] => String::new(),
        [Some(out), Some(inside)] if out == inside => line("", out),
        [out, inside] => {
            let of = |form, why: &Option<String>| why.as_ref().map(|why| line(form, why));
            let lines = [of(" out of place", out), of(" in place", inside)];
            lines.into_iter().flatten().collect()
        }
    }
}

/// Time, bandwidths and wrong elements of one form, of the mean as in nccl-tests.
fn times(row: &Row, form: Option<&Measured>) -> String {
    let Some(Measured { timing, wrong }) = form else {
        return format!("{:>8} {:>6} {:>6} {:>6}", "N/A", "N/A", "N/A", "N/A");
    };
    let wrong = wrong.map_or_else(|| "N/A".to_owned(), |wrong| wrong.to_string());
    let (algbw, busbw) = (row.algbw(timing.avg_us), row.busbw(timing.avg_us));
    format!("{:>8} {algbw:>6.2} {busbw:>6.2} {wrong:>6}", time(timing.avg_us))
}

/// Median and 99th percentile.
fn spread(form: Option<&Measured>) -> String {
    let Some(Measured { timing, .. }) = form else {
        return format!("{:>8} {:>8}", "N/A", "N/A");
    };
    format!("{:>8} {:>8}", time(timing.median_us), time(timing.p99_us))
}

/// Microseconds with as many digits as mean something.
fn time(micros: f64) -> String {
    match micros {
        ..100.0 => format!("{micros:.2}"),
        ..10_000.0 => format!("{micros:.1}"),
        _ => format!("{micros:.0}"),
    }
}

/// What the columns mean, of host memory and of device memory.
const LEGENDS: [&str; 2] = [
    "\
#
# time, algbw, busbw: the mean, as in nccl-tests; p50, p99: of the iterations, each as long as on its
# slowest rank; GB = 1e9 bytes
",
    "\
#
# time, algbw, busbw: the mean of calls enqueued in a row, as in nccl-tests; p50, p99: of calls that
# are each waited for, as long as on the slowest rank, launch included; GB = 1e9 bytes
",
];

/// What stands after the last table.
pub(crate) fn footer(
    total: &Total,
    memory: Memory,
    is_empty: bool,
    failure: Option<&str>,
) -> String {
    let mut text = String::new();
    if !is_empty {
        text.push_str(LEGENDS[usize::from(memory == Memory::Device)]);
        match total.wrong {
            Some(wrong) => {
                let verdict = if wrong == 0 { "OK" } else { "FAILED" };
                text.push_str(&format!("# Out of bounds values : {wrong} {verdict}\n"));
            }
            None => text.push_str("# Out of bounds values : not checked\n"),
        }
        text.push_str(&format!("# Avg bus bandwidth    : {:.4}\n#\n", total.average_busbw()));
    }
    if let Some(failure) = failure {
        text.push_str(&format!("# FAILED: {}\n", failure.replace('\n', "\n#   ")));
    }
    text
}

fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
