//! Where the ranks of a new communicator meet.

use core::ffi::c_char;
use core::fmt;

use nccl_sys::ncclUniqueId;

/// An id: one rank makes it with [`Nccl::unique_id`](crate::comm::Nccl::unique_id), and sends its
/// bytes to the others.
///
/// With the feature `serde` it can be part of messages.
///
/// ```
/// use nccl::comm::UniqueId;
///
/// let id = UniqueId::from_bytes([7; UniqueId::BYTES]);
/// assert_eq!(UniqueId::try_from(&id.to_bytes()[..]).ok(), Some(id));
/// assert!(UniqueId::try_from(&[1, 2, 3][..]).is_err());
/// ```
///
/// # Source
/// `ncclUniqueId` of nccl.h.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UniqueId([u8; Self::BYTES]);

impl UniqueId {
    /// How many bytes it has.
    pub const BYTES: usize = 128;

    /// Takes the bytes that another rank's [`UniqueId::to_bytes`] gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Gives the bytes to send.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    pub(super) fn from_raw(raw: &ncclUniqueId) -> Self {
        Self(raw.internal.map(|byte| byte.to_ne_bytes()[0]))
    }

    pub(super) fn to_raw(self) -> ncclUniqueId {
        ncclUniqueId { internal: self.0.map(|byte| c_char::from_ne_bytes([byte])) }
    }
}

/// Bytes that are no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an NCCL id has 128 bytes, and these are {0}")]
pub struct NotAnId(usize);

impl TryFrom<&[u8]> for UniqueId {
    type Error = NotAnId;

    fn try_from(bytes: &[u8]) -> Result<Self, NotAnId> {
        bytes.try_into().map(Self).map_err(|_| NotAnId(bytes.len()))
    }
}

/// The first bytes, which differ from id to id.
impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UniqueId(")?;
        for byte in self.0.iter().take(8) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..)")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for UniqueId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for UniqueId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = UniqueId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("128 bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<UniqueId, E> {
                UniqueId::try_from(bytes).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut all: A,
            ) -> Result<UniqueId, A::Error> {
                let mut bytes = Vec::with_capacity(UniqueId::BYTES);
                while let Some(byte) = all.next_element::<u8>()? {
                    bytes.push(byte);
                }
                UniqueId::try_from(&bytes[..]).map_err(serde::de::Error::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_the_c_struct_unchanged() {
        let bytes: [u8; 128] = core::array::from_fn(|at| u8::try_from(at * 2).unwrap_or(255));
        let id = UniqueId::from_bytes(bytes);
        assert_eq!(UniqueId::from_raw(&id.to_raw()), id);
        assert_eq!(format!("{id:?}"), "UniqueId(00020406080a0c0e..)");
    }
}
