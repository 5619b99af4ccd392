//! Programs that talk to the store's port and are no store clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

/// The bytes that begin a connection: the command 0 and the magic number.
pub(super) const HELLO: [u8; 5] = [0x00, 0xce, 0xf7, 0x85, 0x3c];

const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE", b"CONN", b"PATC", b"PRI "];

/// What the first bytes of a connection look like.
pub(super) fn describe(bytes: &[u8]) -> String {
    let is_method = |method: &&[u8]| {
        let shorter = method.len().min(bytes.len());
        bytes.len() >= 3 && bytes.get(..shorter) == method.get(..shorter)
    };
    if METHODS.iter().any(is_method) {
        "an HTTP client".to_owned()
    } else if bytes.starts_with(&[0x16, 0x03]) {
        "a TLS client".to_owned()
    } else if bytes.starts_with(b"SSH-") {
        "an SSH client".to_owned()
    } else {
        let shown = bytes.get(..bytes.len().min(16)).unwrap_or(bytes);
        format!("no store client (its first bytes are \"{}\")", shown.escape_ascii())
    }
}

/// Says of each address once a minute that it disturbs.
#[derive(Debug, Default)]
pub(super) struct StrangerLog {
    last: HashMap<IpAddr, Instant>,
}

impl StrangerLog {
    const EVERY: Duration = Duration::from_secs(60);
    const MAX_ADDRESSES: usize = 256;

    /// Logs what happened with the peer, unless its address was logged within the last minute.
    pub(super) fn warn(&mut self, port: u16, peer: SocketAddr, what: &str) {
        if self.is_due(peer.ip(), Instant::now()) {
            log::warn!("store on port {port}: closed the connection from {peer}: {what}");
        }
    }

    fn is_due(&mut self, address: IpAddr, now: Instant) -> bool {
        let recent = |then: &Instant| now.saturating_duration_since(*then) < Self::EVERY;
        if self.last.get(&address).is_some_and(recent) {
            return false;
        }
        if self.last.len() >= Self::MAX_ADDRESSES {
            self.last.retain(|_, then| recent(then));
        }
        if self.last.len() < Self::MAX_ADDRESSES {
            self.last.insert(address, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_protocols_are_recognized() {
        assert_eq!(describe(b"GET / HTTP/1.1\r\n"), "an HTTP client");
        assert_eq!(describe(b"PRI * HTTP/2.0"), "an HTTP client");
        assert_eq!(describe(&[0x16, 0x03, 0x01, 0x02]), "a TLS client");
        assert_eq!(describe(b"SSH-2.0-OpenSSH"), "an SSH client");
        assert_eq!(
            describe(b"\x0dabc\x00"),
            "no store client (its first bytes are \"\\rabc\\x00\")"
        );
    }

    #[test]
    fn an_address_is_named_once_a_minute() {
        let mut log = StrangerLog::default();
        let now = Instant::now();
        let one = IpAddr::from([127, 0, 0, 1]);
        assert!(log.is_due(one, now));
        assert!(!log.is_due(one, now + Duration::from_secs(59)));
        assert!(log.is_due(IpAddr::from([127, 0, 0, 2]), now));
        assert!(log.is_due(one, now + Duration::from_secs(60)));
        for last in 0..300_u16 {
            log.is_due(IpAddr::from([0, 0, 0, 0, 0, 0, 1, last]), now);
        }
        assert!(log.last.len() <= StrangerLog::MAX_ADDRESSES);
    }
}
