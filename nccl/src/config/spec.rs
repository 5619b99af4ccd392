//! Types of values that have words: choices and lists, with the parser of each.

use crate::config::parse;

/// Which backend carries the collectives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendChoice {
    /// NCCL where every rank has what it needs, else the CPU.
    #[default]
    Auto,
    /// Shared memory and TCP.
    Cpu,
    /// NCCL, or an error.
    Nccl,
}

/// A transport of the CPU backend that is forced for all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportChoice {
    /// Shared memory; peers on other hosts are an error.
    Shm,
    /// TCP, also between ranks of one host.
    Tcp,
}

/// A family of internet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How much is logged, as `NCCL_DEBUG` says; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DebugLevel {
    /// Nothing.
    #[default]
    None,
    /// The version line.
    Version,
    /// Errors, with what led to them.
    Warn,
    /// What someone should look at.
    Attn,
    /// What is being done.
    Info,
    /// As `Info`; kept because NCCL has it.
    Abort,
    /// Every call.
    Trace,
}

/// Which subsystems log, as `NCCL_DEBUG_SUBSYS` says, in NCCL's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsystems(u64);

/// Which network interfaces may be used: `NCCL_SOCKET_IFNAME` and `NCCL_SOCKET_FAMILY`.
///
/// ```
/// use nccl::config::IfSpec;
///
/// let spec = IfSpec::parse("^docker,lo")?;
/// assert!(spec.admits("eth0") && !spec.admits("docker0") && !spec.admits("lo"));
/// assert!(IfSpec::parse("=eth0")?.admits("eth0"));
/// assert!(!IfSpec::parse("=eth0")?.admits("eth01"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfSpec {
    text: String,
    exclude: bool,
    exact: bool,
    names: Vec<String>,
    pub(crate) family: Option<SocketFamily>,
}

/// Which algorithms may be used, as `NCCL_ALGO` says.
///
/// ```
/// use nccl::config::AlgoSpec;
///
/// let spec = AlgoSpec::parse("^tree;broadcast:ring")?;
/// assert!(spec.allows("all_reduce", "ring") && !spec.allows("all_reduce", "tree"));
/// assert!(!spec.allows("broadcast", "tree"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlgoSpec {
    fallback: Option<AlgoList>,
    by_function: Vec<(String, AlgoList)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AlgoList {
    exclude: bool,
    names: Vec<String>,
}

/// NCCL's algorithms, in lower case.
const ALGORITHMS: [&str; 7] =
    ["tree", "ring", "collnetdirect", "collnetchain", "nvls", "nvlstree", "pat"];

/// NCCL's subsystems and their bits, in NCCL's order.
const SUBSYSTEMS: [(&str, u64); 18] = [
    ("INIT", 0x1),
    ("COLL", 0x2),
    ("P2P", 0x4),
    ("SHM", 0x8),
    ("NET", 0x10),
    ("GRAPH", 0x20),
    ("TUNING", 0x40),
    ("ENV", 0x80),
    ("ALLOC", 0x100),
    ("CALL", 0x200),
    ("PROXY", 0x400),
    ("NVLS", 0x800),
    ("BOOTSTRAP", 0x1000),
    ("REG", 0x2000),
    ("PROFILE", 0x4000),
    ("RAS", 0x8000),
    ("DESTROY", 0x1_0000),
    ("ALLOC_HOST", 0x2_0000),
];

impl Subsystems {
    /// Those that log if nobody says otherwise: `INIT`, `BOOTSTRAP`, `ENV`.
    pub const DEFAULT: Self = Self(0x1 | 0x1000 | 0x80);
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns NCCL's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Parses a list of names in any case. A `^` as the very first character takes the list away
    /// from all; a name that does not exist makes the whole value one that NCCL ignores.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (exclude, list) = split_caret(text);
        let mut mask = 0;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let upper = name.to_ascii_uppercase();
            let known = SUBSYSTEMS.iter().find(|(known, _)| *known == upper);
            mask |= match known {
                Some((_, bit)) => *bit,
                None if upper == "ALL" => u64::MAX,
                None => return Err(format!("names no subsystem of NCCL: {name:?}")),
            };
        }
        Ok(Self(if exclude { !mask } else { mask }))
    }
}

impl IfSpec {
    /// No wish: NCCL's order of preference holds.
    pub(crate) const AUTO: Self =
        Self { text: String::new(), exclude: false, exact: false, names: Vec::new(), family: None };

    /// Parses a value of `NCCL_SOCKET_IFNAME`: a list of prefixes, after `=` of exact names, after
    /// `^` of those to leave out. `:port` after a name is for InfiniBand and ignored.
    ///
    /// # Errors
    /// If it has fewer than two characters, which NCCL ignores.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() < 2 {
            return Err("has fewer than two characters; name an interface or a prefix".into());
        }
        let (exclude, rest) = split_caret(text);
        let (exact, list) = match rest.strip_prefix('=') {
            Some(list) => (true, list),
            None => (false, rest),
        };
        let name = |entry: &str| entry.split(':').next().unwrap_or_default().to_owned();
        let names = list.split(',').map(name).filter(|name| !name.is_empty()).collect();
        Ok(Self { text: text.to_owned(), exclude, exact, names, family: None })
    }

    /// Whether there is a wish at all.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.text.is_empty()
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The family of addresses asked for.
    #[must_use]
    pub fn family(&self) -> Option<SocketFamily> {
        self.family
    }

    /// Returns it for addresses of one family.
    #[must_use]
    pub fn with_family(mut self, family: Option<SocketFamily>) -> Self {
        self.family = family;
        self
    }

    /// Whether it admits an interface of that name. A list without names admits every one.
    #[must_use]
    pub fn admits(&self, interface: &str) -> bool {
        let fits = |name: &String| {
            if self.exact { interface == name } else { interface.starts_with(name.as_str()) }
        };
        let listed = self.names.is_empty() || self.names.iter().any(fits);
        listed != self.exclude
    }
}

impl AlgoSpec {
    /// No wish: the library chooses.
    pub(crate) const AUTO: Self = Self { fallback: None, by_function: Vec::new() };

    /// Parses `list;function:list;...`, where a list is `[^]name,name`, in any case.
    ///
    /// # Errors
    /// If an algorithm does not exist in NCCL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut spec = Self::AUTO;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once(':') {
                Some((function, list)) => {
                    spec.by_function.push((flat(function), AlgoList::parse(list)?));
                }
                None => spec.fallback = Some(AlgoList::parse(part)?),
            }
        }
        Ok(spec)
    }

    /// Whether `algorithm` may be used for `function` (`all_reduce` or `AllReduce`).
    #[must_use]
    pub fn allows(&self, function: &str, algorithm: &str) -> bool {
        let function = flat(function);
        let own = self.by_function.iter().rev().find(|(name, _)| *name == function);
        match own.map(|(_, list)| list).or(self.fallback.as_ref()) {
            None => true,
            Some(list) => list.names.contains(&algorithm.to_ascii_lowercase()) != list.exclude,
        }
    }
}

impl AlgoList {
    fn parse(text: &str) -> Result<Self, String> {
        let (exclude, list) = split_caret(text.trim());
        let mut names = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let lower = name.to_ascii_lowercase();
            if !ALGORITHMS.contains(&lower.as_str()) {
                return Err(format!("names no algorithm of NCCL: {name:?}"));
            }
            names.push(lower);
        }
        Ok(Self { exclude, names })
    }
}

/// A function's name without case and underscores.
fn flat(function: &str) -> String {
    let kept = function.trim().chars().filter(|c| *c != '_');
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

fn split_caret(text: &str) -> (bool, &str) {
    match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// `NCCL_RS_BACKEND`.
pub(super) fn backend(text: &str) -> Result<BackendChoice, String> {
    match text {
        "auto" => Ok(BackendChoice::Auto),
        "cpu" => Ok(BackendChoice::Cpu),
        "nccl" => Ok(BackendChoice::Nccl),
        _ => Err("must be auto, cpu or nccl".into()),
    }
}

/// `NCCL_RS_TRANSPORT`.
pub(super) fn transport(text: &str) -> Result<Option<TransportChoice>, String> {
    match text {
        "shm" => Ok(Some(TransportChoice::Shm)),
        "tcp" => Ok(Some(TransportChoice::Tcp)),
        _ => Err("must be shm or tcp; unset it to choose by peer".into()),
    }
}

/// `NCCL_SOCKET_FAMILY`, in exactly NCCL's spelling.
pub(super) fn family(text: &str) -> Result<Option<SocketFamily>, String> {
    match text {
        "AF_INET" => Ok(Some(SocketFamily::V4)),
        "AF_INET6" => Ok(Some(SocketFamily::V6)),
        _ => Err("must be AF_INET or AF_INET6".into()),
    }
}

/// `NCCL_DEBUG`.
pub(super) fn level(text: &str) -> Result<DebugLevel, String> {
    match text.to_ascii_uppercase().as_str() {
        "NONE" => Ok(DebugLevel::None),
        "VERSION" => Ok(DebugLevel::Version),
        "WARN" => Ok(DebugLevel::Warn),
        "ATTN" => Ok(DebugLevel::Attn),
        "INFO" => Ok(DebugLevel::Info),
        "ABORT" => Ok(DebugLevel::Abort),
        "TRACE" => Ok(DebugLevel::Trace),
        _ => Err("must be NONE, VERSION, WARN, ATTN, INFO, ABORT or TRACE".into()),
    }
}

/// `NCCL_BUFFSIZE`.
pub(super) fn buffer_bytes(text: &str) -> Result<usize, String> {
    let default = super::vars::BUFFSIZE.default_value();
    Ok(parse::nccl_count(text)?.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_caret_counts_only_as_first_character_of_subsystems() {
        assert_eq!(Subsystems::parse("INIT,net"), Ok(Subsystems(0x11)));
        assert_eq!(Subsystems::parse("^NET, COLL"), Ok(Subsystems(!0x12)));
        assert_eq!(Subsystems::parse("ALL"), Ok(Subsystems::ALL));
        assert!(Subsystems::parse("INIT,^NET").is_err());
        assert!(Subsystems::parse("INIT,BOGUS").is_err());
        assert_eq!(Subsystems::parse("INIT,BOOTSTRAP,ENV"), Ok(Subsystems::DEFAULT));
        let all: u64 = SUBSYSTEMS.iter().map(|(_, bit)| bit).sum();
        assert_eq!(all, (1 << SUBSYSTEMS.len()) - 1, "each bit once");
    }

    #[test]
    fn interface_names_are_prefixes_or_exact_or_left_out() {
        let admits = |text: &str, name: &str| IfSpec::parse(text).unwrap().admits(name);
        assert!(admits("eth", "eth0") && admits("lo,eth", "eth1") && !admits("eth", "xeth"));
        assert!(admits("=eth0:5", "eth0") && !admits("=eth0", "eth01"));
        assert!(!admits("^docker,lo", "lo") && admits("^docker,lo", "eth0"));
        assert!(admits("^=lo", "lo0") && !admits("^=lo", "lo"));
        assert!(admits("=^lo", "^lo"), "a caret after `=` is part of the name");
        assert!(admits(",,", "any") && !admits("^=", "any"), "no names at all: every one");
        assert!(IfSpec::parse("e").is_err() && IfSpec::parse("").is_err());
        assert!(IfSpec::default().is_auto() && IfSpec::default().admits("any"));
    }

    #[test]
    fn algorithms_are_chosen_by_function() {
        let spec = AlgoSpec::parse("Ring,CollnetDirect;allreduce:Tree;broadcast:^ring").unwrap();
        assert!(spec.allows("all_gather", "ring") && !spec.allows("all_gather", "tree"));
        assert!(spec.allows("AllReduce", "Tree") && !spec.allows("all_reduce", "ring"));
        assert!(spec.allows("broadcast", "tree") && !spec.allows("broadcast", "ring"));
        assert!(AlgoSpec::default().allows("all_reduce", "anything"));
        assert!(AlgoSpec::parse("rings").is_err());
    }

    proptest! {
        #[test]
        fn no_parser_panics(text in ".*", name in ".*") {
            let _ = Subsystems::parse(&text);
            let _ = AlgoSpec::parse(&text).map(|spec| spec.allows(&name, &name));
            let _ = IfSpec::parse(&text).map(|spec| spec.admits(&name));
            let _ = (backend(&text), transport(&text), family(&text), level(&text));
        }
    }
}
