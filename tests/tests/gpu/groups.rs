//! Subgroups, and what one group does beside another.

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use nccl::cuda::DeviceVec;
use tests::processes::Rank;

use crate::PATIENCE;
use crate::stream;
use crate::together;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 1] = [("subgroups", subgroups)];

#[test]
fn subgroups_on_the_gpu_have_communicators_of_their_own() {
    let Some(world) = World::new(How::Threads, 4) else { return };
    assert_eq!(world.run("subgroups"), ["8", "10", "8", "10"]);
    let Some(world) = World::new(How::Processes, 2) else { return };
    assert_eq!(world.run("subgroups"), ["3", "4"]);
}

/// Sums in subgroups of even and odd ranks, and a gather in the world reversed.
fn subgroups(group: ProcessGroup) -> Result<String> {
    let stream = stream(&group)?;
    let size = group.world_size();
    let color = u32::try_from(group.rank() % 2).unwrap();
    let half = group.split(Some(color), 0)?.unwrap();
    let value = |value: usize| DeviceVec::from_slice(&stream, &[value as f32], PATIENCE);
    let mut sum = value(group.rank() + 3)?;
    let mut world = value(1)?;
    together(&group, &stream, || {
        half.on(&stream).all_reduce_in_place(&mut sum, ReduceOp::Sum)?;
        group.on(&stream).all_reduce_in_place(&mut world, ReduceOp::Sum)
    })?;
    let half_sum = sum.to_vec(&stream, PATIENCE)?[0];
    assert_eq!(world.to_vec(&stream, PATIENCE)?, [size as f32]);
    let reversed = group.split(Some(0), -i64::try_from(group.rank()).unwrap())?.unwrap();
    let mut all = DeviceVec::from_slice(&stream, &vec![0.0_f32; size], PATIENCE)?;
    let mine = value(group.rank())?;
    together(&group, &stream, || reversed.on(&stream).all_gather(&mine, &mut all))?;
    let expected: Vec<f32> = (0..size).rev().map(|rank| rank as f32).collect();
    assert_eq!(all.to_vec(&stream, PATIENCE)?, expected);
    reversed.finalize()?;
    half.finalize()?;
    group.finalize()?;
    Ok(half_sum.to_string())
}
