//! cudarc's contexts, streams and buffers in a group.

use cudarc::driver::CudaContext;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;
use tests::processes::Rank;

use crate::stream;
use crate::world::How;
use crate::world::World;

pub(crate) const CASES: [(&str, Rank); 1] = [("cudarc", slices)];

#[test]
fn slices_and_views_of_cudarc_are_summed_on_the_gpu() {
    for (how, size) in [(How::Threads, 2), (How::Processes, 2)] {
        for backend in ["nccl", "cpu"] {
            let Some(world) = World::new(how, size) else { return };
            let texts = world.with("NCCL_RS_BACKEND", backend).run("cudarc");
            assert!(texts.iter().all(|text| text == backend), "{texts:?}");
        }
    }
}

/// On a stream of its own and on the default one; whole slices and views.
fn slices(group: ProcessGroup) -> Result<String> {
    let (rank, size) = (group.rank(), group.world_size());
    let ordinal = stream(&group)?.device().ordinal();
    let context = CudaContext::new(ordinal).unwrap();
    let own = context.new_stream().unwrap();
    for stream in [own, context.per_thread_stream()] {
        let mine: Vec<f32> = (0..100).map(|at| (rank + at) as f32).collect();
        let sum: Vec<f32> =
            (0..100).map(|at| (0..size).map(|rank| (rank + at) as f32).sum()).collect();
        let send = stream.clone_htod(&mine).unwrap();
        let mut recv = stream.alloc_zeros::<f32>(100).unwrap();
        group.on(&stream).all_reduce(&send, &mut recv, ReduceOp::Sum)?;
        assert_eq!(stream.clone_dtoh(&recv).unwrap(), sum);
        let mut part = recv.slice_mut(10..20);
        group.on(&*stream).broadcast(&mut part, size - 1)?;
        group.on(&stream).all_reduce(
            &send.slice(..10),
            &mut recv.slice_mut(10..20),
            ReduceOp::Max,
        )?;
        let got = stream.clone_dtoh(&recv).unwrap();
        let max: Vec<f32> = (0..10).map(|at| (size - 1 + at) as f32).collect();
        assert_eq!(got[10..20], max);
        assert_eq!((&got[..10], &got[20..]), (&sum[..10], &sum[20..]));

        let ones = vec![1_i64; 64];
        let mut ones = stream.clone_htod(&ones).unwrap();
        group.on(&stream).all_reduce_in_place(&mut ones, ReduceOp::Sum)?;
        let all = stream.clone_dtoh(&ones).unwrap();
        assert_eq!(all, vec![i64::try_from(size).unwrap(); 64]);
    }
    let name = group.backend_name().to_owned();
    group.finalize()?;
    Ok(name)
}
