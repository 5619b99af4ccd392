//! What the tests of this package share: worlds of threads and of processes, an oracle for every
//! collective, the cases that are compared with it, ranks that are killed on purpose, and the headers
//! and libraries of real NCCLs.

pub mod cases;
pub mod fakes;
pub mod faults;
pub mod fp8;
pub mod matrix;
pub mod oracle;
pub mod processes;
pub mod threads;
pub mod wheels;
