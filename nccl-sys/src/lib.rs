//! Raw NCCL.

/// Why libnccl could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("no usable libnccl: {tried}")]
#[non_exhaustive]
pub struct LoadError {
    /// Every path tried with what the linker said.
    pub tried: String,
}
