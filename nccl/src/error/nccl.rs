//! What goes wrong in a call of NCCL.

use core::fmt;

use nccl_sys::NcclResult;

/// A call of NCCL that failed.
///
/// # Source
/// `ncclResult_t`, `ncclGetErrorString`, `ncclGetLastError` of nccl.h.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NcclError {
    /// The function, as `ncclAllReduce`.
    pub call: &'static str,
    /// The number it returned; versions add new ones.
    pub code: i32,
    /// The library's sentence about the number.
    pub text: String,
    /// The last warning that NCCL gave in this process: a hint, since it may be of another
    /// communicator or thread. Empty if there was none.
    pub last_warning: String,
}

impl NcclError {
    /// A failed call.
    pub(crate) fn new(
        call: &'static str,
        result: NcclResult,
        text: String,
        last_warning: String,
    ) -> Self {
        Self { call, code: result.0, text, last_warning }
    }

    /// Whether the communicator can be used as before: only for a wrong argument.
    #[must_use]
    pub fn is_of_the_call_only(&self) -> bool {
        self.code == NcclResult::INVALID_ARGUMENT.0
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        let warned = |words: &str| self.last_warning.contains(words);
        Some(match NcclResult(self.code) {
            _ if warned("driver version is insufficient") => {
                "NCCL finds no CUDA driver that it can use: `nvidia-smi` shows driver and CUDA \
                 version, which must be at least those that this libnccl was built for"
            }
            _ if warned("no socket interface found") => {
                "no network interface fits NCCL_SOCKET_IFNAME; a process must be started anew to \
                 try another"
            }
            _ if warned("Duplicate GPU detected") || warned("using the same GPU") => {
                "two ranks have the same GPU: give each its own (CUDA_VISIBLE_DEVICES, \
                 NCCL_RS_DEVICE), or set NCCL_MULTI_RANK_GPU_ENABLE=1 with NCCL 2.30.3 or newer"
            }
            NcclResult::UNHANDLED_CUDA_ERROR => {
                "run with NCCL_DEBUG=INFO; most often a kernel of this process failed before, or \
                 the GPU's memory is full"
            }
            NcclResult::SYSTEM_ERROR => {
                "run with NCCL_DEBUG=INFO; most often the network or shared memory (/dev/shm)"
            }
            NcclResult::REMOTE_ERROR => "another rank ended, or the network to it failed",
            _ => return None,
        })
    }
}

impl fmt::Display for NcclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, code, text, last_warning } = self;
        write!(f, "{call} failed: {}: {text}", NcclResult(*code))?;
        if !last_warning.is_empty() {
            write!(f, "; NCCL's last warning in this process: {last_warning:?}")?;
        }
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, warning: &str) -> NcclError {
        NcclError::new("ncclAllReduce", NcclResult(code), "a text".into(), warning.into())
    }

    #[test]
    fn the_text_has_call_code_sentence_warning_and_advice() {
        assert_eq!(error(42, "").to_string(), "ncclAllReduce failed: unknown result 42: a text");
        let said = error(5, "Duplicate GPU detected : rank 0 and rank 1").to_string();
        assert!(
            said.starts_with("ncclAllReduce failed: ncclInvalidUsage (5): a text; NCCL's last")
        );
        assert!(
            said.contains("\"Duplicate GPU detected : rank 0 and rank 1\"; two ranks"),
            "{said}"
        );
    }

    #[test]
    fn only_a_wrong_argument_leaves_the_communicator_good() {
        let good: Vec<i32> =
            (1..50).filter(|code| error(*code, "").is_of_the_call_only()).collect();
        assert_eq!(good, [4]);
    }
}
