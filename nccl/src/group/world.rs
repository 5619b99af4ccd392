//! What all groups of one process and world share.

use std::sync::Arc;
use std::sync::OnceLock;

use super::nccl::WithNccl;
use crate::backend::cpu::CpuOptions;
use crate::control::Control;
use crate::schedule::Tuning;
use crate::store::SharedStore;
use crate::store::TcpStoreServer;

/// The world: store, control plane, settings. Gone with its last group.
pub(super) struct World {
    pub(super) control: Option<Arc<Control>>,
    pub(super) store: SharedStore,
    pub(super) options: CpuOptions,
    pub(super) tuning: Tuning,
    pub(super) local_rank: usize,
    /// NCCL, if the ranks have agreed on it.
    pub(super) nccl: OnceLock<WithNccl>,
    /// Bytes of one pinned buffer between device and host.
    pub(super) stage_bytes: usize,
    /// The server, if this process has it. Behind `control`, so that it ends last.
    pub(super) _server: Option<TcpStoreServer>,
}
