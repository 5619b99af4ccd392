//! Messages to bytes and back: little-endian, every length checked before anything is allocated.
//! No socket, no clock, no thread.

mod codec;
pub(crate) mod store;
mod store_parse;

pub(crate) use codec::Malformed;
pub(crate) use codec::Reader;
pub(crate) use codec::Writer;
pub(crate) use store_parse::RequestParser;
