//! Takes the time of one form of one cell: every iteration on every rank, back to back.

use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

use crate::perf::cell::Cell;
use crate::perf::cell::Collective;

/// No more iterations than this, however short they are.
const MOST_ITERATIONS: u64 = 20_000;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Exactly so many iterations, whatever the budget.
    pub(crate) iters: Option<u64>,
    /// Exactly so many iterations before.
    pub(crate) warmup: Option<u64>,
    /// Time for the measured iterations of one cell.
    pub(crate) budget: Duration,
}

/// What was measured; an iteration's time is the longest of all ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timing {
    /// Iterations.
    pub(crate) iters: u64,
    /// Half are faster.
    pub(crate) median_us: f64,
    /// 99 of 100 are faster.
    pub(crate) p99_us: f64,
    /// Time of all on the slowest rank, by their number.
    pub(crate) avg_us: f64,
    /// How the library did it.
    pub(crate) algorithm: &'static str,
}

/// Runs and times `once`; the same on all ranks.
///
/// # Errors
/// Those of the group.
pub(crate) fn time(
    group: &ProcessGroup,
    cell: &Cell,
    effort: &Effort,
    mut once: impl FnMut() -> Result<()>,
) -> Result<Timing> {
    let iters = warm_up(group, cell, effort, &mut once)?;
    group.barrier()?;
    let mut times = Vec::with_capacity(usize::try_from(iters).unwrap_or(0));
    let begun = Instant::now();
    let mut before = begun;
    for _ in 0..iters {
        once()?;
        let now = Instant::now();
        times.push((now - before).as_secs_f64());
        before = now;
    }
    let algorithm = match cell.collective {
        Collective::SendRecv => "p2p",
        _ => group.last_algorithm(),
    };
    let mut all = [(before - begun).as_secs_f64()];
    if cell.is_ping_pong() && group.rank() != 0 {
        times.fill(0.0); // a round trip begins and ends on rank 0
    }
    group.all_reduce_in_place(&mut times, ReduceOp::Max)?;
    group.all_reduce_in_place(&mut all, ReduceOp::Max)?;
    let scale = if cell.is_ping_pong() { 0.5e6 } else { 1e6 };
    Ok(Timing {
        iters,
        algorithm,
        avg_us: all[0] / iters.max(1) as f64 * scale,
        median_us: percentile(&mut times, 50) * scale,
        p99_us: percentile(&mut times, 99) * scale,
    })
}

/// As [`time`], of operations on a stream: `once` enqueues one, `settle` waits for all.
///
/// Median and p99 are of operations that are each waited for; the mean is of as many that are
/// enqueued one behind the other, and waited for at the end.
///
/// # Errors
/// Those of the group and of the driver.
pub(crate) fn time_enqueued(
    group: &ProcessGroup,
    cell: &Cell,
    effort: &Effort,
    mut once: impl FnMut(&ProcessGroup) -> Result<()>,
    settle: impl Fn(&ProcessGroup) -> Result<()>,
) -> Result<Timing> {
    let each = time(group, cell, effort, || {
        once(group)?;
        settle(group)
    })?;
    let round_trips = if cell.is_ping_pong() { 2.0 } else { 1.0 };
    // The timeout is of one operation, and the last of the row waits for all others: which takes
    // about as long as it took before.
    let before = each.avg_us * each.iters as f64 * round_trips / 1e6;
    let more = Duration::try_from_secs_f64(2.0 * before).unwrap_or_default();
    let patient = group.with_timeout(group.timeout().saturating_add(more));
    group.barrier()?;
    let begun = Instant::now();
    for _ in 0..each.iters {
        once(&patient)?;
    }
    settle(&patient)?;
    let mut seconds = [begun.elapsed().as_secs_f64()];
    group.all_reduce_in_place(&mut seconds, ReduceOp::Max)?;
    let avg_us = seconds[0] / each.iters.max(1) as f64 * 1e6 / round_trips;
    Ok(Timing { avg_us, ..each })
}

/// Runs what is not counted, and decides how many iterations are; the same number on all ranks.
fn warm_up(
    group: &ProcessGroup,
    cell: &Cell,
    effort: &Effort,
    once: &mut impl FnMut() -> Result<()>,
) -> Result<u64> {
    const FEW: u64 = 5;
    let mut best = Duration::MAX;
    let mut run = |times: u64| -> Result<Duration> {
        for _ in 0..times {
            let begun = Instant::now();
            once()?;
            best = best.min(begun.elapsed());
        }
        Ok(best)
    };
    let fastest = run(effort.warmup.unwrap_or(FEW))?;
    let mut nanos = [u64::try_from(fastest.as_nanos()).unwrap_or(u64::MAX).max(100)];
    group.all_reduce_in_place(&mut nanos, ReduceOp::Max)?;
    if effort.warmup.is_none() {
        let fits = nanos_of(effort.budget) / 5 / nanos[0];
        run(fits.min(warm_enough(cell.bytes())))?;
    }
    let least = if cell.bytes() >= 1 << 27 { 3 } else { 7 };
    // Without any warm-up nothing is known yet of how long one takes.
    let fits = if nanos[0] == u64::MAX { least } else { nanos_of(effort.budget) / nanos[0] };
    Ok(effort.iters.unwrap_or_else(|| fits.clamp(least, MOST_ITERATIONS)))
}

/// Iterations after which caches, pages and frequencies are as they stay.
fn warm_enough(bytes: usize) -> u64 {
    match bytes {
        0..0x10_0000 => 100,
        0x10_0000..0x100_0000 => 20,
        0x100_0000..0x400_0000 => 3,
        _ => 1,
    }
}

fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time that `percent` of all are not above; of the median, the upper of two.
fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    let last = times.len().saturating_sub(1);
    let at = if percent == 50 { times.len() / 2 } else { last * percent / 100 };
    times.get(at).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_benchmark_we_compare_with() {
        let mut times: Vec<f64> = (0..200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut times, 50), 100.0);
        assert_eq!(percentile(&mut times, 99), 197.0);
        assert_eq!(percentile(&mut [3.0], 99), 3.0);
        assert_eq!(percentile(&mut [], 50), 0.0);
    }
}
