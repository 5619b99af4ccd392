//! Sockets without a protocol: interfaces, names, listening, connecting with a deadline.

pub(crate) mod interfaces;
