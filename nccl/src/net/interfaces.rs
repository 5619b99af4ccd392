//! The network interfaces of this host, and which of them to use, by NCCL's rules.

#![expect(unsafe_code, reason = "getifaddrs hands out a linked list of C structures")]

use core::ffi::CStr;
use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;
use core::ptr;
use std::io;

use crate::config::IfSpec;
use crate::config::SocketFamily;
use crate::error::Error;
use crate::error::Result;

/// The most interfaces that are used, as in NCCL.
const MAX_INTERFACES: usize = 16;
/// The most interfaces that an error lists.
const SHOWN: usize = 32;

/// Names that NCCL avoids while there are others, in the order in which it takes them at last.
const AVOIDED: [&str; 3] = ["docker", "lo", "virbr"];

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its name: `eth0`.
    pub(crate) name: String,
    /// The address.
    pub(crate) addr: IpAddr,
    /// How many leading bits of the address are its network's.
    pub(crate) prefix_bits: u32,
    /// The scope of a link-local IPv6 address: the interface's number; else 0.
    pub(crate) scope: u32,
    /// Whether the system says that it works (`IFF_RUNNING`).
    pub(crate) running: bool,
}

impl Interface {
    /// Whether an address is in this one's network.
    pub(crate) fn is_near(&self, other: IpAddr) -> bool {
        match (self.addr, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix_bits));
                (own.to_bits() ^ other.to_bits()) & mask.unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.prefix_bits));
                (own.to_bits() ^ other.to_bits()) & mask.unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The interfaces to use, best first; at least one.
///
/// `near` is the rendezvous address: without a wish in `spec` its network is preferred.
pub(crate) fn choose(spec: &IfSpec, near: Option<IpAddr>) -> Result<Vec<Interface>> {
    let all = list().map_err(|error| Error::system("getifaddrs", error))?;
    select(&all, spec, near)
}

/// [`choose`] from a given list, which is in the system's order.
fn select(all: &[Interface], spec: &IfSpec, near: Option<IpAddr>) -> Result<Vec<Interface>> {
    let family = |one: &Interface| match spec.family() {
        Some(SocketFamily::V4) => one.addr.is_ipv4(),
        Some(SocketFamily::V6) => one.addr.is_ipv6(),
        None => true,
    };
    let usable: Vec<&Interface> = all.iter().filter(|one| one.running && family(one)).collect();
    // The loopback address of IPv6 counts only where nothing else is there to choose.
    let without = |one: &&Interface| one.addr != IpAddr::V6(Ipv6Addr::LOCALHOST);
    let most: Vec<&Interface> = usable.iter().copied().filter(without).collect();
    let mut chosen = wanted(&most, spec, near);
    if chosen.is_empty() {
        chosen = wanted(&usable, spec, near);
    }
    if chosen.is_empty() { Err(none_fits(all, spec)) } else { Ok(chosen) }
}

/// Those of `usable` that the user asks for, or the first kind in NCCL's order that is there.
fn wanted(usable: &[&Interface], spec: &IfSpec, near: Option<IpAddr>) -> Vec<Interface> {
    if !spec.is_auto() {
        return unique(usable, |one| spec.admits(&one.name));
    }
    let mut chosen = unique(usable, |one| one.name.starts_with("ib"));
    if let Some(near) = near.filter(|_| chosen.is_empty()) {
        chosen = unique(usable, |one| one.is_near(near));
    }
    if chosen.is_empty() {
        chosen = unique(usable, |one| !AVOIDED.iter().any(|name| one.name.starts_with(name)));
    }
    for name in AVOIDED {
        if chosen.is_empty() {
            chosen = unique(usable, |one| one.name.starts_with(name));
        }
    }
    chosen
}

/// Those that fit, the first address of each name, at most [`MAX_INTERFACES`].
fn unique(usable: &[&Interface], fits: impl Fn(&Interface) -> bool) -> Vec<Interface> {
    let mut chosen: Vec<Interface> = Vec::new();
    for one in usable.iter().filter(|one| fits(one)) {
        let known = chosen.iter().any(|have| have.name == one.name);
        if !known && chosen.len() < MAX_INTERFACES {
            chosen.push((*one).clone());
        }
    }
    chosen
}

/// The error that lists what there is.
fn none_fits(all: &[Interface], spec: &IfSpec) -> Error {
    let mut wish = match spec.text() {
        "" => "the default order".to_owned(),
        text => format!("NCCL_SOCKET_IFNAME={text:?}"),
    };
    match spec.family() {
        Some(SocketFamily::V4) => wish.push_str(" with NCCL_SOCKET_FAMILY=AF_INET"),
        Some(SocketFamily::V6) => wish.push_str(" with NCCL_SOCKET_FAMILY=AF_INET6"),
        None => {}
    }
    let named = |one: &&Interface| spec.admits(&one.name);
    let problem = if !all.iter().any(|one| named(&one)) {
        "no interface with an address has such a name"
    } else if !all.iter().filter(named).any(|one| one.running) {
        "it is down"
    } else {
        "it has no address of that family"
    };
    let mut shown: Vec<String> = all.iter().take(SHOWN).map(describe).collect();
    if all.len() > SHOWN {
        shown.push(format!("{} more", all.len() - SHOWN));
    }
    let available = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
    Error::Interface { spec: wish, problem: problem.into(), available }
}

fn describe(one: &Interface) -> String {
    let down = if one.running { "" } else { " (down)" };
    format!("{} {}{down}", one.name, one.addr)
}

/// A list of getifaddrs, freed when it goes.
struct Addrs(*mut libc::ifaddrs);

impl Drop for Addrs {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from a getifaddrs that succeeded, and only this drop frees
            // it; nothing borrowed from the list outlives this value, since `list` copies all.
            unsafe { libc::freeifaddrs(self.0) };
        }
    }
}

/// All internet addresses of this host's interfaces, in the system's order.
pub(crate) fn list() -> io::Result<Vec<Interface>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `first` is a valid place for one pointer, which getifaddrs sets if it returns 0.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let addrs = Addrs(first);
    let mut found = Vec::new();
    let mut at = addrs.0.cast_const();
    while !at.is_null() {
        // SAFETY: `at` is the list's head or a `ifa_next` of it, so by getifaddrs' contract it
        // points to an entry that lives until freeifaddrs, which `addrs` calls after this loop.
        let entry = unsafe { &*at };
        at = entry.ifa_next.cast_const();
        found.extend(read(entry));
    }
    Ok(found)
}

/// One entry, if it has a name and an internet address.
fn read(entry: &libc::ifaddrs) -> Option<Interface> {
    if entry.ifa_name.is_null() {
        return None;
    }
    // SAFETY: a name that is not null is a C string of the list, which lives while `entry` does.
    let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
    // SAFETY: `ifa_addr` is null or a socket address of the list, which lives while `entry` does.
    let (addr, scope) = unsafe { address(entry.ifa_addr) }?;
    // SAFETY: as for `ifa_addr`: `ifa_netmask` is null or a socket address of the list.
    let mask = unsafe { address(entry.ifa_netmask) };
    let prefix_bits = match (mask, addr) {
        (Some((IpAddr::V4(mask), _)), IpAddr::V4(_)) => mask.to_bits().leading_ones(),
        (Some((IpAddr::V6(mask), _)), IpAddr::V6(_)) => mask.to_bits().leading_ones(),
        (_, IpAddr::V4(_)) => 32,
        (_, IpAddr::V6(_)) => 128,
    };
    let running = entry.ifa_flags & libc::IFF_RUNNING.cast_unsigned() != 0;
    Some(Interface { name, addr, prefix_bits, scope, running })
}

/// The internet address and its scope in a C socket address.
///
/// # Safety
/// `addr` is null, or points to a socket address that is as long as its family says.
unsafe fn address(addr: *const libc::sockaddr) -> Option<(IpAddr, u32)> {
    if addr.is_null() {
        return None;
    }
    // SAFETY: every socket address begins with its family; the caller vouches for the pointer.
    let family = i32::from(unsafe { ptr::addr_of!((*addr).sa_family).read_unaligned() });
    match family {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in is there, by the caller's word whole; it
            // is plain old data, and the read needs no alignment.
            let v4 = unsafe { addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some((IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr))), 0))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with a sockaddr_in6.
            let v6 = unsafe { addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some((IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)), v6.sin6_scope_id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(name: &str, addr: &str, prefix_bits: u32) -> Interface {
        let addr = addr.parse().unwrap();
        Interface { name: name.into(), addr, prefix_bits, scope: 0, running: true }
    }

    /// A host with everything, in a system's order.
    fn host() -> Vec<Interface> {
        vec![
            one("lo", "127.0.0.1", 8),
            one("docker0", "172.17.0.1", 16),
            one("eth0", "10.0.0.5", 24),
            one("eth1", "10.1.0.5", 24),
            one("virbr0", "192.168.122.1", 24),
            one("lo", "::1", 128),
            one("eth0", "fd00::5", 64),
            one("eth1", "fe80::5", 64),
        ]
    }

    fn names(all: &[Interface], spec: &IfSpec, near: Option<&str>) -> String {
        let near = near.map(|near| near.parse().unwrap());
        let chosen = select(all, spec, near).unwrap();
        chosen.iter().map(|one| format!("{}={}", one.name, one.addr)).collect::<Vec<_>>().join(" ")
    }

    fn asked(text: &str) -> String {
        names(&host(), &IfSpec::parse(text).unwrap(), None)
    }

    #[test]
    fn the_default_is_what_is_neither_docker_nor_loopback_nor_virtual() {
        assert_eq!(names(&host(), &IfSpec::default(), None), "eth0=10.0.0.5 eth1=10.1.0.5");
    }

    #[test]
    fn infiniband_comes_first_then_the_network_of_the_rendezvous() {
        let mut all = host();
        assert_eq!(names(&all, &IfSpec::default(), Some("10.1.0.77")), "eth1=10.1.0.5");
        assert_eq!(names(&all, &IfSpec::default(), Some("fd00::77")), "eth0=fd00::5");
        assert_eq!(names(&all, &IfSpec::default(), Some("127.0.0.1")), "lo=127.0.0.1");
        let far = names(&all, &IfSpec::default(), Some("8.8.8.8"));
        assert_eq!(far, "eth0=10.0.0.5 eth1=10.1.0.5");
        all.push(one("ibs1", "10.2.0.5", 24));
        assert_eq!(names(&all, &IfSpec::default(), Some("10.1.0.77")), "ibs1=10.2.0.5");
    }

    #[test]
    fn what_is_avoided_is_taken_where_nothing_else_is() {
        let keep = |prefixes: &[&str]| -> Vec<Interface> {
            let fits = |one: &Interface| prefixes.iter().any(|prefix| one.name.starts_with(prefix));
            host().into_iter().filter(fits).collect()
        };
        let auto = IfSpec::default();
        assert_eq!(names(&keep(&["lo", "docker", "virbr"]), &auto, None), "docker0=172.17.0.1");
        assert_eq!(names(&keep(&["lo", "virbr"]), &auto, None), "lo=127.0.0.1");
        assert_eq!(names(&keep(&["virbr"]), &auto, None), "virbr0=192.168.122.1");
        let v6 = auto.with_family(Some(SocketFamily::V6));
        assert_eq!(names(&keep(&["lo"]), &v6, None), "lo=::1", "nothing else is there");
    }

    #[test]
    fn a_wish_is_taken_in_the_systems_order() {
        assert_eq!(asked("eth,lo"), "lo=127.0.0.1 eth0=10.0.0.5 eth1=10.1.0.5");
        assert_eq!(asked("=eth1,lo"), "lo=127.0.0.1 eth1=10.1.0.5");
        assert_eq!(asked("^lo,docker,virbr"), "eth0=10.0.0.5 eth1=10.1.0.5");
        assert_eq!(asked("^=eth0,lo"), "docker0=172.17.0.1 eth1=10.1.0.5 virbr0=192.168.122.1");
        let v6 = IfSpec::parse("eth").unwrap().with_family(Some(SocketFamily::V6));
        assert_eq!(names(&host(), &v6, None), "eth0=fd00::5 eth1=fe80::5");
    }

    #[test]
    fn a_wish_that_nothing_fulfils_is_an_error_that_lists_what_there_is() {
        let mut all = host();
        all.truncate(3);
        all[2].running = false;
        let text = |spec: &IfSpec| select(&all, spec, None).unwrap_err().to_string();
        assert_eq!(
            text(&IfSpec::parse("ens").unwrap()),
            "no network interface fits NCCL_SOCKET_IFNAME=\"ens\": no interface with an address \
             has such a name; this machine has lo 127.0.0.1, docker0 172.17.0.1, eth0 10.0.0.5 \
             (down)"
        );
        assert!(text(&IfSpec::parse("=eth0").unwrap()).contains(": it is down;"));
        let v6 = IfSpec::parse("=lo").unwrap().with_family(Some(SocketFamily::V6));
        let text = text(&v6);
        assert!(text.contains("with NCCL_SOCKET_FAMILY=AF_INET6: it has no address"), "{text}");
        let text = select(&[], &IfSpec::default(), None).unwrap_err().to_string();
        assert!(text.ends_with("this machine has none"), "{text}");
    }

    #[test]
    fn at_most_sixteen_are_used() {
        let all: Vec<_> = (0..40).map(|i| one(&format!("eth{i}"), "10.0.0.1", 8)).collect();
        assert_eq!(select(&all, &IfSpec::default(), None).unwrap().len(), 16);
    }

    #[test]
    fn the_system_lists_the_loopback_interface() {
        let all = list().unwrap();
        let lo = all.iter().find(|one| one.addr == IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!((lo.prefix_bits, lo.running), (8, true));
        assert!(lo.is_near("127.1.2.3".parse().unwrap()));
        assert!(!lo.is_near("128.0.0.1".parse().unwrap()));
        let spec = IfSpec::parse(&format!("={}", lo.name)).unwrap();
        assert_eq!(choose(&spec, None).unwrap(), std::slice::from_ref(lo));
        assert!(!choose(&IfSpec::default(), None).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn networks_are_compared_by_their_bits(own: u32, other: u32, bits in 0_u32..=32) {
            let interface = Interface { addr: IpAddr::V4(own.into()), ..one("a", "::", bits) };
            let same = (0..bits).all(|bit| (own ^ other) & (1 << (31 - bit)) == 0);
            prop_assert_eq!(interface.is_near(IpAddr::V4(other.into())), same);
        }
    }
}
