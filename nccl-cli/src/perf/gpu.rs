//! This rank's GPU: the stream that everything is enqueued on, and what the report says of it.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use nccl::ProcessGroup;
use nccl::Result;
use nccl::comm::Nccl;
use nccl::config::Env;
use nccl::config::Settings;
use nccl::cuda;
use nccl::cuda::Device;
use nccl::cuda::Event;
use nccl::cuda::Stream;

use crate::perf::Failure;

/// How long a wait looks without sleeping: sleeps would be measured as latency.
const SPIN: Duration = Duration::from_millis(100);

/// A device with a stream.
#[derive(Debug)]
pub(crate) struct Gpu {
    stream: Stream,
    event: Event,
}

/// What the report says of a rank's device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceInfo {
    /// Its number among those that the rank sees.
    pub(crate) ordinal: String,
    /// Its place on the PCI bus; empty where the driver does not tell.
    pub(crate) pci: String,
    /// What it is called.
    pub(crate) name: String,
}

/// The libraries that rank 0 uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Libraries {
    /// Version and file of NCCL, if the group's backend is NCCL.
    pub(crate) nccl: Option<[String; 2]>,
    /// Version and file of the CUDA driver.
    pub(crate) cuda: Option<[String; 2]>,
}

impl Gpu {
    /// This rank's device, on every rank or on none of them.
    ///
    /// # Errors
    /// Names the ranks that have no device, and why: their own text on those, that of the first of
    /// them on the others.
    pub(crate) fn open_on_all(group: &ProcessGroup) -> Result<Self, Failure> {
        let mine = Self::open(group);
        let own = mine.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let all = group.all_gather_bytes(own.as_bytes())?;
        let lacking: Vec<usize> = (0..all.len()).filter(|rank| !all[*rank].is_empty()).collect();
        match (lacking.first(), mine) {
            (None, Ok(gpu)) => Ok(gpu),
            (_, Err(why)) => Err(Failure::other(lacks(&lacking, group.rank(), &why.to_string()))),
            (Some(first), Ok(_)) => {
                let text = all.get(*first).map(|text| String::from_utf8_lossy(text));
                Err(Failure::other(lacks(&lacking, *first, &text.unwrap_or_default())))
            }
        }
    }

    fn open(group: &ProcessGroup) -> Result<Self> {
        let env = Env::process();
        let asked = Settings::from_env(&env)?.device;
        let device = cuda::choose(group.local_rank(), asked.as_ref(), &env)?;
        Ok(Self { stream: Stream::new(&device)?, event: Event::new(&device)? })
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The device.
    pub(crate) fn device(&self) -> &Device {
        self.stream.device()
    }

    /// Waits until all that was enqueued is done, without a sleep for as long as it matters.
    ///
    /// # Errors
    /// Those of [`ProcessGroup::synchronize`].
    pub(crate) fn settle(&self, group: &ProcessGroup) -> Result<()> {
        self.event.record(&self.stream)?;
        let begun = Instant::now();
        while !self.event.is_reached()? {
            if begun.elapsed() > SPIN {
                return group.synchronize(&self.stream);
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// What the report says of it.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn info(&self) -> Result<DeviceInfo> {
        let device = self.device();
        let pci = device.pci_address().map_or_else(|_| String::new(), |pci| pci.to_string());
        Ok(DeviceInfo { ordinal: device.ordinal().to_string(), pci, name: device.name()? })
    }

    /// What it runs on.
    pub(crate) fn libraries(&self, group: &ProcessGroup) -> Libraries {
        let file = |path: Option<&std::path::Path>| {
            path.map_or_else(|| "an unknown file".to_owned(), |path| path.display().to_string())
        };
        let nccl = (group.backend_name() == "nccl").then(Nccl::get).and_then(Result::ok);
        let driver = self.device().driver();
        let version = driver.version().map_or_else(|| "?".to_owned(), |it| it.to_string());
        Libraries {
            nccl: nccl.map(|nccl| [nccl.version().to_string(), file(nccl.path())]),
            cuda: Some([version, file(driver.path())]),
        }
    }
}

/// The sentence about ranks without a device.
fn lacks(ranks: &[usize], shown: usize, why: &str) -> String {
    let ranks: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    format!("no device memory on rank {}: rank {shown}: {why}", ranks.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_without_a_device_are_all_named() {
        assert_eq!(
            lacks(&[1, 3], 1, "no GPU for local rank 1"),
            "no device memory on rank 1, 3: rank 1: no GPU for local rank 1"
        );
    }
}
