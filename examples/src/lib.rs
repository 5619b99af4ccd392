//! What the example programs share; the programs are in `src/bin`, their catalogue in README.md.

use nccl::ProcessGroup;
use nccl::Result;

/// Prints one line per rank, in rank order, on rank 0's standard output.
///
/// Ranks that print by themselves do so in any order; this way the output is always the same.
///
/// # Errors
/// Those of the group.
pub fn print_in_rank_order(group: &ProcessGroup, line: &str) -> Result<()> {
    let lines = group.gather_bytes(line.as_bytes(), 0)?;
    for line in lines.unwrap_or_default() {
        println!("{}", String::from_utf8_lossy(&line));
    }
    Ok(())
}

/// The part of `0..count` that belongs to this rank: as equal as can be, in rank order.
#[must_use]
pub fn part(group: &ProcessGroup, count: usize) -> core::ops::Range<usize> {
    let start = |rank: usize| rank * count / group.world_size();
    start(group.rank())..start(group.rank() + 1)
}

// The program in the repository's README is compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
