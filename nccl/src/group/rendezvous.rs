//! Where the ranks meet: opens or serves the store that the launch describes.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use super::builder::LOOPBACK;
use crate::clock::Deadline;
use crate::config::Env;
use crate::config::HostPort;
use crate::config::Launch;
use crate::config::Rendezvous;
use crate::config::Server;
use crate::config::Settings;
use crate::config::pmi;
use crate::error::Error;
use crate::error::Result;
use crate::net::interfaces;
use crate::net::resolve;
use crate::store::FileStore;
use crate::store::MemoryStore;
use crate::store::SharedStore;
use crate::store::Store;
use crate::store::TcpStore;
use crate::store::TcpStoreServer;

/// The key by which a store on a derived port shows whose it is.
const JOB_KEY: &str = "nccl-rs/job";
/// How long one try of a derived port takes.
const TRY_TIME: Duration = Duration::from_millis(300);

/// The store of a world, and what was learnt on the way to it.
pub(super) struct Meeting {
    pub(super) store: SharedStore,
    pub(super) server: Option<TcpStoreServer>,
    /// The address of this host that others of the job can reach.
    pub(super) address: Option<IpAddr>,
}

impl Meeting {
    /// Meets in a store that somebody else opened.
    pub(super) fn in_store(store: SharedStore) -> Self {
        let local = store.describe().starts_with("memory");
        Self { store, server: None, address: local.then_some(LOOPBACK) }
    }
}

/// Opens the store of a launch; rank 0 serves it where the launcher does not.
pub(super) fn meet(launch: &Launch, env: &Env, settings: &Settings) -> Result<Meeting> {
    let timeout = settings.timeouts.init;
    match &launch.rendezvous {
        _ if launch.world_size == 1 => Ok(Meeting::in_store(Arc::new(MemoryStore::new(timeout)))),
        Rendezvous::Single => Ok(Meeting::in_store(Arc::new(MemoryStore::new(timeout)))),
        Rendezvous::File { path } => {
            let store: SharedStore = Arc::new(FileStore::new(path, timeout)?);
            Ok(Meeting { store, server: None, address: None })
        }
        Rendezvous::Tcp { at, server } if launch.rank == 0 && *server == Server::Rank0 => {
            let bound = serve(&at.host, at.port, settings)?;
            connected(bound.local_addr(), Some(bound), settings)
        }
        Rendezvous::Tcp { at, .. } => dial(at, settings),
        Rendezvous::Derived { host, ports } if launch.rank == 0 => {
            serve_one_of(host, ports, &launch.job_id, settings)
        }
        Rendezvous::Derived { host, ports } => find(host, ports, &launch.job_id, settings),
        Rendezvous::Pmi { one_host } => by_pmi(launch, env, *one_host, settings),
    }
}

/// Serves the store at rank 0's own address.
fn serve(host: &str, port: u16, settings: &Settings) -> Result<TcpStoreServer> {
    let mut first = None;
    for address in resolve(host, port, "MASTER_ADDR", &Deadline::after(settings.timeouts.init))? {
        match TcpStoreServer::bind(address) {
            Ok(server) => return Ok(server),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        // The name is that of a proxy or a service in front of this host.
        Some(Error::Bind { source, .. })
            if source.kind() == std::io::ErrorKind::AddrNotAvailable =>
        {
            let address = own_address(settings, None)?;
            log::warn!(
                target: "nccl::bootstrap",
                "{host} is no address of this host; the store listens on {address}:{port}"
            );
            TcpStoreServer::bind(SocketAddr::new(address, port))
        }
        Some(error) => Err(error),
        None => Err(Error::Resolve {
            host: host.to_owned(),
            var: "MASTER_ADDR".to_owned(),
            why: "it has no address".to_owned(),
        }),
    }
}

/// A client of the store at `address`, with the server if it is ours.
fn connected(
    address: SocketAddr,
    server: Option<TcpStoreServer>,
    settings: &Settings,
) -> Result<Meeting> {
    let store =
        TcpStore::connect(&address.ip().to_string(), address.port(), settings.timeouts.init)?;
    let own = own_address(settings, Some(address))?;
    Ok(Meeting { store: Arc::new(store), server, address: Some(own) })
}

fn dial(at: &HostPort, settings: &Settings) -> Result<Meeting> {
    let store = TcpStore::connect(&at.host, at.port, settings.timeouts.init)?;
    let deadline = Deadline::after(settings.timeouts.init);
    let server = resolve(&at.host, at.port, "MASTER_ADDR", &deadline)?.first().copied();
    let own = own_address(settings, server)?;
    Ok(Meeting { store: Arc::new(store), server: None, address: Some(own) })
}

fn serve_one_of(host: &str, ports: &[u16], job: &str, settings: &Settings) -> Result<Meeting> {
    let mut last = None;
    for port in ports {
        match serve(host, *port, settings) {
            Ok(server) => {
                let meeting = connected(server.local_addr(), Some(server), settings)?;
                meeting.store.set(JOB_KEY, job.as_bytes())?;
                return Ok(meeting);
            }
            Err(error @ Error::Bind { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last
        .unwrap_or_else(|| Error::env_missing("MASTER_PORT", "is missing; set it to a free port")))
}

/// Tries the ports until one answers with this job's name.
fn find(host: &str, ports: &[u16], job: &str, settings: &Settings) -> Result<Meeting> {
    let deadline = Deadline::after(settings.timeouts.init);
    let mut why = "nobody answers".to_owned();
    loop {
        for port in ports {
            let store = match TcpStore::connect(host, *port, deadline.left_at_most(TRY_TIME)) {
                Ok(store) => store,
                Err(error @ Error::Resolve { .. }) => return Err(error),
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let found = store.get_within(JOB_KEY, deadline.left_at_most(TRY_TIME));
            if found.is_ok_and(|found| found == job.as_bytes()) {
                return dial(&HostPort::new(host, *port), settings);
            }
            why = format!("port {port} serves another job");
        }
        if deadline.passed() {
            let addr = format!("{host}, ports {ports:?}");
            let waited = deadline.waited();
            return Err(Error::Connect { what: "the store of rank 0", addr, why, waited });
        }
        std::thread::sleep(deadline.left_at_most(Duration::from_millis(50)));
    }
}

/// Rank 0 takes any port and tells the others through the launcher's own key-value store.
fn by_pmi(launch: &Launch, env: &Env, one_host: bool, settings: &Settings) -> Result<Meeting> {
    let timeout = settings.timeouts.init;
    if launch.rank == 0 {
        let address = if one_host { LOOPBACK } else { own_address(settings, None)? };
        // The launcher tells one address per process: a second world listens there again.
        let again = pmi::published().and_then(|told| told.parse().ok());
        let server = TcpStoreServer::bind(again.unwrap_or_else(|| SocketAddr::new(address, 0)))?;
        let at = server.local_addr();
        pmi::exchange_rank0_addr(env, 0, Some(&at.to_string()), timeout)?;
        return connected(at, Some(server), settings);
    }
    let told = pmi::exchange_rank0_addr(env, launch.rank, None, timeout)?;
    let at = told.parse().map_err(|_| {
        let why = format!("the launcher's PMI gave {told:?} for rank 0's address");
        Error::Join { rank: launch.rank, world_size: launch.world_size, why }
    })?;
    connected(at, None, settings)
}

/// The address of this host that ranks elsewhere can reach: of the interface that the user named,
/// else of the route to `store`, else of NCCL's first choice.
pub(super) fn own_address(settings: &Settings, store: Option<SocketAddr>) -> Result<IpAddr> {
    let spec = &settings.net.interfaces;
    if spec.is_auto()
        && let Some(store) = store
        && let Some(address) = route_to(store)
    {
        return Ok(address);
    }
    let chosen = interfaces::choose(spec, store.map(|store| store.ip()))?;
    chosen.first().map(|interface| interface.addr).ok_or_else(|| Error::Interface {
        spec: spec.text().to_owned(),
        problem: "none is left".to_owned(),
        available: "none".to_owned(),
    })
}

/// The source address of packets to `target`; nothing is sent.
fn route_to(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if target.is_ipv4() {
        SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0)
    } else {
        SocketAddr::new(IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED), 0)
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}
