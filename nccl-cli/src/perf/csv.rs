//! Rows for comparison with other libraries: one line a cell, the same columns for all of them.

use crate::perf::report::Row;

/// The first line.
pub(crate) const HEADER: &str =
    "peer,transport,collective,bytes,ranks,median_us,p99_us,busbw_GBps,dtype,avg_us,iters\n";

/// One line; empty if nothing was measured. `bytes` is the size asked for, the same for all
/// libraries, whatever each rounds it to.
pub(crate) fn row(row: &Row, peer: &str, transport: &str) -> String {
    let Some(form) = row.chosen() else { return String::new() };
    let (cell, timing) = (&row.cell, &form.timing);
    format!(
        "{},{transport},{},{},{},{:.3},{:.3},{:.4},{},{:.3},{}\n",
        field(peer),
        cell.collective.name(),
        cell.asked_bytes,
        cell.world_size,
        timing.median_us,
        timing.p99_us,
        row.busbw(timing.median_us),
        cell.dtype.name(),
        timing.avg_us,
        timing.iters,
    )
}

/// Quoted where the text would break the line.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_break_the_line_is_quoted() {
        assert_eq!(field("nccl-rs"), "nccl-rs");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("a\"b"), "\"a\"\"b\"");
    }
}
