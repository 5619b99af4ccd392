//! Where the ranks of a job meet.

use core::fmt;
use std::path::PathBuf;

use crate::config::address::HostPort;

/// How many ports are tried.
const CANDIDATES: u64 = 8;
/// The first port derived from a job's name.
const FIRST_PORT: u64 = 20_000;
/// How many ports may be derived; all are below the ports that systems hand out by themselves.
const PORTS: u64 = 12_000;

/// Where the ranks of a job meet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rendezvous {
    /// A store at an address that somebody chose.
    #[non_exhaustive]
    Tcp {
        /// The address.
        at: HostPort,
        /// Who serves the store there.
        server: Server,
    },
    /// A file on a file system that all ranks share.
    #[non_exhaustive]
    File {
        /// The path.
        path: PathBuf,
    },
    /// Rank 0 serves the store on its host, on the first of some ports that is free; the others
    /// try all of them until one answers with this job's name.
    #[non_exhaustive]
    Derived {
        /// Rank 0's host.
        host: String,
        /// The ports, in the order to try.
        ports: Vec<u16>,
    },
    /// Rank 0 serves the store on a free port and tells the address through its launcher's PMI.
    #[non_exhaustive]
    Pmi {
        /// Whether all ranks run on this host, so that 127.0.0.1 is the address.
        one_host: bool,
    },
    /// A world of one: nobody to meet.
    Single,
}

/// Who serves the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// Rank 0 of the job.
    Rank0,
    /// The launcher's agent (torchrun's); every rank is a client.
    Agent,
}

impl Rendezvous {
    /// A store that rank 0 serves at an address.
    pub(crate) fn tcp(at: HostPort) -> Self {
        Self::Tcp { at, server: Server::Rank0 }
    }
}

impl fmt::Display for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { at, server: Server::Rank0 } => write!(f, "tcp://{at} (rank 0 serves)"),
            Self::Tcp { at, server: Server::Agent } => write!(f, "tcp://{at} (the agent serves)"),
            Self::File { path } => write!(f, "file://{}", path.display()),
            Self::Derived { host, ports } => {
                write!(f, "{host}, port")?;
                let mut mark = ' ';
                for port in ports {
                    write!(f, "{mark}{port}")?;
                    mark = '|';
                }
                Ok(())
            }
            Self::Pmi { .. } => write!(f, "an address that rank 0 tells through PMI"),
            Self::Single => write!(f, "none (a world of one)"),
        }
    }
}

/// The ports for a job of that name: the same on every rank, rarely those of another job.
pub(super) fn ports_of(job_id: &str) -> Vec<u16> {
    // FNV-1a: short, and the same on every machine and in every version of this library.
    let hash = job_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Steps of a number without a factor of 12000 visit different ports.
    let first = hash % PORTS;
    let ports = (0..CANDIDATES).map(|at| FIRST_PORT + (first + at * 1009) % PORTS);
    ports.filter_map(|port| u16::try_from(port).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_job_has_eight_ports_of_the_range(job in ".*") {
            let mut ports = ports_of(&job);
            prop_assert_eq!(&ports, &ports_of(&job));
            prop_assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
            ports.sort_unstable();
            ports.dedup();
            prop_assert_eq!(ports.len(), 8);
        }
    }

    #[test]
    fn the_ports_of_a_job_never_change() {
        // FNV-1a of the empty text is its offset basis: 14695981039346656037 % 12000 = 8037.
        let first = 20_000 + 14_695_981_039_346_656_037_u64 % 12_000;
        assert_eq!(u64::from(ports_of("")[0]), first);
        assert_ne!(ports_of("4711.0"), ports_of("4711.1"));
    }

    #[test]
    fn a_rendezvous_reads_as_an_address() {
        let at = HostPort::new("fd00::1", 29500);
        assert_eq!(Rendezvous::tcp(at).to_string(), "tcp://[fd00::1]:29500 (rank 0 serves)");
        let derived = Rendezvous::Derived { host: "n0".into(), ports: vec![1, 2] };
        assert_eq!(derived.to_string(), "n0, port 1|2");
    }
}
