//! Windows, puts and signals.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use crate::comm;
use crate::cuda;
use crate::fail::ARGUMENT;
use crate::fail::fail;
use crate::ffi::Out;
use crate::ffi::api;
use crate::group;
use crate::init;
use crate::op::Call;
use crate::op::Kind;
use crate::op::Signal;
use crate::op::size_bytes;
use crate::watch;

/// Windows begin and end on pages.
const PAGE: usize = 4096;

/// `ncclWaitSignalDesc_t`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct WaitDesc {
    count: i32,
    peer: i32,
    index: i32,
    context: i32,
}

api! {
    fn ncclCommWindowRegister(comm: usize, buffer: usize, size_bytes: usize, window: Out<usize>, _flags: i32) {
        let comm = comm::get_for(comm, "ncclCommWindowRegister")?;
        let _inside = watch::inside(comm.handle, "ncclCommWindowRegister");
        comm.usable("ncclCommWindowRegister")?;
        if std::env::var("NCCL_WIN_ENABLE").is_ok_and(|value| value == "0") {
            // Success without a window, as NCCL does where there are none.
            return window.set("CommWindowRegister", 0);
        }
        let range = cuda::driver()?.range(buffer);
        if range.is_none_or(|range| range.size_bytes < size_bytes) || !buffer.is_multiple_of(PAGE) {
            return fail(ARGUMENT, "CommWindowRegister : not memory of ncclMemAlloc, on pages");
        }
        // All ranks register together. A peer may put as soon as it has heard of all.
        let handle = comm.windows.add(buffer, size_bytes);
        let everyone: Vec<usize> = (0..comm.world_size).collect();
        init::talk(&comm, &everyone, &[])?;
        window.set("CommWindowRegister", handle)
    }

    fn ncclCommWindowDeregister(comm: usize, window: usize) {
        let comm = comm::get_for(comm, "ncclCommWindowDeregister")?;
        if window == 0 || comm.windows.remove(window).is_some() {
            return Ok(());
        }
        watch::violation("ncclCommWindowDeregister of what is no window");
        fail(ARGUMENT, "CommWindowDeregister : no such window")
    }

    fn ncclWinGetUserPtr(comm: usize, window: usize, address: Out<usize>) {
        let comm = comm::get_for(comm, "ncclWinGetUserPtr")?;
        match comm.windows.get(window) {
            Some(found) => address.set("WinGetUserPtr", found.address),
            None => fail(ARGUMENT, "WinGetUserPtr : no such window"),
        }
    }

    fn ncclPutSignal(local: usize, count: usize, dtype: i32, peer: i32, window: usize, offset: usize, index: i32, context: i32, flags: u32, comm: usize, stream: usize) {
        let found = comm::get(comm, "ncclPutSignal")?;
        let Some(there) = found.windows.get(window) else {
            return fail(ARGUMENT, "PutSignal : no such window");
        };
        let put = count.saturating_mul(size_bytes(dtype).unwrap_or(1)).saturating_add(offset);
        if put > there.size_bytes || index != 0 || context != 0 || flags != 0 {
            return fail(ARGUMENT, "PutSignal : invalid argument");
        }
        let signal = Signal { window: there.number, offset, index, waits: Vec::new() };
        let call = one_sided("ncclPutSignal", Kind::PutSignal, peer, signal);
        group::issue(comm, Call { send: local, count, dtype, ..call }, stream)
    }

    fn ncclSignal(peer: i32, index: i32, context: i32, flags: u32, comm: usize, stream: usize) {
        if index != 0 || context != 0 || flags != 0 {
            return fail(ARGUMENT, "Signal : invalid argument");
        }
        let signal = Signal { window: 0, offset: 0, index, waits: Vec::new() };
        group::issue(comm, one_sided("ncclSignal", Kind::Signal, peer, signal), stream)
    }

    fn ncclWaitSignal(count: i32, descs: Out<WaitDesc>, comm: usize, stream: usize) {
        let mut waits = Vec::new();
        for at in 0..usize::try_from(count).unwrap_or(0) {
            let Some(WaitDesc { count, peer, index, context: 0 }) = descs.at_if_any(at) else {
                return fail(ARGUMENT, "WaitSignal : invalid descriptor");
            };
            let (Ok(peer), Ok(count)) = (usize::try_from(peer), u64::try_from(count)) else {
                return fail(ARGUMENT, "WaitSignal : invalid descriptor");
            };
            waits.push((peer, index, count));
        }
        let signal = Signal { window: 0, offset: 0, index: 0, waits };
        group::issue(comm, one_sided("ncclWaitSignal", Kind::WaitSignal, 0, signal), stream)
    }
}

fn one_sided(function: &'static str, kind: Kind, peer: i32, signal: Signal) -> Call {
    let signal = Some(signal);
    Call {
        function,
        kind,
        send: 0,
        recv: 0,
        count: 0,
        dtype: 0,
        op: 0,
        root: peer,
        signal,
        own: None,
    }
}
