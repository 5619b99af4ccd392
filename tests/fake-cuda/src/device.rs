//! The devices: how many, their names, and which of them CUDA_VISIBLE_DEVICES shows.

use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::code::Code;
use crate::knobs;

/// A device of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Its number on the machine, from which its bus address is made.
    pub(crate) physical: usize,
    pub(crate) uuid: [u8; 16],
    pub(crate) memory_bytes: usize,
}

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// The devices that this process may see, by ordinal.
static VISIBLE: LazyLock<Vec<Device>> = LazyLock::new(|| {
    let count = knobs::number("FAKE_CUDA_DEVICES", 8);
    let memory_bytes = knobs::number("FAKE_CUDA_MEM_BYTES", 80 << 30);
    let given = std::env::var("FAKE_CUDA_UUIDS").unwrap_or_default();
    let given: Vec<&str> = given.split(',').filter(|uuid| !uuid.is_empty()).collect();
    let uuid = |physical: usize| match given.get(physical) {
        Some(text) => parse_uuid(text).unwrap_or_else(|| panic!("FAKE_CUDA_UUIDS: {text}")),
        None => uuid_of(physical),
    };
    let all: Vec<Device> = (0..count)
        .map(|physical| Device { physical, uuid: uuid(physical), memory_bytes })
        .collect();
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) => visible(&all, &list),
        Err(_) => all,
    }
});

/// Does what `cuInit` does.
pub(crate) fn initialize() -> Result<(), Code> {
    if VISIBLE.is_empty() {
        return Err(Code::NO_DEVICE);
    }
    INITIALIZED.store(true, Ordering::Release);
    Ok(())
}

/// Gives all devices, after `cuInit`.
pub(crate) fn all() -> Result<&'static [Device], Code> {
    if INITIALIZED.load(Ordering::Acquire) { Ok(&VISIBLE) } else { Err(Code::NOT_INITIALIZED) }
}

/// Gives one device by ordinal.
pub(crate) fn get(ordinal: i32) -> Result<(usize, &'static Device), Code> {
    let all = all()?;
    let at = usize::try_from(ordinal).map_err(|_| Code::INVALID_DEVICE)?;
    all.get(at).map(|device| (at, device)).ok_or(Code::INVALID_DEVICE)
}

/// The UUID as `nvidia-smi -L` prints it.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: Vec<String> = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex[from..to].concat();
    let parts = [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 16)];
    format!("GPU-{}", parts.join("-"))
}

fn uuid_of(physical: usize) -> [u8; 16] {
    let mut uuid = *b"\xfa\x4e\xc0\xda\0\0\x40\0\x80\0\0\0\0\0\0\0";
    uuid[0] ^= u8::try_from(physical % 256).unwrap_or_default();
    uuid[15] = u8::try_from(physical % 256).unwrap_or_default();
    uuid
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex: String = text.trim().trim_start_matches("GPU-").split('-').collect();
    let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..16).map(byte).collect();
    bytes?.try_into().ok()
}

/// The devices that a list of numbers and UUIDs (or their beginnings) shows. It ends at the first
/// entry that names no device; a device named twice makes all invisible.
fn visible(all: &[Device], list: &str) -> Vec<Device> {
    let mut shown: Vec<Device> = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let found: Vec<&Device> = match entry.parse::<usize>() {
            Ok(number) => all.get(number).into_iter().collect(),
            Err(_) if entry.starts_with("GPU-") => {
                all.iter().filter(|device| uuid_text(&device.uuid).starts_with(entry)).collect()
            }
            Err(_) => Vec::new(),
        };
        let [device] = found.as_slice() else { break };
        if shown.iter().any(|other| other.physical == device.physical) {
            return Vec::new();
        }
        shown.push((*device).clone());
    }
    shown
}
