//! Communicators against the fake libnccl: what passes here says nothing about NCCL, but that we
//! keep to its rules, as far as the fake checks them.
//!
//! Each test runs a case in a child of its own, since the libraries, and how they misbehave, are a
//! process's. In the children a violation of NCCL's rules aborts.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod cases;
mod child;
mod children;
mod failures;
mod functions;
mod groups;
mod lifecycle;
mod memory;
mod process;
mod versions;
mod world;
