//! About what is spoken: `NCCL_DEBUG_SUBSYS`.

use core::ops::BitOr;

/// A set of NCCL's subsystems, with NCCL's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subsys(u32);

// The names are NCCL's.
impl Subsys {
    pub(crate) const INIT: Self = Self(0x1);
    pub(crate) const COLL: Self = Self(0x2);
    pub(crate) const P2P: Self = Self(0x4);
    pub(crate) const SHM: Self = Self(0x8);
    pub(crate) const NET: Self = Self(0x10);
    pub(crate) const GRAPH: Self = Self(0x20);
    pub(crate) const TUNING: Self = Self(0x40);
    pub(crate) const ENV: Self = Self(0x80);
    pub(crate) const ALLOC: Self = Self(0x100);
    pub(crate) const CALL: Self = Self(0x200);
    pub(crate) const PROXY: Self = Self(0x400);
    pub(crate) const NVLS: Self = Self(0x800);
    pub(crate) const BOOTSTRAP: Self = Self(0x1000);
    pub(crate) const REG: Self = Self(0x2000);
    pub(crate) const PROFILE: Self = Self(0x4000);
    pub(crate) const RAS: Self = Self(0x8000);
    pub(crate) const DESTROY: Self = Self(0x1_0000);
    pub(crate) const ALLOC_HOST: Self = Self(0x2_0000);
    pub(crate) const ALL: Self = Self(0x3_ffff);

    /// What is spoken about if nothing is chosen.
    pub(crate) const DEFAULT: Self = Self(Self::INIT.0 | Self::BOOTSTRAP.0 | Self::ENV.0);
}

/// Name in `NCCL_DEBUG_SUBSYS`, the set, and the target of the `log` crate.
const NAMES: [(&str, Subsys, &str); 19] = [
    ("INIT", Subsys::INIT, "nccl::init"),
    ("COLL", Subsys::COLL, "nccl::coll"),
    ("P2P", Subsys::P2P, "nccl::p2p"),
    ("SHM", Subsys::SHM, "nccl::shm"),
    ("NET", Subsys::NET, "nccl::net"),
    ("GRAPH", Subsys::GRAPH, "nccl::graph"),
    ("TUNING", Subsys::TUNING, "nccl::tuning"),
    ("ENV", Subsys::ENV, "nccl::env"),
    ("ALLOC", Subsys::ALLOC, "nccl::alloc"),
    ("CALL", Subsys::CALL, "nccl::call"),
    ("PROXY", Subsys::PROXY, "nccl::proxy"),
    ("NVLS", Subsys::NVLS, "nccl::nvls"),
    ("BOOTSTRAP", Subsys::BOOTSTRAP, "nccl::bootstrap"),
    ("REG", Subsys::REG, "nccl::reg"),
    ("PROFILE", Subsys::PROFILE, "nccl::profile"),
    ("RAS", Subsys::RAS, "nccl::ras"),
    ("DESTROY", Subsys::DESTROY, "nccl::destroy"),
    ("ALLOC_HOST", Subsys::ALLOC_HOST, "nccl::alloc_host"),
    ("ALL", Subsys::ALL, "nccl"),
];

impl Subsys {
    /// Its bits.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Where its lines go in the `log` crate: the first subsystem of the set names it, INIT only if
    /// there is no other.
    pub(crate) fn target(self) -> &'static str {
        if self == Self::ALL {
            return "nccl";
        }
        if self.0 & !Self::INIT.0 != 0 && self.0 & Self::INIT.0 != 0 {
            return Self(self.0 & !Self::INIT.0).target();
        }
        NAMES.iter().find(|(_, set, _)| self.0 & set.0 != 0).map_or("nccl", |(_, _, target)| target)
    }

    /// The set that a value of `NCCL_DEBUG_SUBSYS` names: a list with commas, in any case. A `^` at
    /// its very beginning means all but those. As in NCCL since 2.30 one unknown name (returned)
    /// makes the whole value void.
    pub(crate) fn parse(value: &str) -> Result<Self, String> {
        let (negated, list) = match value.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        let mut bits = 0;
        for token in list.split(',').map(str::trim) {
            match NAMES.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(token)) {
                Some((_, set, _)) => bits |= set.0,
                None => return Err(token.to_owned()),
            }
        }
        Ok(Self(if negated { Self::ALL.0 & !bits } else { bits }))
    }
}

impl BitOr for Subsys {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_the_subsystems() {
        assert_eq!(Subsys::parse("INIT").unwrap().bits(), 0x1);
        assert_eq!(Subsys::parse("net,Coll , graph").unwrap().bits(), 0x32);
        assert_eq!(Subsys::parse("ALL").unwrap(), Subsys::ALL);
        assert_eq!(Subsys::parse("ALLOC_HOST,DESTROY").unwrap().bits(), 0x3_0000);
    }

    #[test]
    fn a_leading_caret_negates_the_whole_list() {
        assert_eq!(Subsys::parse("^NET,COLL").unwrap().bits(), 0x3_ffff & !0x12);
        assert_eq!(Subsys::parse("^ALL").unwrap().bits(), 0);
    }

    #[test]
    fn an_unknown_name_voids_the_value() {
        for (value, bad) in
            [("BOGUS,BOOTSTRAP", "BOGUS"), ("INIT,^NET", "^NET"), ("", ""), ("INIT,,NET", "")]
        {
            assert_eq!(Subsys::parse(value), Err(bad.to_owned()), "{value:?}");
        }
    }

    #[test]
    fn every_single_subsystem_has_its_own_bit_and_target() {
        let mut seen = 0;
        for (name, set, target) in &NAMES[..18] {
            assert_eq!(set.bits().count_ones(), 1);
            assert_eq!(seen & set.bits(), 0);
            seen |= set.bits();
            assert_eq!(set.target(), *target);
            assert_eq!(*target, format!("nccl::{}", name.to_lowercase()));
        }
        assert_eq!(seen, Subsys::ALL.bits());
        assert_eq!((Subsys::NET | Subsys::INIT).target(), "nccl::net");
    }
}
