//! A piece of zeroed memory that two ranks see.

#![expect(unsafe_code, reason = "memory shared between processes has no safe type")]

use core::ptr::NonNull;
use std::alloc::Layout;

#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

use crate::error::Error;
use crate::error::Result;

/// Zeroed memory, aligned to a page, that stays mapped until the last owner is gone.
///
/// Anyone with the same region may write it at any time, so nothing here ever hands out a
/// reference to it: only raw pointers, used through atomics or bounded copies.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    bytes: usize,
    kind: Backing,
}

#[derive(Debug)]
enum Backing {
    Heap(Layout),
    #[cfg(target_os = "linux")]
    Mapped,
}

// SAFETY: a region is plain memory without thread affinity; all access is through raw pointers
// whose users synchronise by the atomics in the region.
unsafe impl Send for Region {}
// SAFETY: as above; `&Region` gives the base pointer and the length, nothing else.
unsafe impl Sync for Region {}

const PAGE_BYTES: usize = 4096;

impl Region {
    /// Memory for threads of one process.
    pub(crate) fn heap(bytes: usize) -> Result<Self> {
        let layout = Layout::from_size_align(bytes.max(1), PAGE_BYTES)
            .map_err(|_| Error::Usage { op: "region", problem: "too many bytes".to_owned() })?;
        // SAFETY: `alloc_zeroed` asks for a layout of non-zero size: `bytes.max(1)` above.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or_else(|| {
            let problem = format!("no memory for {bytes} bytes between two ranks");
            Error::system(problem, std::io::ErrorKind::OutOfMemory)
        })?;
        Ok(Self { base, bytes, kind: Backing::Heap(layout) })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(target_os = "linux")]
impl Region {
    /// Memory for processes of one host, with the descriptor to pass to the other one.
    ///
    /// It is a `memfd`: it has no name, needs no space in `/dev/shm`, and is gone with its last
    /// user, however that one ends. It is allocated here and now, so that a host without memory
    /// gives an error instead of SIGBUS later, and sealed, so that no peer can shrink it.
    ///
    /// # Errors
    /// When the kernel has no memory for it or refuses the calls.
    pub(crate) fn shared(bytes: usize) -> Result<(Self, OwnedFd)> {
        use rustix::fs::FallocateFlags;
        use rustix::fs::MemfdFlags;
        use rustix::fs::SealFlags;

        let fail = |what: &str| {
            let what = format!("{what} of {bytes} bytes of memory shared with another rank");
            move |source: rustix::io::Errno| Error::system(what, source)
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("nccl-rs", flags).map_err(fail("creation"))?;
        rustix::fs::ftruncate(&fd, bytes as u64).map_err(fail("sizing"))?;
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64)
            .map_err(fail("allocation"))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(fail("sealing"))?;
        let region = Self::map(&fd, bytes).map_err(fail("mapping"))?;
        Ok((region, fd))
    }

    /// Maps a region that another process made; refuses one that is not `bytes` long or that it
    /// could still shrink.
    ///
    /// # Errors
    /// When the descriptor is not such memory.
    pub(crate) fn adopt(fd: BorrowedFd<'_>, bytes: usize) -> Result<Self> {
        use rustix::fs::SealFlags;

        let refuse = |problem: &str| {
            Error::system(
                format!("memory offered by another rank {problem}"),
                std::io::ErrorKind::InvalidData,
            )
        };
        let seals = rustix::fs::fcntl_get_seals(fd).map_err(|_| refuse("is no memfd"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(refuse("is not sealed against shrinking"));
        }
        let stat = rustix::fs::fstat(fd).map_err(|_| refuse("cannot be examined"))?;
        if u64::try_from(stat.st_size).ok() != Some(bytes as u64) {
            return Err(refuse("has an unexpected size"));
        }
        Self::map(fd, bytes)
            .map_err(|source| Error::system("mapping memory of another rank", source))
    }

    fn map(fd: impl std::os::fd::AsFd, bytes: usize) -> rustix::io::Result<Self> {
        use rustix::mm::MapFlags;
        use rustix::mm::ProtFlags;

        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: `mmap` asks that a fixed address replaces nothing: none is given. The mapping
        // is owned by the value made here and only unmapped by its Drop.
        let base = unsafe {
            rustix::mm::mmap(core::ptr::null_mut(), bytes, prot, MapFlags::SHARED, fd, 0)?
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) => Ok(Self { base, bytes, kind: Backing::Mapped }),
            None => Err(rustix::io::Errno::NOMEM),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.kind {
            Backing::Heap(layout) => {
                // SAFETY: `dealloc` asks for the pointer and layout of `alloc_zeroed`: both are
                // kept from there unchanged, and Drop runs once.
                unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) }
            }
            #[cfg(target_os = "linux")]
            Backing::Mapped => {
                // SAFETY: `munmap` asks that nobody uses the range any more: every user of the
                // region holds an `Arc` of this value, and this is its last owner.
                let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heap_memory_is_zeroed_and_aligned() {
        let region = Region::heap(10_000).unwrap();
        assert_eq!(region.base() as usize % PAGE_BYTES, 0);
        // SAFETY: the region is 10,000 bytes long and this test its only user.
        let sum: u64 = (0..10_000).map(|i| u64::from(unsafe { *region.base().add(i) })).sum();
        assert_eq!(sum, 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn shared_memory_is_seen_by_both_and_refused_at_the_wrong_size() {
        use std::os::fd::AsFd;
        let (one, fd) = Region::shared(8192).unwrap();
        let two = Region::adopt(fd.as_fd(), 8192).unwrap();
        // SAFETY: both regions are 8192 bytes long, and this test is their only user.
        unsafe {
            *one.base().add(77) = 5;
            assert_eq!(*two.base().add(77), 5);
        }
        assert!(Region::adopt(fd.as_fd(), 4096).is_err());
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(Region::adopt(file.as_fd(), 8192).is_err());
        assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "the seal holds");
    }
}
