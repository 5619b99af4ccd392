//! What the user chose about transports.

/// Settings of the CPU backend, from the environment or a builder.
#[derive(Clone, Debug)]
pub(crate) struct CpuOptions {
    /// Shared memory between processes of one host (`NCCL_SHM_DISABLE` is not set).
    pub(crate) shm: bool,
    /// Reading a peer's memory directly (`NCCL_P2P_DISABLE` is not set).
    pub(crate) direct: bool,
    /// The one transport to use, if the user insists.
    pub(crate) force: Option<Forced>,
    /// Sockets for one peer.
    pub(crate) lanes: u16,
    /// Messages from so many bytes on are read in place where that works.
    pub(crate) single_copy_bytes: usize,
    /// Bytes of a slot between two processes; by the number of local ranks if not given.
    pub(crate) slot_bytes: Option<usize>,
}

/// A transport that the user insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forced {
    /// Memory; an error where that cannot be.
    Shm,
    /// Sockets, also between threads of one process.
    Tcp,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            shm: true,
            direct: true,
            force: None,
            lanes: 1,
            single_copy_bytes: 64 << 10,
            slot_bytes: None,
        }
    }
}
