//! Which GPUs a process sees: `CUDA_VISIBLE_DEVICES` as the driver reads it, and
//! `NCCL_RS_DEVICE`.
//!
//! The driver gives no reason when it shows fewer devices than somebody expects. This parser
//! finds the same devices, so that our errors can give it.

use core::fmt;

use crate::config::env::Env;

/// The variable that the CUDA driver reads.
const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// A GPU as `NCCL_RS_DEVICE` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceSpec {
    /// Its number among the devices this process sees, from 0.
    Ordinal(usize),
    /// The beginning of its UUID, as `GPU-8932f937` or `MIG-`.
    Uuid(String),
}

impl DeviceSpec {
    /// Parses a number, or the beginning of a UUID.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let (true, Ok(ordinal)) = (digits, text.parse()) {
            return Ok(Some(Self::Ordinal(ordinal)));
        }
        let named = ["GPU-", "MIG-"].iter().any(|start| text.starts_with(start));
        if named {
            Ok(Some(Self::Uuid(text.to_owned())))
        } else {
            Err("must be the number of a device this process sees, from 0, or the beginning of \
                 a UUID as `nvidia-smi -L` shows it (GPU-... or MIG-...)"
                .into())
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordinal(ordinal) => write!(f, "{ordinal}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

/// What `CUDA_VISIBLE_DEVICES` shows a process, read as the CUDA driver reads it.
///
/// The driver takes the entries from the left and stops at the first that is none: a number
/// below zero, a name that fits no device, a number among names, or a name among numbers. Of a
/// number it reads what it understands (`1gpu` is 1). A device that is there twice leaves **no**
/// device at all, and so does an empty value. Unset, all devices are visible.
///
/// ```
/// use nccl::config::Visible;
///
/// let uuids = ["GPU-aa11", "GPU-ab22", "GPU-ff33"];
/// assert_eq!(Visible::parse(None).resolve(&uuids), [0, 1, 2]);
/// assert_eq!(Visible::parse(Some("2,0,-1,1")).resolve(&uuids), [2, 0]);
/// assert_eq!(Visible::parse(Some("GPU-f,GPU-aa")).resolve(&uuids), [2, 0]);
/// assert_eq!(Visible::parse(Some("0,0")).resolve(&uuids), []);
/// ```
///
/// # Source
/// CUDA C++ Programming Guide, "CUDA Environment Variables"; for what the guide leaves open,
/// PyTorch's reading of the same variable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Visible {
    /// The variable's text; `None` if it is unset.
    pub text: Option<String>,
    /// The entries that count, from the left.
    pub entries: Vec<VisibleEntry>,
    /// Why the entries end before the text does.
    pub end: Option<VisibleEnd>,
}

/// One entry of `CUDA_VISIBLE_DEVICES`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VisibleEntry {
    /// A device by the driver's number.
    Ordinal(u64),
    /// A device by the beginning of its UUID: `GPU-...`.
    Gpu(String),
    /// A part of a device: `MIG-<uuid>`, or `MIG-GPU-<uuid>/<instance>/<compute instance>`.
    Mig(String),
}

/// Why the list of visible devices ends before its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VisibleEnd {
    /// An entry is none, so it and what follows does not count.
    Invalid(String),
    /// An entry is there twice, so that no device is visible.
    Repeated(String),
    /// The variable is empty, so that no device is visible.
    Empty,
}

/// How the first entry names devices; all others must do the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Ordinal,
    Gpu,
    Mig,
}

impl Visible {
    /// Reads the variable from an environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let text = env.value(VARIABLE).map(|text| text.to_string_lossy());
        Self::parse(text.as_deref())
    }

    /// Reads a text; `None` is an unset variable.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let mut visible = Self { text: text.map(str::to_owned), entries: Vec::new(), end: None };
        let Some(text) = text else { return visible };
        if text.trim().is_empty() {
            visible.end = Some(VisibleEnd::Empty);
            return visible;
        }
        let form = match text {
            text if text.starts_with("GPU-") => Form::Gpu,
            text if text.starts_with("MIG-") => Form::Mig,
            _ => Form::Ordinal,
        };
        for entry in text.split(',') {
            let Some(read) = entry_of(form, entry) else {
                visible.end = Some(VisibleEnd::Invalid(entry.to_owned()));
                return visible;
            };
            if visible.entries.contains(&read) {
                visible.entries.clear();
                visible.end = Some(VisibleEnd::Repeated(entry.to_owned()));
                return visible;
            }
            visible.entries.push(read);
        }
        visible
    }

    /// Returns the numbers of the visible devices, in the order in which the process counts them.
    ///
    /// `uuids` are those of all devices, in the driver's order, with `GPU-` or `MIG-`.
    #[must_use]
    pub fn resolve<S: AsRef<str>>(&self, uuids: &[S]) -> Vec<usize> {
        if self.text.is_none() {
            return (0..uuids.len()).collect();
        }
        let mut found = Vec::new();
        for entry in &self.entries {
            let index = match entry {
                VisibleEntry::Ordinal(number) => {
                    usize::try_from(*number).ok().filter(|number| *number < uuids.len())
                }
                VisibleEntry::Gpu(start) | VisibleEntry::Mig(start) => only(uuids, start),
            };
            match index {
                None => break,
                Some(index) if found.contains(&index) => return Vec::new(),
                Some(index) => found.push(index),
            }
        }
        found
    }

    /// Returns how many devices it can show at most; `None` if that is up to the machine.
    #[must_use]
    pub fn at_most(&self) -> Option<usize> {
        self.text.as_ref().map(|_| self.entries.len())
    }
}

/// `CUDA_VISIBLE_DEVICES="0,x" (which ends at "x")`: the variable with what is odd about it.
impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let Some(text) = &self.text else { return write!(f, "CUDA_VISIBLE_DEVICES (not set)") };
        let shown: String = text.chars().take(SHOWN).collect();
        let more = if shown.len() < text.len() { "..." } else { "" };
        write!(f, "{VARIABLE}={shown:?}{more}")?;
        match &self.end {
            None => Ok(()),
            Some(VisibleEnd::Invalid(entry)) => {
                write!(f, " (of which the driver reads nothing from {entry:?} on)")
            }
            Some(VisibleEnd::Repeated(entry)) => {
                write!(f, " (where {entry:?} is there twice, which hides all devices)")
            }
            Some(VisibleEnd::Empty) => write!(f, " (empty, which hides all devices)"),
        }
    }
}

/// One entry of a list that is of this form.
fn entry_of(form: Form, entry: &str) -> Option<VisibleEntry> {
    match form {
        Form::Ordinal => leading_number(entry.trim()).map(VisibleEntry::Ordinal),
        Form::Gpu => entry.starts_with("GPU-").then(|| VisibleEntry::Gpu(entry.to_owned())),
        Form::Mig => entry.starts_with("MIG-").then(|| VisibleEntry::Mig(entry.to_owned())),
    }
}

/// The number that a text begins with, perhaps after `+`; what follows the digits is not looked
/// at. A number too large for any machine stays one.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.split(|c: char| !c.is_ascii_digit()).next().filter(|d| !d.is_empty())?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The index of the only text that begins so.
fn only<S: AsRef<str>>(texts: &[S], start: &str) -> Option<usize> {
    let fits = |(at, text): (usize, &S)| text.as_ref().starts_with(start).then_some(at);
    let mut found = texts.iter().enumerate().filter_map(fits);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUIDS: [&str; 4] = ["GPU-aa11-x", "GPU-ab22-x", "GPU-ff33-x", "GPU-ff44-x"];

    fn shows(text: &str) -> Vec<usize> {
        Visible::parse(Some(text)).resolve(&UUIDS)
    }

    #[test]
    fn numbers_are_read_as_the_driver_reads_them() {
        let cases: [(&str, &[usize]); 22] = [
            ("0", &[0]),
            ("3,1,0", &[3, 1, 0]),
            ("0,1,2,3", &[0, 1, 2, 3]),
            (" 2 , 1", &[2, 1]),
            ("+1", &[1]),
            ("1gpu2,2ampere", &[1, 2]),
            ("0x3", &[0]),
            ("00,1", &[0, 1]),
            ("", &[]),
            ("  ", &[]),
            ("-1", &[]),
            ("0,-1,1", &[0]),
            ("0,,1", &[0]),
            (",0", &[]),
            ("4", &[]),
            ("0,4,1", &[0]),
            ("99999999999999999999999999,0", &[]),
            ("none", &[]),
            ("NoDevFiles", &[]),
            ("1,0,1", &[]),
            ("1,01", &[]),
            ("0;1", &[0]),
        ];
        for (text, expected) in cases {
            assert_eq!(shows(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_beginnings_that_fit_one_device() {
        let cases: [(&str, &[usize]); 11] = [
            ("GPU-aa11-x", &[0]),
            ("GPU-aa", &[0]),
            ("GPU-ff4,GPU-ab", &[3, 1]),
            ("GPU-ff", &[]),
            ("GPU-ab,GPU-ff,GPU-aa", &[1]),
            ("GPU-zz,GPU-aa", &[]),
            ("GPU-aa,GPU-aa11", &[]),
            ("GPU-aa,GPU-aa", &[]),
            ("GPU-aa,1", &[0]),
            ("1,GPU-aa", &[1]),
            ("GPU-", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(shows(text), expected, "{text:?}");
        }
    }

    #[test]
    fn parts_of_a_device_are_entries_of_their_own() {
        let parts = ["MIG-1111", "MIG-2222"];
        assert_eq!(Visible::parse(Some("MIG-22")).resolve(&parts), [1]);
        assert_eq!(Visible::parse(Some("MIG-1,MIG-2")).resolve(&parts), [0, 1]);
        let old = Visible::parse(Some("MIG-GPU-aa11/1/0,GPU-aa"));
        assert_eq!(old.entries, [VisibleEntry::Mig("MIG-GPU-aa11/1/0".into())]);
        assert_eq!(old.end, Some(VisibleEnd::Invalid("GPU-aa".into())));
    }

    #[test]
    fn unset_shows_all_and_empty_none() {
        let all = Visible::parse(None);
        assert_eq!(all.resolve(&UUIDS), [0, 1, 2, 3]);
        assert_eq!((all.at_most(), all.end), (None, None));
        let none = Visible::from_env(&Env::empty().with("CUDA_VISIBLE_DEVICES", ""));
        assert_eq!((none.at_most(), none.end), (Some(0), Some(VisibleEnd::Empty)));
    }

    #[test]
    fn the_text_says_what_hides_devices() {
        let shown = |text| Visible::parse(text).to_string();
        assert_eq!(shown(None), "CUDA_VISIBLE_DEVICES (not set)");
        assert_eq!(shown(Some("0,1")), "CUDA_VISIBLE_DEVICES=\"0,1\"");
        assert_eq!(
            shown(Some("0,x,1")),
            "CUDA_VISIBLE_DEVICES=\"0,x,1\" (of which the driver reads nothing from \"x\" on)"
        );
        assert_eq!(
            shown(Some("0,1,0")),
            "CUDA_VISIBLE_DEVICES=\"0,1,0\" (where \"0\" is there twice, which hides all devices)"
        );
        assert_eq!(shown(Some("")), "CUDA_VISIBLE_DEVICES=\"\" (empty, which hides all devices)");
    }

    #[test]
    fn a_device_is_a_number_or_the_beginning_of_a_uuid() {
        assert_eq!(DeviceSpec::parse("3"), Ok(Some(DeviceSpec::Ordinal(3))));
        assert_eq!(DeviceSpec::parse("GPU-8"), Ok(Some(DeviceSpec::Uuid("GPU-8".into()))));
        assert_eq!(DeviceSpec::parse("MIG-8"), Ok(Some(DeviceSpec::Uuid("MIG-8".into()))));
        for wrong in ["", "-1", "+1", "gpu0", "cuda:0", "0,1", "99999999999999999999999"] {
            assert!(DeviceSpec::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
