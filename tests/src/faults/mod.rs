//! Worlds that go wrong on purpose: operations by name, ranks as processes, what a machine holds.

mod call;
mod checked;
mod machine;
mod threads_of;
mod words;
mod world;

pub use call::Call;
pub use checked::KINDS;
pub use checked::checked;
pub use machine::Held;
pub use machine::free_port;
pub use threads_of::threads_of;
pub use words::plain;
pub use world::Line;
pub use world::World;
