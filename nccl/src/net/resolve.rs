//! Host names to addresses, before a deadline.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::ToSocketAddrs as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::net::Backoff;

/// How long a resolver that fails for the moment is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// All addresses of `host`, in the resolver's order and each once. Takes names, addresses,
/// `[bracketed]` ones and ones with a scope (`fe80::1%eth0`). `var` says where the name is from.
pub(crate) fn resolve(
    host: &str,
    port: u16,
    var: &str,
    deadline: &Deadline,
) -> Result<Vec<SocketAddr>> {
    let name = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let failed =
        |why: String| Err(Error::Resolve { host: host.to_owned(), var: var.to_owned(), why });
    if name.is_empty() || name.contains(char::from(0)) {
        return failed("it is no host name".to_owned());
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let patience = Deadline::after(deadline.left_at_most(PATIENCE));
    loop {
        let why = match look_up(name, port, deadline) {
            Ok(found) if found.is_empty() => "it has no address".to_owned(),
            Ok(found) => return Ok(found),
            Err(error) => {
                let text = error.to_string();
                if is_temporary(&text) && !patience.passed() {
                    thread::sleep(patience.left_at_most(backoff.pause()));
                    continue;
                }
                text
            }
        };
        return failed(why);
    }
}

/// Asks the resolver on another thread: nothing else can bound how long it takes.
fn look_up(name: &str, port: u16, deadline: &Deadline) -> io::Result<Vec<SocketAddr>> {
    let (answer, asked) = mpsc::sync_channel(1);
    let owned = name.to_owned();
    thread::Builder::new().name("nccl-resolve".to_owned()).spawn(move || {
        let found = (owned.as_str(), port).to_socket_addrs().map(|addresses| {
            let mut each: Vec<SocketAddr> = Vec::new();
            for address in addresses {
                if !each.contains(&address) {
                    each.push(address);
                }
            }
            each
        });
        // Nobody listens any more if the deadline has passed.
        let _ = answer.send(found);
    })?;
    asked.recv_timeout(deadline.left()).unwrap_or_else(|_| {
        let text = format!("the resolver did not answer within {:?}", deadline.timeout());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Whether the resolver asks to be asked again; the standard library has only its text.
fn is_temporary(text: &str) -> bool {
    ["Temporary failure", "Try again", "try again"].iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(host: &str) -> Vec<SocketAddr> {
        resolve(host, 80, "TEST", &Deadline::after(Duration::from_secs(5))).unwrap()
    }

    #[test]
    fn addresses_are_taken_in_every_spelling() {
        assert_eq!(addresses("127.0.0.1"), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(addresses("::1"), ["[::1]:80".parse().unwrap()]);
        assert_eq!(addresses("[::1]"), ["[::1]:80".parse().unwrap()]);
        assert!(addresses("localhost").iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn a_scope_is_kept() {
        let found = addresses("fe80::1%lo");
        assert!(matches!(found[..], [SocketAddr::V6(address)] if address.scope_id() > 0));
    }

    #[test]
    fn a_name_without_an_address_is_refused_with_the_resolvers_words() {
        for host in ["", "[]", "a b", "host.invalid"] {
            let deadline = Deadline::after(Duration::from_millis(300));
            match resolve(host, 80, "MASTER_ADDR", &deadline) {
                Err(Error::Resolve { host: named, var, why }) => {
                    assert_eq!((named.as_str(), var.as_str()), (host, "MASTER_ADDR"));
                    assert!(!why.is_empty());
                }
                other => panic!("{host:?}: {other:?}"),
            }
            assert!(deadline.waited() < Duration::from_secs(2));
        }
    }

    #[test]
    fn only_a_passing_failure_is_tried_again() {
        assert!(is_temporary(
            "failed to lookup address information: Temporary failure in name resolution"
        ));
        assert!(!is_temporary("failed to lookup address information: Name or service not known"));
    }
}
