//! The bounds of a server.

use std::time::Duration;

/// What a [`TcpStoreServer`](crate::store::TcpStoreServer) takes before it closes a connection.
///
/// The defaults suit jobs of many thousand ranks.
///
/// ```
/// use nccl::store::ServerLimits;
///
/// let limits = ServerLimits::default().max_bytes(64 << 20);
/// assert_eq!(limits.stored_bytes(), 64 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    pub(super) max_bytes: usize,
    pub(super) handshake: Duration,
    pub(super) frame: Duration,
    pub(super) stall: Duration,
    pub(super) max_answer_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            handshake: Duration::from_secs(5),
            frame: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            max_answer_bytes: 64 << 20,
        }
    }
}

impl ServerLimits {
    /// Bounds what all keys and values together take, 1 GiB by default. A request that would
    /// exceed it closes its connection; reading and deleting go on.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bounds how long a new connection may be silent, 5 s by default.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }

    /// Bounds how long a request may take from its first byte to its last, 30 s by default.
    #[must_use]
    pub fn frame_timeout(mut self, timeout: Duration) -> Self {
        self.frame = timeout;
        self
    }

    /// Bounds how long a client may take no byte of an answer, 30 s by default.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall = timeout;
        self
    }

    /// What all keys and values together may take, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.max_bytes
    }
}
