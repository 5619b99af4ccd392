//! Buffers that operations own while they run.
