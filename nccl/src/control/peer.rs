//! What this process tells the others about itself.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::config::BackendChoice;
use crate::error::Error;
use crate::error::Result;
use crate::wire::Peer;

/// The record of this rank, without what it says of backends; `unix` is the name of its abstract socket, empty without one.
pub(super) fn own(
    rank: usize,
    tcp: Vec<SocketAddr>,
    unix: String,
    local_rank: Option<u32>,
    node: Option<String>,
) -> Result<Peer> {
    let host = host_name();
    let node = node.unwrap_or_else(|| host.clone());
    Ok(Peer {
        rank,
        host_id: host_id(&host),
        host,
        process_id: process_id()?,
        pid: std::process::id(),
        uid: rustix::process::getuid().as_raw(),
        tcp,
        unix,
        local_rank,
        node,
        wants: BackendChoice::Cpu,
        lacks: String::new(),
    })
}

/// Sixteen random bytes.
pub(super) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::system("cannot read random bytes from /dev/urandom", error))?;
    Ok(bytes)
}

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen bytes from their text.
pub(super) fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// The host's name up to the first dot.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    name.split('.').next().unwrap_or("unknown").to_owned()
}

/// Equal for processes with one kernel and one network namespace, where abstract sockets and
/// the descriptors passed over them work.
fn host_id(host: &str) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let net = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    match boot.trim() {
        // Without a boot id the name is the best there is.
        "" => format!("{host}/{}", net.display()),
        boot => format!("{boot}/{}", net.display()),
    }
}

/// The random number of this process.
fn process_id() -> Result<[u8; 16]> {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(*id);
    }
    let fresh = random()?;
    Ok(*ID.get_or_init(|| fresh))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ranks_of_one_process_share_host_and_process_but_nothing_random_repeats() {
        let one = own(0, vec![], String::new(), None, None).unwrap();
        let two = own(1, vec![], String::new(), Some(1), Some("rack7".into())).unwrap();
        assert!(one.same_process(&two) && one.same_host(&two));
        assert!(!one.host.contains('.') && !one.host.is_empty());
        assert_eq!((one.node.as_str(), two.node.as_str()), (one.host.as_str(), "rack7"));
        assert_ne!(random().unwrap(), random().unwrap());
    }

    #[test]
    fn hex_goes_both_ways() {
        let bytes = random().unwrap();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("+0000000000000000000000000000000"), None);
        assert_eq!(unhex("00"), None);
    }
}
