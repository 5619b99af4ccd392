//! The exported functions, by subject.

mod collectives;
mod comm;
mod group;
mod init;
mod make;
mod memory;
mod missing;
mod one_sided;
mod params;
mod version;
