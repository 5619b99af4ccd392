//! A port for rank 0 that no other program can take before rank 0 does.
//!
//! The usual way (bind port 0, read the number, close, tell the child) leaves a gap in which the
//! kernel may hand the same number to anybody. Here the socket stays bound for as long as the
//! ranks run, with `SO_REUSEADDR` and without listening. Linux then gives the number to nobody
//! who asks for *any* port and to no outgoing connection, while a socket that asks for *this*
//! port and sets `SO_REUSEADDR` itself (Rust's `TcpListener`, libuv, torch and Python's servers
//! do) may bind it and listen.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use rustix::io;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

/// A port that is kept for rank 0 as long as this lives.
#[derive(Debug)]
pub(crate) struct HeldPort {
    port: u16,
    _bound: OwnedFd,
}

impl HeldPort {
    /// Takes any free port, on all IPv4 addresses so that rank 0 may choose one.
    ///
    /// # Errors
    /// No socket or no free port.
    pub(crate) fn any() -> io::Result<Self> {
        let bound = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_socket_reuseaddr(&bound, true)?;
        rustix::net::bind(&bound, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&bound)?)?;
        Ok(Self { port: address.port(), _bound: bound })
    }

    /// The number.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_held_port_can_be_listened_on_by_who_knows_it() {
        for host in ["127.0.0.1", "0.0.0.0", "[::]"] {
            let held = HeldPort::any().unwrap();
            match TcpListener::bind(format!("{host}:{}", held.port())) {
                Ok(listener) => {
                    let to = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
                    TcpStream::connect(to).unwrap();
                }
                // A machine without IPv6 cannot be asked about it.
                Err(why) => assert!(host == "[::]", "{host}: {why}"),
            }
        }
    }

    #[test]
    fn nobody_who_asks_for_any_port_gets_a_held_one() {
        let held: Vec<HeldPort> = (0..200).map(|_| HeldPort::any().unwrap()).collect();
        let mut ports: BTreeSet<u16> = held.iter().map(HeldPort::port).collect();
        assert_eq!(ports.len(), held.len());
        let others: Vec<TcpListener> =
            (0..500).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for other in &others {
            assert!(ports.insert(other.local_addr().unwrap().port()));
        }
    }
}
