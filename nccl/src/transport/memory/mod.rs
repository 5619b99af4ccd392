//! Links through memory: between threads of one process, and between processes of one host.
//!
//! Both are the same ring of cells in a [`Region`](region::Region); what differs is where the
//! region lies (heap or `memfd`) and how a large message is read straight from the sender's
//! buffer (by pointer, by `process_vm_readv`, or not at all).

mod doorbell;
mod fences;
mod layout;
mod link;
mod offer;
mod probe;
mod region;
mod remote;

pub(crate) use doorbell::Doorbell;
pub(crate) use layout::Geometry;
pub(crate) use link::MemoryLink;
pub(crate) use link::Side;
pub(crate) use probe::Probe;
pub(crate) use region::Region;
pub(crate) use remote::RemoteRead;
