//! From a caller's arguments to a checked call.

use super::call::DeviceCall;
use super::span::Span;
use crate::count;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceStream;
use crate::desc::Kind;
use crate::dtype::DataType;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::rank::Member;

/// What every argument is checked against.
#[derive(Debug)]
pub(super) struct Front<'a, S: DeviceStream + ?Sized> {
    pub(super) member: Member,
    pub(super) stream: &'a S,
}

impl<S: DeviceStream + ?Sized> Clone for Front<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: DeviceStream + ?Sized> Copy for Front<'_, S> {}

/// A checked call, with what keeps its buffers until it is enqueued.
pub(super) struct Made<'a, L> {
    pub(super) call: DeviceCall<'a>,
    pub(super) reads: Span,
    pub(super) writes: Span,
    pub(super) lease: L,
}

/// What a call is, but for its buffers.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    /// The name of the method.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) op: Option<ReduceOp>,
    pub(super) root: usize,
    pub(super) count: usize,
    pub(super) send_counts: &'a [usize],
    pub(super) recv_counts: &'a [usize],
}

impl<'a> Draft<'a> {
    /// A call without reduction and root.
    pub(super) fn new(kind: Kind, count: usize) -> Self {
        let name = kind.name();
        Self { name, kind, op: None, root: 0, count, send_counts: &[], recv_counts: &[] }
    }

    /// With a reduction.
    pub(super) fn reducing(self, op: ReduceOp) -> Self {
        Self { op: Some(op), ..self }
    }

    /// With a root or a peer.
    pub(super) fn rooted(self, root: usize) -> Self {
        Self { root, ..self }
    }

    /// With counts by rank.
    pub(super) fn counts(self, send_counts: &'a [usize], recv_counts: &'a [usize]) -> Self {
        Self { send_counts, recv_counts, ..self }
    }

    fn call(self, dtype: DataType) -> Result<DeviceCall<'a>> {
        let Self { name, kind, op, root, count, send_counts, recv_counts } = self;
        if let Some(op) = op {
            count::check_op(name, op, dtype)?;
        }
        let (send, recv, in_place) = (0, 0, false);
        Ok(DeviceCall {
            kind,
            dtype,
            op,
            root,
            count,
            send,
            recv,
            in_place,
            send_counts,
            recv_counts,
        })
    }
}

impl<'a, S: DeviceStream + ?Sized> Front<'a, S> {
    /// A call with an input and an output, either of which may be missing on this rank.
    pub(super) fn two<A, B>(
        self,
        draft: Draft<'a>,
        send: Option<&'a A>,
        recv: Option<&'a mut B>,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A, B>>>
    where
        A: DeviceBuf<S>,
        B: DeviceBufMut<S>,
    {
        let op = draft.name;
        let input = send.map(|send| self.bytes(op, "send", send)).transpose()?;
        let output = recv.as_deref().map(|recv| self.bytes(op, "recv", recv)).transpose()?;
        let dtype = match (input, output) {
            (Some((one, _)), Some((other, _))) if one != other => {
                let problem = format!("`send` holds {one} elements and `recv` {other}");
                return Err(Error::Usage { op, problem });
            }
            (Some((dtype, _)), _) | (None, Some((dtype, _))) => dtype,
            (None, None) => DataType::U8,
        };
        let call = draft.call(dtype)?;
        let send = send.map(|send| send.lease(self.stream));
        let recv = recv.map(|recv| recv.lease_mut(self.stream));
        let at = send.as_ref().map_or(0, |lease| lease.as_raw());
        let reads = span(op, "send", at, input)?;
        let at = recv.as_ref().map_or(0, |lease| lease.as_raw());
        let writes = span(op, "recv", at, output)?;
        let call = placed(call, op, &reads, &writes, self.member.rank)?;
        Ok(Made { call, reads, writes, lease: (send, recv) })
    }

    /// A call with one buffer for input and output.
    pub(super) fn in_place<B: DeviceBufMut<S>>(
        self,
        draft: Draft<'a>,
        buf: &'a mut B,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let op = draft.name;
        let bytes = self.bytes(op, "buf", buf)?;
        let call = draft.call(bytes.0)?;
        let lease = buf.lease_mut(self.stream);
        let writes = span(op, "buf", lease.as_raw(), Some(bytes))?;
        // Of an all-gather, this rank's part is the input.
        let part =
            if call.kind == Kind::AllGather { part_bytes(&call, self.member.rank) } else { 0 };
        let send = writes.at.saturating_add(part);
        let call = DeviceCall { send, recv: writes.at, in_place: true, ..call };
        Ok(Made { call, reads: Span::NONE, writes, lease })
    }

    /// A message that is sent.
    pub(super) fn sent<A: DeviceBuf<S>>(
        self,
        draft: Draft<'a>,
        buf: &'a A,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, A>>> {
        let op = draft.name;
        let bytes = self.bytes(op, "buf", buf)?;
        let call = draft.call(bytes.0)?;
        let lease = buf.lease(self.stream);
        let reads = span(op, "buf", lease.as_raw(), Some(bytes))?;
        Ok(Made { call: DeviceCall { send: reads.at, ..call }, reads, writes: Span::NONE, lease })
    }

    /// A message that is received.
    pub(super) fn received<B: DeviceBufMut<S>>(
        self,
        draft: Draft<'a>,
        buf: &'a mut B,
    ) -> Result<Made<'a, impl Sized + 'a + use<'a, S, B>>> {
        let op = draft.name;
        let bytes = self.bytes(op, "buf", buf)?;
        let call = draft.call(bytes.0)?;
        let lease = buf.lease_mut(self.stream);
        let writes = span(op, "buf", lease.as_raw(), Some(bytes))?;
        Ok(Made { call: DeviceCall { recv: writes.at, ..call }, reads: Span::NONE, writes, lease })
    }

    /// The type and the bytes of a buffer, which is on the stream's device.
    fn bytes<B: DeviceBuf<S>>(
        self,
        op: &'static str,
        name: &str,
        buf: &B,
    ) -> Result<(DataType, usize)> {
        let (buffer, stream) = (buf.device_ordinal(), self.stream.device_ordinal());
        if buffer != stream {
            let problem =
                format!("`{name}` is on device {buffer} and the stream on device {stream}");
            return Err(Error::Usage { op, problem });
        }
        let dtype = buf.dtype();
        Ok((dtype, count::bytes(op, buf.count(), dtype)?))
    }
}

/// Where an argument is: not at address zero, unless it is empty.
fn span(
    op: &'static str,
    name: &'static str,
    at: u64,
    argument: Option<(DataType, usize)>,
) -> Result<Span> {
    let Some((_, bytes)) = argument else { return Ok(Span::NONE) };
    if at == 0 && bytes > 0 {
        let problem = format!("`{name}` is at address 0, where no device memory is");
        return Err(Error::Usage { op, problem });
    }
    Ok(Span { name, at, bytes: bytes as u64 })
}

/// The bytes before the part of a rank. Inside of a buffer whose bytes were checked, or behind its
/// end by less than its own size.
fn part_bytes(call: &DeviceCall<'_>, rank: usize) -> u64 {
    let bytes = call.count.saturating_mul(call.dtype.size_bytes()).saturating_mul(rank);
    bytes as u64
}

/// With the addresses; an input that lies in the output's memory must be exactly where that of a
/// call in place is.
fn placed<'a>(
    call: DeviceCall<'a>,
    op: &'static str,
    reads: &Span,
    writes: &Span,
    rank: usize,
) -> Result<DeviceCall<'a>> {
    let apart = DeviceCall { send: reads.at, recv: writes.at, in_place: false, ..call };
    if !reads.overlaps(writes) {
        return Ok(apart);
    }
    let part = part_bytes(&call, rank);
    let whole = match call.kind {
        Kind::AllReduce | Kind::Reduce | Kind::AllToAll if reads.at == writes.at => Some(writes.at),
        Kind::AllGather | Kind::Gather if writes.at.checked_add(part) == Some(reads.at) => {
            Some(writes.at)
        }
        Kind::ReduceScatter | Kind::Scatter if reads.at.checked_add(part) == Some(writes.at) => {
            Some(reads.at)
        }
        _ => None,
    };
    if let Some(recv) = whole {
        return Ok(DeviceCall { recv, in_place: true, ..apart });
    }
    let advice = match call.kind {
        Kind::AllReduce | Kind::Reduce | Kind::AllToAll => {
            "give separate buffers, or the same for both"
        }
        Kind::AllGather | Kind::Gather => {
            "give separate buffers, or as `send` this rank's part of `recv`"
        }
        Kind::ReduceScatter | Kind::Scatter => {
            "give separate buffers, or as `recv` this rank's part of `send`"
        }
        _ => "give separate buffers",
    };
    Err(Error::Usage { op, problem: format!("{reads} and {writes} overlap; {advice}") })
}
