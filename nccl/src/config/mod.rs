//! Settings: the one table of environment variables, and what launchers say.
//!
//! Everything is read from an [`Env`], a snapshot of the process's environment with NCCL's
//! configuration files below it, or a map that a test wrote. Two things come out of it:
//! [`Settings`], how the library behaves, and [`Launch`], which process of the job this is and
//! where its ranks meet.
//!
//! ```
//! use nccl::config::Env;
//! use nccl::config::Launch;
//! use nccl::config::Settings;
//!
//! let env = Env::empty().with("RANK", "1").with("WORLD_SIZE", "2");
//! let env = env.with("MASTER_ADDR", "node0").with("MASTER_PORT", "29500");
//! let launch = Launch::from_env(&env)?;
//! assert_eq!((launch.rank, launch.world_size), (1, 2));
//! assert_eq!(Settings::from_env(&env)?.timeouts.operation.as_secs(), 600);
//! # Ok::<(), nccl::Error>(())
//! ```

mod address;
mod conf;
mod device;
mod doc;
mod env;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod hostlist;
mod init_method;
mod launch;
mod number;
mod parse;
mod rendezvous;
mod settings;
mod spec;
mod var;
pub mod vars;

pub use address::HostPort;
pub use device::DeviceSpec;
pub use device::Visible;
pub use device::VisibleEnd;
pub use device::VisibleEntry;
pub use doc::environment_markdown;
pub use env::Env;
pub use init_method::InitMethod;
pub use launch::Launch;
pub use launch::Launcher;
pub(crate) use launch::pmi;
pub use rendezvous::Rendezvous;
pub use rendezvous::Server;
pub use settings::DebugSettings;
pub use settings::NetSettings;
pub use settings::Settings;
pub use settings::TimeoutSettings;
pub use settings::TransportSettings;
pub use spec::AlgoSpec;
pub use spec::BackendChoice;
pub use spec::DebugLevel;
pub use spec::IfSpec;
pub use spec::SocketFamily;
pub use spec::Subsystems;
pub use spec::TransportChoice;
pub use var::OnBad;
pub use var::Row;
pub use var::Var;
pub use vars::table;
