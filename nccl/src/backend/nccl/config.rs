//! How a communicator is made.
#![expect(unsafe_code, reason = "the configuration is a C struct that holds texts by address")]

use core::ffi::c_int;
use std::ffi::CString;

use nccl_sys::Missing;
use nccl_sys::NCCL_CONFIG_UNDEF_INT;
use nccl_sys::Version;
use nccl_sys::ncclConfig_t;
use nccl_sys::ncclHostCftMode_t;
use nccl_sys::ncclNvlsHostMode_t;

use crate::error::Error;
use crate::error::Result;

/// How many thread blocks NCCL uses, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CtaPolicy {
    /// As NCCL sees fit.
    Default,
    /// Fewer for the same bandwidth.
    Efficiency,
    /// None where the copy engines can do it.
    Zero,
}

impl CtaPolicy {
    /// NCCL's number.
    pub(super) fn code(self) -> c_int {
        match self {
            Self::Default => nccl_sys::NCCL_CTA_POLICY_DEFAULT,
            Self::Efficiency => nccl_sys::NCCL_CTA_POLICY_EFFICIENCY,
            Self::Zero => nccl_sys::NCCL_CTA_POLICY_ZERO,
        }
    }
}

/// The options of a new communicator. What is not set is NCCL's default, or what its variables say,
/// which win over these options.
///
/// An option that the opened library does not know is an error when the communicator is made, as
/// the library itself would ignore it in silence.
///
/// ```
/// use nccl::comm::CommConfig;
///
/// let config = CommConfig::new().name("tp").ctas(1, 4).traffic_class(3);
/// ```
///
/// # Source
/// `ncclConfig_t` of nccl.h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommConfig {
    blocking: bool,
    net_name: Option<String>,
    name: Option<String>,
    numbers: Vec<(Field, c_int)>,
}

/// The options that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    CgaClusterSize,
    MinCtas,
    MaxCtas,
    SplitShare,
    TrafficClass,
    CollnetEnable,
    CtaPolicy,
    ShrinkShare,
    NvlsCtas,
    ChannelsPerNetPeer,
    NvlinkCentricSched,
    GraphUsageMode,
    RmaContexts,
    MaxP2pPeers,
    GraphStreamOrdering,
    LaunchOrderImplicit,
    RmaSignals,
    RmaEagerInit,
    HostCftMode,
    NvlsHostMode,
}

impl Default for CommConfig {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])+ $method:ident($argument:ident: u32) = $field:ident;)+) => {$(
        $(#[$doc])+
        #[must_use]
        pub fn $method(self, $argument: u32) -> Self {
            self.set(Field::$field, c_int::try_from($argument).unwrap_or(c_int::MAX))
        }
    )+};
}

macro_rules! switches {
    ($($(#[$doc:meta])+ $method:ident = $field:ident;)+) => {$(
        $(#[$doc])+
        #[must_use]
        pub fn $method(self, on: bool) -> Self {
            self.set(Field::$field, c_int::from(on))
        }
    )+};
}

impl CommConfig {
    /// Sets nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { blocking: false, net_name: None, name: None, numbers: Vec::new() }
    }

    /// Says whether calls may wait inside NCCL (`blocking`); false unless set.
    ///
    /// If not, every call ends at its timeout, also when another rank never comes, and the
    /// communicator is aborted then. NCCL starts a thread for every call outside of a graph
    /// though, which costs some 10 us of the calling thread's time. Blocking calls do without; the
    /// first ones, which make connections, then wait inside NCCL for as long as it takes, and a
    /// communicator that is not made in time leaves a thread behind that waits.
    #[must_use]
    pub fn blocking(mut self, blocking: bool) -> Self {
        self.blocking = blocking;
        self
    }

    /// Names the communicator in NCCL's log and profilers (`commName`, 2.27).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Chooses the network module (`netName`), as `Socket` or `IB`.
    #[must_use]
    pub fn net_name(mut self, name: impl Into<String>) -> Self {
        self.net_name = Some(name.into());
        self
    }

    /// Sets the fewest and the most thread blocks (`minCTAs`, `maxCTAs`). Both, since up to 2.30
    /// NCCL refuses the first without the second.
    #[must_use]
    pub fn ctas(self, fewest: u32, most: u32) -> Self {
        let number = |value| c_int::try_from(value).unwrap_or(c_int::MAX);
        self.set(Field::MinCtas, number(fewest)).set(Field::MaxCtas, number(most))
    }

    /// Says what thread blocks are for (`CTAPolicy`, 2.27).
    #[must_use]
    pub fn cta_policy(self, policy: CtaPolicy) -> Self {
        self.set(Field::CtaPolicy, policy.code())
    }

    numbers! {
        /// Sets the size of clusters of thread blocks (`cgaClusterSize`), 0 to 8.
        cga_cluster_size(size: u32) = CgaClusterSize;
        /// Sets the class of its network traffic (`trafficClass`, 2.26).
        traffic_class(class: u32) = TrafficClass;
        /// Sets the thread blocks of NVLS (`nvlsCTAs`, 2.27).
        nvls_ctas(count: u32) = NvlsCtas;
        /// Sets the channels per peer across the network (`nChannelsPerNetPeer`, 2.28).
        channels_per_net_peer(count: u32) = ChannelsPerNetPeer;
        /// Says how graphs and eager calls go together (`graphUsageMode`, 2.29): 0 no graphs, 1
        /// one graph at a time, 2 graphs and eager calls mixed.
        graph_usage_mode(mode: u32) = GraphUsageMode;
        /// Sets the contexts for one-sided calls (`numRmaCtx`, 2.29).
        rma_contexts(count: u32) = RmaContexts;
        /// Sets the most peers of `send` and `recv` (`maxP2pPeers`, 2.30).
        max_p2p_peers(count: u32) = MaxP2pPeers;
        /// Sets the signals for one-sided calls (`numRmaSig`, 2.31).
        rma_signals(count: u32) = RmaSignals;
    }

    switches! {
        /// Says whether splits share resources with this one (`splitShare`).
        split_share = SplitShare;
        /// Says whether in-network reductions may be used (`collnetEnable`, 2.27).
        collnet_enable = CollnetEnable;
        /// Says whether shrunk communicators share resources with this one (`shrinkShare`, 2.27).
        shrink_share = ShrinkShare;
        /// Says whether schedules favour NVLink (`nvlinkCentricSched`, 2.28).
        nvlink_centric_sched = NvlinkCentricSched;
        /// Says whether NCCL orders the streams of a graph (`graphStreamOrdering`, 2.30.7).
        graph_stream_ordering = GraphStreamOrdering;
        /// Says whether NCCL keeps several communicators of a device in the order of their calls
        /// (`launchOrderImplicit`, 2.31).
        launch_order_implicit = LaunchOrderImplicit;
        /// Says whether one-sided calls are made ready at once (`rmaEagerInit`, 2.31).
        rma_eager_init = RmaEagerInit;
    }

    /// Says whether counted transfers by the host may be used (`hostCftMode`, 2.31).
    #[must_use]
    pub fn host_cft(self, on: bool) -> Self {
        let mode = match on {
            true => ncclHostCftMode_t::ncclHostCftEnable,
            false => ncclHostCftMode_t::ncclHostCftDisable,
        };
        self.set(Field::HostCftMode, mode.0)
    }

    /// Says whether calls from the host may use NVLS (`nvlsHostMode`, 2.32).
    #[must_use]
    pub fn nvls_host(self, on: bool) -> Self {
        let mode = match on {
            true => ncclNvlsHostMode_t::ncclNvlsHostModeEnable,
            false => ncclNvlsHostMode_t::ncclNvlsHostModeDisable,
        };
        self.set(Field::NvlsHostMode, mode.0)
    }

    fn set(mut self, field: Field, value: c_int) -> Self {
        self.numbers.retain(|(other, _)| *other != field);
        self.numbers.push((field, value));
        self
    }

    /// The struct for a library of this version, with the texts that it points to.
    pub(super) fn to_raw(&self, found: Version) -> Result<RawConfig> {
        let mut raw = ncclConfig_t::new(found);
        raw.blocking = c_int::from(self.blocking);
        for (field, value) in &self.numbers {
            // The library takes this number as "not set", and so would ignore it.
            if *value == NCCL_CONFIG_UNDEF_INT {
                continue;
            }
            *field.place(&mut raw) = *value;
        }
        let text = |name: &'static str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => CString::new(text.as_str()).map(Some).map_err(|_| Error::Usage {
                op: "CommConfig",
                problem: format!("{name} {text:?} has a zero byte, which NCCL takes as its end"),
            }),
        };
        let texts = [text("net_name", &self.net_name)?, text("name", &self.name)?];
        if let [Some(net_name), _] = &texts {
            raw.netName = net_name.as_ptr();
        }
        if let [_, Some(name)] = &texts {
            raw.commName = name.as_ptr();
        }
        match raw.unsupported(found) {
            Some(missing) => Err(Error::Unsupported(missing)),
            None => Ok(RawConfig { raw, _texts: texts }),
        }
    }
}

impl Field {
    fn place(self, raw: &mut ncclConfig_t) -> &mut c_int {
        match self {
            Self::CgaClusterSize => &mut raw.cgaClusterSize,
            Self::MinCtas => &mut raw.minCTAs,
            Self::MaxCtas => &mut raw.maxCTAs,
            Self::SplitShare => &mut raw.splitShare,
            Self::TrafficClass => &mut raw.trafficClass,
            Self::CollnetEnable => &mut raw.collnetEnable,
            Self::CtaPolicy => &mut raw.CTAPolicy,
            Self::ShrinkShare => &mut raw.shrinkShare,
            Self::NvlsCtas => &mut raw.nvlsCTAs,
            Self::ChannelsPerNetPeer => &mut raw.nChannelsPerNetPeer,
            Self::NvlinkCentricSched => &mut raw.nvlinkCentricSched,
            Self::GraphUsageMode => &mut raw.graphUsageMode,
            Self::RmaContexts => &mut raw.numRmaCtx,
            Self::MaxP2pPeers => &mut raw.maxP2pPeers,
            Self::GraphStreamOrdering => &mut raw.graphStreamOrdering,
            Self::LaunchOrderImplicit => &mut raw.launchOrderImplicit,
            Self::RmaSignals => &mut raw.numRmaSig,
            Self::RmaEagerInit => &mut raw.rmaEagerInit,
            Self::HostCftMode => &mut raw.hostCftMode,
            Self::NvlsHostMode => &mut raw.nvlsHostMode,
        }
    }
}

/// The struct and its texts. Some versions keep the address of the name: whoever makes a
/// communicator with it keeps this as long as the communicator.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) raw: ncclConfig_t,
    _texts: [Option<CString>; 2],
}

// SAFETY: the addresses are of the texts that it owns and that nobody changes.
unsafe impl Send for RawConfig {}
// SAFETY: as above.
unsafe impl Sync for RawConfig {}

/// Since when NCCL has 8-bit floats.
pub(super) const FP8: (&str, Version) = ("ncclFloat8e4m3", Version::new(2, 24, 3));

/// Fails if a version lacks something that has no function or member of its own.
pub(super) fn missing(what: (&'static str, Version), found: Version) -> Result<()> {
    let (what, since) = what;
    if found >= since { Ok(()) } else { Err(Error::Unsupported(Missing::new(what, since, found))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_in_the_struct_and_the_rest_is_not() {
        let config = CommConfig::new().name("tp").ctas(1, 4).split_share(true).split_share(false);
        let made = config.to_raw(Version::new(2, 32, 3)).unwrap();
        assert_eq!((made.raw.minCTAs, made.raw.maxCTAs, made.raw.splitShare), (1, 4, 0));
        assert_eq!((made.raw.blocking, made.raw.trafficClass), (0, NCCL_CONFIG_UNDEF_INT));
        // SAFETY: the text is owned by `made`.
        let name = unsafe { core::ffi::CStr::from_ptr(made.raw.commName) };
        assert_eq!(name, c"tp");
        assert!(made.raw.netName.is_null());
    }

    #[test]
    fn an_option_that_the_library_would_ignore_is_refused_by_name() {
        let refused =
            |config: CommConfig| config.to_raw(Version::new(2, 26, 5)).unwrap_err().to_string();
        let text = refused(CommConfig::new().name("tp"));
        let expected =
            "ncclConfig_t.commName needs NCCL 2.27.3, and the libnccl that was opened is 2.26.5";
        assert_eq!(text, expected);
        assert!(
            refused(CommConfig::new().nvls_host(true)).contains("nvlsHostMode needs NCCL 2.32")
        );
        assert!(refused(CommConfig::new().net_name("a\0b")).contains("zero byte"));
        let fits = CommConfig::new().traffic_class(1).ctas(2, 2).cga_cluster_size(2);
        assert!(fits.to_raw(Version::new(2, 26, 5)).is_ok());
    }
}
