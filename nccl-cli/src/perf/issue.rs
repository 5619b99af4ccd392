//! Calls the library for one cell, on host memory.

use nccl::Element;
use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

use crate::perf::cell::Cell;
use crate::perf::cell::Collective;
use crate::perf::cell::Place;
use crate::perf::check;

/// Runs the collective once.
///
/// Out of place, from `send` to `recv`; in place, in `recv`.
///
/// # Errors
/// The library's.
pub(crate) fn once<T: Element>(
    group: &ProcessGroup,
    cell: &Cell,
    place: Place,
    send: &[T],
    recv: &mut [T],
) -> Result<()> {
    let root = cell.root.unwrap_or(0);
    let op = op_of(cell, group.rank());
    match (cell.collective, place) {
        (Collective::AllReduce, Place::Out) => group.all_reduce(send, recv, op),
        (Collective::AllReduce, Place::In) => group.all_reduce_in_place(recv, op),
        (Collective::AllGather, Place::Out) => group.all_gather(send, recv),
        (Collective::AllGather, Place::In) => group.all_gather_in_place(recv),
        (Collective::ReduceScatter, Place::Out) => group.reduce_scatter(send, recv, op),
        (Collective::ReduceScatter, Place::In) => group.reduce_scatter_in_place(recv, op),
        (Collective::AllToAll, Place::Out) => group.all_to_all(send, recv),
        (Collective::AllToAll, Place::In) => group.all_to_all_in_place(recv),
        (Collective::Broadcast, _) => group.broadcast(recv, root),
        (Collective::Reduce, Place::Out) => group.reduce(send, recv, op, root),
        (Collective::Reduce, Place::In) => group.reduce_in_place(recv, op, root),
        (Collective::Gather, _) => group.gather(send, recv, root),
        (Collective::Scatter, _) => group.scatter(send, recv, root),
        (Collective::SendRecv, _) => exchange(group, cell, send, recv),
        (Collective::Barrier, _) => group.barrier(),
    }
}

/// The reduction as a rank calls it.
pub(crate) fn op_of(cell: &Cell, rank: usize) -> ReduceOp {
    match cell.op {
        Some(ReduceOp::PreMulSum(_)) => ReduceOp::PreMulSum(check::factor(rank)),
        Some(op) => op,
        None => ReduceOp::Sum,
    }
}

/// Two ranks: there and back again. Otherwise each sends to the next, all at once.
fn exchange<T: Element>(
    group: &ProcessGroup,
    cell: &Cell,
    send: &[T],
    recv: &mut [T],
) -> Result<()> {
    let (rank, n) = (group.rank(), group.world_size());
    if !cell.is_ping_pong() {
        return group.batch().send(send, (rank + 1) % n)?.recv(recv, (rank + n - 1) % n)?.run();
    }
    if rank == 0 {
        group.send(send, 1)?;
        group.recv(recv, 1)
    } else {
        group.recv(recv, 0)?;
        group.send(send, 0)
    }
}
