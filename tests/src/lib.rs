//! What the tests of several ranks share.

pub mod faults;
//! What the tests of this package share: worlds of threads and of processes, an oracle for every
//! collective, and the cases that are compared with it.

pub mod cases;
pub mod fp8;
pub mod matrix;
pub mod oracle;
pub mod processes;
pub mod threads;
