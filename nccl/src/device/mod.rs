//! Operations on device memory: what is checked before a backend gets them.

mod call;

pub(crate) use call::DeviceBackend;
pub(crate) use call::DeviceCall;
