//! The command `nccl`.
fn main() {}
