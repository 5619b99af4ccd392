//! Operations on device memory, staged through pinned host memory.
#![expect(unsafe_code, reason = "operations name their buffers by address")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::cuda::Device;
use crate::cuda::StreamRef;
use crate::device::DeviceBackend;
use crate::device::DeviceCall;
use crate::error::Error;
use crate::error::Result;
use crate::trace::GroupState;

/// The CPU backend for device memory of one GPU.
pub(crate) struct StagedBackend {
    host: Arc<dyn Backend>,
    device: Device,
    state: Arc<GroupState>,
    stage_bytes: usize,
}

impl fmt::Debug for StagedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedBackend")
            .field("host", &self.host)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl StagedBackend {
    /// The operations of `host` for memory of `device`. Nothing is allocated before the first one.
    pub(crate) fn new(
        host: Arc<dyn Backend>,
        device: Device,
        state: &Arc<GroupState>,
        stage_bytes: usize,
    ) -> Self {
        Self { host, device, state: state.clone(), stage_bytes }
    }
}

impl DeviceBackend for StagedBackend {
    fn name(&self) -> &'static str {
        self.host.name()
    }

    fn device(&self) -> &Device {
        &self.device
    }

    unsafe fn enqueue(&self, _: &[DeviceCall<'_>], _: StreamRef<'_>, _: Duration) -> Result<()> {
        let problem = format!("not yet ({} {})", self.state.name, self.stage_bytes);
        Err(Error::Usage { op: "on", problem })
    }
}
