//! Every operation with contents that are known by formula, checked after each call.

use nccl::ProcessGroup;
use nccl::ReduceOp;
use nccl::Result;

/// The operations, by name: the twelve collectives, the empty one, and messages.
pub const KINDS: [&str; 13] = [
    "all_reduce",
    "broadcast",
    "reduce",
    "all_gather",
    "all_gather_v",
    "reduce_scatter",
    "reduce_scatter_v",
    "all_to_all",
    "all_to_all_v",
    "gather",
    "scatter",
    "barrier",
    "send_recv",
];

/// Small whole numbers, so that sums are exact.
fn value(rank: usize, turn: usize, at: usize) -> f32 {
    ((rank + 1) * (turn % 7 + 1) + at % 5) as f32
}

fn filled(rank: usize, turn: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| value(rank, turn, at)).collect()
}

fn sum(world_size: usize, turn: usize, at: usize) -> f32 {
    (0..world_size).map(|rank| value(rank, turn, at)).sum()
}

fn sums(world_size: usize, turn: usize, from: usize, count: usize) -> Vec<f32> {
    (from..from + count).map(|at| sum(world_size, turn, at)).collect()
}

/// Calls `kind` with about `count` elements and says whether this rank's result is right.
///
/// # Errors
/// Those of the operation.
///
/// # Panics
/// When there is no such operation.
pub fn checked(group: &ProcessGroup, kind: &str, turn: usize, count: usize) -> Result<bool> {
    match kind {
        "broadcast" | "reduce" | "gather" | "scatter" => rooted(group, kind, turn, count),
        "all_gather_v" | "reduce_scatter_v" | "all_to_all_v" => uneven(group, kind, turn, count),
        "send_recv" => around(group, turn, count),
        _ => even(group, kind, turn, count),
    }
}

fn even(group: &ProcessGroup, kind: &str, turn: usize, count: usize) -> Result<bool> {
    let (me, n) = (group.rank(), group.world_size());
    match kind {
        "barrier" => group.barrier().map(|()| true),
        "all_reduce" => {
            let mut buf = filled(me, turn, count);
            group.all_reduce_in_place(&mut buf, ReduceOp::Sum)?;
            Ok(buf == sums(n, turn, 0, count))
        }
        "all_gather" => {
            let mut all = vec![0.0; n * count];
            group.all_gather(&filled(me, turn, count), &mut all)?;
            Ok((0..n).all(|r| all[r * count..][..count] == filled(r, turn, count)))
        }
        "reduce_scatter" => {
            let mut part = vec![0.0; count];
            group.reduce_scatter(&filled(me, turn, n * count), &mut part, ReduceOp::Sum)?;
            Ok(part == sums(n, turn, me * count, count))
        }
        "all_to_all" => {
            let mut got = vec![0.0; n * count];
            group.all_to_all(&filled(me, turn, n * count), &mut got)?;
            let right = |peer: usize| {
                let part = &got[peer * count..][..count];
                part.iter().enumerate().all(|(at, v)| *v == value(peer, turn, me * count + at))
            };
            Ok((0..n).all(right))
        }
        other => panic!("there is no operation {other:?}"),
    }
}

fn rooted(group: &ProcessGroup, kind: &str, turn: usize, count: usize) -> Result<bool> {
    let (me, n) = (group.rank(), group.world_size());
    let root = turn % n;
    let of_root = |count: usize| if me == root { count } else { 0 };
    match kind {
        "broadcast" => {
            let mut buf = filled(me, turn, count);
            group.broadcast(&mut buf, root)?;
            Ok(buf == filled(root, turn, count))
        }
        "reduce" => {
            let mut recv = vec![0.0; of_root(count)];
            group.reduce(&filled(me, turn, count), &mut recv, ReduceOp::Sum, root)?;
            Ok(recv == sums(n, turn, 0, of_root(count)))
        }
        "gather" => {
            let mut all = vec![0.0; of_root(n * count)];
            group.gather(&filled(me, turn, count), &mut all, root)?;
            let right = |r: usize| all[r * count..][..count] == filled(r, turn, count);
            Ok(me != root || (0..n).all(right))
        }
        _ => {
            let mut part = vec![0.0; count];
            group.scatter(&filled(me, turn, of_root(n * count)), &mut part, root)?;
            Ok(part.iter().enumerate().all(|(at, v)| *v == value(root, turn, me * count + at)))
        }
    }
}

fn uneven(group: &ProcessGroup, kind: &str, turn: usize, count: usize) -> Result<bool> {
    let (me, n) = (group.rank(), group.world_size());
    let counts: Vec<usize> = (0..n).map(|rank| count + 3 * rank).collect();
    let all: usize = counts.iter().sum();
    let before: usize = counts[..me].iter().sum();
    match kind {
        "all_gather_v" => {
            let mut got = vec![0.0; all];
            group.all_gather_v(&filled(me, turn, counts[me]), &mut got, &counts)?;
            let expected: Vec<f32> = (0..n).flat_map(|r| filled(r, turn, counts[r])).collect();
            Ok(got == expected)
        }
        "reduce_scatter_v" => {
            let mut part = vec![0.0; counts[me]];
            let send = filled(me, turn, all);
            group.reduce_scatter_v(&send, &mut part, &counts, ReduceOp::Sum)?;
            Ok(part == sums(n, turn, before, counts[me]))
        }
        _ => {
            // Rank a sends count + a + 2 b elements to rank b.
            let part = |from: usize, to: usize| count + from + 2 * to;
            let sends: Vec<usize> = (0..n).map(|to| part(me, to)).collect();
            let recvs: Vec<usize> = (0..n).map(|from| part(from, me)).collect();
            let send: Vec<f32> = (0..n).flat_map(|to| filled(me, turn + to, sends[to])).collect();
            let mut got = vec![0.0; recvs.iter().sum()];
            group.all_to_all_v(&send, &mut got, &sends, &recvs)?;
            let expected: Vec<f32> =
                (0..n).flat_map(|from| filled(from, turn + me, recvs[from])).collect();
            Ok(got == expected)
        }
    }
}

/// A message that goes around: rank 0 begins, everybody else receives first.
fn around(group: &ProcessGroup, turn: usize, count: usize) -> Result<bool> {
    let (me, n) = (group.rank(), group.world_size());
    let (right, left) = ((me + 1) % n, (me + n - 1) % n);
    let mut got = vec![0.0; count];
    if me == 0 {
        group.send(&filled(me, turn, count), right)?;
        group.recv(&mut got, left)?;
    } else {
        group.recv(&mut got, left)?;
        group.send(&filled(me, turn, count), right)?;
    }
    Ok(got == filled(left, turn, count))
}
