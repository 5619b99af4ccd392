//! The record by which the ranks of a world know each other.

use std::net::SocketAddr;

use super::Malformed;
use super::Reader;
use super::Writer;
use crate::config::BackendChoice;

/// The longest text in a record.
const TEXT_BYTES: usize = 256;
/// The most addresses of one rank.
const ADDRESSES: usize = 16;

/// One rank of a world: where it runs and where it listens for data connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its rank in the world.
    pub(crate) rank: usize,
    /// Its host's name, up to the first dot.
    pub(crate) host: String,
    /// Equal on two ranks that share a kernel and a network namespace.
    pub(crate) host_id: String,
    /// Random number of its process: equal for ranks that are threads of one process.
    pub(crate) process_id: [u8; 16],
    /// Its process.
    pub(crate) pid: u32,
    /// The user it runs as.
    pub(crate) uid: u32,
    /// Where it accepts data connections by TCP.
    pub(crate) tcp: Vec<SocketAddr>,
    /// The abstract Unix socket where it accepts data connections; empty if it has none.
    pub(crate) unix: String,
    /// Its number among the ranks of its node, as its launcher said.
    pub(crate) local_rank: Option<u32>,
    /// The name of its node for layouts.
    pub(crate) node: String,
    /// Which backend it was told to use.
    pub(crate) wants: BackendChoice,
    /// Why it cannot use NCCL; empty if it can, as far as one process can tell.
    pub(crate) lacks: String,
}

impl Peer {
    /// `host h, pid 7`, for messages.
    pub(crate) fn place(&self) -> String {
        format!("host {}, pid {}", self.host, self.pid)
    }

    /// Whether both run on one host and reach each other's abstract sockets.
    pub(crate) fn same_host(&self, other: &Self) -> bool {
        self.host_id == other.host_id
    }

    /// Whether both are threads of one process.
    pub(crate) fn same_process(&self, other: &Self) -> bool {
        self.process_id == other.process_id && self.pid == other.pid
    }

    /// Appends the record to a message.
    pub(super) fn write(&self, to: Writer) -> Writer {
        let mut to = to
            .u32(u32::try_from(self.rank).unwrap_or(u32::MAX))
            .raw(&self.process_id)
            .u32(self.pid)
            .u32(self.uid)
            .u8(u8::from(self.local_rank.is_some()))
            .u32(self.local_rank.unwrap_or(0));
        to = to.u8(match self.wants {
            BackendChoice::Auto => 0,
            BackendChoice::Cpu => 1,
            BackendChoice::Nccl => 2,
        });
        for text in [&self.host, &self.host_id, &self.unix, &self.node, &self.lacks] {
            to = to.str(cut(text, TEXT_BYTES));
        }
        let shown = &self.tcp[..self.tcp.len().min(ADDRESSES)];
        to = to.usize(shown.len());
        for addr in shown {
            to = to.str(&addr.to_string());
        }
        to
    }

    /// Takes a record from a message.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let rank = rank(from)?;
        let process_id = array(from)?;
        let pid = from.u32()?;
        let uid = from.u32()?;
        let has_local = from.u8()? != 0;
        let local = from.u32()?;
        let wants = match from.u8()? {
            0 => BackendChoice::Auto,
            1 => BackendChoice::Cpu,
            2 => BackendChoice::Nccl,
            _ => return Err(Malformed("an unknown backend")),
        };
        let host = text(from, TEXT_BYTES)?;
        let host_id = text(from, TEXT_BYTES)?;
        let unix = text(from, TEXT_BYTES)?;
        let node = text(from, TEXT_BYTES)?;
        let lacks = text(from, TEXT_BYTES)?;
        let count = from.usize()?;
        if count > ADDRESSES {
            return Err(Malformed("too many addresses of one rank"));
        }
        let mut tcp = Vec::with_capacity(count);
        for _ in 0..count {
            let addr = text(from, TEXT_BYTES)?;
            tcp.push(addr.parse().map_err(|_| Malformed("an address that is none"))?);
        }
        let local_rank = has_local.then_some(local);
        Ok(Self {
            rank,
            host,
            host_id,
            process_id,
            pid,
            uid,
            tcp,
            unix,
            local_rank,
            node,
            wants,
            lacks,
        })
    }
}

/// The front of a text, at most `limit` bytes, whole characters.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// A text of at most `limit` bytes.
pub(super) fn text(from: &mut Reader<'_>, limit: usize) -> Result<String, Malformed> {
    let text = from.str()?;
    if text.len() > limit {
        return Err(Malformed("a text is too long"));
    }
    Ok(text.to_owned())
}

/// Sixteen bytes.
pub(super) fn array(from: &mut Reader<'_>) -> Result<[u8; 16], Malformed> {
    let mut array = [0; 16];
    array.copy_from_slice(from.take(16)?);
    Ok(array)
}

/// A rank.
pub(super) fn rank(from: &mut Reader<'_>) -> Result<usize, Malformed> {
    usize::try_from(from.u32()?).map_err(|_| Malformed("a rank is too large"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with every field set.
    pub(crate) fn sample(rank: usize) -> Peer {
        Peer {
            rank,
            host: "h\u{fc}tte".into(),
            host_id: "boot/4026531840".into(),
            process_id: [7; 16],
            pid: 4242,
            uid: 1000,
            tcp: vec!["10.0.0.7:4000".parse().unwrap(), "[fe80::1%3]:9".parse().unwrap()],
            unix: "nccl-rs-00ff".into(),
            local_rank: Some(3),
            node: "n1".into(),
            wants: BackendChoice::Nccl,
            lacks: "there is no driver".into(),
        }
    }

    #[test]
    fn a_record_survives_the_wire() {
        let poor = Peer { local_rank: None, tcp: vec![], wants: BackendChoice::Auto, ..sample(0) };
        for peer in [sample(5), poor] {
            let bytes = peer.write(Writer::new()).finish();
            let mut reader = Reader::new(&bytes);
            assert_eq!(Peer::read(&mut reader).unwrap(), peer);
            reader.end().unwrap();
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("a\u{fc}b", 2), "a");
        assert_eq!(cut("a\u{fc}b", 3), "a\u{fc}");
        assert_eq!(cut("ab", 9), "ab");
    }
}
