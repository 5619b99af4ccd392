//! Operations on device memory: what is checked before a backend gets them.
//!
//! [`OnStream`] has the methods of the host side for buffers on a GPU. Lengths, types, devices,
//! roots and overlaps are checked here, for all backends, before anything is enqueued; a backend
//! gets checked [`DeviceCall`]s.

mod batch;
mod call;
mod front;
mod on_stream;
mod pairs;
mod rooted;
mod span;
mod uneven;

pub use batch::StreamBatch;
pub use on_stream::OnStream;

pub(crate) use call::DeviceBackend;
pub(crate) use call::DeviceCall;
