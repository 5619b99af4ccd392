//! What the tests of several ranks share.

pub mod faults;
