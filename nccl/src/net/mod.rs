//! Sockets without a protocol: interfaces, names, listening, connecting with a deadline.
