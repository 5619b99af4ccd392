//! Who holds how many elements in each collective: every check of lengths and roots.
//!
//! Pure functions of numbers, one per collective. They look at this rank's arguments only; what
//! the ranks must agree on is compared when they meet. All counts are of elements.

use crate::dtype::DataType;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::rank::Member;

/// Checks that a reduction exists for a type.
pub(crate) fn check_op(op_name: &'static str, op: ReduceOp, dtype: DataType) -> Result<()> {
    let why = match op {
        ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor if !dtype.is_integer() => {
            "bitwise operations are for integers; send the bits as u8, u32 or u64"
        }
        ReduceOp::PreMulSum(_) if dtype.is_integer() => {
            "factors are for floating-point types; multiply before the call and use `sum`"
        }
        _ => return Ok(()),
    };
    Err(Error::Op { op: op_name, reduce: op, dtype, why })
}

/// Checks that a root is a rank of the group.
pub(crate) fn check_root(op: &'static str, root: usize, world_size: usize) -> Result<()> {
    check_rank(op, "root", root, world_size)
}

/// Checks that a peer is a rank of the group.
pub(crate) fn check_peer(op: &'static str, peer: usize, world_size: usize) -> Result<()> {
    check_rank(op, "peer", peer, world_size)
}

/// The bytes of a buffer, which no allocation could exceed.
pub(crate) fn bytes(op: &'static str, count: usize, dtype: DataType) -> Result<usize> {
    match count.checked_mul(dtype.size_bytes()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(bytes),
        _ => {
            let problem =
                format!("{count} elements of {dtype} are more bytes than memory can hold");
            Err(Error::Usage { op, problem })
        }
    }
}

/// `send` of every rank becomes `recv` of every rank; returns their count.
pub(crate) fn all_reduce(send: usize, recv: usize) -> Result<usize> {
    expect("all_reduce", "recv", send, recv)?;
    Ok(send)
}

/// Any buffer will do; returns its count.
pub(crate) fn all_reduce_in_place(buf: usize) -> Result<usize> {
    Ok(buf)
}

/// The root's `buf` goes to all; returns its count.
pub(crate) fn broadcast(buf: usize, root: usize, world_size: usize) -> Result<usize> {
    check_root("broadcast", root, world_size)?;
    Ok(buf)
}

/// The result is in `recv` of the root, which the others leave empty; returns the count.
pub(crate) fn reduce(send: usize, recv: usize, root: usize, member: Member) -> Result<usize> {
    check_root("reduce", root, member.world_size)?;
    expect("reduce", "recv", if member.rank == root { send } else { 0 }, recv)?;
    Ok(send)
}

/// The result is in `buf` of the root; returns the count.
pub(crate) fn reduce_in_place(buf: usize, root: usize, world_size: usize) -> Result<usize> {
    check_root("reduce", root, world_size)?;
    Ok(buf)
}

/// `recv` holds `send` of every rank in rank order; returns the count per rank.
pub(crate) fn all_gather(send: usize, recv: usize, world_size: usize) -> Result<usize> {
    expect("all_gather", "recv", times("all_gather", send, world_size)?, recv)?;
    Ok(send)
}

/// `buf` has one part per rank, this rank's filled; returns the count per rank.
pub(crate) fn all_gather_in_place(buf: usize, world_size: usize) -> Result<usize> {
    share("all_gather", "buf", buf, world_size)
}

/// `recv` holds `send` of every rank, `recv_counts[rank]` elements each; returns where each
/// begins.
pub(crate) fn all_gather_v(
    send: usize,
    recv: usize,
    recv_counts: &[usize],
    member: Member,
) -> Result<Vec<usize>> {
    const OP: &str = "all_gather_v";
    let (offsets, total) = offsets(OP, "recv_counts", recv_counts, member.world_size)?;
    expect(OP, "send", own(OP, recv_counts, member)?, send)?;
    expect(OP, "recv", total, recv)?;
    Ok(offsets)
}

/// `send` has one part per rank, of which `recv` gets the reduced one; returns the count per
/// rank.
pub(crate) fn reduce_scatter(send: usize, recv: usize, world_size: usize) -> Result<usize> {
    expect("reduce_scatter", "send", times("reduce_scatter", recv, world_size)?, send)?;
    Ok(recv)
}

/// `buf` has one part per rank; returns the count per rank.
pub(crate) fn reduce_scatter_in_place(buf: usize, world_size: usize) -> Result<usize> {
    share("reduce_scatter", "buf", buf, world_size)
}

/// `send` has a part of `recv_counts[rank]` elements for each rank; returns where each begins.
pub(crate) fn reduce_scatter_v(
    send: usize,
    recv: usize,
    recv_counts: &[usize],
    member: Member,
) -> Result<Vec<usize>> {
    const OP: &str = "reduce_scatter_v";
    let (offsets, total) = offsets(OP, "recv_counts", recv_counts, member.world_size)?;
    expect(OP, "send", total, send)?;
    expect(OP, "recv", own(OP, recv_counts, member)?, recv)?;
    Ok(offsets)
}

/// Both buffers have one part per rank; returns the count per pair of ranks.
pub(crate) fn all_to_all(send: usize, recv: usize, world_size: usize) -> Result<usize> {
    expect("all_to_all", "recv", send, recv)?;
    share("all_to_all", "send", send, world_size)
}

/// `buf` has one part per rank; returns the count per pair of ranks.
pub(crate) fn all_to_all_in_place(buf: usize, world_size: usize) -> Result<usize> {
    share("all_to_all", "buf", buf, world_size)
}

/// Parts differ by pair; returns where each begins in `send` and in `recv`.
pub(crate) fn all_to_all_v(
    send: usize,
    recv: usize,
    send_counts: &[usize],
    recv_counts: &[usize],
    member: Member,
) -> Result<(Vec<usize>, Vec<usize>)> {
    const OP: &str = "all_to_all_v";
    let (send_offsets, sent) = offsets(OP, "send_counts", send_counts, member.world_size)?;
    let (recv_offsets, received) = offsets(OP, "recv_counts", recv_counts, member.world_size)?;
    expect(OP, "send", sent, send)?;
    expect(OP, "recv", received, recv)?;
    let (out, back) = (own(OP, send_counts, member)?, own(OP, recv_counts, member)?);
    if out != back {
        let rank = member.rank;
        let problem = format!(
            "rank {rank} sends itself {out} elements (`send_counts[{rank}]`) and expects {back} \
             (`recv_counts[{rank}]`)"
        );
        return Err(Error::Usage { op: OP, problem });
    }
    Ok((send_offsets, recv_offsets))
}

/// Compares what the ranks send each other with what they expect. `all` has, for each rank, its
/// list of send counts and its list of receive counts.
pub(crate) fn match_pairs(op: &'static str, group: &str, ranks: usize, all: &[u64]) -> Result<()> {
    let counts = |rank: usize| all.get(rank * 2 * ranks..).unwrap_or_default();
    for sender in 0..ranks {
        for receiver in 0..ranks {
            let sends = counts(sender).get(receiver);
            let expects = counts(receiver).get(ranks + sender);
            let (Some(sends), Some(expects)) = (sends, expects) else { continue };
            if sends != expects {
                let problem = format!(
                    "rank {sender} sends {sends} elements to rank {receiver}, which expects \
                     {expects} from it (group {group:?})"
                );
                return Err(Error::Usage { op, problem });
            }
        }
    }
    Ok(())
}

/// `recv` of the root holds `send` of every rank, and is empty elsewhere; returns the count per
/// rank.
pub(crate) fn gather(send: usize, recv: usize, root: usize, member: Member) -> Result<usize> {
    check_root("gather", root, member.world_size)?;
    let all = times("gather", send, member.world_size)?;
    expect("gather", "recv", if member.rank == root { all } else { 0 }, recv)?;
    Ok(send)
}

/// `send` of the root has one part per rank, and is empty elsewhere; returns the count per rank.
pub(crate) fn scatter(send: usize, recv: usize, root: usize, member: Member) -> Result<usize> {
    check_root("scatter", root, member.world_size)?;
    let all = times("scatter", recv, member.world_size)?;
    expect("scatter", "send", if member.rank == root { all } else { 0 }, send)?;
    Ok(recv)
}

pub(crate) fn check_rank(
    op: &'static str,
    what: &'static str,
    rank: usize,
    world_size: usize,
) -> Result<()> {
    if rank < world_size { Ok(()) } else { Err(Error::Rank { op, what, rank, world_size }) }
}

/// Refuses a buffer, or a list, of another length.
fn expect(op: &'static str, buffer: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Count { op, buffer, expected, got }) }
}

/// The elements of all ranks.
fn times(op: &'static str, count: usize, world_size: usize) -> Result<usize> {
    count.checked_mul(world_size).filter(|all| isize::try_from(*all).is_ok()).ok_or_else(|| {
        let problem = format!(
            "{count} elements for each of {world_size} ranks are more than memory can hold"
        );
        Error::Usage { op, problem }
    })
}

/// The elements of one of `world_size` equal parts.
fn share(op: &'static str, buffer: &str, count: usize, world_size: usize) -> Result<usize> {
    match count.checked_rem(world_size) {
        Some(0) => Ok(count / world_size),
        _ => {
            let problem = format!(
                "`{buffer}` holds {count} elements, which do not divide into equal parts for \
                 {world_size} ranks; give a multiple of {world_size}"
            );
            Err(Error::Usage { op, problem })
        }
    }
}

/// Where each rank's part begins, and the elements of all.
fn offsets(
    op: &'static str,
    list: &'static str,
    counts: &[usize],
    world_size: usize,
) -> Result<(Vec<usize>, usize)> {
    expect(op, list, world_size, counts.len())?;
    let mut total = 0_usize;
    let mut offsets = Vec::with_capacity(counts.len());
    for (rank, count) in counts.iter().enumerate() {
        offsets.push(total);
        let sum = total.checked_add(*count).filter(|sum| isize::try_from(*sum).is_ok());
        total = sum.ok_or_else(|| {
            let problem = format!(
                "the sum of `{list}` is more than memory can hold: `{list}[{rank}]` is {count}"
            );
            Error::Usage { op, problem }
        })?;
    }
    Ok((offsets, total))
}

/// This rank's entry of a list.
fn own(op: &'static str, counts: &[usize], member: Member) -> Result<usize> {
    let Member { rank, world_size } = member;
    counts.get(rank).copied().ok_or(Error::Rank { op, what: "rank", rank, world_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(rank: usize, world_size: usize) -> Member {
        Member { rank, world_size }
    }

    #[track_caller]
    fn refused<T: core::fmt::Debug>(result: Result<T>, text: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.family(), crate::error::Family::Misuse);
        assert!(!error.poisons_group());
    }

    #[test]
    fn right_lengths_give_the_count() {
        assert_eq!(all_reduce(5, 5).unwrap(), 5);
        assert_eq!(all_reduce(0, 0).unwrap(), 0);
        assert_eq!(all_reduce_in_place(7).unwrap(), 7);
        assert_eq!(broadcast(7, 3, 4).unwrap(), 7);
        assert_eq!(reduce(7, 7, 1, member(1, 4)).unwrap(), 7);
        assert_eq!(reduce(7, 0, 1, member(2, 4)).unwrap(), 7);
        assert_eq!(reduce_in_place(7, 1, 2).unwrap(), 7);
        assert_eq!(all_gather(3, 12, 4).unwrap(), 3);
        assert_eq!(all_gather(3, 3, 1).unwrap(), 3);
        assert_eq!(all_gather_in_place(12, 4).unwrap(), 3);
        assert_eq!(reduce_scatter(12, 3, 4).unwrap(), 3);
        assert_eq!(reduce_scatter_in_place(12, 4).unwrap(), 3);
        assert_eq!(all_to_all(12, 12, 4).unwrap(), 3);
        assert_eq!(all_to_all_in_place(12, 4).unwrap(), 3);
        assert_eq!(gather(3, 12, 0, member(0, 4)).unwrap(), 3);
        assert_eq!(gather(3, 0, 0, member(1, 4)).unwrap(), 3);
        assert_eq!(scatter(12, 3, 2, member(2, 4)).unwrap(), 3);
        assert_eq!(scatter(0, 3, 2, member(3, 4)).unwrap(), 3);
    }

    #[test]
    fn parts_of_different_lengths_begin_at_the_sum_of_those_before() {
        let counts = [2, 0, 5, 1];
        let starts = vec![0, 2, 2, 7];
        assert_eq!(all_gather_v(5, 8, &counts, member(2, 4)).unwrap(), starts);
        assert_eq!(all_gather_v(0, 8, &counts, member(1, 4)).unwrap(), starts);
        assert_eq!(reduce_scatter_v(8, 1, &counts, member(3, 4)).unwrap(), starts);
        let (send, recv) = all_to_all_v(8, 13, &counts, &[1, 3, 5, 4], member(2, 4)).unwrap();
        assert_eq!((send, recv), (starts, vec![0, 1, 4, 9]));
    }

    #[test]
    fn wrong_lengths_are_named() {
        refused(all_reduce(5, 4), "all_reduce: `recv` holds 4 elements, expected 5");
        refused(reduce(5, 4, 1, member(1, 2)), "reduce: `recv` holds 4 elements, expected 5");
        refused(reduce(5, 5, 1, member(0, 2)), "reduce: `recv` holds 5 elements, expected 0");
        refused(all_gather(3, 11, 4), "all_gather: `recv` holds 11 elements, expected 12");
        refused(reduce_scatter(11, 3, 4), "reduce_scatter: `send` holds 11 elements, expected 12");
        refused(all_to_all(12, 8, 4), "all_to_all: `recv` holds 8 elements, expected 12");
        refused(gather(3, 3, 0, member(0, 2)), "gather: `recv` holds 3 elements, expected 6");
        refused(gather(3, 6, 0, member(1, 2)), "gather: `recv` holds 6 elements, expected 0");
        refused(scatter(3, 3, 0, member(0, 2)), "scatter: `send` holds 3 elements, expected 6");
        refused(scatter(6, 3, 0, member(1, 2)), "scatter: `send` holds 6 elements, expected 0");
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        let tail = "which do not divide into equal parts for 4 ranks; give a multiple of 4";
        refused(all_to_all(10, 10, 4), &format!("all_to_all: `send` holds 10 elements, {tail}"));
        refused(
            all_to_all_in_place(10, 4),
            &format!("all_to_all: `buf` holds 10 elements, {tail}"),
        );
        refused(all_gather_in_place(3, 4), &format!("all_gather: `buf` holds 3 elements, {tail}"));
        refused(
            reduce_scatter_in_place(5, 4),
            &format!("reduce_scatter: `buf` holds 5 elements, {tail}"),
        );
    }

    #[test]
    fn lists_of_counts_are_checked() {
        let me = member(1, 3);
        refused(
            all_gather_v(1, 3, &[1, 1], me),
            "all_gather_v: `recv_counts` holds 2 elements, expected 3",
        );
        refused(
            all_gather_v(2, 4, &[1, 1, 2], me),
            "all_gather_v: `send` holds 2 elements, expected 1",
        );
        refused(
            all_gather_v(1, 5, &[1, 1, 2], me),
            "all_gather_v: `recv` holds 5 elements, expected 4",
        );
        refused(
            reduce_scatter_v(4, 2, &[1, 1, 2], me),
            "reduce_scatter_v: `recv` holds 2 elements, expected 1",
        );
        refused(
            reduce_scatter_v(3, 1, &[1, 1, 2], me),
            "reduce_scatter_v: `send` holds 3 elements, expected 4",
        );
        refused(
            all_to_all_v(3, 3, &[1, 1, 1], &[1, 1, 1, 0], me),
            "all_to_all_v: `recv_counts` holds 4 elements, expected 3",
        );
        refused(
            all_to_all_v(4, 3, &[1, 1, 1], &[1, 1, 1], me),
            "all_to_all_v: `send` holds 4 elements, expected 3",
        );
        refused(
            all_to_all_v(3, 4, &[1, 1, 1], &[1, 1, 1], me),
            "all_to_all_v: `recv` holds 4 elements, expected 3",
        );
        refused(
            all_to_all_v(3, 4, &[1, 1, 1], &[1, 2, 1], me),
            "all_to_all_v: rank 1 sends itself 1 elements (`send_counts[1]`) and expects 2 \
             (`recv_counts[1]`)",
        );
        refused(
            all_gather_v(1, 1, &[1], member(1, 1)),
            "all_gather_v: rank 1 is not a rank of this group of 1 (0..1)",
        );
    }

    #[test]
    fn counts_beyond_memory_are_refused_and_do_not_wrap() {
        let half = usize::MAX / 2 + 1;
        refused(
            all_gather(half, 0, 2),
            &format!(
                "all_gather: {half} elements for each of 2 ranks are more than memory can hold"
            ),
        );
        assert!(matches!(reduce_scatter(0, half, 2), Err(Error::Usage { .. })));
        assert!(matches!(gather(half, 0, 0, member(0, 4)), Err(Error::Usage { .. })));
        assert!(matches!(scatter(0, half, 0, member(0, 4)), Err(Error::Usage { .. })));
        refused(
            all_gather_v(1, 1, &[1, usize::MAX], member(0, 2)),
            &format!(
                "all_gather_v: the sum of `recv_counts` is more than memory can hold: \
                 `recv_counts[1]` is {}",
                usize::MAX
            ),
        );
        assert_eq!(bytes("send", 3, DataType::F64).unwrap(), 24);
        let most = isize::MAX.unsigned_abs();
        assert_eq!(bytes("send", most, DataType::U8).unwrap(), most);
        assert!(bytes("send", most + 1, DataType::U8).is_err());
        refused(
            bytes("send", half, DataType::F64),
            &format!("send: {half} elements of f64 are more bytes than memory can hold"),
        );
    }

    #[test]
    fn roots_and_peers_are_ranks() {
        assert!(check_root("broadcast", 3, 4).is_ok());
        assert!(check_peer("send", 0, 1).is_ok());
        refused(
            check_root("broadcast", 4, 4),
            "broadcast: root 4 is not a rank of this group of 4 (0..4)",
        );
        refused(check_peer("send", 9, 2), "send: peer 9 is not a rank of this group of 2 (0..2)");
        refused(broadcast(1, 2, 2), "broadcast: root 2 is not a rank of this group of 2 (0..2)");
        for result in [
            reduce(1, 1, 2, member(0, 2)),
            reduce_in_place(1, 2, 2),
            gather(1, 2, 2, member(0, 2)),
            scatter(2, 1, 2, member(0, 2)),
        ] {
            assert!(matches!(result, Err(Error::Rank { what: "root", rank: 2, .. })));
        }
    }

    #[test]
    fn reductions_that_do_not_exist_say_what_to_do() {
        refused(
            check_op("all_reduce", ReduceOp::BitOr, DataType::BF16),
            "all_reduce: the reduction `bor` does not exist for bf16: bitwise operations are for \
             integers; send the bits as u8, u32 or u64",
        );
        refused(
            check_op("reduce", ReduceOp::PreMulSum(2.0), DataType::I32),
            "reduce: the reduction `mulsum` does not exist for i32: factors are for \
             floating-point types; multiply before the call and use `sum`",
        );
        for dtype in DataType::ALL {
            for op in [ReduceOp::Sum, ReduceOp::Product, ReduceOp::Min, ReduceOp::Max] {
                assert!(check_op("all_reduce", op, dtype).is_ok());
            }
            assert!(check_op("all_reduce", ReduceOp::Avg, dtype).is_ok());
            let bits = check_op("all_reduce", ReduceOp::BitXor, dtype).is_ok();
            let scaled = check_op("all_reduce", ReduceOp::PreMulSum(1.0), dtype).is_ok();
            assert_eq!((bits, scaled), (dtype.is_integer(), !dtype.is_integer()));
        }
    }
}
