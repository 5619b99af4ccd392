//! Memory, registrations, ops of the program's own.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use std::sync::atomic::AtomicI32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::comm;
use crate::comm::OwnOp;
use crate::cuda;
use crate::fail::ARGUMENT;
use crate::fail::fail;
use crate::fail::lock;
use crate::ffi::Out;
use crate::ffi::api;
use crate::init;
use crate::op;
use crate::watch;

/// The first number for an op of the program's own, after the built-in ones.
const FIRST_OWN_OP: i32 = 5;

api! {
    fn ncclMemAlloc(address: Out<usize>, size_bytes: usize) {
        if address.is_null() || size_bytes == 0 {
            return fail(ARGUMENT, "MemAlloc : invalid argument");
        }
        init::current_device()?;
        address.set("MemAlloc", cuda::driver()?.allocate(size_bytes)?)
    }

    fn ncclMemFree(address: usize) {
        let cuda = cuda::driver()?;
        if address == 0 { Ok(()) } else { cuda.free(address) }
    }

    fn ncclCommRegister(comm: usize, buffer: usize, size_bytes: usize, handle: Out<usize>) {
        static NEXT: AtomicUsize = AtomicUsize::new(0x5fe0_0000_0000);
        let comm = comm::get_for(comm, "ncclCommRegister")?;
        comm.usable("ncclCommRegister")?;
        let range = cuda::driver()?.range(buffer);
        if range.is_none_or(|range| range.size_bytes < size_bytes) {
            watch::violation("ncclCommRegister of what is not memory of the device");
            return fail(ARGUMENT, "CommRegister : not memory of the device");
        }
        let number = NEXT.fetch_add(64, Ordering::Relaxed);
        lock(&comm.registered).insert(number);
        handle.set("CommRegister", number)
    }

    fn ncclCommDeregister(comm: usize, handle: usize) {
        let comm = comm::get_for(comm, "ncclCommDeregister")?;
        if handle == 0 || lock(&comm.registered).remove(&handle) {
            return Ok(());
        }
        watch::violation("ncclCommDeregister of a handle that is not registered");
        fail(ARGUMENT, "Deregister NULL handle")
    }

    fn ncclRedOpCreatePreMulSum(own: Out<i32>, scalar: Out<u8>, dtype: i32, residence: i32, comm: usize) {
        static NEXT: AtomicI32 = AtomicI32::new(FIRST_OWN_OP);
        let comm = comm::get_for(comm, "ncclRedOpCreatePreMulSum")?;
        comm.usable("ncclRedOpCreatePreMulSum")?;
        let Some(size) = op::size_bytes(dtype) else {
            return fail(ARGUMENT, format!("RedOpCreatePreMulSum : invalid type {dtype}"));
        };
        if scalar.is_null() || ![0, 1].contains(&residence) {
            return fail(ARGUMENT, "RedOpCreatePreMulSum : invalid argument");
        }
        let on_device = residence == 0;
        let value = if on_device {
            scalar.address() as u64
        } else {
            let mut bits = [0; 8];
            for (at, byte) in bits.iter_mut().take(size).enumerate() {
                *byte = scalar.at(at).get().unwrap_or(0);
            }
            u64::from_le_bytes(bits)
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&comm.own_ops).insert(number, OwnOp { value, on_device, dtype });
        own.set("RedOpCreatePreMulSum", number)
    }

    fn ncclRedOpDestroy(own: i32, comm: usize) {
        let comm = comm::get_for(comm, "ncclRedOpDestroy")?;
        match lock(&comm.own_ops).remove(&own) {
            Some(_) => Ok(()),
            None => fail(ARGUMENT, format!("ncclRedOpDestroy : operator {own} unknown to this communicator")),
        }
    }
}
