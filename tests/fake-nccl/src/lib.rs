//! A fake `libnccl.so.2` for tests: NCCL's C ABI, without a GPU.
//!
//! Ranks are threads or processes of one host; bytes go over Unix sockets, and an operation runs as
//! a host function of the fake driver's stream, so it is as asynchronous as NCCL's, and hangs as
//! NCCL's when a rank does not come. It checks its caller as well: what would be undefined, or a
//! hang, with the real library is printed as `FAKE NCCL VIOLATION`. README.md lists what can be
//! made to go wrong.

mod api;
mod codec;
mod comm;
mod config;
mod cuda;
mod data;
mod exec;
mod fail;
mod ffi;
mod fold;
mod fp8;
mod frame;
mod group;
mod init;
mod knobs;
mod launch;
mod mesh;
mod op;
mod pairs;
mod rendezvous;
mod version;
mod watch;
mod window;
