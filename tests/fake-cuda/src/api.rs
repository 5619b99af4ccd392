//! The exported functions, by subject.

mod context;
mod copy;
mod device;
mod event;
mod graph;
mod lookup;
mod memory;
mod private;
mod stream;
