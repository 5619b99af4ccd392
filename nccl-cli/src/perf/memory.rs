//! Which memory is measured.

use std::fmt;

use nccl::ProcessGroup;

/// Where the buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Slices, through the group's operations on host memory.
    Host,
    /// A GPU's, through the group's operations on a stream.
    Device,
}

impl Memory {
    /// What was asked for, else where the group's backend works best: all ranks choose the same,
    /// since they have the same backend.
    pub(crate) fn choose(asked: Option<Self>, group: &ProcessGroup) -> Self {
        let by_backend = if group.backend_name() == "nccl" { Self::Device } else { Self::Host };
        asked.unwrap_or(by_backend)
    }

    /// Reads the value of the option.
    ///
    /// # Errors
    /// Says what can be written.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        match name {
            "host" => Ok(Self::Host),
            "device" => Ok(Self::Device),
            _ => Err("must be host or device; leave it out to choose by backend".to_owned()),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Device => "device",
        })
    }
}
