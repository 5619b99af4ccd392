//! Subgroups: the ranks form a mesh of rows and columns, and each row and column is a group.
//!
//! Run `nccl run -n 6 --example subgroups`; it prints
//!
//! ```text
//! [rank 0] a mesh of 2 rows and 3 columns
//! [rank 0] rank 0: row 0 = [0, 1, 2], its sum 3; column 0 = [0, 3], its sum 3
//! [rank 0] rank 1: row 0 = [0, 1, 2], its sum 3; column 1 = [1, 4], its sum 5
//! [rank 0] rank 2: row 0 = [0, 1, 2], its sum 3; column 2 = [2, 5], its sum 7
//! [rank 0] rank 3: row 1 = [3, 4, 5], its sum 12; column 0 = [0, 3], its sum 3
//! [rank 0] rank 4: row 1 = [3, 4, 5], its sum 12; column 1 = [1, 4], its sum 5
//! [rank 0] rank 5: row 1 = [3, 4, 5], its sum 12; column 2 = [2, 5], its sum 7
//! ```
//!
//! In a training job rows would be tensor-parallel groups, say, and columns data-parallel ones.

use std::error::Error;

use examples::print_in_rank_order;
use nccl::ProcessGroup;
use nccl::ReduceOp;

fn main() -> Result<(), Box<dyn Error>> {
    let world = ProcessGroup::from_env()?;
    let rows = rows(world.world_size());
    let columns = world.world_size() / rows;
    let (row, column) = (world.rank() / columns, world.rank() % columns);
    if world.rank() == 0 {
        println!("a mesh of {rows} rows and {columns} columns");
    }

    // Every rank calls both; those of the same color form a group, in the order of the world.
    let row_group = world.split(Some(u32::try_from(row)?), 0)?.ok_or("every rank has a row")?;
    let column_group =
        world.split(Some(u32::try_from(column)?), 0)?.ok_or("every rank has a column")?;

    let line = format!(
        "rank {}: row {row} = {:?}, its sum {}; column {column} = {:?}, its sum {}",
        world.rank(),
        row_group.world_ranks(),
        sum_of_ranks(&row_group, &world)?,
        column_group.world_ranks(),
        sum_of_ranks(&column_group, &world)?,
    );
    print_in_rank_order(&world, &line)?;
    Ok(world.finalize()?)
}

/// Sums the world ranks of a group's members, each of whom knows its own.
fn sum_of_ranks(group: &ProcessGroup, world: &ProcessGroup) -> nccl::Result<u64> {
    let mut sum = [world.rank() as u64];
    group.all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
    Ok(sum[0])
}

/// The largest divisor that is not above the square root.
fn rows(world_size: usize) -> usize {
    (1..=world_size)
        .take_while(|rows| rows * rows <= world_size)
        .filter(|rows| world_size.is_multiple_of(*rows))
        .last()
        .unwrap_or(1)
}
