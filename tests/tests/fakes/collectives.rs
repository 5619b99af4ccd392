//! Every operation moves the right bytes, between threads and between processes.

use std::fmt::Write;
use std::process::Output;
use std::time::Duration;

use nccl::bf16;
use nccl::f16;

use crate::api::Api;
use crate::api::Id;
use crate::api::none;
use crate::driver::Gate;
use crate::world;
use crate::world::Rank;

const I32: i32 = 2;
const SUM: i32 = 0;
const WORLD: usize = 3;

/// What a rank contributes at a place.
fn value(rank: usize, at: usize) -> i32 {
    i32::try_from(100 * rank + at).unwrap()
}

fn numbers(rank: usize, count: usize) -> Vec<i32> {
    (0..count).map(|at| value(rank, at)).collect()
}

/// All operations on one rank, compared with formulas.
pub(crate) fn everything(rank: &Rank) {
    let (api, comm, stream, n, r) = (rank.api, rank.comm, rank.stream, rank.world_size, rank.rank);
    let count = 5;
    let send = rank.upload(&numbers(r, n * count));
    let recv = rank.upload(&vec![-1; n * count]);
    let sum = |at: usize| (0..n).map(|rank| value(rank, at)).sum::<i32>();
    let root = n - 1;
    let c_root = i32::try_from(root).unwrap();
    let mut device = -1;
    assert_eq!(api.ncclCommCuDevice(comm, &mut device), 0);
    assert_eq!(usize::try_from(device).unwrap(), r);

    assert_eq!(api.ncclAllReduce(send, recv, count, I32, SUM, comm, stream), 0);
    assert_eq!(rank.download(recv, count), (0..count).map(sum).collect::<Vec<_>>());

    assert_eq!(api.ncclBroadcast(send, recv, count, I32, c_root, comm, stream), 0);
    assert_eq!(rank.download(recv, count), numbers(root, count));

    let before = rank.upload(&vec![-7; count]);
    assert_eq!(api.ncclReduce(send, before, count, I32, SUM, c_root, comm, stream), 0);
    let expected = if r == root { (0..count).map(sum).collect() } else { vec![-7; count] };
    assert_eq!(rank.download(before, count), expected);

    assert_eq!(api.ncclAllGather(send, recv, count, I32, comm, stream), 0);
    let gathered: Vec<i32> = (0..n).flat_map(|rank| numbers(rank, count)).collect();
    assert_eq!(rank.download(recv, n * count), gathered);

    assert_eq!(api.ncclReduceScatter(send, recv, count, I32, SUM, comm, stream), 0);
    let own: Vec<i32> = (r * count..(r + 1) * count).map(sum).collect();
    assert_eq!(rank.download(recv, count), own);

    assert_eq!(api.ncclAlltoAll(send, recv, count, I32, comm, stream), 0);
    let from = |peer: usize| (r * count..(r + 1) * count).map(move |at| value(peer, at));
    let exchanged: Vec<i32> = (0..n).flat_map(from).collect();
    assert_eq!(rank.download(recv, n * count), exchanged);

    let all = rank.upload(&vec![-7; n * count]);
    assert_eq!(api.ncclGather(send, all, count, I32, c_root, comm, stream), 0);
    let expected = if r == root { gathered } else { vec![-7; n * count] };
    assert_eq!(rank.download(all, n * count), expected);

    assert_eq!(api.ncclScatter(send, recv, count, I32, c_root, comm, stream), 0);
    let own: Vec<i32> = (r * count..(r + 1) * count).map(|at| value(root, at)).collect();
    assert_eq!(rank.download(recv, count), own);

    let (next, previous) = ((r + 1) % n, (r + n - 1) % n);
    assert_eq!(api.ncclGroupStart(), 0);
    assert_eq!(api.ncclSend(send, count, I32, i32::try_from(next).unwrap(), comm, stream), 0);
    assert_eq!(api.ncclRecv(recv, count, I32, i32::try_from(previous).unwrap(), comm, stream), 0);
    assert_eq!(api.ncclGroupEnd(), 0);
    assert_eq!(rank.download(recv, count), numbers(previous, count));

    for address in [send, recv, before, all] {
        assert_eq!(api.cuMemFree_v2(address), 0);
    }
}

#[test]
fn every_operation_between_threads_gives_what_its_formula_says() {
    world::threads(WORLD, everything);
}

#[test]
fn every_operation_between_processes_gives_what_its_formula_says() {
    for output in processes("rank_of_processes", &[]) {
        let text = world::text(&output);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        assert!(!text.contains("VIOLATION"), "{text}");
    }
}

#[test]
fn a_dead_process_is_an_asynchronous_error_of_the_others() {
    let ended = processes("death", &[]);
    let texts: Vec<String> = ended.iter().map(world::text).collect();
    assert!(ended.iter().all(|output| output.status.success()), "{texts:?}");
    assert!(texts[0].contains("state 6") && texts[2].contains("state 6"), "{texts:?}");
    let ended = processes("death", &[("FAKE_NCCL_PEER_ERRORS", "0"), ("PATIENCE_MS", "300")]);
    let texts: Vec<String> = ended.iter().map(world::text).collect();
    assert!(texts[0].contains("state 0") && texts[2].contains("state 0"), "{texts:?}");
}

/// Three ranks in a process each.
fn processes(case: &str, more: &[(&str, &str)]) -> Vec<Output> {
    let id = Api::get().id();
    let id = id.0.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let ranks: Vec<String> = (0..WORLD).map(|rank| rank.to_string()).collect();
    let env: Vec<_> =
        ranks.iter().map(|rank| [&[("RANK", rank.as_str()), ("ID", &id)], more].concat()).collect();
    let env: Vec<&[(&str, &str)]> = env.iter().map(Vec::as_slice).collect();
    world::children(case, &env, Duration::from_secs(30))
}

/// Runs one reduction of two elements over two ranks.
fn reduce_pair(dtype: i32, op: i32, inputs: [Vec<u8>; 2]) -> Vec<Vec<u8>> {
    world::threads(2, |rank| {
        let (api, input) = (rank.api, &inputs[rank.rank]);
        let element = input.len() / 2;
        let buffer = api.upload(input, rank.stream);
        let mut own = op;
        let is_own = op > 4;
        if is_own {
            // The factor is the rank's own first element.
            let code = api.ncclRedOpCreatePreMulSum(&mut own, input.as_ptr(), dtype, 1, rank.comm);
            assert_eq!(code, 0);
        }
        let code = api.ncclAllReduce(buffer, buffer, 2, dtype, own, rank.comm, rank.stream);
        assert_eq!(code, 0, "{}", api.last_error());
        let result = api.download(buffer, 2 * element, rank.stream);
        if is_own {
            assert_eq!(api.ncclRedOpDestroy(own, rank.comm), 0);
        }
        assert_eq!(api.cuMemFree_v2(buffer), 0);
        result
    })
}

/// Values 2, 3 on rank 0 and 4, 5 on rank 1, in every type and with every op.
#[test]
fn every_type_and_every_op_reduces() {
    let encode = |dtype: i32, value: f32| -> Vec<u8> {
        match dtype {
            0 | 1 => vec![value as u8],
            2 | 3 => (value as i32).to_le_bytes().to_vec(),
            4 | 5 => (value as i64).to_le_bytes().to_vec(),
            6 => f16::from_f32(value).to_le_bytes().to_vec(),
            7 => value.to_le_bytes().to_vec(),
            8 => f64::from(value).to_le_bytes().to_vec(),
            9 => bf16::from_f32(value).to_le_bytes().to_vec(),
            10 => vec![tests::fp8::E4M3.narrow(value)],
            _ => vec![tests::fp8::E5M2.narrow(value)],
        }
    };
    for dtype in 0..12 {
        let pair = |left: f32, right: f32| [encode(dtype, left), encode(dtype, right)].concat();
        let is_integer = dtype < 6;
        let half = |value: f32| if is_integer { value.trunc() } else { value };
        for (op, left, right) in [
            (0, 6.0, 8.0),
            (1, 8.0, 15.0),
            (2, 4.0, 5.0),
            (3, 2.0, 3.0),
            (4, half(3.0), half(4.0)),
            (5, 2.0 * 2.0 + 4.0 * 4.0, 2.0 * 3.0 + 4.0 * 5.0),
        ] {
            let results = reduce_pair(dtype, op, [pair(2.0, 3.0), pair(4.0, 5.0)]);
            let expected = pair(left, right);
            assert_eq!(results, [expected.clone(), expected], "type {dtype}, op {op}");
        }
    }
}

#[test]
fn buffers_larger_than_any_socket_s_arrive() {
    const COUNT: usize = 300_000;
    world::threads(3, |rank| {
        let send = rank.upload(&numbers(rank.rank, COUNT));
        let code = rank.api.ncclAllReduce(send, send, COUNT, I32, SUM, rank.comm, rank.stream);
        assert_eq!(code, 0);
        let sum = |at: usize| (0..3).map(|rank| value(rank, at)).sum::<i32>();
        assert_eq!(rank.download(send, COUNT), (0..COUNT).map(sum).collect::<Vec<_>>());
    });
}

/// As with NCCL, all streams of a group wait for all of it.
#[test]
fn a_group_over_two_streams_holds_up_both() {
    world::threads(2, |rank| {
        let (api, comm) = (rank.api, rank.comm);
        let (buffer, other, gate) = (rank.upload(&[1, 2]), api.stream(), Gate::new());
        assert_eq!(api.cuStreamSynchronize(rank.stream), 0);
        gate.hold(rank.stream);
        assert_eq!(api.ncclGroupStart(), 0);
        for (at, stream) in [(buffer, rank.stream), (buffer + 4, other)] {
            assert_eq!(api.ncclAllReduce(at, at, 1, I32, SUM, comm, stream), 0);
        }
        assert_eq!(api.ncclGroupEnd(), 0);
        assert_eq!(api.cuStreamQuery(other), 600, "the first stream has not come yet");
        gate.open();
        assert_eq!(rank.download(buffer, 2), [2, 4]);
        assert_eq!(api.cuStreamSynchronize(other), 0);
    });
}

#[test]
fn split_shrink_and_grow_give_communicators_that_work() {
    world::threads(4, |rank| {
        let (api, comm) = (rank.api, rank.comm);
        let check = |comm: usize, members: &[usize]| {
            let (mut count, mut own) = (0, 0);
            assert_eq!(api.ncclCommCount(comm, &mut count), 0);
            assert_eq!(api.ncclCommUserRank(comm, &mut own), 0);
            assert_eq!(usize::try_from(count).unwrap(), members.len());
            assert_eq!(members[usize::try_from(own).unwrap()], rank.rank);
            let send = rank.upload(&[value(rank.rank, 0)]);
            let recv = rank.upload(&vec![0; members.len()]);
            assert_eq!(api.ncclAllGather(send, recv, 1, I32, comm, rank.stream), 0);
            let expected: Vec<i32> = members.iter().map(|member| value(*member, 0)).collect();
            assert_eq!(rank.download(recv, members.len()), expected);
        };
        let number = i32::try_from(rank.rank).unwrap();

        // Even ranks in reverse order, rank 3 in none.
        let color = if rank.rank == 3 { -1 } else { number % 2 };
        let mut new = 1;
        assert_eq!(api.ncclCommSplit(comm, color, -number, &mut new, none()), 0);
        match rank.rank {
            0 | 2 => check(new, &[2, 0]),
            1 => check(new, &[1]),
            _ => assert_eq!(new, 0),
        }
        assert_eq!(api.ncclCommDestroy(new), 0);

        let mut excluded = [2, 0];
        if rank.rank % 2 == 1 {
            let code = api.ncclCommShrink(comm, excluded.as_mut_ptr(), 2, &mut new, none(), 0);
            assert_eq!(code, 0, "{}", api.last_error());
            check(new, &[1, 3]);
            assert_eq!(api.ncclCommDestroy(new), 0);
        }

        // Ranks 0 to 2 grow by rank 3.
        assert_eq!(api.ncclCommSplit(comm, i32::from(rank.rank == 3), 0, &mut new, none()), 0);
        let mut grown = 0;
        let mut id = Id([0; 128]);
        if rank.rank == 0 {
            assert_eq!(api.ncclCommGetUniqueId(new, &mut id), 0);
        }
        let shared = rank.upload(&id_words(&id.0));
        let code = api.ncclBroadcast(shared, shared, 32, I32, 0, comm, rank.stream);
        assert_eq!(code, 0);
        let words = rank.download(shared, 32);
        for (to, word) in id.0.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let code = match rank.rank {
            0 => api.ncclCommGrow(new, 4, &raw const id, -1, &mut grown, none()),
            3 => api.ncclCommGrow(0, 4, &raw const id, 3, &mut grown, none()),
            _ => api.ncclCommGrow(new, 4, none(), -1, &mut grown, none()),
        };
        assert_eq!(code, 0, "{}", api.last_error());
        check(grown, &[0, 1, 2, 3]);
        assert_eq!(api.ncclCommDestroy(grown), 0);
        assert_eq!(api.ncclCommDestroy(new), 0);
    });
}

#[test]
fn a_revoked_communicator_frees_its_stream_and_can_be_split() {
    world::threads(2, |rank| {
        let (api, comm, stream) = (rank.api, rank.comm, rank.stream);
        let buffer = rank.upload(&[1]);
        let sum = |comm: usize| api.ncclAllReduce(buffer, buffer, 1, I32, SUM, comm, stream);
        if rank.rank == 0 {
            assert_eq!(sum(comm), 0, "rank 1 never comes to this one");
        }
        assert_eq!(api.ncclCommRevoke(comm, 0), 0);
        assert_eq!(api.cuStreamSynchronize(stream), 0);
        assert_eq!(sum(comm), 5, "revoked");
        let mut new = 0;
        assert_eq!(api.ncclCommSplit(comm, 0, 0, &mut new, none()), 0);
        assert_eq!(sum(new), 0);
        assert_eq!(rank.download(buffer, 1), [2]);
        assert_eq!(api.ncclCommDestroy(new), 0);
    });
}

fn id_words(id: &[u8; 128]) -> Vec<i32> {
    id.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk)).collect()
}

#[test]
fn a_put_arrives_before_its_signal() {
    world::threads(2, |rank| {
        let (api, comm, stream) = (rank.api, rank.comm, rank.stream);
        let (mut memory, mut window) = (0, 0);
        assert_eq!(api.ncclMemAlloc(&mut memory, 4096), 0);
        assert_eq!(api.ncclCommWindowRegister(comm, memory, 4096, &mut window, 1), 0);
        let peer = 1 - rank.rank;
        let c_peer = i32::try_from(peer).unwrap();
        let send = rank.upload(&[value(rank.rank, 7)]);
        let code = api.ncclPutSignal(send, 1, I32, c_peer, window, 64, 0, 0, 0, comm, stream);
        assert_eq!(code, 0, "{}", api.last_error());
        let wait = [[1, c_peer, 0, 0]];
        assert_eq!(api.ncclWaitSignal(1, wait.as_ptr(), comm, stream), 0);
        assert_eq!(rank.download(memory + 64, 1), [value(peer, 7)]);
        assert_eq!(api.ncclCommWindowDeregister(comm, window), 0);
        assert_eq!(api.ncclMemFree(memory), 0);
    });
}

#[test]
fn one_thread_serves_several_devices_in_groups() {
    let api = Api::get();
    api.use_device(0);
    let mut comms = [0; 3];
    assert_eq!(api.ncclCommInitAll(comms.as_mut_ptr(), 3, [4, 5, 6].as_ptr()), 0);
    let mut buffers = Vec::new();
    for device in 4..7 {
        api.use_device(device);
        let stream = api.stream();
        buffers.push((stream, api.upload(&value(device, 0).to_le_bytes(), stream)));
    }
    assert_eq!(api.ncclGroupStart(), 0);
    for (comm, (stream, buffer)) in comms.iter().zip(&buffers) {
        assert_eq!(api.ncclAllReduce(*buffer, *buffer, 1, I32, SUM, *comm, *stream), 0);
    }
    assert_eq!(api.ncclGroupEnd(), 0);
    for (comm, (stream, buffer)) in comms.iter().zip(&buffers) {
        let sum: i32 = (4..7).map(|device| value(device, 0)).sum();
        assert_eq!(api.download(*buffer, 4, *stream), sum.to_le_bytes());
        assert_eq!(api.ncclCommDestroy(*comm), 0);
    }
}
