//! The fakes themselves: everything here passes against fakes only, and says nothing about CUDA or
//! NCCL.

mod api;
mod cases;
mod collectives;
mod driver;
mod knobs;
mod versions;
mod world;
