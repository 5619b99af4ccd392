//! What goes wrong between us and the CUDA driver.

use core::fmt;

/// A call of the CUDA driver that failed.
///
/// # Source
/// `CUresult` of cuda.h; name and text are the driver's own (`cuGetErrorName`,
/// `cuGetErrorString`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverError {
    /// The function of the driver, as `cuStreamCreate`.
    pub call: &'static str,
    /// The number it returned.
    pub code: i32,
    /// The number's name, as `CUDA_ERROR_OUT_OF_MEMORY`; empty if the driver knows none.
    pub name: String,
    /// The driver's sentence about it; empty if the driver has none.
    pub text: String,
}

impl DriverError {
    /// A failed call.
    pub(crate) fn new(call: &'static str, code: i32, name: String, text: String) -> Self {
        Self { call, code, name, text }
    }

    /// Returns what to do about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self.code {
            2 => "the GPU's memory is full: `nvidia-smi` shows which processes have it",
            3 if self.call != "cuInit" => {
                "this process was forked after CUDA was initialised, which CUDA does not support: \
                 start the child with exec, or initialise after the fork"
            }
            34 => {
                "this is the toolkit's stub, made for linking: take its folder (.../stubs) out of \
                 LD_LIBRARY_PATH, and install the GPU driver, which has the real library"
            }
            46 => {
                "the GPU is in exclusive mode and another process has it: `nvidia-smi -q -d COMPUTE`"
            }
            100 => {
                "no GPU is visible: look at CUDA_VISIBLE_DEVICES, at `nvidia-smi`, and whether the \
                 container was started with GPUs (`--gpus all`)"
            }
            101 => "there is no device of this number; look at CUDA_VISIBLE_DEVICES",
            700 | 714..=719 => {
                "a kernel of this process failed; the context cannot be used any more: restart the \
                 process, and run `compute-sanitizer` to find the kernel"
            }
            802 => "the fabric is not up: is nvidia-fabricmanager running on this node?",
            803 => {
                "libcuda and the kernel's module have different versions: reboot after an update \
                 of the driver, or mend the container's driver mount"
            }
            804 => {
                "this is a forward-compatibility library (cuda-compat), which this GPU does not \
                 support: take its folder out of LD_LIBRARY_PATH"
            }
            900..=908 => "a stream is being captured into a graph; do this before or after",
            999 => {
                "the kernel's module does not answer: `dmesg | grep NVRM`, `nvidia-smi`; loading \
                 it anew (or `nvidia-modprobe -u -c=0`) helps most often"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, code, name, text } = self;
        match name.as_str() {
            "" => write!(f, "{call} failed: error {code}, which the driver has no name for")?,
            name => write!(f, "{call} failed: {name} ({code})")?,
        }
        if !text.is_empty() && text != name {
            write!(f, ": {text}")?;
        }
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for DriverError {}

/// Why libcuda could not be opened: every place tried, with what was wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverMissing {
    explicit: bool,
    attempts: Vec<DriverAttempt>,
}

impl DriverMissing {
    /// The places; `explicit` says that one was asked for and no other tried.
    pub(crate) fn new(explicit: bool, attempts: Vec<DriverAttempt>) -> Self {
        Self { explicit, attempts }
    }

    /// Returns every place tried, in order.
    #[must_use]
    pub fn attempts(&self) -> &[DriverAttempt] {
        &self.attempts
    }

    /// Says whether one library was asked for by name, so that no other was tried.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.explicit
    }
}

impl fmt::Display for DriverMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no usable CUDA driver (libcuda.so.1); tried")?;
        for DriverAttempt { place, problem } in &self.attempts {
            let words = problem.to_string();
            // The linker's words begin with the place too.
            let words = words
                .strip_prefix(place.as_str())
                .map_or(&*words, |rest| rest.trim_start_matches([':', ' ']));
            write!(f, "\n  {place}: {words}")?;
        }
        if self.explicit {
            f.write_str("\nnothing else is tried when a library is asked for")
        } else {
            f.write_str(
                "\nlibcuda comes with the GPU driver, not with the toolkit: install the driver, \
                 start the container with GPUs (`--gpus all`), or set NCCL_RS_CUDA_LIB to the \
                 path of a libcuda.so.1",
            )
        }
    }
}

impl core::error::Error for DriverMissing {}

/// One place where libcuda was looked for, and what was wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverAttempt {
    /// A path, or a name given to the linker.
    pub place: String,
    /// What was wrong.
    pub problem: DriverProblem,
}

impl DriverAttempt {
    /// A place with what was wrong there.
    pub(crate) fn new(place: impl Into<String>, problem: DriverProblem) -> Self {
        Self { place: place.into(), problem }
    }
}

/// What is wrong with one library.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverProblem {
    /// There is nothing.
    Absent(String),
    /// There is something that must not be opened; it was not given to the linker.
    Refused(String),
    /// The linker refused, in its words.
    Linker(String),
    /// A symbol is missing that every CUDA driver has.
    MissingSymbol(&'static str),
    /// It is the toolkit's stub library, which only serves for linking.
    Stub,
}

impl fmt::Display for DriverProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(why) | Self::Refused(why) => f.write_str(why),
            Self::Linker(why) => {
                f.write_str(why)?;
                match linker_advice(why) {
                    Some(advice) => write!(f, " ({advice})"),
                    None => Ok(()),
                }
            }
            Self::MissingSymbol(name) => {
                write!(f, "opens, but is not the CUDA driver: it has no symbol {name}")
            }
            Self::Stub => f.write_str(
                "is the toolkit's stub, made for linking (cuInit returns 34, \
                 CUDA_ERROR_STUB_LIBRARY); take its folder out of LD_LIBRARY_PATH",
            ),
        }
    }
}

/// What to do about a text of the linker's.
fn linker_advice(words: &str) -> Option<&'static str> {
    if words.contains("wrong ELF class") || words.contains("invalid ELF header") {
        Some("no library for this machine; install the driver of this architecture")
    } else if words.contains("file too short") {
        Some("an incomplete copy, or a placeholder that the container runtime should have mounted")
    } else if words.contains("Permission denied") {
        Some("chmod a+r the library, and a+x the folders above it")
    } else if words.contains("undefined symbol") || words.contains("version `") {
        Some("it does not fit this system's libraries; install the driver anew")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_driver_names_call_code_and_what_to_do() {
        let error = DriverError::new(
            "cuInit",
            100,
            "CUDA_ERROR_NO_DEVICE".into(),
            "no CUDA-capable device is detected".into(),
        );
        let text = error.to_string();
        assert!(
            text.starts_with(
                "cuInit failed: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected; \
                 no GPU is visible"
            ),
            "{text}"
        );
        let unknown = DriverError::new("cuMemFree_v2", 4242, String::new(), String::new());
        assert_eq!(
            unknown.to_string(),
            "cuMemFree_v2 failed: error 4242, which the driver has no name for"
        );
    }

    #[test]
    fn not_initialised_points_to_fork_only_after_init() {
        let error =
            |call| DriverError::new(call, 3, "CUDA_ERROR_NOT_INITIALIZED".into(), "".into());
        assert!(error("cuInit").advice().is_none());
        assert!(error("cuCtxGetCurrent").advice().unwrap().contains("forked"));
    }

    #[test]
    fn a_missing_driver_lists_every_place() {
        let attempts = vec![
            DriverAttempt::new(
                "libcuda.so.1",
                DriverProblem::Linker(
                    "libcuda.so.1: cannot open shared object file: No such file or directory"
                        .into(),
                ),
            ),
            DriverAttempt::new("/x/libcuda.so", DriverProblem::Stub),
            DriverAttempt::new(
                "/y/libcuda.so",
                DriverProblem::Linker("/y/libcuda.so: invalid ELF header".into()),
            ),
        ];
        let text = DriverMissing::new(false, attempts).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(
            lines[1],
            "  libcuda.so.1: cannot open shared object file: No such file or directory"
        );
        assert!(lines[2].starts_with("  /x/libcuda.so: is the toolkit's stub"), "{text}");
        assert!(
            lines[3].ends_with(
                "(no library for this machine; install the driver of this architecture)"
            )
        );
        assert!(lines[4].contains("NCCL_RS_CUDA_LIB"), "{text}");
        let asked = DriverMissing::new(true, Vec::new()).to_string();
        assert!(asked.ends_with("nothing else is tried when a library is asked for"), "{asked}");
    }
}
