//! Messages to bytes and back: little-endian, every length checked before anything is allocated.
//! No socket, no clock, no thread.

mod codec;
pub(crate) mod control;
mod control_failure;
mod control_mesh;
mod control_peer;
pub(crate) mod store;
mod store_parse;

pub(crate) use codec::Malformed;
pub(crate) use codec::Reader;
pub(crate) use codec::Writer;
pub(crate) use control_mesh::MESH_HELLO_BYTES;
pub(crate) use control_mesh::MESH_MAGIC;
pub(crate) use control_mesh::MeshHello;
pub(crate) use control_peer::Peer;
pub(crate) use store_parse::RequestParser;
