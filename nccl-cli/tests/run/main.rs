//! Runs the built binary with small shell programs as ranks.
//!
//! Every wait is bounded: a launcher that hangs fails its test.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod environment;
mod failures;
mod helpers;
mod left_behind;
mod output;
mod signals;
