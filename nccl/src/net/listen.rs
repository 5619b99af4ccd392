//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;

use crate::error::Error;
use crate::error::Result;
use crate::net::port_owner;

/// Connections that the kernel keeps until they are taken: all ranks of a large job come at once.
const BACKLOG: i32 = 4096;

/// Listens on `addr` for `what`; a failure says what to change.
pub(crate) fn listen(addr: SocketAddr, what: &'static str) -> Result<TcpListener> {
    match TcpListener::bind(addr) {
        Ok(listener) => {
            widen_backlog(&listener);
            Ok(listener)
        }
        Err(error) => Err(Error::Bind {
            what,
            addr: addr.to_string(),
            hint: hint(addr, &error),
            source: Arc::new(error),
        }),
    }
}

/// Lets many more connections wait than the standard library does.
pub(crate) fn widen_backlog(listener: &TcpListener) {
    // It listens already; if the kernel refuses the longer queue, the shorter one stays.
    let _ = rustix::net::listen(listener, BACKLOG);
}

fn hint(addr: SocketAddr, error: &io::Error) -> String {
    let port = addr.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let owner = port_owner::find(port).unwrap_or_else(|| "another process".to_owned());
            format!(
                "; port {port} is held by {owner}: end it, or give this job another port (MASTER_PORT)"
            )
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "; {} is no address of this machine: MASTER_ADDR must name the machine of rank 0",
            addr.ip()
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => {
            format!("; ports below 1024 need privileges: take another than {port} (MASTER_PORT)")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_with_its_owner_and_what_to_change() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0)), "store").unwrap();
        let addr = first.local_addr().unwrap();
        let text = listen(addr, "store").unwrap_err().to_string();
        assert!(text.starts_with(&format!("cannot listen on {addr} (store): ")), "{text}");
        assert!(text.contains("MASTER_PORT"), "{text}");
        if cfg!(target_os = "linux") {
            assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        }
    }

    #[test]
    fn a_foreign_address_is_refused_by_name() {
        // 192.0.2.0/24 is reserved for documentation.
        let text = listen(SocketAddr::from(([192, 0, 2, 1], 0)), "store").unwrap_err().to_string();
        assert!(text.contains("192.0.2.1 is no address of this machine"), "{text}");
    }
}
