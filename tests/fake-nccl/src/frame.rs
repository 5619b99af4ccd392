//! Messages between two ranks: a head of fixed size, then the bytes.

use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::codec::Reader;
use crate::codec::Writer;
use crate::op::Call;

/// What a message is.
pub(crate) const COLLECTIVE: u64 = 1;
pub(crate) const PAIR: u64 = 2;
pub(crate) const ACK: u64 = 3;
pub(crate) const TALK: u64 = 4;
pub(crate) const BYE: u64 = 5;
pub(crate) const PUT: u64 = 6;
pub(crate) const HELLO: u64 = 7;

/// What two ranks must agree upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Desc {
    pub(crate) kind: u64,
    pub(crate) count: u64,
    pub(crate) dtype: u64,
    pub(crate) op: u64,
    pub(crate) root: u64,
}

/// What precedes the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    pub(crate) what: u64,
    pub(crate) seq: u64,
    pub(crate) desc: Desc,
    /// The factor of a pre-multiplied sum, as the bits of the element; or an offset in a window.
    pub(crate) extra: u64,
}

const HEAD_BYTES: usize = 9 * 8;

impl Desc {
    /// The description of an operation. All pre-multiplied sums count as the same op, since each
    /// rank has its own handle.
    pub(crate) fn of(call: &Call) -> Self {
        let number = |number: i32| u64::try_from(number).unwrap_or_default();
        let op = if call.reduces() { number(call.op.min(5)) } else { 0 };
        let root = if call.has_root() { number(call.root) } else { 0 };
        Self {
            kind: call.kind as u64,
            count: call.count as u64,
            dtype: number(call.dtype),
            op,
            root,
        }
    }
}

/// Writes a message.
pub(crate) fn write(mut to: &UnixStream, head: &Head, bytes: &[u8]) -> io::Result<()> {
    let mut text = Writer::default();
    text.number(head.what).number(head.seq).number(head.extra);
    let Desc { kind, count, dtype, op, root } = head.desc;
    text.number(kind)
        .number(count)
        .number(dtype)
        .number(op)
        .number(root)
        .number(bytes.len() as u64);
    to.write_all(&text.0)?;
    to.write_all(bytes)
}

/// Reads a message.
pub(crate) fn read(mut from: &UnixStream) -> io::Result<(Head, Vec<u8>)> {
    let mut text = [0; HEAD_BYTES];
    from.read_exact(&mut text)?;
    let mut reader = Reader(&text);
    let mut number = || reader.number().unwrap_or_default();
    let (what, seq, extra) = (number(), number(), number());
    let desc =
        Desc { kind: number(), count: number(), dtype: number(), op: number(), root: number() };
    let mut bytes = vec![0; usize::try_from(number()).unwrap_or_default()];
    from.read_exact(&mut bytes)?;
    Ok((Head { what, seq, desc, extra }, bytes))
}
