//! Calls the library for one cell, on device memory.

use nccl::Element;
use nccl::ProcessGroup;
use nccl::Result;
use nccl::cuda::DeviceSlice;
use nccl::cuda::DeviceSliceMut;

use crate::perf::cell::Cell;
use crate::perf::cell::Collective;
use crate::perf::cell::Place;
use crate::perf::gpu::Gpu;
use crate::perf::issue;

/// Enqueues the collective once; as [`issue::once`], behind what is on the stream.
///
/// # Errors
/// The library's.
pub(crate) fn once<T: Element>(
    group: &ProcessGroup,
    gpu: &Gpu,
    cell: &Cell,
    place: Place,
    send: &DeviceSlice<'_, T>,
    recv: &mut DeviceSliceMut<'_, T>,
) -> Result<()> {
    let on = group.on(gpu.stream());
    let root = cell.root.unwrap_or(0);
    let op = issue::op_of(cell, group.rank());
    match (cell.collective, place) {
        (Collective::AllReduce, Place::Out) => on.all_reduce(send, recv, op),
        (Collective::AllReduce, Place::In) => on.all_reduce_in_place(recv, op),
        (Collective::AllGather, Place::Out) => on.all_gather(send, recv),
        (Collective::AllGather, Place::In) => on.all_gather_in_place(recv),
        (Collective::ReduceScatter, Place::Out) => on.reduce_scatter(send, recv, op),
        (Collective::ReduceScatter, Place::In) => on.reduce_scatter_in_place(recv, op),
        (Collective::AllToAll, Place::Out) => on.all_to_all(send, recv),
        (Collective::AllToAll, Place::In) => on.all_to_all_in_place(recv),
        (Collective::Broadcast, _) => on.broadcast(recv, root),
        (Collective::Reduce, Place::Out) => on.reduce(send, Some(recv), op, root),
        (Collective::Reduce, Place::In) => on.reduce_in_place(recv, op, root),
        (Collective::Gather, _) => on.gather(send, Some(recv), root),
        (Collective::Scatter, _) => on.scatter(Some(send), recv, root),
        (Collective::SendRecv, _) => exchange(group, gpu, cell, send, recv),
        // Of the host alone: see `device`, which does not come here.
        (Collective::Barrier, _) => Ok(()),
    }
}

/// As the host's: two ranks there and back again, others each to the next.
fn exchange<T: Element>(
    group: &ProcessGroup,
    gpu: &Gpu,
    cell: &Cell,
    send: &DeviceSlice<'_, T>,
    recv: &mut DeviceSliceMut<'_, T>,
) -> Result<()> {
    let on = group.on(gpu.stream());
    let (rank, n) = (group.rank(), group.world_size());
    if !cell.is_ping_pong() {
        return on.batch().send(send, (rank + 1) % n)?.recv(recv, (rank + n - 1) % n)?.run();
    }
    if rank == 0 {
        on.send(send, 1)?;
        on.recv(recv, 1)
    } else {
        on.recv(recv, 0)?;
        on.send(send, 0)
    }
}
