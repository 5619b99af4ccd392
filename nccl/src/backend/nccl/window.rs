//! Windows: memory into which other ranks write.
#![expect(unsafe_code, reason = "calls libnccl with addresses of device memory and windows")]

use core::ffi::c_int;
use core::fmt;
use core::ptr::null_mut;
use std::time::Duration;

use nccl_sys::NcclResult;
use nccl_sys::Version;
use nccl_sys::ncclWaitSignalDesc_t;
use nccl_sys::ncclWindow_t;

use crate::backend::nccl::communicator::Communicator;
use crate::backend::nccl::communicator::is_fatal;
use crate::backend::nccl::config::missing;
use crate::backend::nccl::held::Handle;
use crate::backend::nccl::issue::dtype_code;
use crate::backend::nccl::registered::Memory;
use crate::backend::nccl::registered::address;
use crate::backend::nccl::registered::lends;
use crate::clock::LazyDeadline;
use crate::count;
use crate::cuda::DeviceBuf;
use crate::cuda::DeviceBufMut;
use crate::cuda::DeviceSlice;
use crate::cuda::DeviceSliceMut;
use crate::cuda::DeviceStream;
use crate::cuda::DeviceVec;
use crate::cuda::Leased;
use crate::dtype::DataType;
use crate::dtype::Element;
use crate::error::Error;
use crate::error::Result;

/// Since when there are others than the first signal of the first context.
const SIGNALS: (&str, Version) = ("ncclConfig_t.numRmaSig", Version::new(2, 31, 2));
/// Since when writes can be ordered.
const ORDERED: (&str, Version) = ("NCCL_WIN_STRICT_ORDERING", Version::new(2, 29, 2));

const REGISTER: &str = "ncclCommWindowRegister";

/// How a window is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WindowFlags {
    /// Every rank uses the same offsets (2.27).
    pub symmetric: bool,
    /// Writes arrive in order (2.29).
    pub strict_ordering: bool,
}

impl Default for WindowFlags {
    /// Symmetric, not ordered.
    fn default() -> Self {
        Self { symmetric: true, strict_ordering: false }
    }
}

impl WindowFlags {
    /// Sets whether writes arrive in order (2.29).
    #[must_use]
    pub fn strict_ordering(self, on: bool) -> Self {
        Self { strict_ordering: on, ..self }
    }

    /// Sets whether every rank uses the same offsets.
    #[must_use]
    pub fn symmetric(self, on: bool) -> Self {
        Self { symmetric: on, ..self }
    }

    fn code(self, found: Version) -> Result<c_int> {
        if self.strict_ordering {
            missing(ORDERED, found)?;
        }
        let flag = |on: bool, flag: c_int| if on { flag } else { nccl_sys::NCCL_WIN_DEFAULT };
        Ok(flag(self.symmetric, nccl_sys::NCCL_WIN_COLL_SYMMETRIC)
            | flag(self.strict_ordering, nccl_sys::NCCL_WIN_STRICT_ORDERING))
    }
}

/// Which of the signals of a rank: the first one of the first context, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two numbers of nccl.h")]
pub struct Signal {
    /// The number of the signal; others than 0 since 2.31, with
    /// [`CommConfig::rma_signals`](crate::comm::CommConfig::rma_signals).
    pub index: u32,
    /// The number of the context; others than 0 since 2.31, with
    /// [`CommConfig::rma_contexts`](crate::comm::CommConfig::rma_contexts).
    pub context: u32,
}

/// Memory of this rank into which the others may write, and the way into theirs.
///
/// It is used as the buffer itself. Release it, or drop it, only when no rank writes to it any
/// more, which the ranks must tell each other, as by a collective behind the last write.
pub struct Window<T: Element> {
    memory: Memory<T>,
}

lends!(Window, "\n# Source\n`ncclCommWindowDeregister` of nccl.h.");

impl Communicator {
    /// Makes a window of memory that [`Nccl::alloc`](crate::comm::Nccl::alloc) gave. All ranks call
    /// it, in the same order if they make several, each with the same count.
    ///
    /// Where NCCL cannot have windows ([`Window::is_supported`]) the memory can be used all the
    /// same, and operations with it are as with any other.
    ///
    /// # Errors
    /// [`Error::NcclStuck`] if not all ranks called it within `timeout`. [`Error::Unsupported`]
    /// before 2.27, [`Error::Usage`], [`Error::Nccl`]. The memory is freed then, or stays allocated
    /// for good if NCCL may still use it.
    ///
    /// # Source
    /// `ncclCommWindowRegister` of nccl.h.
    pub fn register_window<T: Element>(
        &self,
        memory: DeviceVec<T>,
        flags: WindowFlags,
        timeout: Duration,
    ) -> Result<Window<T>> {
        let library = self.nccl().library();
        let register = library.ncclCommWindowRegister().map_err(Error::Unsupported)?;
        let flags = flags.code(library.version())?;
        self.check_memory("Communicator::register_window", &memory)?;
        if memory.count() == 0 {
            let problem = "a window has at least one element".to_owned();
            return Err(Error::Usage { op: "Communicator::register_window", problem });
        }
        let shared = self.shared().clone();
        let memory = self.shared().within(REGISTER, timeout, move |entered, deadline| {
            let (at, bytes) = (address(memory.as_raw()), memory.size_bytes());
            let mut memory = Memory::new(memory, shared);
            // Written by NCCL when it is done, and so maybe later than this waits.
            let place = Box::into_raw(Box::new(null_mut()));
            // SAFETY: the handle is live and this thread's for now; so many bytes of the device are
            // at the address and stay until they are unregistered, as does the place for one handle
            // until the call is over.
            let result = entered.call(|comm| unsafe { register(comm, at, bytes, place, flags) });
            if let Err(error) = entered.finish(REGISTER, result, deadline) {
                if result == NcclResult::IN_PROGRESS {
                    memory.leak();
                }
                return Err(error);
            }
            // SAFETY: made above, freed once; NCCL is done with it.
            let window: ncclWindow_t = *unsafe { Box::from_raw(place) };
            if !window.is_null() {
                memory.set(Handle::Window(window));
            }
            Ok(memory)
        })?;
        Ok(Window { memory })
    }

    /// Enqueues a signal to a rank: it comes after what was put there before.
    ///
    /// # Errors
    /// [`Error::Rank`], [`Error::Unsupported`] before 2.29, [`Error::NcclStuck`], [`Error::Nccl`].
    ///
    /// # Source
    /// `ncclSignal` of nccl.h.
    pub fn signal(
        &self,
        stream: &(impl DeviceStream + ?Sized),
        peer: usize,
        signal: Signal,
        timeout: Duration,
    ) -> Result<()> {
        const CALL: &str = "ncclSignal";
        let function = self.nccl().library().ncclSignal().map_err(Error::Unsupported)?;
        let peer = self.peer("signal", peer)?;
        let (index, context) = self.signal_codes(signal)?;
        self.one_sided(CALL, stream, timeout, |comm, stream| {
            // SAFETY: the handle is live and this thread's for now; the stream is of this device.
            unsafe { function(peer, index, context, 0, comm, stream) }
        })
    }

    /// Enqueues a wait for signals: `(peer, how many, which)`. What those ranks have put before
    /// them is there for whatever is enqueued on the stream afterwards.
    ///
    /// # Errors
    /// As of [`Communicator::signal`].
    ///
    /// # Source
    /// `ncclWaitSignal` of nccl.h.
    pub fn wait_signal(
        &self,
        stream: &(impl DeviceStream + ?Sized),
        signals: &[(usize, u32, Signal)],
        timeout: Duration,
    ) -> Result<()> {
        const CALL: &str = "ncclWaitSignal";
        let function = self.nccl().library().ncclWaitSignal().map_err(Error::Unsupported)?;
        let mut wanted = Vec::with_capacity(signals.len());
        for (peer, count, signal) in signals {
            let (index, context) = self.signal_codes(*signal)?;
            wanted.push(ncclWaitSignalDesc_t {
                opCnt: code("count", *count)?,
                peer: self.peer("wait_signal", *peer)?,
                sigIdx: index,
                ctx: context,
            });
        }
        let number = c_int::try_from(wanted.len()).unwrap_or(c_int::MAX);
        self.one_sided(CALL, stream, timeout, |comm, stream| {
            // SAFETY: as for signals; and `number` structs, which are read before the function
            // returns.
            unsafe { function(number, wanted.as_mut_ptr(), comm, stream) }
        })
    }

    /// Calls NCCL to enqueue something on a stream.
    pub(super) fn one_sided(
        &self,
        call: &'static str,
        stream: &(impl DeviceStream + ?Sized),
        timeout: Duration,
        enqueue: impl FnOnce(nccl_sys::ncclComm_t, nccl_sys::cudaStream_t) -> NcclResult,
    ) -> Result<()> {
        let (own, others) = (self.device().ordinal(), stream.device_ordinal());
        if own != others {
            let problem =
                format!("the stream is on device {others} and the communicator on device {own}");
            return Err(Error::Usage { op: call, problem });
        }
        let shared = self.shared();
        shared.check_usable(call)?;
        let deadline = LazyDeadline::after(timeout);
        let _current = self.device().make_current()?;
        let outcome = shared.on_stream(stream.as_raw(), |stream| {
            let entered = shared.enter_by(call, &deadline)?;
            let result = entered.call(|comm| enqueue(comm, stream.cast()));
            entered.finish(call, result, &deadline)
        });
        if let Err(error) = &outcome
            && is_fatal(error)
        {
            shared.abort(error.clone());
        }
        if outcome.is_err() {
            shared.await_end();
        }
        outcome
    }

    fn peer(&self, op: &'static str, peer: usize) -> Result<c_int> {
        count::check_rank(op, "peer", peer, self.member().world_size)?;
        Ok(c_int::try_from(peer).unwrap_or(c_int::MAX))
    }

    fn signal_codes(&self, signal: Signal) -> Result<(c_int, c_int)> {
        let Signal { index, context } = signal;
        if (index, context) != (0, 0) {
            missing(SIGNALS, self.nccl().version())?;
        }
        Ok((code("signal", index)?, code("context", context)?))
    }
}

fn code(what: &str, value: u32) -> Result<c_int> {
    c_int::try_from(value).map_err(|_| Error::Usage {
        op: "Signal",
        problem: format!("{what} {value} is more than NCCL takes, {}", c_int::MAX),
    })
}

impl<T: Element> Window<T> {
    /// Says whether the other ranks can write to it: NCCL can say no, and that is no error.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        self.memory.handle().is_some()
    }

    /// Enqueues a write of `from` to a rank's window, at `offset` elements, and a signal behind it.
    /// `from` lies in a window, too.
    ///
    /// # Errors
    /// [`Error::Usage`] if it does not fit, or [`Window::is_supported`] is false; as of
    /// [`Communicator::signal`].
    ///
    /// # Source
    /// `ncclPutSignal` of nccl.h (2.29).
    pub fn put_signal<S: DeviceStream + ?Sized>(
        &self,
        comm: &Communicator,
        stream: &S,
        from: &impl DeviceBuf<S>,
        to: (usize, usize),
        signal: Signal,
        timeout: Duration,
    ) -> Result<()> {
        const CALL: &str = "ncclPutSignal";
        let usage = |problem: String| Err(Error::Usage { op: "put_signal", problem });
        let function = comm.nccl().library().ncclPutSignal().map_err(Error::Unsupported)?;
        let (peer, offset) = to;
        let peer = comm.peer("put_signal", peer)?;
        let (index, context) = comm.signal_codes(signal)?;
        if !std::sync::Arc::ptr_eq(comm.shared(), self.memory.shared()) {
            return usage("the window is of another communicator".to_owned());
        }
        if from.dtype() != T::DTYPE || from.device_ordinal() != comm.device().ordinal() {
            return usage(format!(
                "the input holds {} elements on device {}, the window {} on device {}",
                from.dtype(),
                from.device_ordinal(),
                T::DTYPE,
                comm.device().ordinal()
            ));
        }
        let (count, there) = (from.count(), self.count());
        if offset.checked_add(count).is_none_or(|end| end > there) {
            return usage(format!(
                "{count} elements at offset {offset} are beyond the window's {there}"
            ));
        }
        let Some(Handle::Window(window)) = self.memory.handle() else {
            return usage("this NCCL has no windows here (Window::is_supported)".to_owned());
        };
        let (lease, offset_bytes) = (from.lease(stream), offset.saturating_mul(size_of::<T>()));
        let (at, dtype) = (address(lease.as_raw()), dtype_code(T::DTYPE));
        comm.one_sided(CALL, stream, timeout, |comm, stream| {
            // SAFETY: the handle is live and this thread's for now; the window is registered with
            // it as long as it lives; the input has `count` elements of the type, and the lease
            // keeps it until the call is over; the stream is of this device.
            unsafe {
                function(
                    at,
                    count,
                    dtype,
                    peer,
                    window,
                    offset_bytes,
                    index,
                    context,
                    0,
                    comm,
                    stream,
                )
            }
        })
    }
}
