//! The one table of environment variables that steer the library.
//!
//! What launchers set (`RANK`, `OMPI_COMM_WORLD_RANK` and so on) is not here: see
//! [`Launch`](crate::config::Launch).

use std::path::PathBuf;
use std::time::Duration;

use crate::config::address::HostPort;
use crate::config::device::DeviceSpec;
use crate::config::launch::Launcher;
use crate::config::parse;
use crate::config::spec;
use crate::config::spec::AlgoSpec;
use crate::config::spec::BackendChoice;
use crate::config::spec::DebugLevel;
use crate::config::spec::IfSpec;
use crate::config::spec::SocketFamily;
use crate::config::spec::Subsystems;
use crate::config::spec::TransportChoice;
use crate::config::var::OnBad;
use crate::config::var::Row;
use crate::config::var::Var;

/// Writes the variables and, from the same lines, [`table`].
macro_rules! variables {
    ($($on_bad:ident $item:ident $name:literal : $type:ty = $default:expr, $parse:expr;
        $values:literal, $unit:literal, $shown:literal, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub static $item: Var<$type> = Var {
                row: Row {
                    name: $name,
                    values: $values,
                    unit: $unit,
                    default: $shown,
                    help: $help,
                    on_bad: OnBad::$on_bad,
                },
                default: $default,
                parse: $parse,
            };
        )*

        /// Lists all variables, ours first, in the order of the documentation.
        pub fn table() -> impl Iterator<Item = Row> {
            [$($item.row()),*].into_iter()
        }
    };
}

variables! {
    Refuse TIMEOUT_MS "NCCL_RS_TIMEOUT_MS": Duration = Duration::from_millis(600_000), parse::millis;
        "number", "ms", "600000",
        "How long an operation may take before it fails with who is missing.";
    Refuse INIT_TIMEOUT_MS "NCCL_RS_INIT_TIMEOUT_MS": Duration = Duration::from_millis(300_000), parse::millis;
        "number", "ms", "300000",
        "How long the ranks may take to meet when a group is made.";
    Refuse HEARTBEAT_TIMEOUT_MS "NCCL_RS_HEARTBEAT_TIMEOUT_MS": Duration = Duration::from_millis(10_000), parse::millis;
        "number", "ms", "10000",
        "How long a peer may be silent (stopped, cut off) before it counts as lost.";
    Refuse BACKEND "NCCL_RS_BACKEND": BackendChoice = BackendChoice::Auto, spec::backend;
        "auto, cpu, nccl", "", "auto",
        "Which backend carries the collectives; auto takes NCCL if every rank can, else the CPU.";
    Refuse TRANSPORT "NCCL_RS_TRANSPORT": Option<TransportChoice> = None, spec::transport;
        "shm, tcp", "", "by peer",
        "Forces one transport of the CPU backend for all peers.";
    Refuse CMA_THRESHOLD "NCCL_RS_CMA_THRESHOLD": usize = 65_536, parse::bytes_or_zero;
        "number, K, M, G", "bytes", "65536",
        "From this size on a message between processes of one host is copied once, straight from the peer's memory.";
    Refuse SHM_SLOT_BYTES "NCCL_RS_SHM_SLOT_BYTES": Option<usize> = None, parse::slot_bytes;
        "number, K, M, G", "bytes", "by local ranks: 16K to 1K",
        "Size of one slot between two processes of one host; a pair of ranks takes 16 of them.";
    Refuse CHECK "NCCL_RS_CHECK": bool = true, parse::switch;
        "0, 1", "", "1",
        "0: the CPU backend's broadcast, scatter, gather and reduce return once a rank's own part is over; ranks that call different things learn so later, in their next call at the latest.";
    Refuse NCCL_LIB "NCCL_RS_NCCL_LIB": Option<PathBuf> = None, parse::path;
        "path", "", "libnccl.so.2, then where wheels have it",
        "The NCCL library to open; no other one is tried then.";
    Refuse CUDA_LIB "NCCL_RS_CUDA_LIB": Option<PathBuf> = None, parse::path;
        "path", "", "libcuda.so.1, then where drivers have it",
        "The CUDA driver library to open; no other one is tried then.";
    Refuse DEVICE "NCCL_RS_DEVICE": Option<DeviceSpec> = None, DeviceSpec::parse;
        "number, GPU-..., MIG-...", "", "by local rank",
        "The GPU of this rank: its number among those that CUDA_VISIBLE_DEVICES leaves, or the beginning of its UUID.";
    Refuse NCCL_BLOCKING "NCCL_RS_NCCL_BLOCKING": bool = false, parse::switch;
        "0, 1", "", "0",
        "1: calls may wait inside NCCL, which spares the thread that NCCL starts for each call; a rank that never comes can then keep a call from returning.";
    Refuse LAUNCHER "NCCL_RS_LAUNCHER": Option<Launcher> = None, Launcher::parse;
        "torchrun, plain, openmpi, mvapich2, flux, pals, jsrun, slurm, mpich, pmix, kubernetes, lws, trainer, single", "", "by what is set",
        "Whose variables say which rank this is, where several launchers left theirs.";
    Refuse WORLD_SIZE "NCCL_RS_WORLD_SIZE": Option<usize> = None, parse::world_size;
        "number", "ranks", "unset",
        "The number of ranks where the launcher tells only the rank (a Kubernetes Indexed Job, plain PMIx).";
    Refuse JOB_ID "NCCL_RS_JOB_ID": Option<String> = None, parse::text;
        "text", "", "the launcher's",
        "The job's name, equal on all its ranks; ports are derived from it and strangers are refused by it.";
    Refuse SUBDOMAIN "NCCL_RS_SUBDOMAIN": Option<String> = None, parse::text;
        "name", "", "from the host name",
        "The headless service of a Kubernetes job: rank 0 is `<job>-0.<subdomain>`.";
    Ignore DEBUG "NCCL_DEBUG": DebugLevel = DebugLevel::None, spec::level;
        "NONE, VERSION, WARN, ATTN, INFO, ABORT, TRACE", "", "NONE",
        "How much is logged.";
    Ignore DEBUG_SUBSYS "NCCL_DEBUG_SUBSYS": Subsystems = Subsystems::DEFAULT, Subsystems::parse;
        "[^]INIT,COLL,P2P,SHM,NET,...,ALL", "", "INIT,BOOTSTRAP,ENV",
        "Which subsystems log; `^` as first character takes the list away from all.";
    Ignore DEBUG_FILE "NCCL_DEBUG_FILE": Option<String> = None, parse::text;
        "path with %h, %p, %%", "", "standard output",
        "Where the log goes; %h is the host, %p the process.";
    Ignore SOCKET_IFNAME "NCCL_SOCKET_IFNAME": IfSpec = IfSpec::AUTO, IfSpec::parse;
        "[^][=]name,name", "", "ib, then the rendezvous address's subnet, then all but docker, lo and virbr, then docker, lo, virbr",
        "Which network interfaces may be used: prefixes, exact names after `=`, all others after `^`.";
    Ignore SOCKET_FAMILY "NCCL_SOCKET_FAMILY": Option<SocketFamily> = None, spec::family;
        "AF_INET, AF_INET6", "", "the first address of an interface",
        "Only addresses of this family are used.";
    Ignore SOCKET_NTHREADS "NCCL_SOCKET_NTHREADS": Option<usize> = None, parse::nccl_count;
        "1 to 16", "threads", "1",
        "Threads that move the data of one connection.";
    Ignore NSOCKS_PERTHREAD "NCCL_NSOCKS_PERTHREAD": Option<usize> = None, parse::nccl_count;
        "number", "sockets", "1",
        "Sockets of each such thread; threads times sockets is at most 64.";
    Ignore BUFFSIZE "NCCL_BUFFSIZE": usize = 4_194_304, spec::buffer_bytes;
        "number", "bytes", "4194304",
        "Size of the buffer between two ranks; of the CPU backend, of a pinned buffer between GPU and host (six per group, equal on all ranks).";
    Ignore P2P_DISABLE "NCCL_P2P_DISABLE": bool = false, parse::nccl_switch;
        "0, 1", "", "0",
        "1: no direct access to a peer's memory.";
    Ignore SHM_DISABLE "NCCL_SHM_DISABLE": bool = false, parse::nccl_switch;
        "0, 1", "", "0",
        "1: no shared memory; ranks of one host use the network.";
    Ignore NET "NCCL_NET": Option<String> = None, parse::text;
        "Socket, IB, a plugin's name", "", "unset",
        "The network to use; the CPU backend has `Socket`.";
    Ignore ALGO "NCCL_ALGO": AlgoSpec = AlgoSpec::AUTO, AlgoSpec::parse;
        "[^]Ring,Tree,...;function:list", "", "by size",
        "Which algorithms may be used, for all functions or for one.";
    Refuse COMM_ID "NCCL_COMM_ID": Option<HostPort> = None, parse::host_port;
        "ipv4:port, [ipv6]:port, host:port", "", "unset",
        "Where rank 0 listens, used if MASTER_ADDR is not set.";
    Ignore CONF_FILE "NCCL_CONF_FILE": Option<PathBuf> = None, parse::path;
        "path", "", "~/.nccl.conf, then /etc/nccl.conf",
        "The configuration file read instead of ~/.nccl.conf; the environment wins over it.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Env;

    /// The default shown is the default that holds, wherever the text is a value.
    #[test]
    fn the_documented_defaults_are_the_defaults() {
        fn same<T: Clone + PartialEq + core::fmt::Debug>(var: &Var<T>) {
            assert_eq!(
                var.parse(var.row().default).unwrap(),
                var.default_value(),
                "{}",
                var.name()
            );
        }
        same(&TIMEOUT_MS);
        same(&INIT_TIMEOUT_MS);
        same(&HEARTBEAT_TIMEOUT_MS);
        same(&BACKEND);
        same(&CMA_THRESHOLD);
        same(&DEBUG);
        same(&DEBUG_SUBSYS);
        same(&BUFFSIZE);
        same(&P2P_DISABLE);
        same(&SHM_DISABLE);
    }

    #[test]
    fn every_name_is_there_once_and_ours_are_refused_when_wrong() {
        let names: Vec<&str> = table().map(|row| row.name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        for row in table() {
            let ours = row.name.starts_with("NCCL_RS_") || row.name == "NCCL_COMM_ID";
            assert_eq!(row.on_bad == OnBad::Refuse, ours, "{}", row.name);
            assert!(row.help.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn a_wrong_value_of_ours_is_an_error_and_one_of_nccls_a_note() {
        let mut notes = Vec::new();
        let env = Env::empty().with("NCCL_RS_TIMEOUT_MS", "10s").with("NCCL_BUFFSIZE", "4M");
        let error = TIMEOUT_MS.read(&env, &mut notes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "NCCL_RS_TIMEOUT_MS=\"10s\" must be a plain decimal number (digits only: no sign, \
             space, unit or prefix)"
        );
        assert_eq!(BUFFSIZE.read(&env, &mut notes).unwrap(), 4_194_304);
        assert_eq!(notes, ["ignored, as NCCL does: NCCL_BUFFSIZE=\"4M\" is no number"]);
    }

    #[test]
    fn a_value_from_a_file_names_the_file() {
        let env = Env::empty()
            .with_file("/etc/nccl.conf", "NCCL_RS_BACKEND=gpu\nNCCL_DEBUG=loud\n")
            .with_conf_files();
        let mut notes = Vec::new();
        let text = BACKEND.read(&env, &mut notes).unwrap_err().to_string();
        assert_eq!(text, "NCCL_RS_BACKEND (from /etc/nccl.conf)=\"gpu\" must be auto, cpu or nccl");
        assert_eq!(DEBUG.read(&env, &mut notes).unwrap(), DebugLevel::None);
        assert!(notes[0].starts_with("ignored (from /etc/nccl.conf)"), "{notes:?}");
    }
}
