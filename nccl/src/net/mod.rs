//! Sockets without a protocol: interfaces, names, listening, connecting with a deadline.

mod backoff;
mod connect;
pub(crate) mod interfaces;
mod listen;
mod poller;
mod port_owner;
mod resolve;

pub(crate) use backoff::Backoff;
pub(crate) use connect::connect_any;
pub(crate) use connect::is_passing;
pub(crate) use listen::listen;
pub(crate) use listen::widen_backlog;
pub(crate) use poller::Interest;
pub(crate) use poller::Poller;
pub(crate) use poller::Ready;
pub(crate) use poller::timespec;
pub(crate) use resolve::resolve;
