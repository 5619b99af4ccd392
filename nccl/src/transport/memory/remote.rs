//! Reading a peer's buffer without a copy in between.

#![expect(unsafe_code, reason = "reads another rank's memory by address")]

/// How memory of the peer can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoteRead {
    /// Not at all: everything goes through the slots.
    No,
    /// The peer is a thread of this process.
    Direct,
    /// The kernel reads for us (`process_vm_readv`) from this process.
    Cma(i32),
}

impl RemoteRead {
    /// Copies `bytes` bytes at `from` in the peer to `into` here; says whether it worked.
    ///
    /// # Safety
    /// `into` is valid for writes of `bytes` bytes. For [`RemoteRead::Direct`], `from` is valid
    /// for reads of `bytes` bytes that nobody writes meanwhile. (For `Cma` the kernel checks.)
    pub(super) unsafe fn read(self, from: u64, into: *mut u8, bytes: usize) -> bool {
        match self {
            Self::No => false,
            Self::Direct => {
                let Ok(from) = usize::try_from(from) else { return false };
                let from = core::ptr::with_exposed_provenance::<u8>(from);
                // SAFETY: both ranges are valid by this function's contract, and they cannot
                // overlap: the caller holds `into` exclusively, the sender shares `from`.
                unsafe { core::ptr::copy_nonoverlapping(from, into, bytes) };
                true
            }
            Self::Cma(pid) => {
                // SAFETY: `into` is valid by this function's contract.
                unsafe { read_process(pid, from, into, bytes) }
            }
        }
    }
}

#[cfg(target_os = "linux")]
unsafe fn read_process(pid: i32, from: u64, into: *mut u8, bytes: usize) -> bool {
    let mut done = 0;
    while done < bytes {
        let Ok(address) = usize::try_from(from) else { return false };
        // SAFETY: `done < bytes`, so the pointer stays inside the range the caller vouches for.
        let base = unsafe { into.add(done) };
        let local = libc::iovec { iov_base: base.cast(), iov_len: bytes - done };
        let remote = libc::iovec {
            iov_base: core::ptr::without_provenance_mut(address.wrapping_add(done)),
            iov_len: bytes - done,
        };
        // SAFETY: one local and one remote vector are given, both live for the call; the local one
        // is valid for writes; the remote one is checked by the kernel against that process.
        let moved =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(moved) {
            Ok(0) => return false,
            Ok(moved) => done += moved,
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
            }
            Err(_) => return false,
        }
    }
    true
}

#[cfg(not(target_os = "linux"))]
unsafe fn read_process(_pid: i32, _from: u64, _into: *mut u8, _bytes: usize) -> bool {
    false
}
