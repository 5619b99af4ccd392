//! The first bytes of a data connection.

use super::Malformed;
use super::Reader;
use super::Writer;
use super::control_failure::write_rank;
use super::control_peer::array;
use super::control_peer::rank;

/// How every data connection begins; the last byte is the version.
pub(crate) const MESH_MAGIC: [u8; 8] = *b"NCCLRSM1";
/// Bytes of a hello, always the same.
pub(crate) const MESH_HELLO_BYTES: usize = 48;

/// Says which link of which group a data connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MeshHello {
    /// The world's random number, which only its ranks know.
    pub(crate) token: [u8; 16],
    /// The group.
    pub(crate) group: u64,
    /// The world rank that connects.
    pub(crate) from: usize,
    /// The world rank that accepts.
    pub(crate) to: usize,
    /// The channel of the group.
    pub(crate) channel: u16,
    /// Which of several parallel connections of the link this is.
    pub(crate) lane: u16,
    /// How many there are.
    pub(crate) lanes: u16,
    /// What is spoken on it, as the transports number it.
    pub(crate) kind: u8,
}

impl MeshHello {
    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; MESH_HELLO_BYTES] {
        let writer = Writer::new().raw(&MESH_MAGIC).raw(&self.token).u64(self.group);
        let writer = write_rank(write_rank(writer, self.from), self.to);
        let writer =
            writer.u16(self.channel).u16(self.lane).u16(self.lanes).u8(self.kind).u8(0).finish();
        let mut bytes = [0; MESH_HELLO_BYTES];
        for (to, from) in bytes.iter_mut().zip(writer) {
            *to = from;
        }
        bytes
    }

    /// What the bytes say.
    pub(crate) fn decode(bytes: &[u8; MESH_HELLO_BYTES]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        if from.take(MESH_MAGIC.len())? != MESH_MAGIC {
            return Err(Malformed("not a data connection of ours"));
        }
        let hello = Self {
            token: array(&mut from)?,
            group: from.u64()?,
            from: rank(&mut from)?,
            to: rank(&mut from)?,
            channel: from.u16()?,
            lane: from.u16()?,
            lanes: from.u16()?,
            kind: from.u8()?,
        };
        if from.u8()? != 0 {
            return Err(Malformed("a reserved byte is set"));
        }
        from.end()?;
        Ok(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_the_wire_and_garbage_does_not() {
        let hello = MeshHello {
            token: [9; 16],
            group: u64::MAX - 3,
            from: 5,
            to: 70_000,
            channel: 2,
            lane: 3,
            lanes: 4,
            kind: 250,
        };
        let bytes = hello.encode();
        assert_eq!(MeshHello::decode(&bytes), Ok(hello));
        let mut bad = bytes;
        bad[0] ^= 1;
        assert!(MeshHello::decode(&bad).is_err());
        let mut bad = bytes;
        bad[MESH_HELLO_BYTES - 1] = 1;
        assert!(MeshHello::decode(&bad).is_err());
    }
}
