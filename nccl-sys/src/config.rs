//! Structs with a size, a mark and a version, made as the library that was opened knows them.
//!
//! A library reads as many bytes of a struct as both sides know, and nothing complains when a
//! member lies behind them: it is ignored. So each member has its first version here, and
//! [`ncclConfig_t::unsupported`] names what would be ignored.

use core::ffi::c_int;
use core::ffi::c_uint;
use core::mem::offset_of;
use core::mem::size_of;
use core::ptr;

use crate::bindings::ncclCollConfig_t;
use crate::bindings::ncclConfig_t;
use crate::bindings::ncclEncryptionConfig_t;
use crate::bindings::ncclEncryptionMode_t;
use crate::bindings::ncclSimInfo_t;
use crate::device::ncclCommProperties_t;
use crate::device::ncclGinConnectionType_t;
use crate::device::ncclGinType_t;
use crate::missing::Missing;
use crate::version::Version;

/// The number by which the library knows a struct that was initialised.
pub const NCCL_API_MAGIC: c_uint = 0xcafe_beef;
/// The same for [`ncclSimInfo_t`].
pub const NCCL_SIM_INFO_MAGIC: c_uint = 0x7468_5283;
/// A whole number that is not set: the library's default.
pub const NCCL_CONFIG_UNDEF_INT: c_int = c_int::MIN;
/// A float that is not set.
pub const NCCL_UNDEF_FLOAT: f32 = -1.0;

/// A member of a struct that grew from version to version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The struct and the member, as `ncclConfig_t.nvlsCTAs`.
    pub name: &'static str,
    /// The first public version whose struct has it.
    pub since: Version,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub bytes: usize,
}

/// Lists members of a struct, and finds the first one that is set and that a version lacks.
macro_rules! members {
    ($type:ident, $list:ident, $what:literal:
     $($field:ident: $minor:literal, $patch:literal, $unset:expr;)+) => {
        #[doc = $what]
        pub const $list: &[Member] = &[
            $(Member {
                name: concat!(stringify!($type), ".", stringify!($field)),
                since: Version::new(2, $minor, $patch),
                offset: offset_of!($type, $field),
                bytes: {
                    const fn bytes<F>(_: fn(&$type) -> &F) -> usize {
                        size_of::<F>()
                    }
                    bytes(|all: &$type| &all.$field)
                },
            },)+
        ];

        impl $type {
            /// The first member that is set and that `found` would ignore.
            #[must_use]
            #[expect(clippy::cmp_null, reason = "one comparison for numbers and pointers")]
            pub fn unsupported(&self, found: Version) -> Option<Missing> {
                let set = [$(self.$field != $unset,)+];
                $list
                    .iter()
                    .zip(set)
                    .find(|(member, set)| *set && member.since > found)
                    .map(|(member, _)| Missing::new(member.name, member.since, found))
            }
        }
    };
}

const UNDEF: c_int = NCCL_CONFIG_UNDEF_INT;

members! {
    ncclConfig_t, CONFIG_MEMBERS, "The members of [`ncclConfig_t`] behind its head, in order.":
    blocking: 14, 3, UNDEF;
    cgaClusterSize: 17, 1, UNDEF;
    minCTAs: 17, 1, UNDEF;
    maxCTAs: 17, 1, UNDEF;
    netName: 17, 1, ptr::null();
    splitShare: 18, 1, UNDEF;
    trafficClass: 26, 2, UNDEF;
    commName: 27, 3, ptr::null();
    collnetEnable: 27, 3, UNDEF;
    CTAPolicy: 27, 3, UNDEF;
    shrinkShare: 27, 3, UNDEF;
    nvlsCTAs: 27, 3, UNDEF;
    nChannelsPerNetPeer: 28, 3, UNDEF;
    nvlinkCentricSched: 28, 3, UNDEF;
    graphUsageMode: 29, 2, UNDEF;
    numRmaCtx: 29, 2, UNDEF;
    maxP2pPeers: 30, 3, UNDEF;
    graphStreamOrdering: 30, 7, UNDEF;
    launchOrderImplicit: 31, 2, UNDEF;
    numRmaSig: 31, 2, UNDEF;
    rmaEagerInit: 31, 2, UNDEF;
    hostCftMode: 31, 2, UNDEF;
    nvlsHostMode: 32, 3, UNDEF;
}

members! {
    ncclCollConfig_t, COLL_CONFIG_MEMBERS,
    "The members of [`ncclCollConfig_t`] behind its head, in order.":
    ext: 31, 2, ptr::null_mut();
    minCTAs: 31, 2, UNDEF;
    maxCTAs: 31, 2, UNDEF;
    nvlsCTAs: 31, 2, UNDEF;
    cgaClusterSize: 31, 2, UNDEF;
    algSelection: 31, 2, ptr::null();
    forceAlgSelection: 31, 2, 1;
    CTAPolicy: 31, 2, UNDEF;
    userProfilerTag: 31, 2, 0;
    launchCompletionEvent: 32, 3, ptr::null_mut();
}

/// Bytes of a struct as a version's header has it: up to the last member, and padded.
fn bytes(members: &[Member], found: Version) -> usize {
    let last = members.iter().rev().find(|member| member.since <= found);
    last.map_or(0, |last| last.offset + last.bytes).next_multiple_of(align_of::<usize>())
}

/// The version to write into a struct: that of the library, but never above that of our layout.
fn version(found: Version) -> c_uint {
    found.min(Version::HEADER).code().unsigned_abs()
}

impl ncclConfig_t {
    /// Bytes of the struct in the header of a version.
    #[must_use]
    pub fn bytes(found: Version) -> usize {
        bytes(CONFIG_MEMBERS, found)
    }

    /// Makes what `NCCL_CONFIG_INITIALIZER` makes in the header of `found`, the version of the
    /// library that is to read it: nothing is set.
    ///
    /// Up to 2.30 `minCTAs` without `maxCTAs` is refused: set both. The text behind `commName`
    /// must live as long as the communicator: some versions keep the pointer.
    #[must_use]
    pub fn new(found: Version) -> Self {
        Self {
            size: Self::bytes(found),
            magic: NCCL_API_MAGIC,
            version: version(found),
            blocking: UNDEF,
            cgaClusterSize: UNDEF,
            minCTAs: UNDEF,
            maxCTAs: UNDEF,
            netName: ptr::null(),
            splitShare: UNDEF,
            trafficClass: UNDEF,
            commName: ptr::null(),
            collnetEnable: UNDEF,
            CTAPolicy: UNDEF,
            shrinkShare: UNDEF,
            nvlsCTAs: UNDEF,
            nChannelsPerNetPeer: UNDEF,
            nvlinkCentricSched: UNDEF,
            graphUsageMode: UNDEF,
            numRmaCtx: UNDEF,
            maxP2pPeers: UNDEF,
            graphStreamOrdering: UNDEF,
            launchOrderImplicit: UNDEF,
            numRmaSig: UNDEF,
            rmaEagerInit: UNDEF,
            hostCftMode: UNDEF,
            nvlsHostMode: UNDEF,
        }
    }
}

impl ncclCollConfig_t {
    /// Bytes of the struct in the header of a version; 0 before 2.31, which has none.
    #[must_use]
    pub fn bytes(found: Version) -> usize {
        bytes(COLL_CONFIG_MEMBERS, found)
    }

    /// Makes what `NCCL_COLLCONFIG_INITIALIZER` makes in the header of `found`.
    #[must_use]
    pub fn new(found: Version) -> Self {
        Self {
            size: Self::bytes(found),
            magic: NCCL_API_MAGIC,
            version: version(found),
            ext: ptr::null_mut(),
            minCTAs: UNDEF,
            maxCTAs: UNDEF,
            nvlsCTAs: UNDEF,
            cgaClusterSize: UNDEF,
            algSelection: ptr::null(),
            forceAlgSelection: 1,
            CTAPolicy: UNDEF,
            userProfilerTag: 0,
            launchCompletionEvent: ptr::null_mut(),
        }
    }
}

impl ncclSimInfo_t {
    /// Makes what `NCCL_SIM_INFO_INITIALIZER` makes in the header of `found`.
    #[must_use]
    pub fn new(found: Version) -> Self {
        Self {
            size: size_of::<Self>(),
            magic: NCCL_SIM_INFO_MAGIC,
            version: version(found),
            estimatedTime: NCCL_UNDEF_FLOAT,
        }
    }
}

impl ncclEncryptionConfig_t {
    /// Makes what `NCCL_ENCRYPTION_CONFIG_INITIALIZER` makes in the header of `found`: without
    /// encryption.
    #[must_use]
    pub fn new(found: Version) -> Self {
        Self {
            size: size_of::<Self>(),
            magic: NCCL_API_MAGIC,
            version: version(found),
            mode: ncclEncryptionMode_t::NCCL_ENCRYPTION_MODE_NONE.0.cast_signed(),
            psk: ptr::null(),
        }
    }
}

impl ncclCommProperties_t {
    /// The first version with the struct as it is here; 2.29.2 and 2.29.3 had another.
    pub const SINCE: Version = Version::new(2, 29, 7);

    /// Bytes of the struct in the header of a version; 0 where there is none that fits.
    #[must_use]
    pub fn bytes(found: Version) -> usize {
        if found < Self::SINCE {
            0
        } else if found < Version::new(2, 31, 0) {
            offset_of!(Self, commHash)
        } else if found < Version::new(2, 32, 0) {
            offset_of!(Self, cftSupport)
        } else {
            size_of::<Self>()
        }
    }

    /// Makes what `NCCL_COMM_PROPERTIES_INITIALIZER` makes in the header of `found`.
    ///
    /// # Errors
    /// This version has no such struct, or another.
    pub fn new(found: Version) -> Result<Self, Missing> {
        if found < Self::SINCE {
            return Err(Missing::new("ncclCommQueryProperties", Self::SINCE, found));
        }
        Ok(Self {
            size: Self::bytes(found),
            magic: NCCL_API_MAGIC,
            version: version(found),
            rank: 0,
            nRanks: 0,
            cudaDev: 0,
            nvmlDev: 0,
            deviceApiSupport: 0,
            multimemSupport: 0,
            ginType: ncclGinType_t(0),
            nLsaTeams: 0,
            hostRmaSupport: 0,
            railedGinType: ncclGinType_t(0),
            commHash: 0,
            ginMinStride: 0,
            ginConnectionType: ncclGinConnectionType_t(0),
            ginSupport: [0; 64],
            devCommRuntimeVersionSize: 0,
            cftSupport: 0,
            cftMulticastSupport: 0,
            cftCountedSupport: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_config_has_the_size_of_each_versions_header() {
        for (minor, patch, bytes) in [
            (18, 3, 48),
            (25, 1, 48),
            (26, 5, 48),
            (27, 7, 72),
            (28, 9, 80),
            (29, 7, 88),
            (30, 4, 96),
            (30, 7, 96),
            (31, 2, 112),
            (32, 3, 120),
            (99, 0, 120),
        ] {
            let found = Version::new(2, minor, patch);
            assert_eq!(ncclConfig_t::new(found).size, bytes, "{found}");
        }
        assert_eq!(size_of::<ncclConfig_t>(), 120);
    }

    #[test]
    fn the_version_in_a_struct_is_never_above_our_layout() {
        assert_eq!(ncclConfig_t::new(Version::new(2, 18, 3)).version, 21803);
        assert_eq!(ncclConfig_t::new(Version::new(9, 0, 0)).version, 23203);
        assert_eq!(ncclSimInfo_t::new(Version::new(2, 22, 3)).version, 22203);
    }

    #[test]
    fn a_member_that_a_version_ignores_is_named() {
        let found = Version::new(2, 26, 5);
        let mut config = ncclConfig_t::new(found);
        assert_eq!(config.unsupported(found), None);
        config.trafficClass = 1;
        config.blocking = 0;
        assert_eq!(config.unsupported(found), None);
        config.nvlsHostMode = 0;
        config.nvlsCTAs = 4;
        let missing = config.unsupported(found).unwrap();
        assert_eq!(missing.function, "ncclConfig_t.nvlsCTAs");
        assert_eq!(missing.needs, Version::new(2, 27, 3));
        config.nvlsCTAs = UNDEF;
        config.commName = c"name".as_ptr();
        assert_eq!(config.unsupported(found).unwrap().function, "ncclConfig_t.commName");
        let all = Version::HEADER;
        assert_eq!(config.unsupported(all), None);
    }

    #[test]
    fn the_members_are_in_order_without_gaps_and_without_one_missing() {
        for (members, head, end) in [
            (CONFIG_MEMBERS, 16, size_of::<ncclConfig_t>()),
            (COLL_CONFIG_MEMBERS, 16, size_of::<ncclCollConfig_t>()),
        ] {
            let mut at: usize = head;
            for member in members {
                assert_eq!(member.offset, at.next_multiple_of(member.bytes), "{}", member.name);
                at = member.offset + member.bytes;
            }
            assert_eq!(at.next_multiple_of(8), end);
            assert!(members.is_sorted_by_key(|member| member.since));
        }
    }

    #[test]
    fn the_properties_of_versions_with_another_struct_are_refused() {
        let missing = ncclCommProperties_t::new(Version::new(2, 29, 3)).unwrap_err();
        assert_eq!(missing.needs, Version::new(2, 29, 7));
        let new = |minor, patch| ncclCommProperties_t::new(Version::new(2, minor, patch)).unwrap();
        let sizes = [new(29, 7).size, new(30, 7).size, new(31, 2).size, new(32, 3).size];
        assert_eq!(sizes, [56, 56, 144, 152]);
    }
}
