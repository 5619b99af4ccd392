//! How a single operation is run, where it differs from how its communicator was made.
#![expect(unsafe_code, reason = "calls libnccl with addresses of device memory")]

use core::ffi::c_int;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use nccl_sys::Version;
use nccl_sys::ncclCollConfig_t;
use nccl_sys::ncclComm_t;
use nccl_sys::ncclRedOp_t;

use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::config::CtaPolicy;
use crate::backend::nccl::issue::Issue;
use crate::backend::nccl::issue::Outcome;
use crate::backend::nccl::issue::dtype_code;
use crate::backend::nccl::issue::rank_code;
use crate::cuda::Device;
use crate::cuda::DeviceStream;
use crate::cuda::StreamRef;
use crate::desc::Kind;
use crate::device::DeviceBackend;
use crate::device::DeviceCall;
use crate::device::OnStream;
use crate::error::Error;
use crate::error::Result;
use crate::trace::lock;

/// The options of single operations. What is not set is as the communicator was made.
///
/// ```
/// use nccl::comm::CallConfig;
///
/// let config = CallConfig::new().ctas(1, 4).algorithms("ring+ll128").profiler_tag(7);
/// ```
///
/// # Source
/// `ncclCollConfig_t` of nccl.h (2.31).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallConfig {
    ctas: Option<(u32, u32)>,
    nvls_ctas: Option<u32>,
    cga_cluster_size: Option<u32>,
    algorithms: Option<String>,
    prefer: bool,
    policy: Option<CtaPolicy>,
    tag: u64,
}

impl CallConfig {
    /// Sets nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the fewest and the most thread blocks (`minCTAs`, `maxCTAs`).
    #[must_use]
    pub fn ctas(self, fewest: u32, most: u32) -> Self {
        Self { ctas: Some((fewest, most)), ..self }
    }

    /// Sets the thread blocks of NVLS (`nvlsCTAs`).
    #[must_use]
    pub fn nvls_ctas(self, count: u32) -> Self {
        Self { nvls_ctas: Some(count), ..self }
    }

    /// Sets the size of clusters of thread blocks (`cgaClusterSize`), 0 to 8.
    #[must_use]
    pub fn cga_cluster_size(self, size: u32) -> Self {
        Self { cga_cluster_size: Some(size), ..self }
    }

    /// Names the algorithms that may be used (`algSelection`), in NCCL's grammar.
    #[must_use]
    pub fn algorithms(self, names: impl Into<String>) -> Self {
        Self { algorithms: Some(names.into()), ..self }
    }

    /// Says that others may be used where those named cannot be (`forceAlgSelection` 0).
    #[must_use]
    pub fn algorithms_preferred(self, names: impl Into<String>) -> Self {
        Self { algorithms: Some(names.into()), prefer: true, ..self }
    }

    /// Says what thread blocks are for (`CTAPolicy`).
    #[must_use]
    pub fn cta_policy(self, policy: CtaPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Sets the number by which a profiler knows the operation (`userProfilerTag`).
    #[must_use]
    pub fn profiler_tag(self, tag: u64) -> Self {
        Self { tag, ..self }
    }

    fn to_raw(&self, found: Version) -> Result<RawCallConfig> {
        let mut raw = ncclCollConfig_t::new(found);
        let number = |value: u32| c_int::try_from(value).unwrap_or(c_int::MAX);
        if let Some((fewest, most)) = self.ctas {
            (raw.minCTAs, raw.maxCTAs) = (number(fewest), number(most));
        }
        if let Some(count) = self.nvls_ctas {
            raw.nvlsCTAs = number(count);
        }
        if let Some(size) = self.cga_cluster_size {
            raw.cgaClusterSize = number(size);
        }
        if let Some(policy) = self.policy {
            raw.CTAPolicy = policy.code();
        }
        raw.userProfilerTag = self.tag;
        raw.forceAlgSelection = c_int::from(!self.prefer);
        let text = self.algorithms.as_deref().map(CString::new).transpose().map_err(|_| {
            let problem = "the algorithms have a zero byte, which NCCL takes as their end";
            Error::Usage { op: "CallConfig", problem: problem.to_owned() }
        })?;
        if let Some(text) = &text {
            raw.algSelection = text.as_ptr();
        }
        match raw.unsupported(found) {
            Some(missing) => Err(Error::Unsupported(missing)),
            None => Ok(RawCallConfig { raw, _text: text }),
        }
    }
}

/// The struct and its text.
#[derive(Debug)]
pub(super) struct RawCallConfig {
    pub(super) raw: ncclCollConfig_t,
    _text: Option<CString>,
}

// SAFETY: the address is of the text that it owns and that nobody changes.
unsafe impl Send for RawCallConfig {}
// SAFETY: as above.
unsafe impl Sync for RawCallConfig {}

/// The configurations that operations of a communicator were given: NCCL may read one for as long
/// as an operation with it is under way, and so they stay. Equal ones are one.
#[derive(Debug, Default)]
pub(super) struct CallConfigs(Mutex<Vec<(CallConfig, Arc<RawCallConfig>)>>);

impl CallConfigs {
    fn get(&self, config: &CallConfig, found: Version) -> Result<Arc<RawCallConfig>> {
        let mut all = lock(&self.0);
        if let Some((_, raw)) = all.iter().find(|(other, _)| other == config) {
            return Ok(raw.clone());
        }
        let raw = Arc::new(config.to_raw(found)?);
        all.push((config.clone(), raw.clone()));
        Ok(raw)
    }
}

/// A communicator whose operations are run as a [`CallConfig`] says; made by
/// [`Communicator::with_call_config`].
#[derive(Debug)]
pub struct Configured<'a> {
    comm: &'a Communicator,
    config: Arc<RawCallConfig>,
}

impl Communicator {
    /// Returns a view whose operations are run as `config` says. Those of one call on all ranks
    /// have the same configuration.
    ///
    /// `send`, `recv`, and the forms with counts by rank have none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.31.
    ///
    /// # Source
    /// `ncclAllReduceConfig` and its like of nccl.h.
    pub fn with_call_config(&self, config: &CallConfig) -> Result<Configured<'_>> {
        let library = self.nccl().library();
        library.ncclAllReduceConfig().map_err(Error::Unsupported)?;
        let config = self.shared().call_configs().get(config, library.version())?;
        Ok(Configured { comm: self, config })
    }
}

impl Configured<'_> {
    /// As [`Communicator::on`].
    #[must_use]
    pub fn on<'s, S: DeviceStream + ?Sized>(
        &'s self,
        stream: &'s S,
        timeout: Duration,
    ) -> OnStream<'s, S> {
        OnStream::new(self, self.comm.member(), timeout, stream)
    }
}

impl DeviceBackend for Configured<'_> {
    fn name(&self) -> &'static str {
        "nccl"
    }

    fn device(&self) -> &Device {
        self.comm.device()
    }

    unsafe fn enqueue(
        &self,
        calls: &[DeviceCall<'_>],
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()> {
        for call in calls {
            if !has_config(call.kind) {
                let problem = "NCCL has no configuration for this operation".to_owned();
                return Err(Error::Usage { op: call.kind.name(), problem });
            }
        }
        // SAFETY: passed on from the caller.
        unsafe { self.comm.enqueue_as(calls, stream, timeout, Some(&self.config)) }
    }
}

/// Whether NCCL takes a configuration for an operation.
fn has_config(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AllReduce
            | Kind::Broadcast
            | Kind::Reduce
            | Kind::AllGather
            | Kind::ReduceScatter
            | Kind::AllToAll
            | Kind::Gather
            | Kind::Scatter
    )
}

/// The function if the library has it, with its outcome.
macro_rules! configured {
    ($self:ident . $name:ident($($arg:expr),*)) => {
        match $self.library.functions().$name {
            Some(function) => (stringify!($name), function($($arg),*)),
            None => (stringify!($name), nccl_sys::NcclResult::INVALID_USAGE),
        }
    };
}

impl Issue<'_> {
    /// One operation with a configuration; of those that have one.
    ///
    /// # Safety
    /// As of `Issue::one`; the configuration stays as long as the communicator.
    pub(super) unsafe fn one_configured(
        &self,
        comm: ncclComm_t,
        call: &DeviceCall<'_>,
        op: ncclRedOp_t,
        config: &RawCallConfig,
    ) -> Outcome {
        let (send, recv) = self.places(call);
        let (count, dtype, stream) = (call.count, dtype_code(call.dtype), self.stream);
        let (root, config) = (rank_code(call.root), &raw const config.raw);
        // SAFETY: of every call below: as of those without a configuration; and one struct of the
        // size that it says, which stays.
        unsafe {
            match call.kind {
                Kind::AllReduce => configured!(
                    self.ncclAllReduceConfig(send, recv, count, dtype, op, comm, stream, config)
                ),
                Kind::Broadcast => configured!(
                    self.ncclBroadcastConfig(send, recv, count, dtype, root, comm, stream, config)
                ),
                Kind::Reduce => configured!(
                    self.ncclReduceConfig(send, recv, count, dtype, op, root, comm, stream, config)
                ),
                Kind::AllGather => configured!(
                    self.ncclAllGatherConfig(send, recv, count, dtype, comm, stream, config)
                ),
                Kind::ReduceScatter => {
                    configured!(self.ncclReduceScatterConfig(
                        send, recv, count, dtype, op, comm, stream, config
                    ))
                }
                Kind::AllToAll => configured!(
                    self.ncclAlltoAllConfig(send, recv, count, dtype, comm, stream, config)
                ),
                Kind::Gather => configured!(
                    self.ncclGatherConfig(send, recv, count, dtype, root, comm, stream, config)
                ),
                Kind::Scatter => configured!(
                    self.ncclScatterConfig(send, recv, count, dtype, root, comm, stream, config)
                ),
                // Refused before.
                _ => ("ncclCollConfig_t", nccl_sys::NcclResult::INVALID_USAGE),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_configurations_are_kept_once() {
        let all = CallConfigs::default();
        let found = Version::new(2, 32, 3);
        let config = CallConfig::new().ctas(1, 4).algorithms("ring").profiler_tag(9);
        let one = all.get(&config, found).unwrap();
        assert!(Arc::ptr_eq(&one, &all.get(&config.clone(), found).unwrap()));
        assert!(!Arc::ptr_eq(&one, &all.get(&config.clone().nvls_ctas(2), found).unwrap()));
        assert_eq!((one.raw.minCTAs, one.raw.maxCTAs, one.raw.userProfilerTag), (1, 4, 9));
        assert_eq!((one.raw.forceAlgSelection, one.raw.size), (1, 72));
        assert!(config.to_raw(Version::new(2, 30, 7)).is_err());
        assert!(CallConfig::new().algorithms("a\0b").to_raw(found).is_err());
    }
}
