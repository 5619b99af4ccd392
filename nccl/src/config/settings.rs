//! How the library behaves: the variables' values, by topic.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::address::HostPort;
use crate::config::device::DeviceSpec;
use crate::config::env::Env;
use crate::config::spec::AlgoSpec;
use crate::config::spec::BackendChoice;
use crate::config::spec::DebugLevel;
use crate::config::spec::IfSpec;
use crate::config::spec::Subsystems;
use crate::config::spec::TransportChoice;
use crate::config::vars;
use crate::error::Result;

/// The most threads of one connection, as in NCCL.
const MAX_THREADS: usize = 16;
/// The most sockets of one connection, as in NCCL.
const MAX_SOCKETS: usize = 64;

/// Everything that the environment says about how the library behaves.
///
/// ```
/// use nccl::config::BackendChoice;
/// use nccl::config::Env;
/// use nccl::config::Settings;
///
/// let env = Env::empty().with("NCCL_RS_BACKEND", "cpu").with("NCCL_SHM_DISABLE", "1");
/// let settings = Settings::from_env(&env)?;
/// assert_eq!(settings.backend, BackendChoice::Cpu);
/// assert!(settings.transport.shm_disable);
/// assert!(Settings::from_env(&env.with("NCCL_RS_BACKEND", "gpu")).is_err());
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Which backend carries the collectives.
    pub backend: BackendChoice,
    /// The NCCL library to open, if one is named.
    pub nccl_lib: Option<PathBuf>,
    /// The CUDA driver library to open, if one is named.
    pub cuda_lib: Option<PathBuf>,
    /// The GPU of this rank, if it is not to follow from the local rank.
    pub device: Option<DeviceSpec>,
    /// Whether calls may wait inside NCCL.
    pub nccl_blocking: bool,
    /// Where rank 0 listens, if `NCCL_COMM_ID` says so.
    pub comm_id: Option<HostPort>,
    /// How long waits may last.
    pub timeouts: TimeoutSettings,
    /// How the CPU backend moves bytes.
    pub transport: TransportSettings,
    /// Interfaces and sockets.
    pub net: NetSettings,
    /// The log.
    pub debug: DebugSettings,
    /// What was ignored and why, one sentence each, for the log.
    pub notes: Vec<String>,
}

/// How long waits may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutSettings {
    /// Of one operation.
    pub operation: Duration,
    /// Of the making of a group.
    pub init: Duration,
    /// Of a peer's silence.
    pub heartbeat: Duration,
}

/// How the CPU backend moves bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportSettings {
    /// The transport for all peers, if one is forced.
    pub force: Option<TransportChoice>,
    /// Whether a peer's memory must not be read directly.
    pub p2p_disable: bool,
    /// Whether shared memory must not be used.
    pub shm_disable: bool,
    /// From how many bytes on a message is read straight from the peer's memory.
    pub cma_threshold_bytes: usize,
    /// Size of a slot of a shared-memory channel, if it is not to follow from the local ranks.
    pub shm_slot_bytes: Option<usize>,
    /// Size of the buffer between two ranks.
    pub buffer_bytes: usize,
    /// The network asked for by name.
    pub net: Option<String>,
    /// Which algorithms may be used.
    pub algo: AlgoSpec,
    /// Whether operations with a root end only when every rank has heard from every other one.
    pub check: bool,
}

/// Interfaces and sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetSettings {
    /// Which interfaces, and which family of addresses.
    pub interfaces: IfSpec,
    /// Threads of one connection, 1 to 16.
    pub socket_threads: usize,
    /// Sockets of each thread; threads times sockets is at most 64.
    pub sockets_per_thread: usize,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DebugSettings {
    /// How much.
    pub level: DebugLevel,
    /// Of what.
    pub subsystems: Subsystems,
    /// Where to, with `%h`, `%p` and `%%` as they were given; `None` is standard output.
    pub file: Option<String>,
}

impl Settings {
    /// Reads all settings.
    ///
    /// Values that NCCL ignores are ignored, noted in [`Settings::notes`] and logged as warnings.
    ///
    /// # Errors
    /// [`Error::Env`](crate::Error::Env) names the first variable of ours that cannot be what it
    /// says.
    pub fn from_env(env: &Env) -> Result<Self> {
        let mut notes = env.notes().to_vec();
        let settings = Self {
            backend: vars::BACKEND.read(env, &mut notes)?,
            nccl_lib: vars::NCCL_LIB.read(env, &mut notes)?,
            cuda_lib: vars::CUDA_LIB.read(env, &mut notes)?,
            device: vars::DEVICE.read(env, &mut notes)?,
            nccl_blocking: vars::NCCL_BLOCKING.read(env, &mut notes)?,
            comm_id: vars::COMM_ID.read(env, &mut notes)?,
            timeouts: TimeoutSettings {
                operation: vars::TIMEOUT_MS.read(env, &mut notes)?,
                init: vars::INIT_TIMEOUT_MS.read(env, &mut notes)?,
                heartbeat: vars::HEARTBEAT_TIMEOUT_MS.read(env, &mut notes)?,
            },
            transport: transport(env, &mut notes)?,
            net: net(env, &mut notes)?,
            debug: DebugSettings {
                level: vars::DEBUG.read(env, &mut notes)?,
                subsystems: vars::DEBUG_SUBSYS.read(env, &mut notes)?,
                file: vars::DEBUG_FILE.read(env, &mut notes)?,
            },
            notes,
        };
        for note in &settings.notes {
            log::warn!(target: "nccl::env", "{note}");
        }
        Ok(settings)
    }
}

fn transport(env: &Env, notes: &mut Vec<String>) -> Result<TransportSettings> {
    Ok(TransportSettings {
        force: vars::TRANSPORT.read(env, notes)?,
        p2p_disable: vars::P2P_DISABLE.read(env, notes)?,
        shm_disable: vars::SHM_DISABLE.read(env, notes)?,
        cma_threshold_bytes: vars::CMA_THRESHOLD.read(env, notes)?,
        shm_slot_bytes: vars::SHM_SLOT_BYTES.read(env, notes)?,
        buffer_bytes: vars::BUFFSIZE.read(env, notes)?,
        net: vars::NET.read(env, notes)?,
        algo: vars::ALGO.read(env, notes)?,
        check: vars::CHECK.read(env, notes)?,
    })
}

/// NCCL cuts too many threads and sockets with a warning, so they are cut here as well.
fn net(env: &Env, notes: &mut Vec<String>) -> Result<NetSettings> {
    let family = vars::SOCKET_FAMILY.read(env, notes)?;
    let interfaces = vars::SOCKET_IFNAME.read(env, notes)?.with_family(family);
    let mut threads = vars::SOCKET_NTHREADS.read(env, notes)?.unwrap_or(1);
    let mut sockets = vars::NSOCKS_PERTHREAD.read(env, notes)?.unwrap_or(1);
    if threads > MAX_THREADS {
        notes.push(format!("NCCL_SOCKET_NTHREADS={threads} is cut to {MAX_THREADS}, as in NCCL"));
        threads = MAX_THREADS;
    }
    if sockets > MAX_SOCKETS / threads {
        let cut = MAX_SOCKETS / threads;
        notes.push(format!(
            "NCCL_NSOCKS_PERTHREAD={sockets} is cut to {cut}: {threads} threads and at most \
             {MAX_SOCKETS} sockets, as in NCCL"
        ));
        sockets = cut;
    }
    Ok(NetSettings { interfaces, socket_threads: threads, sockets_per_thread: sockets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::SocketFamily;
    use proptest::prelude::*;

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let settings = Settings::from_env(&Env::empty()).unwrap();
        assert_eq!(settings.timeouts.operation, Duration::from_secs(600));
        assert_eq!(settings.timeouts.init, Duration::from_secs(300));
        assert_eq!(settings.timeouts.heartbeat, Duration::from_secs(10));
        assert_eq!(settings.net.socket_threads * settings.net.sockets_per_thread, 1);
        assert!(settings.net.interfaces.is_auto());
        assert!(settings.notes.is_empty());
    }

    #[test]
    fn threads_and_sockets_are_cut_as_nccl_cuts_them() {
        let env =
            Env::empty().with("NCCL_SOCKET_NTHREADS", "99").with("NCCL_NSOCKS_PERTHREAD", "9");
        let settings = Settings::from_env(&env).unwrap();
        assert_eq!((settings.net.socket_threads, settings.net.sockets_per_thread), (16, 4));
        assert_eq!(settings.notes.len(), 2, "{:?}", settings.notes);
    }

    #[test]
    fn what_nccl_ignores_is_ignored_with_a_note() {
        let env = Env::empty()
            .with("NCCL_DEBUG", "garbage")
            .with("NCCL_SOCKET_FAMILY", "ipv6")
            .with("NCCL_SOCKET_IFNAME", "e")
            .with("NCCL_ALGO", "")
            .with("NCCL_NET", "");
        let settings = Settings::from_env(&env).unwrap();
        assert_eq!(settings.notes.len(), 3, "{:?}", settings.notes);
        assert!(settings.net.interfaces.is_auto());
        assert_eq!(settings.transport.net, None);
    }

    #[test]
    fn the_family_goes_with_the_interfaces() {
        let env = Env::empty().with("NCCL_SOCKET_FAMILY", "AF_INET6");
        let settings = Settings::from_env(&env).unwrap();
        assert_eq!(settings.net.interfaces.family(), Some(SocketFamily::V6));
    }

    #[test]
    fn a_comm_id_that_is_no_address_is_refused() {
        let env = Env::empty().with("NCCL_COMM_ID", "fd00::1:5");
        let text = Settings::from_env(&env).unwrap_err().to_string();
        assert!(text.starts_with("NCCL_COMM_ID=\"fd00::1:5\" needs brackets"), "{text}");
    }

    proptest! {
        #[test]
        fn no_value_of_any_variable_panics(at in 0_usize..28, value in ".*") {
            let name = vars::table().nth(at).unwrap().name;
            let _ = Settings::from_env(&Env::empty().with(name, value));
        }
    }
}
