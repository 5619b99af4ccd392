//! The client of a TCP store.

use core::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::store::client::handshake::Place;
use crate::store::client::pool::Pool;
use crate::wire::store::Request;

mod calls;
mod conn;
mod exchange;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod handshake;
mod pool;
mod waits;

/// A client of a TCP store in torch's protocol: of a [`TcpStoreServer`](super::TcpStoreServer), of
/// `torch.distributed.TCPStore`, or of the agent of `torchrun`.
///
/// Several threads may use one client; a thread that waits does not hold up the others. What a
/// thread has written it reads back. What *another* client reads of it is ordered only after
/// [`Store::ping`](super::Store::ping) or any call that answers: the protocol does not acknowledge
/// `set`, `append`, `multi_set` and `queue_push`.
///
/// When the connection breaks in the middle of a call, the call fails, unless it only reads: then
/// it is made once more over a new connection. Nothing that changes the store is ever sent twice.
///
/// ```
/// use std::time::Duration;
/// use nccl::store::{Store, TcpStore, TcpStoreServer};
///
/// let server = TcpStoreServer::bind("127.0.0.1:0".parse().unwrap())?;
/// let store = TcpStore::connect_addr(server.local_addr(), Duration::from_secs(5))?;
/// assert_eq!(store.add("ranks", 1)?, 1);
/// let late = store.wait(&["rank 1"], Duration::from_millis(10)).unwrap_err();
/// assert!(late.to_string().ends_with("waiting for \"rank 1\""));
/// # Ok::<(), nccl::Error>(())
/// ```
pub struct TcpStore {
    place: Place,
    pool: Pool,
    timeout: Duration,
    name: String,
}

impl fmt::Debug for TcpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStore")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl TcpStore {
    /// Connects to the server at `host`, a name or an address, within `timeout`, which also
    /// bounds later calls that are given none.
    ///
    /// All addresses of the name are tried. While nobody listens there, it tries again until the
    /// timeout: the server may start later.
    ///
    /// # Errors
    /// [`Resolve`](crate::Error::Resolve) for a name without an address;
    /// [`Connect`](crate::Error::Connect) when no server answers, or one that is no store.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        if port == 0 {
            return Err(Error::Usage {
                op: "TcpStore::connect",
                problem: "port 0 cannot be connected to; MASTER_PORT must be the server's port"
                    .to_owned(),
            });
        }
        let place = Place { host: host.to_owned(), port, is_old: AtomicBool::new(false) };
        let conn = place.connect(&Deadline::after(timeout))?;
        let name = format!("tcp://{}", place.addr());
        Ok(Self { place, pool: Pool::new(conn)?, timeout, name })
    }

    /// Connects to the server at `addr`.
    ///
    /// # Errors
    /// As [`TcpStore::connect`].
    pub fn connect_addr(addr: SocketAddr, timeout: Duration) -> Result<Self> {
        let host = match addr {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => addr.ip().to_string(),
        };
        Self::connect(&host, addr.port(), timeout)
    }

    /// Counts this client as a worker that has come, and returns how many have.
    ///
    /// A `torch.distributed.TCPStore` that is the server and has `wait_for_workers` (as in rank 0
    /// of `init_process_group`) waits until as many have come as it was told.
    ///
    /// # Errors
    /// When the store is lost.
    pub fn add_worker(&self) -> Result<i64> {
        // The one key without the leading slash.
        let request = Request::Add(&b"init/"[..], 1);
        self.exchange("add_worker", false, &request, |conn, deadline| conn.receive_i64(deadline))
    }

    /// All keys, in no order, without those that are torch's own.
    ///
    /// # Errors
    /// When the store is lost, or its server does not know the request (torch before 2.10).
    pub fn list_keys(&self) -> Result<Vec<String>> {
        let request = Request::<&[u8]>::ListKeys;
        let keys = self.exchange("list_keys", true, &request, |conn, deadline| {
            let count = conn.receive_count(deadline)?;
            let mut keys = Vec::new();
            for _ in 0..count {
                keys.push(conn.receive_value(deadline)?);
            }
            Ok(keys)
        })?;
        let own =
            |key: &Vec<u8>| Some(String::from_utf8_lossy(key.strip_prefix(b"/")?).into_owned());
        Ok(keys.iter().filter_map(own).collect())
    }
}
