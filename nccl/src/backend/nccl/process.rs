//! What holds for all communicators of the process.
#![expect(unsafe_code, reason = "calls functions of libnccl that need no communicator")]

use std::ffi::CString;

use nccl_sys::ncclEncryptionConfig_t;
use nccl_sys::ncclEncryptionMode_t;

use crate::backend::nccl::library::Nccl;
use crate::error::Error;
use crate::error::Result;

/// The fewest bytes of a key that NCCL takes.
const KEY_BYTES: usize = 32;

impl Nccl {
    /// Encrypts the connections of all communicators that this process makes from now on with a
    /// key of 32 bytes or more that all ranks have; without a key they are not encrypted.
    ///
    /// The key stays in the process's memory.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.32, [`Error::Usage`] for a key that is too short,
    /// [`Error::Nccl`] as when this NCCL was built without encryption.
    ///
    /// # Source
    /// `ncclSetEncryption` of nccl.h.
    pub fn set_encryption(&self, key: Option<&str>) -> Result<()> {
        const CALL: &str = "ncclSetEncryption";
        let usage = |problem: String| Error::Usage { op: "Nccl::set_encryption", problem };
        let set = self.library().ncclSetEncryption().map_err(Error::Unsupported)?;
        let mut config = ncclEncryptionConfig_t::new(self.version());
        if let Some(key) = key {
            if key.len() < KEY_BYTES {
                let length = key.len();
                return Err(usage(format!("a key of {length} bytes; NCCL wants {KEY_BYTES}")));
            }
            let Ok(key) = CString::new(key) else {
                return Err(usage("the key has a zero byte, which NCCL takes as its end".into()));
            };
            config.mode = ncclEncryptionMode_t::NCCL_ENCRYPTION_MODE_PSK.0.cast_signed();
            // NCCL does not say that it copies it.
            config.psk = key.into_raw();
        }
        // SAFETY: one struct of the size that it says, and a text that stays.
        self.check(CALL, unsafe { set(&raw const config) })
    }

    /// Makes NCCL read `NCCL_DEBUG` and the other variables of its log anew.
    ///
    /// # Errors
    /// [`Error::Unsupported`] before 2.24.
    ///
    /// # Source
    /// `ncclResetDebugInit` of nccl.h.
    pub fn reset_debug(&self) -> Result<()> {
        let reset = self.library().ncclResetDebugInit().map_err(Error::Unsupported)?;
        // SAFETY: no arguments; it takes NCCL's own locks.
        unsafe { reset() };
        Ok(())
    }
}
