//! Addresses in variables: host, port, and `host:port`.

use core::fmt;

use crate::config::env::Env;
use crate::config::number;
use crate::error::Error;
use crate::error::Result;

/// The longest name that DNS has.
const MAX_HOST: usize = 253;

/// A host, by name or address, and a port.
///
/// Displays as `host:port`, with brackets around an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets, with its scope if it has one.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl HostPort {
    /// Joins a host and a port.
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `ipv4:port`, `[ipv6]:port` or `host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let whole = "must be <ipv4>:<port>, [<ipv6>]:<port> or <host>:<port>";
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("has no port; it {whole}"));
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !bracketed {
            return Err(format!("needs brackets around the IPv6 address; it {whole}"));
        }
        let host = check_host(host)?;
        let port = check_port(port).map_err(|problem| format!("port {port:?} {problem}"))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The host in a variable, if it is set, checked.
pub(super) fn read_host(env: &Env, var: &str) -> Result<Option<String>> {
    let Some(text) = env.get(var)? else { return Ok(None) };
    check_host(text).map(Some).map_err(|problem| Error::env(var, text, problem))
}

/// The port in a variable, if it is set, checked.
pub(super) fn read_port(env: &Env, var: &str) -> Result<Option<u16>> {
    let Some(text) = env.get(var)? else { return Ok(None) };
    check_port(text).map(Some).map_err(|problem| Error::env(var, text, problem))
}

/// The port that `text` is.
pub(super) fn check_port(text: &str) -> Result<u16, String> {
    let port = number::decimal(text)?;
    match u16::try_from(port) {
        Ok(0) => Err("is no port that others can connect to; choose one from 1 to 65535".into()),
        Ok(port) => Ok(port),
        Err(_) => Err("is no port; ports go from 1 to 65535".into()),
    }
}

/// The host that `text` is, without brackets.
pub(super) fn check_host(text: &str) -> Result<String, String> {
    if let Some(problem) = mistaken(text) {
        return Err(problem);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let host = bare.unwrap_or(text);
    if bare.is_some() || host.matches(':').count() > 1 {
        return check_ipv6(host);
    }
    if host.contains(':') {
        return Err("carries a port; give the host alone, and the port in MASTER_PORT".into());
    }
    if host == "0.0.0.0" {
        return Err(WILDCARD.into());
    }
    if host.len() > MAX_HOST {
        return Err(format!("is longer than a host name can be ({MAX_HOST} bytes)"));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !host.bytes().all(fits) || host.starts_with('-') || host.starts_with('.') {
        return Err("is no host name and no address; set it to the name or address of rank 0's \
                    host"
            .into());
    }
    Ok(host.to_owned())
}

const WILDCARD: &str = "is the wildcard address, which others cannot connect to; set it to an address of rank 0's host";

/// What people write instead of a host, and what to write.
fn mistaken(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty; set it to the name or address of rank 0's host".into());
    }
    if text.contains('$') {
        return Some(
            "holds a variable that nothing replaced: `$(NAME)` is replaced by Kubernetes only if \
             NAME is defined above it, `${NAME}` only by a shell"
                .into(),
        );
    }
    if text.contains("://") {
        return Some(
            "is a URL; give the host alone, and the port in MASTER_PORT (URLs go to init_method)"
                .into(),
        );
    }
    if text.contains([',', ';']) {
        return Some("lists several hosts; give the one of rank 0".into());
    }
    if text.contains(char::is_whitespace) {
        return Some("contains a space; set it to the name or address of rank 0's host".into());
    }
    let after = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    if after.is_some_and(|(_, rest)| rest.starts_with(':')) {
        return Some("carries a port; give the host alone, and the port in MASTER_PORT".into());
    }
    None
}

/// An IPv6 address with or without a scope (`fe80::1%eth0`).
fn check_ipv6(host: &str) -> Result<String, String> {
    let (addr, scope) = match host.split_once('%') {
        Some((addr, scope)) => (addr, Some(scope)),
        None => (host, None),
    };
    let Ok(parsed) = addr.parse::<core::net::Ipv6Addr>() else {
        return Err("is no IPv6 address; give one like fd00::1, with or without brackets".into());
    };
    if parsed.is_unspecified() {
        return Err(WILDCARD.into());
    }
    match scope {
        Some("") => Err("has an empty scope after `%`; name the interface: fe80::1%eth0".into()),
        Some(scope) if scope.len() > 15 || scope.contains(['%', '/', ':']) => {
            Err("has a scope that is no interface name".into())
        }
        Some(_) => Ok(host.to_owned()),
        None if parsed.is_unicast_link_local() => {
            Err("is link-local and needs a scope: name the interface, fe80::1%eth0".into())
        }
        None => Ok(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for host in ["node0", "node-0.svc.cluster.local", "my_host", "10.0.0.1", "fd00::1", "::1"] {
            assert_eq!(check_host(host).as_deref(), Ok(host));
        }
        assert_eq!(check_host("[fd00::1]").as_deref(), Ok("fd00::1"));
        assert_eq!(check_host("fe80::1%eth0").as_deref(), Ok("fe80::1%eth0"));
        assert_eq!(check_host("[fe80::1%eth0]").as_deref(), Ok("fe80::1%eth0"));
    }

    #[test]
    fn what_is_no_host_says_what_to_do() {
        for (text, part) in [
            ("", "is empty"),
            ("$(MASTER)", "nothing replaced"),
            ("${MASTER}", "nothing replaced"),
            ("tcp://a", "is a URL"),
            ("a:29500", "carries a port"),
            ("[::1]:29500", "carries a port"),
            ("a,b", "several hosts"),
            ("a b", "contains a space"),
            ("0.0.0.0", "wildcard"),
            ("::", "wildcard"),
            ("[::1", "no IPv6 address"),
            ("1:2:3", "no IPv6 address"),
            ("fe80::1", "needs a scope"),
            ("fe80::1%", "empty scope"),
            ("-a", "no host name"),
            ("a/b", "no host name"),
            ("m\u{fc}nchen", "no host name"),
        ] {
            let problem = check_host(text).unwrap_err();
            assert!(problem.contains(part), "{text:?}: {problem}");
        }
        assert!(check_host(&"a".repeat(254)).unwrap_err().contains("longer"));
    }

    #[test]
    fn host_and_port_read_back() {
        for text in ["10.0.0.1:5", "[fd00::1]:65535", "node0:29500", "[fe80::1%eth0]:1"] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        for text in ["node0", "fd00::1:5", "node0:", "node0:0", "node0:70000", ":5", "[]:5", ""] {
            assert!(HostPort::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in ".*") {
            let _ = check_port(&text);
            if let Ok(host) = check_host(&text) {
                prop_assert_eq!(check_host(&host), Ok(host.clone()));
            }
            if let Ok(both) = HostPort::parse(&text) {
                prop_assert_eq!(HostPort::parse(&both.to_string()), Ok(both));
            }
        }
    }
}
