//! The fakes themselves: everything here passes against fakes only, and says nothing about CUDA or
//! NCCL.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers in every type"
)]
#![expect(clippy::too_many_arguments, reason = "NCCL's functions have so many")]

mod api;
mod cases;
mod collectives;
mod driver;
mod knobs;
mod versions;
mod world;
