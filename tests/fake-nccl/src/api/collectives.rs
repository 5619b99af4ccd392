//! Collectives and messages, with and without a configuration.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use crate::fail::Outcome;
use crate::ffi::Out;
use crate::ffi::api;
use crate::group;
use crate::op::Call;
use crate::op::Kind;
use crate::op::SUM;

/// What the functions have in common; each sets what it has besides.
fn call(function: &'static str, kind: Kind, buffers: [usize; 2], count: usize, dtype: i32) -> Call {
    let [send, recv] = buffers;
    Call { function, kind, send, recv, count, dtype, op: SUM, root: 0, signal: None, own: None }
}

fn issue(call: Call, comm: usize, stream: usize) -> Outcome {
    group::issue(comm, call, stream)
}

api! {
    fn ncclAllReduce(send: usize, recv: usize, count: usize, dtype: i32, op: i32, comm: usize, stream: usize) {
        let call = call("ncclAllReduce", Kind::AllReduce, [send, recv], count, dtype);
        issue(Call { op, ..call }, comm, stream)
    }

    fn ncclAllReduceConfig(send: usize, recv: usize, count: usize, dtype: i32, op: i32, comm: usize, stream: usize, _config: Out<u8>) {
        let call = call("ncclAllReduceConfig", Kind::AllReduce, [send, recv], count, dtype);
        issue(Call { op, ..call }, comm, stream)
    }

    fn ncclBroadcast(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize) {
        let call = call("ncclBroadcast", Kind::Broadcast, [send, recv], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclBroadcastConfig(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize, _config: Out<u8>) {
        let call = call("ncclBroadcastConfig", Kind::Broadcast, [send, recv], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclBcast(buffer: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize) {
        let call = call("ncclBcast", Kind::Broadcast, [buffer, buffer], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclReduce(send: usize, recv: usize, count: usize, dtype: i32, op: i32, root: i32, comm: usize, stream: usize) {
        let call = call("ncclReduce", Kind::Reduce, [send, recv], count, dtype);
        issue(Call { op, root, ..call }, comm, stream)
    }

    fn ncclReduceConfig(send: usize, recv: usize, count: usize, dtype: i32, op: i32, root: i32, comm: usize, stream: usize, _config: Out<u8>) {
        let call = call("ncclReduceConfig", Kind::Reduce, [send, recv], count, dtype);
        issue(Call { op, root, ..call }, comm, stream)
    }

    fn ncclAllGather(send: usize, recv: usize, count: usize, dtype: i32, comm: usize, stream: usize) {
        issue(call("ncclAllGather", Kind::AllGather, [send, recv], count, dtype), comm, stream)
    }

    fn ncclAllGatherConfig(send: usize, recv: usize, count: usize, dtype: i32, comm: usize, stream: usize, _config: Out<u8>) {
        issue(call("ncclAllGatherConfig", Kind::AllGather, [send, recv], count, dtype), comm, stream)
    }

    fn ncclReduceScatter(send: usize, recv: usize, count: usize, dtype: i32, op: i32, comm: usize, stream: usize) {
        let call = call("ncclReduceScatter", Kind::ReduceScatter, [send, recv], count, dtype);
        issue(Call { op, ..call }, comm, stream)
    }

    fn ncclReduceScatterConfig(send: usize, recv: usize, count: usize, dtype: i32, op: i32, comm: usize, stream: usize, _config: Out<u8>) {
        let call = call("ncclReduceScatterConfig", Kind::ReduceScatter, [send, recv], count, dtype);
        issue(Call { op, ..call }, comm, stream)
    }

    fn ncclAlltoAll(send: usize, recv: usize, count: usize, dtype: i32, comm: usize, stream: usize) {
        issue(call("ncclAlltoAll", Kind::AllToAll, [send, recv], count, dtype), comm, stream)
    }

    fn ncclAlltoAllConfig(send: usize, recv: usize, count: usize, dtype: i32, comm: usize, stream: usize, _config: Out<u8>) {
        issue(call("ncclAlltoAllConfig", Kind::AllToAll, [send, recv], count, dtype), comm, stream)
    }

    fn ncclGather(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize) {
        let call = call("ncclGather", Kind::Gather, [send, recv], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclGatherConfig(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize, _config: Out<u8>) {
        let call = call("ncclGatherConfig", Kind::Gather, [send, recv], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclScatter(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize) {
        let call = call("ncclScatter", Kind::Scatter, [send, recv], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclScatterConfig(send: usize, recv: usize, count: usize, dtype: i32, root: i32, comm: usize, stream: usize, _config: Out<u8>) {
        let call = call("ncclScatterConfig", Kind::Scatter, [send, recv], count, dtype);
        issue(Call { root, ..call }, comm, stream)
    }

    fn ncclSend(send: usize, count: usize, dtype: i32, peer: i32, comm: usize, stream: usize) {
        let call = call("ncclSend", Kind::Send, [send, 0], count, dtype);
        issue(Call { root: peer, ..call }, comm, stream)
    }

    fn ncclRecv(recv: usize, count: usize, dtype: i32, peer: i32, comm: usize, stream: usize) {
        let call = call("ncclRecv", Kind::Recv, [0, recv], count, dtype);
        issue(Call { root: peer, ..call }, comm, stream)
    }
}
