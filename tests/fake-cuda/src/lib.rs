//! A fake `libcuda.so.1` for tests: the driver API's names and rules, without a GPU.
//!
//! Device memory is host memory, a stream is a thread with a queue, a graph is a list of closures.
//! What CUDA forbids (host memory where device memory belongs, a wait inside a capture, a destroyed
//! handle) is refused with CUDA's code. See README.md for what can be made to go wrong.

mod api;
mod capture;
mod code;
mod context;
mod device;
mod event;
mod ffi;
mod knobs;
mod memory;
mod registry;
mod stream;
