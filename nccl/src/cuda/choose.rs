//! Which GPU is this rank's.

use crate::config::DeviceSpec;
use crate::config::Env;
use crate::config::Visible;
use crate::cuda::device::Device;
use crate::cuda::driver::Driver;
use crate::error::Error;
use crate::error::Result;

/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: i32 = 100;

/// Returns the GPU of a local rank: the one `asked` for (by the program, or `NCCL_RS_DEVICE`),
/// else that with the rank's own number among those this process sees.
///
/// Where a process sees one device only, that is its device, whatever its local rank: many
/// launchers and container runtimes show each process its own.
///
/// # Errors
/// [`Error::DeviceChoice`] says what `CUDA_VISIBLE_DEVICES` shows and what to do; otherwise as of
/// [`Driver::get`].
pub fn choose(local_rank: usize, asked: Option<&DeviceSpec>, env: &Env) -> Result<Device> {
    let visible = Visible::from_env(env);
    let driver = Driver::get().map_err(|error| explained(error, local_rank, &visible))?;
    let count = driver.device_count()?;
    match asked {
        Some(spec @ DeviceSpec::Uuid(_)) => named(driver, spec, &visible),
        Some(DeviceSpec::Ordinal(ordinal)) => driver.device(asked_for(*ordinal, &visible, count)?),
        None => driver.device(by_rank(local_rank, &visible, count)?),
    }
}

/// The number of a local rank's device.
fn by_rank(local_rank: usize, visible: &Visible, count: usize) -> Result<usize> {
    let choice = |problem| Err(Error::DeviceChoice { who: who(local_rank), problem });
    match count {
        0 => choice(nothing(visible)),
        1 => Ok(0),
        count if local_rank < count => Ok(local_rank),
        count => choice(format!(
            "this process sees {count} devices, numbers 0 to {}, with {visible}; start at most \
             {count} ranks on this node, show more devices, or name one with NCCL_RS_DEVICE",
            count - 1
        )),
    }
}

/// A device asked for by number, if there is one.
fn asked_for(ordinal: usize, visible: &Visible, count: usize) -> Result<usize> {
    if ordinal < count {
        return Ok(ordinal);
    }
    let problem = match count {
        0 => nothing(visible),
        1 => format!("this process sees one device, number 0, with {visible}"),
        _ => format!("this process sees {count} devices, 0 to {}, with {visible}", count - 1),
    };
    Err(Error::DeviceChoice { who: format!("the number {ordinal}"), problem })
}

/// The only device whose UUID begins so.
fn named(driver: &'static Driver, spec: &DeviceSpec, visible: &Visible) -> Result<Device> {
    let devices = driver.devices()?;
    let mut found = Vec::new();
    for device in &devices {
        if device.is_named(spec)? {
            found.push(device);
        }
    }
    if let [device] = found.as_slice() {
        return Ok((*device).clone());
    }
    let seen: Vec<String> = devices
        .iter()
        .map(|device| device.uuid().map(|uuid| uuid.to_string()))
        .collect::<Result<_>>()?;
    let problem = format!(
        "{} of the devices that this process sees begin so, with {visible}: {}",
        if found.is_empty() { "none".to_owned() } else { found.len().to_string() },
        seen.join(", ")
    );
    Err(Error::DeviceChoice { who: format!("the UUID {spec}"), problem })
}

/// The driver's error, or what hides all devices from it.
fn explained(error: Error, local_rank: usize, visible: &Visible) -> Error {
    match &error {
        Error::Driver(cause) if cause.code == NO_DEVICE && visible.text.is_some() => {
            Error::DeviceChoice { who: who(local_rank), problem: nothing(visible) }
        }
        _ => error,
    }
}

fn who(local_rank: usize) -> String {
    format!("local rank {local_rank}")
}

fn nothing(visible: &Visible) -> String {
    match visible.text {
        None => "this process sees no device; `nvidia-smi -L` lists what the machine has, and a \
                 container must be started with GPUs (`--gpus all`)"
            .to_owned(),
        Some(_) => format!(
            "this process sees no device, with {visible}; unset it, or set it to numbers that \
             `nvidia-smi -L` lists"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::DriverError;
    use crate::error::Family;

    fn shown(text: &str) -> Visible {
        Visible::parse(Some(text))
    }

    #[test]
    fn a_local_rank_has_the_device_of_its_number() {
        let all = Visible::parse(None);
        for rank in 0..8 {
            assert_eq!(by_rank(rank, &all, 8).unwrap(), rank);
        }
    }

    #[test]
    fn a_process_that_sees_one_device_has_that_one() {
        for rank in [0, 1, 7, usize::MAX] {
            assert_eq!(by_rank(rank, &shown("5"), 1).unwrap(), 0);
        }
    }

    #[test]
    fn too_few_devices_are_explained_by_the_variable() {
        let error = by_rank(3, &shown("0,1"), 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no GPU for local rank 3: this process sees 2 devices, numbers 0 to 1, with \
             CUDA_VISIBLE_DEVICES=\"0,1\"; start at most 2 ranks on this node, show more devices, \
             or name one with NCCL_RS_DEVICE"
        );
        assert_eq!(error.family(), Family::Setup);
        let text = by_rank(2, &shown("0,1,9,3"), 2).unwrap_err().to_string();
        assert!(text.contains("CUDA_VISIBLE_DEVICES=\"0,1,9,3\""), "{text}");
    }

    #[test]
    fn no_device_is_explained_by_the_variable_or_the_machine() {
        let text = by_rank(0, &shown("-1"), 0).unwrap_err().to_string();
        assert!(
            text.contains("CUDA_VISIBLE_DEVICES=\"-1\" (of which the driver reads nothing from"),
            "{text}"
        );
        let text = by_rank(0, &Visible::parse(None), 0).unwrap_err().to_string();
        assert!(text.contains("--gpus all"), "{text}");
    }

    #[test]
    fn a_driver_that_sees_no_device_is_explained_where_the_variable_is_set() {
        let error =
            |code| Error::Driver(Arc::new(DriverError::new("cuInit", code, "".into(), "".into())));
        let text = explained(error(100), 1, &shown("")).to_string();
        assert!(text.starts_with("no GPU for local rank 1: "), "{text}");
        assert!(text.contains("empty, which hides all devices"), "{text}");
        assert!(matches!(explained(error(999), 1, &shown("")), Error::Driver(_)));
        assert!(matches!(explained(error(100), 1, &Visible::parse(None)), Error::Driver(_)));
    }

    #[test]
    fn a_number_that_is_asked_for_must_exist() {
        assert_eq!(asked_for(1, &shown("4,5"), 2).unwrap(), 1);
        let text = asked_for(4, &shown("4,5"), 2).unwrap_err().to_string();
        assert_eq!(
            text,
            "no GPU for the number 4: this process sees 2 devices, 0 to 1, with \
             CUDA_VISIBLE_DEVICES=\"4,5\""
        );
        assert!(asked_for(1, &shown("4"), 1).unwrap_err().to_string().contains("one device"));
        assert!(asked_for(0, &shown("4,4"), 0).is_err());
    }
}
