//! The cause of a group's failure as bytes.

use std::time::Duration;

use super::Malformed;
use super::Reader;
use super::Writer;
use super::control_peer::cut;
use super::control_peer::rank;
use super::control_peer::text;
use crate::desc::OpDesc;
use crate::error::Absent;
use crate::error::Failure;

/// The longest sentence in a cause.
const WHY_BYTES: usize = 4096;
/// The longest name of a host, and sentence about one rank.
const NOTE_BYTES: usize = 256;
/// The least and the most bytes of one absent rank.
const ABSENT_MIN_BYTES: usize = 24;
const ABSENT_MAX_BYTES: usize = ABSENT_MIN_BYTES + 2 * NOTE_BYTES;
/// How many absent ranks fit into a message with certainty.
const ABSENT_CERTAIN: usize = 80;
const _: () = assert!(ABSENT_CERTAIN * ABSENT_MAX_BYTES < 48 << 10);

/// Appends a cause to a message.
pub(super) fn write_failure(to: Writer, failure: &Failure) -> Writer {
    match failure {
        Failure::PeerLost { rank, host, pid, why } => write_rank(to.u8(1), *rank)
            .str(cut(host, NOTE_BYTES))
            .u32(*pid)
            .str(cut(why, WHY_BYTES)),
        Failure::Mismatch { first, second } => {
            let to = write_desc(write_rank(to.u8(2), first.0), &first.1);
            write_desc(write_rank(to, second.0), &second.1)
        }
        Failure::Timeout { origin, op, waited, absent } => {
            let to = write_desc(write_rank(to.u8(3), *origin), op);
            write_absent(write_duration(to, *waited), absent)
        }
        Failure::Aborted { rank, reason } => {
            write_rank(to.u8(4), *rank).str(cut(reason, WHY_BYTES))
        }
        Failure::Protocol { reporter, rank, what } => {
            write_rank(write_rank(to.u8(5), *reporter), *rank).str(cut(what, WHY_BYTES))
        }
    }
}

/// Takes a cause from a message.
pub(super) fn read_failure(from: &mut Reader<'_>) -> Result<Failure, Malformed> {
    Ok(match from.u8()? {
        1 => Failure::PeerLost {
            rank: rank(from)?,
            host: text(from, NOTE_BYTES)?,
            pid: from.u32()?,
            why: text(from, WHY_BYTES)?,
        },
        2 => Failure::Mismatch {
            first: (rank(from)?, read_desc(from)?),
            second: (rank(from)?, read_desc(from)?),
        },
        3 => Failure::Timeout {
            origin: rank(from)?,
            op: read_desc(from)?,
            waited: read_duration(from)?,
            absent: read_absent(from)?,
        },
        4 => Failure::Aborted { rank: rank(from)?, reason: text(from, WHY_BYTES)? },
        5 => Failure::Protocol {
            reporter: rank(from)?,
            rank: rank(from)?,
            what: text(from, WHY_BYTES)?,
        },
        _ => return Err(Malformed("an unknown cause of failure")),
    })
}

/// Appends an operation.
pub(super) fn write_desc(to: Writer, desc: &OpDesc) -> Writer {
    to.u32(desc.seq)
        .u8(desc.kind)
        .u8(desc.dtype)
        .u8(desc.op)
        .u8(desc.flags)
        .u32(desc.root)
        .u64(desc.count)
}

/// Takes an operation.
pub(super) fn read_desc(from: &mut Reader<'_>) -> Result<OpDesc, Malformed> {
    Ok(OpDesc {
        seq: from.u32()?,
        kind: from.u8()?,
        dtype: from.u8()?,
        op: from.u8()?,
        flags: from.u8()?,
        root: from.u32()?,
        count: from.u64()?,
    })
}

/// Appends a rank.
pub(super) fn write_rank(to: Writer, rank: usize) -> Writer {
    to.u32(u32::try_from(rank).unwrap_or(u32::MAX))
}

/// Appends a duration in microseconds.
pub(super) fn write_duration(to: Writer, duration: Duration) -> Writer {
    to.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Takes a duration.
pub(super) fn read_duration(from: &mut Reader<'_>) -> Result<Duration, Malformed> {
    Ok(Duration::from_micros(from.u64()?))
}

/// Appends who was absent; of very many only as many as fit.
fn write_absent(to: Writer, absent: &[Absent]) -> Writer {
    let shown = absent.len().min(ABSENT_CERTAIN);
    let mut to = to.usize(shown);
    for one in absent.iter().take(shown) {
        to = write_rank(to, one.rank)
            .str(cut(&one.host, NOTE_BYTES))
            .u32(one.pid)
            .str(cut(&one.doing, NOTE_BYTES));
    }
    to
}

fn read_absent(from: &mut Reader<'_>) -> Result<Vec<Absent>, Malformed> {
    let count = from.usize()?;
    if count > from.left() / ABSENT_MIN_BYTES {
        return Err(Malformed("more absent ranks than bytes for them"));
    }
    let mut absent = Vec::with_capacity(count);
    for _ in 0..count {
        let rank = rank(from)?;
        let host = text(from, NOTE_BYTES)?;
        let pid = from.u32()?;
        absent.push(Absent::new(rank, host, pid, text(from, NOTE_BYTES)?));
    }
    Ok(absent)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of every cause.
    pub(crate) fn samples() -> Vec<Failure> {
        let desc = OpDesc { seq: 9, kind: 1, dtype: 7, op: 1, flags: 0, root: 4, count: 1 << 40 };
        let absent = (0..3).map(|r| Absent::new(r, "h".into(), 70, format!("idle {r}"))).collect();
        vec![
            Failure::PeerLost { rank: 2, host: "h".into(), pid: 7, why: "is gone".into() },
            Failure::Mismatch { first: (0, desc), second: (1, OpDesc { count: 3, ..desc }) },
            Failure::Timeout { origin: 1, op: desc, waited: Duration::from_millis(2500), absent },
            Failure::Aborted { rank: 0, reason: "enough".into() },
            Failure::Protocol { reporter: 3, rank: 1, what: "a bad length".into() },
        ]
    }

    #[test]
    fn every_cause_survives_the_wire() {
        for failure in samples() {
            let bytes = write_failure(Writer::new(), &failure).finish();
            let mut reader = Reader::new(&bytes);
            assert_eq!(read_failure(&mut reader).unwrap(), failure);
            reader.end().unwrap();
        }
    }

    #[test]
    fn a_cause_of_any_size_fits_into_a_frame() {
        let op = OpDesc::default();
        let long = "\u{fc}".repeat(9000);
        let absent: Vec<_> =
            (0..5000).map(|r| Absent::new(r, long.clone(), 1, long.clone())).collect();
        let failure = Failure::Timeout { origin: 0, op, waited: Duration::MAX, absent };
        let bytes = write_failure(Writer::new(), &failure).finish();
        assert!(bytes.len() < 60 << 10, "{}", bytes.len());
        let mut reader = Reader::new(&bytes);
        assert!(read_failure(&mut reader).is_ok());
    }
}
