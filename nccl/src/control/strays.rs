//! Strangers that connect to our ports: told apart, and logged once a minute and address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

/// How long an address stays unmentioned after a line about it.
const QUIET: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES: usize = 1024;

/// Who was mentioned in the log, and when.
#[derive(Debug, Default)]
pub(super) struct Strays {
    mentioned: HashMap<Option<IpAddr>, Instant>,
}

impl Strays {
    /// Logs that a connection to `port` was closed, unless the address was mentioned within the
    /// last minute. Returns whether it logged. No address is a socket of this host.
    pub(super) fn note(&mut self, port: &str, from: Option<IpAddr>, why: &str) -> bool {
        let now = Instant::now();
        if self.mentioned.len() >= ADDRESSES {
            self.mentioned.retain(|_, at| now.duration_since(*at) < QUIET);
        }
        let known = self.mentioned.get(&from).is_some_and(|at| now.duration_since(*at) < QUIET);
        if known || self.mentioned.len() >= ADDRESSES {
            return false;
        }
        self.mentioned.insert(from, now);
        let from = from.map_or_else(|| "this host".to_owned(), |addr| addr.to_string());
        log::warn!(target: "nccl::control", "closed a connection from {from} to the {port}: {why}");
        true
    }
}

/// What the first bytes of a stranger look like; none while they could still be `magic`.
pub(super) fn looks_like(first: &[u8], magic: &[u8; 8]) -> Option<&'static str> {
    if first.iter().zip(magic).all(|(got, expected)| got == expected) {
        return None;
    }
    let same = first.iter().zip(magic).take_while(|(got, expected)| got == expected).count();
    if same == magic.len() - 1 {
        return Some("it speaks another version of our protocol; use one version on all ranks");
    }
    let http = [&b"GET "[..], b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE", b"CONN", b"PRI "];
    let starts = |with: &[u8]| {
        let count = first.len().min(with.len());
        count > 0 && first.get(..count) == with.get(..count)
    };
    if http.iter().any(|verb| starts(verb)) {
        return Some("it speaks HTTP");
    }
    if starts(&[0x16, 0x03]) {
        return Some("it speaks TLS");
    }
    if starts(b"SSH-") {
        return Some("it speaks SSH");
    }
    Some("it speaks no protocol of ours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_apart_by_their_first_bytes() {
        let magic = b"NCCLRSM1";
        assert_eq!(looks_like(b"", magic), None);
        assert_eq!(looks_like(b"NCC", magic), None);
        assert_eq!(looks_like(b"NCCLRSM1", magic), None);
        assert_eq!(looks_like(b"GET / HTTP/1.1", magic), Some("it speaks HTTP"));
        assert_eq!(looks_like(b"P", magic), Some("it speaks HTTP"));
        assert_eq!(looks_like(&[0x16, 3, 1, 2], magic), Some("it speaks TLS"));
        assert_eq!(looks_like(b"SSH-2.0", magic), Some("it speaks SSH"));
        assert!(looks_like(b"NCCLRSM2", magic).unwrap().contains("version"));
        assert_eq!(looks_like(&[0; 3], magic), Some("it speaks no protocol of ours"));
    }

    #[test]
    fn an_address_is_mentioned_once_a_minute_and_memory_is_bounded() {
        let mut strays = Strays::default();
        let addr = Some(IpAddr::from([10, 0, 0, 1]));
        assert!(strays.note("port", addr, "x"));
        assert!(!strays.note("port", addr, "x"));
        assert!(strays.note("port", None, "x"));
        for at in 0..5000_u32 {
            strays.note("port", Some(IpAddr::from(at.to_be_bytes())), "x");
        }
        assert!(strays.mentioned.len() <= ADDRESSES);
    }
}
