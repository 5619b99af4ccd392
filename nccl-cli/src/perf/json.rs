//! The results as JSON.

use serde_json::Value;
use serde_json::json;

use crate::perf::args::Work;
use crate::perf::gpu::DeviceInfo;
use crate::perf::matrix::World;
use crate::perf::report::Measured;
use crate::perf::report::Row;
use crate::perf::report::Total;

/// Who took part and how it was measured.
pub(crate) fn header(world: &World, work: &Work) -> Value {
    let ranks: Vec<Value> = world
        .ranks
        .iter()
        .enumerate()
        .map(|(number, rank)| {
            json!({
                "rank": number,
                "host": rank.host,
                "pid": rank.pid.parse::<u64>().ok(),
                "local_rank": rank.local_rank.parse::<u64>().ok(),
                "device": rank.device.as_ref().map(device),
                "links": rank.links,
            })
        })
        .collect();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "backend": world.backend,
        "memory": world.memory().to_string(),
        "nccl": library(world.libraries.nccl.as_ref()),
        "cuda": library(world.libraries.cuda.as_ref()),
        "transport": world.transport(),
        "start_unix_s": since.map_or(0.0, |since| since.as_secs_f64()),
        "args": std::env::args().skip(1).filter(|arg| arg != "--joined").collect::<Vec<_>>(),
        "world_size": world.ranks.len(),
        "hosts": world.hosts(),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "budget_s": work.effort.budget.as_secs_f64(),
        "iters": work.effort.iters,
        "warmup": work.effort.warmup,
        "check": work.check,
        "notes": work.notes,
        "ranks": ranks,
    })
}

fn device(device: &DeviceInfo) -> Value {
    json!({
        "ordinal": device.ordinal.parse::<u64>().ok(),
        "pci": device.pci,
        "name": device.name,
    })
}

fn library(library: Option<&[String; 2]>) -> Value {
    library.map_or(Value::Null, |[version, file]| json!({ "version": version, "file": file }))
}

/// The forms that the backend has not, and why.
fn refusals(row: &Row) -> impl Iterator<Item = Value> + '_ {
    let refused = row.refusals.iter().zip([false, true]);
    refused.filter_map(|(why, in_place)| {
        let (cell, why) = (&row.cell, why.as_ref()?);
        Some(json!({
            "collective": cell.collective.name(),
            "bytes": cell.bytes(),
            "dtype": cell.dtype.name(),
            "op": cell.op.map(nccl::ReduceOp::name),
            "root": cell.root,
            "in_place": in_place,
            "why": why,
        }))
    })
}

/// All of it.
pub(crate) fn document(
    header: Value,
    rows: &[Row],
    total: &Total,
    transport: &str,
    failure: Option<&str>,
) -> String {
    let refused: Vec<Value> = rows.iter().flat_map(refusals).collect();
    let rows: Vec<Value> = rows
        .iter()
        .flat_map(|one| {
            let forms = one.forms.iter().zip([false, true]);
            forms.filter_map(|(form, in_place)| {
                form.as_ref().map(|form| row(one, form, in_place, transport))
            })
        })
        .collect();
    let document = json!({
        "header": header,
        "rows": rows,
        "not_available": refused,
        "out_of_bounds": { "count": total.wrong, "okay": total.wrong.is_none_or(|wrong| wrong == 0) },
        "average_bus_bandwidth_GBps": total.average_busbw(),
        "error": failure,
    });
    format!("{document:#}\n")
}

fn row(row: &Row, form: &Measured, in_place: bool, transport: &str) -> Value {
    let (cell, timing) = (&row.cell, &form.timing);
    json!({
        "collective": cell.collective.name(),
        "bytes": cell.bytes(),
        "asked_bytes": cell.asked_bytes,
        "count": cell.count(),
        "dtype": cell.dtype.name(),
        "op": cell.op.map(nccl::ReduceOp::name),
        "root": cell.root,
        "ranks": cell.world_size,
        "in_place": in_place,
        "transport": transport,
        "algorithm": timing.algorithm,
        "iters": timing.iters,
        "median_us": timing.median_us,
        "p99_us": timing.p99_us,
        "avg_us": timing.avg_us,
        "algbw_GBps": row.algbw(timing.median_us),
        "busbw_GBps": row.busbw(timing.median_us),
        "wrong": form.wrong,
    })
}
