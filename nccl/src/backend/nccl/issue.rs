//! Operations become calls of NCCL.
#![expect(unsafe_code, reason = "calls libnccl with addresses of device memory")]

use core::ffi::c_int;
use core::ffi::c_void;
use std::sync::Arc;

use nccl_sys::Library;
use nccl_sys::NcclResult;
use nccl_sys::cudaStream_t;
use nccl_sys::ncclComm_t;
use nccl_sys::ncclDataType_t;
use nccl_sys::ncclRedOp_t;

use crate::backend::nccl::call_config::RawCallConfig;
use crate::backend::nccl::config::FP8;
use crate::backend::nccl::config::missing;
use crate::backend::nccl::premul::Factors;
use crate::backend::nccl::shared::Entered;
use crate::backend::nccl::shared::Shared;
use crate::clock::LazyDeadline;
use crate::desc::Kind;
use crate::device::DeviceCall;
use crate::dtype::DataType;
use crate::error::Error;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::rank::Member;

/// What a call returned, with the function's name for an error.
pub(super) type Outcome = (&'static str, NcclResult);

const DONE: Outcome = ("", NcclResult::SUCCESS);

/// What became of a group: the first call that failed, and the end of the group.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) first: Option<Outcome>,
    pub(super) end: Outcome,
}

impl Ended {
    /// What a call alone returned.
    fn alone(outcome: Outcome) -> Self {
        Self { first: None, end: outcome }
    }

    /// Whether a call failed, and NCCL began the others nevertheless.
    pub(super) fn is_torn(&self) -> bool {
        self.first.is_some() && is_fine(self.end.1)
    }

    /// Waits for what was begun; the error is that of the first call that failed, which says more
    /// than the group's.
    pub(super) fn finish(&self, entered: &Entered<'_>, deadline: &LazyDeadline) -> Result<()> {
        let finished = entered.finish(self.end.0, self.end.1, deadline);
        match self.first {
            None => finished,
            Some((call, result)) => Err(entered.nccl().failed(call, result)),
        }
    }
}

impl Shared {
    /// Enqueues operations on a stream: one by itself, several, or one that needs several calls,
    /// as one group.
    ///
    /// # Safety
    /// As of [`DeviceBackend::enqueue`](crate::device::DeviceBackend::enqueue), for a stream of
    /// this communicator's device.
    ///
    /// # Errors
    /// Nothing was enqueued if the error is of misuse or [`Error::Unsupported`]. With any other
    /// one the communicator is of no use any more, unless `NcclError::is_of_the_call_only`.
    pub(super) unsafe fn issue(
        self: &Arc<Self>,
        calls: &[DeviceCall<'_>],
        stream: *mut c_void,
        deadline: &LazyDeadline,
        config: Option<&RawCallConfig>,
    ) -> Result<()> {
        let library = self.nccl().library();
        let mut grouped = calls.len() > 1;
        self.check_usable(calls.first().map_or("enqueue", |call| call.kind.name()))?;
        for call in calls {
            check(call, library)?;
            grouped |= is_several(call, library);
        }
        // NCCL works on whatever device is current where it looks before it sets its own: on a
        // thread that has none it would make a context on device 0. And the handles of default
        // streams mean those of the current device.
        let _current = self.device().make_current()?;
        let entered = self.enter_by("ncclGroupStart", deadline)?;
        let factors = Factors::make(self.nccl(), &entered, calls)?;
        let issue = Issue { library, member: self.member(), stream: stream.cast(), config };
        let ended = entered.call(|comm| {
            if let [call] = calls
                && !grouped
            {
                // SAFETY: the caller vouches for buffers and stream; `entered` for the handle.
                return Ended::alone(unsafe { issue.one(comm, call, factors.op(0)) });
            }
            // SAFETY: as above.
            unsafe { issue.all(comm, calls, &factors) }
        });
        let finished = ended.finish(&entered, deadline);
        factors.free(self.nccl(), &entered);
        if let Err(error) = &finished
            && ended.is_torn()
        {
            // Whatever the error: the other ranks wait for the part that was not begun.
            self.abort(error.clone());
        }
        finished
    }
}

/// What NCCL has not, or not in this version.
pub(super) fn check(call: &DeviceCall<'_>, library: &Library) -> Result<()> {
    if matches!(call.dtype, DataType::F8E4M3 | DataType::F8E5M2) {
        missing(FP8, library.version())?;
    }
    let op = call.kind.name();
    if let Some(reduce @ (ReduceOp::BitAnd | ReduceOp::BitOr | ReduceOp::BitXor)) = call.op {
        let why = "NCCL has no bitwise reductions; gather and reduce in a kernel of yours, or \
                       use the group's methods for host memory";
        return Err(Error::Op { op, reduce, dtype: call.dtype, why });
    }
    if call.kind == Kind::AllToAll && call.in_place && call.count > 0 {
        let problem = "NCCL has no all_to_all in place; pass two buffers".to_owned();
        return Err(Error::Usage { op, problem });
    }
    Ok(())
}

/// Whether an operation needs several calls of this library.
pub(super) fn is_several(call: &DeviceCall<'_>, library: &Library) -> bool {
    let functions = library.functions();
    match call.kind {
        Kind::AllGatherV | Kind::ReduceScatterV | Kind::AllToAllV => true,
        Kind::AllToAll => functions.ncclAlltoAll.is_none(),
        Kind::Gather => functions.ncclGather.is_none(),
        Kind::Scatter => functions.ncclScatter.is_none(),
        _ => false,
    }
}

/// NCCL's number of a type: the same as ours.
pub(super) fn dtype_code(dtype: DataType) -> ncclDataType_t {
    ncclDataType_t(u32::from(dtype as u8))
}

/// NCCL's number of a reduction that needs nothing made.
pub(super) fn op_code(op: Option<ReduceOp>) -> ncclRedOp_t {
    match op {
        Some(ReduceOp::Product) => ncclRedOp_t::ncclProd,
        Some(ReduceOp::Max) => ncclRedOp_t::ncclMax,
        Some(ReduceOp::Min) => ncclRedOp_t::ncclMin,
        Some(ReduceOp::Avg) => ncclRedOp_t::ncclAvg,
        // The others are refused, or made, before.
        _ => ncclRedOp_t::ncclSum,
    }
}

/// The address of an element of a buffer.
fn at(base: u64, elements: usize, dtype: DataType) -> *mut c_void {
    let bytes = elements.wrapping_mul(dtype.size_bytes());
    let address = usize::try_from(base).unwrap_or(0).wrapping_add(bytes);
    core::ptr::without_provenance_mut(address)
}

/// A rank as NCCL takes it; ranks of a group are far below the limit.
pub(super) fn rank_code(rank: usize) -> c_int {
    c_int::try_from(rank).unwrap_or(c_int::MAX)
}

/// Whether a call of a group is on its way.
pub(super) fn is_fine(result: NcclResult) -> bool {
    result.is_success() || result == NcclResult::IN_PROGRESS
}

/// What all calls of one enqueueing have in common.
pub(super) struct Issue<'a> {
    pub(super) library: &'a Library,
    pub(super) member: Member,
    pub(super) stream: cudaStream_t,
    pub(super) config: Option<&'a RawCallConfig>,
}

/// The function if the library has it, else the outcome of a call that cannot be made. All that
/// have no replacement are in every version from the oldest on.
macro_rules! function {
    ($self:ident . $name:ident) => {
        match $self.library.functions().$name {
            Some(function) => function,
            None => return (stringify!($name), NcclResult::INVALID_USAGE),
        }
    };
}

impl Issue<'_> {
    /// # Safety
    /// As [`Shared::issue`]; `comm` may be used by this thread now.
    unsafe fn all(&self, comm: ncclComm_t, calls: &[DeviceCall<'_>], factors: &Factors) -> Ended {
        let functions = self.library.functions();
        let (Some(start), Some(end)) = (functions.ncclGroupStart, functions.ncclGroupEnd) else {
            return Ended::alone(("ncclGroupStart", NcclResult::INVALID_USAGE));
        };
        // SAFETY: no arguments. The group is ended below, on this thread, on every way: nothing
        // between can return or unwind.
        let begun = unsafe { start() };
        if !begun.is_success() {
            return Ended::alone(("ncclGroupStart", begun));
        }
        let mut first = None;
        for (index, call) in calls.iter().enumerate() {
            // SAFETY: passed on from the caller.
            let outcome = unsafe { self.one(comm, call, factors.op(index)) };
            if !is_fine(outcome.1) {
                first = Some(outcome);
                break;
            }
        }
        // SAFETY: ends what was begun above. An error of a call comes again from here.
        Ended { first, end: ("ncclGroupEnd", unsafe { end() }) }
    }

    /// Where NCCL is to read and to write, for operations of one call.
    pub(super) fn places(&self, call: &DeviceCall<'_>) -> (*mut c_void, *mut c_void) {
        let DeviceCall { count, dtype, in_place, .. } = *call;
        let (rank, recv) = (self.member.rank, at(call.recv, 0, dtype));
        let block = at(call.recv, rank * count, dtype);
        let send = if in_place { recv } else { at(call.send, 0, dtype) };
        match call.kind {
            Kind::AllGather if in_place => (block, recv),
            Kind::ReduceScatter if in_place => (send, block),
            Kind::Gather if in_place && rank == call.root => (block, recv),
            Kind::Scatter if in_place && rank == call.root => (send, block),
            // Ranks that only receive have no input; the address is not used there.
            Kind::Broadcast if call.send == 0 => (recv, recv),
            // Ranks that only send have no output; the address is not used there.
            Kind::Reduce if call.recv == 0 => (send, send),
            _ => (send, recv),
        }
    }

    /// One operation; inside of a group if it needs several calls.
    ///
    /// # Safety
    /// As [`Issue::all`].
    pub(super) unsafe fn one(
        &self,
        comm: ncclComm_t,
        call: &DeviceCall<'_>,
        op: ncclRedOp_t,
    ) -> Outcome {
        if let Some(config) = self.config {
            // SAFETY: passed on from the caller; the communicator keeps its configurations.
            return unsafe { self.one_configured(comm, call, op, config) };
        }
        let (count, dtype, stream) = (call.count, dtype_code(call.dtype), self.stream);
        let root = rank_code(call.root);
        let (send, recv) = self.places(call);
        // SAFETY: of every call below: the caller vouches for the buffers of the lengths that kind
        // and counts imply, and for the stream; the handle is live and this thread's for now; the
        // types and numbers are those of nccl.h.
        unsafe {
            match call.kind {
                Kind::AllReduce => {
                    let f = function!(self.ncclAllReduce);
                    ("ncclAllReduce", f(send, recv, count, dtype, op, comm, stream))
                }
                Kind::Broadcast => {
                    let f = function!(self.ncclBroadcast);
                    ("ncclBroadcast", f(send, recv, count, dtype, root, comm, stream))
                }
                Kind::Reduce => {
                    let f = function!(self.ncclReduce);
                    ("ncclReduce", f(send, recv, count, dtype, op, root, comm, stream))
                }
                Kind::AllGather => {
                    let f = function!(self.ncclAllGather);
                    ("ncclAllGather", f(send, recv, count, dtype, comm, stream))
                }
                Kind::ReduceScatter => {
                    let f = function!(self.ncclReduceScatter);
                    ("ncclReduceScatter", f(send, recv, count, dtype, op, comm, stream))
                }
                Kind::AllToAll => match self.library.functions().ncclAlltoAll {
                    Some(f) => ("ncclAlltoAll", f(send, recv, count, dtype, comm, stream)),
                    None => self.pairwise(comm, call, |_| (count, count)),
                },
                Kind::Gather => self.gather(comm, call),
                Kind::Scatter => self.scatter(comm, call),
                Kind::AllGatherV => self.all_gather_v(comm, call),
                Kind::ReduceScatterV => self.reduce_scatter_v(comm, call, op),
                Kind::AllToAllV => self.pairwise(comm, call, |peer| {
                    let count = |counts: &[usize]| counts.get(peer).copied().unwrap_or(0);
                    (count(call.send_counts), count(call.recv_counts))
                }),
                Kind::Send => self.send(comm, send, count, call, call.root),
                Kind::Recv => self.recv(comm, recv, count, call, call.root),
                // A barrier has no device work: it is the host side's.
                Kind::Barrier => DONE,
            }
        }
    }

    /// # Safety
    /// As [`Issue::all`], for `count` elements at `from`.
    unsafe fn send(
        &self,
        comm: ncclComm_t,
        from: *const c_void,
        count: usize,
        call: &DeviceCall<'_>,
        peer: usize,
    ) -> Outcome {
        let f = function!(self.ncclSend);
        let (dtype, peer) = (dtype_code(call.dtype), rank_code(peer));
        // SAFETY: passed on from the caller.
        ("ncclSend", unsafe { f(from, count, dtype, peer, comm, self.stream) })
    }

    /// # Safety
    /// As [`Issue::all`], for `count` elements at `into`.
    unsafe fn recv(
        &self,
        comm: ncclComm_t,
        into: *mut c_void,
        count: usize,
        call: &DeviceCall<'_>,
        peer: usize,
    ) -> Outcome {
        let f = function!(self.ncclRecv);
        let (dtype, peer) = (dtype_code(call.dtype), rank_code(peer));
        // SAFETY: passed on from the caller.
        ("ncclRecv", unsafe { f(into, count, dtype, peer, comm, self.stream) })
    }

    /// Blocks to and from every rank, this one too; `counts` gives those sent and received.
    ///
    /// # Safety
    /// As [`Issue::all`].
    unsafe fn pairwise(
        &self,
        comm: ncclComm_t,
        call: &DeviceCall<'_>,
        counts: impl Fn(usize) -> (usize, usize),
    ) -> Outcome {
        let source = if call.in_place { call.recv } else { call.send };
        let (mut sent, mut received) = (0, 0);
        for peer in 0..self.member.world_size {
            let (out, into) = counts(peer);
            if out > 0 {
                let from = at(source, sent, call.dtype);
                // SAFETY: the blocks lie one behind the other in the buffer.
                let outcome = unsafe { self.send(comm, from, out, call, peer) };
                if !is_fine(outcome.1) {
                    return outcome;
                }
            }
            if into > 0 {
                let to = at(call.recv, received, call.dtype);
                // SAFETY: as above.
                let outcome = unsafe { self.recv(comm, to, into, call, peer) };
                if !is_fine(outcome.1) {
                    return outcome;
                }
            }
            sent += out;
            received += into;
        }
        DONE
    }

    /// # Safety
    /// As [`Issue::all`].
    unsafe fn gather(&self, comm: ncclComm_t, call: &DeviceCall<'_>) -> Outcome {
        let (count, rank, root) = (call.count, self.member.rank, call.root);
        let at_root = rank == root;
        let own = if call.in_place && at_root { rank * count } else { 0 };
        let source = if call.in_place { call.recv } else { call.send };
        let send = at(source, own, call.dtype);
        let recv = at(call.recv, 0, call.dtype);
        if let Some(f) = self.library.functions().ncclGather {
            let (dtype, root) = (dtype_code(call.dtype), rank_code(root));
            // SAFETY: passed on from the caller; `recv` is used at the root only.
            let result = unsafe { f(send, recv, count, dtype, root, comm, self.stream) };
            return ("ncclGather", result);
        }
        let in_place = call.in_place;
        // SAFETY: the blocks lie in rank order in the root's buffer.
        unsafe {
            if !at_root {
                return self.send(comm, send, count, call, root);
            }
            if !in_place {
                let outcome = self.send(comm, send, count, call, root);
                if !is_fine(outcome.1) {
                    return outcome;
                }
            }
            for peer in (0..self.member.world_size).filter(|peer| *peer != rank || !in_place) {
                let to = at(call.recv, peer * count, call.dtype);
                let outcome = self.recv(comm, to, count, call, peer);
                if !is_fine(outcome.1) {
                    return outcome;
                }
            }
        }
        DONE
    }

    /// # Safety
    /// As [`Issue::all`].
    unsafe fn scatter(&self, comm: ncclComm_t, call: &DeviceCall<'_>) -> Outcome {
        let (count, rank, root) = (call.count, self.member.rank, call.root);
        let at_root = rank == root;
        let in_place = call.in_place && at_root;
        let source = if call.in_place { call.recv } else { call.send };
        let send = at(source, 0, call.dtype);
        let recv = at(call.recv, if in_place { rank * count } else { 0 }, call.dtype);
        if let Some(f) = self.library.functions().ncclScatter {
            let (dtype, root) = (dtype_code(call.dtype), rank_code(root));
            // SAFETY: passed on from the caller; `send` is used at the root only.
            let result = unsafe { f(send, recv, count, dtype, root, comm, self.stream) };
            return ("ncclScatter", result);
        }
        // SAFETY: the blocks lie in rank order in the root's buffer.
        unsafe {
            if at_root {
                for peer in (0..self.member.world_size).filter(|peer| *peer != rank || !in_place) {
                    let from = at(source, peer * count, call.dtype);
                    let outcome = self.send(comm, from, count, call, peer);
                    if !is_fine(outcome.1) {
                        return outcome;
                    }
                }
            }
            if in_place { DONE } else { self.recv(comm, recv, count, call, root) }
        }
    }

    /// A broadcast of every rank's block.
    ///
    /// # Safety
    /// As [`Issue::all`].
    unsafe fn all_gather_v(&self, comm: ncclComm_t, call: &DeviceCall<'_>) -> Outcome {
        let f = function!(self.ncclBroadcast);
        let mut first = 0;
        for (root, count) in call.recv_counts.iter().copied().enumerate() {
            let into = at(call.recv, first, call.dtype);
            first += count;
            if count == 0 {
                continue;
            }
            let own = root == self.member.rank && !call.in_place;
            let from = if own { at(call.send, 0, call.dtype) } else { into };
            let (dtype, root) = (dtype_code(call.dtype), rank_code(root));
            // SAFETY: passed on from the caller; `from` is used at the root only.
            let result = unsafe { f(from, into, count, dtype, root, comm, self.stream) };
            if !is_fine(result) {
                return ("ncclBroadcast", result);
            }
        }
        DONE
    }

    /// A reduction to every rank of its block.
    ///
    /// # Safety
    /// As [`Issue::all`].
    unsafe fn reduce_scatter_v(
        &self,
        comm: ncclComm_t,
        call: &DeviceCall<'_>,
        op: ncclRedOp_t,
    ) -> Outcome {
        let f = function!(self.ncclReduce);
        let source = if call.in_place { call.recv } else { call.send };
        let mut first = 0;
        for (root, count) in call.send_counts.iter().copied().enumerate() {
            let from = at(source, first, call.dtype);
            first += count;
            if count == 0 {
                continue;
            }
            let own = root == self.member.rank && !call.in_place;
            let into = if own { at(call.recv, 0, call.dtype) } else { from };
            let (dtype, root) = (dtype_code(call.dtype), rank_code(root));
            // SAFETY: passed on from the caller; `into` is used at the root only.
            let result = unsafe { f(from, into, count, dtype, op, root, comm, self.stream) };
            if !is_fine(result) {
                return ("ncclReduce", result);
            }
        }
        DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_numbers_of_nccl_h() {
        let named = [
            (DataType::I8, ncclDataType_t::ncclInt8),
            (DataType::U8, ncclDataType_t::ncclUint8),
            (DataType::I32, ncclDataType_t::ncclInt32),
            (DataType::U32, ncclDataType_t::ncclUint32),
            (DataType::I64, ncclDataType_t::ncclInt64),
            (DataType::U64, ncclDataType_t::ncclUint64),
            (DataType::F16, ncclDataType_t::ncclFloat16),
            (DataType::F32, ncclDataType_t::ncclFloat32),
            (DataType::F64, ncclDataType_t::ncclFloat64),
            (DataType::BF16, ncclDataType_t::ncclBfloat16),
            (DataType::F8E4M3, ncclDataType_t::ncclFloat8e4m3),
            (DataType::F8E5M2, ncclDataType_t::ncclFloat8e5m2),
        ];
        assert_eq!(named.len(), DataType::ALL.len());
        assert!(named.iter().all(|(ours, theirs)| dtype_code(*ours) == *theirs));
    }

    #[test]
    fn an_element_is_as_many_bytes_on_as_its_type_has() {
        assert_eq!(at(1000, 3, DataType::BF16).addr(), 1006);
        assert_eq!(at(1000, 0, DataType::F64).addr(), 1000);
    }
}
