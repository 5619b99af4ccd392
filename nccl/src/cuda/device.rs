//! One GPU, and its primary context, in which everything of this process happens there.
#![expect(unsafe_code, reason = "calls the driver with handles that it gave")]

use core::ffi::CStr;
use core::ffi::c_int;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

use crate::config::DeviceSpec;
use crate::cuda::driver::Driver;
use crate::cuda::table::Handle;
use crate::error::Error;
use crate::error::Result;

const ATTRIBUTE_CAPABILITY_MAJOR: c_int = 75;
const ATTRIBUTE_CAPABILITY_MINOR: c_int = 76;
/// Calls that are not captured are allowed while some stream is being captured.
const CAPTURE_MODE_RELAXED: c_int = 2;

/// A GPU, or a MIG part of one.
///
/// It holds the device's primary context, which it shares with the CUDA runtime (and so with
/// PyTorch, cudarc, candle), from the first call that needs it until the last clone and the last
/// stream, event and buffer made of it are dropped.
///
/// # Source
/// `cuDevicePrimaryCtxRetain` of cuda.h.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    driver: &'static Driver,
    ordinal: usize,
    device: c_int,
    context: OnceLock<Context>,
    /// Pinned memory for copies, at hand for the next one: address and bytes.
    stages: Mutex<Vec<(usize, usize)>>,
}

/// How many pieces of pinned memory are kept.
const STAGES: usize = 8;

/// A retained primary context.
struct Context(Handle);

// SAFETY: the driver's contexts may be used by all threads, at the same time.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Device {
    pub(super) fn new(driver: &'static Driver, ordinal: usize) -> Result<Self> {
        let mut device = 0;
        // A number that is too large for the driver is none of a device.
        let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        // SAFETY: the driver is initialised, and writes one int, through a pointer to a live one.
        unsafe { driver.table().device_get(&raw mut device, number) }.done()?;
        let (context, stages) = (OnceLock::new(), Mutex::default());
        let inner = Inner { driver, ordinal, device, context, stages };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns its number among the devices this process sees.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.inner.ordinal
    }

    /// Returns the driver.
    #[must_use]
    pub fn driver(&self) -> &'static Driver {
        self.inner.driver
    }

    /// Returns its name, as `NVIDIA H200`.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn name(&self) -> Result<String> {
        let mut name = [0_u8; 256];
        let table = self.inner.driver.table();
        // SAFETY: the driver writes at most 256 bytes with the zero byte, into an array of 256.
        unsafe { table.device_name(name.as_mut_ptr().cast(), 256, self.inner.device) }.done()?;
        Ok(text(&name))
    }

    /// Returns what identifies it on all hosts; a MIG part has its own.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn uuid(&self) -> Result<Uuid> {
        let mut uuid = [0; 16];
        let table = self.inner.driver.table();
        // SAFETY: the driver writes 16 bytes, into an array of 16.
        let newer = unsafe { table.device_uuid_v2(&raw mut uuid, self.inner.device) };
        if newer.code().is_some() {
            newer.done()?;
        } else {
            // SAFETY: as above.
            unsafe { table.device_uuid(&raw mut uuid, self.inner.device) }.done()?;
        }
        Ok(Uuid(uuid))
    }

    /// Returns where it is on the PCI bus.
    ///
    /// # Errors
    /// [`Error::Driver`], or [`Error::DeviceChoice`] if the driver's text is no address.
    pub fn pci_address(&self) -> Result<PciAddress> {
        let mut address = [0_u8; 32];
        let table = self.inner.driver.table();
        // SAFETY: the driver writes at most 32 bytes with the zero byte, into an array of 32.
        unsafe { table.device_pci(address.as_mut_ptr().cast(), 32, self.inner.device) }.done()?;
        let address = text(&address);
        PciAddress::parse(&address).ok_or_else(|| Error::DeviceChoice {
            who: format!("device {}", self.ordinal()),
            problem: format!("the driver says its PCI address is {address:?}, which is none"),
        })
    }

    /// Returns the bytes of its memory.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn memory_bytes(&self) -> Result<usize> {
        let mut bytes = 0;
        let table = self.inner.driver.table();
        // SAFETY: the driver writes one size, through a pointer to a live one.
        unsafe { table.device_memory(&raw mut bytes, self.inner.device) }.done()?;
        Ok(bytes)
    }

    /// Returns its compute capability.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn compute_capability(&self) -> Result<ComputeCapability> {
        let major = self.attribute(ATTRIBUTE_CAPABILITY_MAJOR)?;
        let minor = self.attribute(ATTRIBUTE_CAPABILITY_MINOR)?;
        Ok(ComputeCapability { major, minor })
    }

    /// Makes its primary context the calling thread's until the guard is dropped; then the one
    /// before is current again.
    ///
    /// Guards of one thread must be dropped in reverse order.
    ///
    /// # Errors
    /// [`Error::Driver`].
    ///
    /// # Source
    /// `cuCtxPushCurrent` of cuda.h.
    pub fn make_current(&self) -> Result<Current> {
        let context = self.context()?;
        let table = self.inner.driver.table();
        let mut now = core::ptr::null_mut();
        // SAFETY: the driver writes one pointer, through a pointer to a live one.
        unsafe { table.context_current(&raw mut now) }.done()?;
        if now == context {
            return Ok(Current { pushed: None, thread: PhantomData });
        }
        // SAFETY: the context is retained by `self`, and by the guard while it is current.
        unsafe { table.context_push(context) }.done()?;
        Ok(Current { pushed: Some(self.clone()), thread: PhantomData })
    }

    /// Pinned memory of at least so many bytes, if there is some at hand: its bytes, too. It is the
    /// caller's from now on.
    pub(super) fn take_stage(&self, bytes: usize) -> Option<(NonNull<u8>, usize)> {
        let mut stages = lock(&self.inner.stages);
        let at = stages.iter().position(|(_, whole)| *whole >= bytes)?;
        let (address, whole) = stages.swap_remove(at);
        NonNull::new(core::ptr::with_exposed_provenance_mut(address)).map(|at| (at, whole))
    }

    /// Keeps pinned memory that [`HostVec`](crate::cuda::HostVec) allocated and nobody uses; false
    /// if there is enough.
    pub(super) fn keep_stage(&self, at: NonNull<u8>, bytes: usize) -> bool {
        let mut stages = lock(&self.inner.stages);
        if stages.len() >= STAGES {
            return false;
        }
        stages.push((at.as_ptr().expose_provenance(), bytes));
        true
    }

    /// The primary context, retained for as long as `self` or a clone of it lives.
    pub(super) fn context(&self) -> Result<Handle> {
        let inner = &self.inner;
        if let Some(Context(context)) = inner.context.get() {
            return Ok(*context);
        }
        let mut context = core::ptr::null_mut();
        // SAFETY: the device is the driver's own, which writes one pointer, to a live one.
        unsafe { inner.driver.table().primary_retain(&raw mut context, inner.device) }.done()?;
        if inner.context.set(Context(context)).is_err() {
            // Another thread was faster, so it is retained twice.
            inner.release();
        }
        Ok(context)
    }

    /// Whether both are the same device of the same driver.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self.inner.driver, other.inner.driver)
            && self.inner.device == other.inner.device
    }

    /// Whether `spec` names it.
    pub(super) fn is_named(&self, spec: &DeviceSpec) -> Result<bool> {
        match spec {
            DeviceSpec::Ordinal(ordinal) => Ok(*ordinal == self.ordinal()),
            DeviceSpec::Uuid(start) => Ok(self.uuid()?.begins_with(start)),
        }
    }

    fn attribute(&self, attribute: c_int) -> Result<u32> {
        let mut value = 0;
        let Inner { driver, device, .. } = &*self.inner;
        // SAFETY: the driver writes one int, through a pointer to a live one.
        unsafe { driver.table().device_attribute(&raw mut value, attribute, *device) }.done()?;
        Ok(u32::try_from(value).unwrap_or(0))
    }
}

impl Inner {
    /// Gives back one retained context.
    fn release(&self) {
        // SAFETY: called once for each time it was retained, after the last use.
        unsafe { self.driver.table().primary_release(self.device) }
            .freed("a device's primary context");
    }
}

impl Inner {
    /// Gives the pinned memory back that was kept.
    fn free_stages(&mut self) {
        let stages = core::mem::take(&mut *lock(&self.stages));
        let Some(Context(context)) = self.context.get().filter(|_| !stages.is_empty()) else {
            return;
        };
        let table = self.driver.table();
        // SAFETY: the context is retained until `release`, and popped below.
        if unsafe { table.context_push(*context) }.done().is_err() {
            return;
        }
        for (address, _) in stages {
            let at = core::ptr::with_exposed_provenance_mut(address);
            // SAFETY: allocated by `HostVec`, which handed it over; freed once.
            unsafe { table.host_free(at) }.freed("pinned memory");
        }
        let mut popped = core::ptr::null_mut();
        // SAFETY: the driver writes one pointer, to a live one.
        unsafe { table.context_pop(&raw mut popped) }.freed("a thread's current context");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.free_stages();
        if self.context.get().is_some() {
            self.release();
        }
    }
}

/// Every value behind the lock is replaced whole, so a holder that panicked left it sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("ordinal", &self.ordinal()).finish_non_exhaustive()
    }
}

/// While it lives, a device's primary context is the calling thread's.
#[must_use = "the context is current only while the guard lives"]
#[derive(Debug)]
pub struct Current {
    pushed: Option<Device>,
    /// It is about the thread that made it.
    thread: PhantomData<*mut ()>,
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(device) = &self.pushed {
            let mut popped = core::ptr::null_mut();
            // SAFETY: the driver writes one pointer, to a live one; popping too often is an error.
            unsafe { device.inner.driver.table().context_pop(&raw mut popped) }
                .freed("a thread's current context");
        }
    }
}

/// While it lives, this thread's calls do not break the capture of another thread's stream.
pub(super) struct Relaxed<'a> {
    driver: &'a Driver,
    before: Option<c_int>,
    thread: PhantomData<*mut ()>,
}

impl<'a> Relaxed<'a> {
    /// Relaxes the calling thread, where the driver can.
    pub(super) fn new(driver: &'a Driver) -> Self {
        let mut mode = CAPTURE_MODE_RELAXED;
        // SAFETY: the driver exchanges the int, through a pointer to a live one.
        let done = unsafe { driver.table().exchange_capture_mode(&raw mut mode) }.code() == Some(0);
        Self { driver, before: done.then_some(mode), thread: PhantomData }
    }
}

impl Drop for Relaxed<'_> {
    fn drop(&mut self) {
        if let Some(mut mode) = self.before {
            // SAFETY: as in `new`.
            unsafe { self.driver.table().exchange_capture_mode(&raw mut mode) }
                .freed("a thread's capture mode");
        }
    }
}

/// What identifies a GPU, or a MIG part of one, on all hosts.
///
/// Its text is `nvidia-smi -L`'s, `GPU-8932f937-d72c-4106-c12f-20bd9faed9f6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Returns its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Takes its bytes, as another rank sent them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Whether a text (`GPU-8932`, `MIG-8932`, `MIG-GPU-8932.../1/0`) begins as this.
    fn begins_with(self, start: &str) -> bool {
        let start = start.strip_prefix("MIG-").unwrap_or(start);
        let start = start.strip_prefix("GPU-").unwrap_or(start);
        let start = start.split('/').next().unwrap_or_default();
        self.to_string().get("GPU-".len()..).is_some_and(|text| text.starts_with(start))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GPU")?;
        for (at, byte) in self.0.iter().enumerate() {
            if [0, 4, 6, 8, 10].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Where a device is on the PCI bus; its text is Linux's, `0000:3b:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PciAddress {
    /// The domain, mostly 0.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device on the bus.
    pub device: u8,
    /// The device's function.
    pub function: u8,
}

impl PciAddress {
    /// Reads `0000:3b:00.0`.
    fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.').unwrap_or((rest, "0"));
        let byte = |text| u8::from_str_radix(text, 16).ok();
        Some(Self {
            domain: u32::from_str_radix(domain, 16).ok()?,
            bus: byte(bus)?,
            device: byte(device)?,
            function: byte(function)?,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// What a GPU can do, as 9.0; its text is the compiler's, `90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ComputeCapability {
    /// 9 in 9.0.
    pub major: u32,
    /// 0 in 9.0.
    pub minor: u32,
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.major, self.minor)
    }
}

/// The text before the first zero byte.
fn text(bytes: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    String::from_utf8_lossy(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_text_of_nvidia_smi() {
        let bytes = [
            0x89, 0x32, 0xf9, 0x37, 0xd7, 0x2c, 0x41, 0x06, 0xc1, 0x2f, 0x20, 0xbd, 0x9f, 0xae,
            0xd9, 0xf6,
        ];
        let uuid = Uuid::from_bytes(bytes);
        assert_eq!(uuid.to_string(), "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6");
        assert_eq!(uuid.to_bytes(), bytes);
        for start in ["GPU-", "GPU-8932f937-d72c", "MIG-8932", "MIG-GPU-8932f937/1/0"] {
            assert!(uuid.begins_with(start), "{start}");
        }
        for other in ["GPU-9", "MIG-GPU-8933/1/0", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6-"] {
            assert!(!uuid.begins_with(other), "{other}");
        }
    }

    #[test]
    fn a_pci_address_is_read_and_written_as_linux_writes_it() {
        for text in ["0000:3b:00.0", "0001:ff:1f.7", "10000:01:02.3"] {
            assert_eq!(PciAddress::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(PciAddress::parse("00000000:3B:00.0").unwrap().to_string(), "0000:3b:00.0");
        for wrong in ["", "3b:00.0", "0000:3b:xx.0", "0000:3bb:00.0"] {
            assert_eq!(PciAddress::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_text_of_the_driver_ends_at_its_zero_byte() {
        assert_eq!(text(b"NVIDIA H200\0rest"), "NVIDIA H200");
        assert_eq!(text(b"no end"), "no end");
        assert_eq!(text(b"\0"), "");
    }
}
