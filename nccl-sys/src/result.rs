//! `ncclResult_t`.

use core::fmt;

/// What a function of NCCL returned.
///
/// A newtype and no enum: versions add codes (8 became a timeout in 2.30), and a library may
/// return any number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct NcclResult(pub i32);

impl NcclResult {
    /// `ncclSuccess`
    pub const SUCCESS: Self = Self(0);
    /// `ncclUnhandledCudaError`: a call to CUDA failed.
    pub const UNHANDLED_CUDA_ERROR: Self = Self(1);
    /// `ncclSystemError`: a call to the system failed.
    pub const SYSTEM_ERROR: Self = Self(2);
    /// `ncclInternalError`: a bug in NCCL, or memory was overwritten.
    pub const INTERNAL_ERROR: Self = Self(3);
    /// `ncclInvalidArgument`: one argument is wrong.
    pub const INVALID_ARGUMENT: Self = Self(4);
    /// `ncclInvalidUsage`: the calls do not go together.
    pub const INVALID_USAGE: Self = Self(5);
    /// `ncclRemoteError`: another process is gone, or the network failed.
    pub const REMOTE_ERROR: Self = Self(6);
    /// `ncclInProgress`: a nonblocking call is not finished.
    pub const IN_PROGRESS: Self = Self(7);
    /// `ncclTimeout`, since 2.30.
    pub const TIMEOUT: Self = Self(8);

    /// The name in `nccl.h`; none for a code that this crate does not know.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "ncclSuccess",
            Self::UNHANDLED_CUDA_ERROR => "ncclUnhandledCudaError",
            Self::SYSTEM_ERROR => "ncclSystemError",
            Self::INTERNAL_ERROR => "ncclInternalError",
            Self::INVALID_ARGUMENT => "ncclInvalidArgument",
            Self::INVALID_USAGE => "ncclInvalidUsage",
            Self::REMOTE_ERROR => "ncclRemoteError",
            Self::IN_PROGRESS => "ncclInProgress",
            Self::TIMEOUT => "ncclTimeout",
            _ => return None,
        })
    }

    /// Whether the call did what it was to do; "in progress" is not that.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }
}

/// The name of [`NcclResult`] in nccl.h.
#[expect(non_camel_case_types, reason = "the name in nccl.h")]
pub type ncclResult_t = NcclResult;

impl fmt::Display for NcclResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "unknown result {}", self.0),
        }
    }
}

impl fmt::Debug for NcclResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_kept() {
        assert_eq!(NcclResult(8).to_string(), "ncclTimeout (8)");
        assert_eq!(NcclResult(-7).to_string(), "unknown result -7");
        assert!(NcclResult(0).is_success());
        assert!((1..=20).all(|code| !NcclResult(code).is_success()));
    }
}
