//! The server of a TCP store.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::thread::JoinHandle;

use crate::error::Error;
use crate::error::Result;
use crate::net;
use crate::store::server::event_loop::EventLoop;

mod conn;
mod engine;
mod event_loop;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod limits;
mod stranger;

pub use limits::ServerLimits;

/// The server of a [`TcpStore`](crate::store::TcpStore), in torch's protocol: clients of torch and
/// of this crate may mix.
///
/// One thread serves all clients. The server listens on the given address only, closes what is no
/// store client, and bounds what any client can cost. It ends and frees its port when dropped;
/// clients that wait then get an error at once.
///
/// There is no password in the protocol: whoever reaches the port can read and write.
///
/// ```
/// use std::time::Duration;
/// use nccl::store::{Store, TcpStore, TcpStoreServer};
///
/// let server = TcpStoreServer::bind("127.0.0.1:0".parse().unwrap())?;
/// let store = TcpStore::connect("127.0.0.1", server.local_addr().port(), Duration::from_secs(5))?;
/// store.set("greeting", b"hello")?;
/// assert_eq!(store.get("greeting")?, b"hello");
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpStoreServer {
    local_addr: SocketAddr,
    ender: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl TcpStoreServer {
    /// Listens on `addr`, and on no other address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Bind`](crate::Error::Bind) when it cannot, with who holds the port if that can be seen.
    pub fn bind(addr: SocketAddr) -> Result<Self> {
        Self::with_limits(net::listen(addr, "store")?, ServerLimits::default())
    }

    /// Serves on a listener that somebody else has made.
    ///
    /// # Errors
    /// [`System`](crate::Error::System) when it has no address, or no thread can be started.
    pub fn from_listener(listener: TcpListener) -> Result<Self> {
        Self::with_limits(listener, ServerLimits::default())
    }

    /// Serves on a listener with bounds of your own.
    ///
    /// ```
    /// use nccl::store::{ServerLimits, TcpStoreServer};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// let server = TcpStoreServer::with_limits(listener, ServerLimits::default().max_bytes(1 << 20))?;
    /// assert!(server.local_addr().ip().is_loopback());
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`TcpStoreServer::from_listener`].
    pub fn with_limits(listener: TcpListener, limits: ServerLimits) -> Result<Self> {
        let failed = |error| Error::system("cannot serve a store", error);
        let local_addr = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        net::widen_backlog(&listener);
        let (ender, near) = UnixStream::pair().map_err(failed)?;
        let event_loop =
            EventLoop::new(listener, local_addr.port(), near, limits).map_err(failed)?;
        let thread = thread::Builder::new()
            .name("nccl-store".to_owned())
            .spawn(move || event_loop.run())
            .map_err(|error| Error::system("cannot start the thread of a store server", error))?;
        Ok(Self { local_addr, ender: Some(ender), thread: Some(thread) })
    }

    /// The address it listens on, with the port it was given.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for TcpStoreServer {
    fn drop(&mut self) {
        // The other end becomes readable; the thread leaves at its next turn, within milliseconds.
        self.ender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
