//! Runs schedules over links: the heart of the CPU backend.

#![expect(unsafe_code, reason = "moves bytes of buffers given by address")]

use std::sync::Arc;

use super::failing;
use super::failing::Leaving;
use super::fold::FoldRun;
use super::fold::Lists;
use super::fold::Source;
use super::fold::fold_local;
use super::mesh::Mesh;
use super::transfer::Receive;
use super::transfer::Transfer;
use super::waiter::Next;
use super::waiter::Waiter;
use crate::clock::LazyDeadline;
use crate::desc::OpDesc;
use crate::dtype::DataType;
use crate::error::Result;
use crate::kernel::Fold;
use crate::op::ReduceOp;
use crate::schedule::Action;
use crate::schedule::Buf;
use crate::schedule::Schedule;
use crate::schedule::Slice;
use crate::schedule::Step;
use crate::trace::GroupState;
use crate::transport::Head;
use crate::transport::Outgoing;

/// One collective with everything its execution needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) desc: OpDesc,
    pub(super) dtype: DataType,
    pub(super) op: Option<ReduceOp>,
    pub(super) send: *const u8,
    pub(super) recv: *mut u8,
}

/// Runs one schedule after the other over one channel of a group.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) mesh: Mesh,
    state: Arc<GroupState>,
    transfers: Vec<Transfer>,
    leaving: Leaving,
    acc: Vec<u8>,
    scratch: Vec<u64>,
    lists: Lists,
    /// Peers of the step at hand, as senders and as receivers.
    marks: Vec<bool>,
}

// SAFETY: between calls the list of transfers is empty, so no address is kept; everything else can be
// sent to another thread.
unsafe impl Send for Engine {}

impl Engine {
    /// An engine over `mesh`.
    pub(super) fn new(mesh: Mesh, state: Arc<GroupState>) -> Self {
        Self {
            mesh,
            state,
            transfers: Vec::new(),
            leaving: Leaving::default(),
            acc: Vec::new(),
            scratch: Vec::new(),
            lists: Lists::default(),
            marks: Vec::new(),
        }
    }

    /// Runs `schedule` to its end, or to the group's.
    ///
    /// # Safety
    /// The buffers of `job` are valid for the ranges that the schedule names; nobody else writes
    /// the input or uses the output until this returns.
    pub(super) unsafe fn run(
        &mut self,
        job: &Job,
        schedule: &Schedule,
        deadline: &LazyDeadline,
    ) -> Result<()> {
        let words = (schedule.scratch * job.dtype.size_bytes()).div_ceil(8);
        if self.scratch.len() < words {
            self.scratch.resize(words, 0);
        }
        for step in &schedule.steps {
            // SAFETY: passed on from the caller.
            let outcome = unsafe { self.step(job, step, deadline) };
            for transfer in self.transfers.drain(..) {
                if let Transfer::Fold(fold) = transfer {
                    self.lists = fold.into_lists();
                }
            }
            if let Err(error) = outcome {
                self.mesh.cancel();
                return Err(error);
            }
        }
        Ok(())
    }

    /// # Safety
    /// As [`Engine::run`].
    unsafe fn step(&mut self, job: &Job, step: &Step, deadline: &LazyDeadline) -> Result<()> {
        for action in &step.actions {
            // SAFETY: passed on from the caller.
            unsafe { self.local(job, action) };
        }
        self.connect(job, step, deadline)?;
        for action in &step.actions {
            if let Some(transfer) = self.transfer(job, action) {
                self.transfers.push(transfer);
            }
        }
        // SAFETY: passed on from the caller.
        unsafe { self.transfers_to_their_end(job, deadline) }
    }

    /// # Safety
    /// As [`Engine::run`].
    unsafe fn transfers_to_their_end(&mut self, job: &Job, deadline: &LazyDeadline) -> Result<()> {
        let mut waiter = Waiter::new(self.mesh.patience());
        let mut left = self.transfers.len();
        let queued = self.any_behind();
        while left > 0 {
            let mut moved = false;
            left = 0;
            for at in 0..self.transfers.len() {
                if self.transfers[at].is_done() || (queued && self.behind(at)) {
                    left += usize::from(!self.transfers[at].is_done());
                    continue;
                }
                let links = self.mesh.links();
                // SAFETY: passed on from the caller.
                let progress =
                    unsafe { self.transfers[at].progress(&job.desc, links, &mut self.acc) };
                match progress {
                    Ok(progress) => moved |= progress,
                    Err(trouble) => {
                        return Err(failing::trouble(&self.state, &self.mesh, &job.desc, trouble));
                    }
                }
                left += usize::from(!self.transfers[at].is_done());
            }
            if left == 0 {
                break;
            }
            if moved {
                waiter.reset(self.mesh.bell());
                self.leaving.moved();
            } else if self.mesh.wait(&mut waiter, &self.transfers) == Next::Check {
                self.check(&job.desc, deadline)?;
            }
        }
        waiter.reset(self.mesh.bell());
        Ok(())
    }

    /// Whether this step has two messages to, or two from, the same peer.
    fn any_behind(&mut self) -> bool {
        let ranks = self.state.members.len();
        self.marks.clear();
        self.marks.resize(2 * ranks, false);
        let marks = &mut self.marks;
        let mut twice =
            |at: usize| marks.get_mut(at).is_some_and(|mark| core::mem::replace(mark, true));
        self.transfers.iter().any(|transfer| match transfer {
            Transfer::Send { peer, .. } => twice(*peer),
            Transfer::Recv(receive) => twice(ranks + receive.peer),
            Transfer::Fold(_) => false,
        })
    }

    /// Whether an earlier message of this step to (or from) the same peer is not over yet.
    fn behind(&self, at: usize) -> bool {
        let earlier = self.transfers[..at].iter().filter(|transfer| !transfer.is_done());
        match &self.transfers[at] {
            Transfer::Send { peer, .. } => earlier.into_iter().any(
                |other| matches!(other, Transfer::Send { peer: before, .. } if before == peer),
            ),
            Transfer::Recv(receive) => earlier.into_iter().any(
                |other| matches!(other, Transfer::Recv(before) if before.peer == receive.peer),
            ),
            Transfer::Fold(_) => false,
        }
    }

    /// Whether the group failed, the time is over, or somebody waited for has left.
    fn check(&self, desc: &OpDesc, deadline: &LazyDeadline) -> Result<()> {
        if self.state.has_failed() {
            return Err(failing::failed(&self.state, desc));
        }
        if deadline.passed() {
            return Err(failing::timeout(&self.state, &self.mesh, desc, deadline));
        }
        let mut peers = Vec::new();
        let open = self.transfers.iter().filter(|transfer| !transfer.is_done());
        open.for_each(|transfer| transfer.waits_for(&mut peers));
        failing::left(&self.state, &self.mesh, desc, &peers, &self.leaving)
    }

    /// Makes the links that a step needs and that are not there yet.
    fn connect(&mut self, job: &Job, step: &Step, deadline: &LazyDeadline) -> Result<()> {
        let mut peers = Vec::new();
        let mesh = &self.mesh;
        let mut need = |peer: &usize| {
            if !mesh.has(*peer) {
                peers.push(*peer);
            }
        };
        for action in &step.actions {
            match action {
                Action::Send { to: peer, .. } | Action::Recv { from: peer, .. } => need(peer),
                Action::Fold { from, .. } => from.iter().for_each(&mut need),
                Action::Copy { .. } | Action::FoldLocal { .. } => {}
            }
        }
        if peers.is_empty() {
            return Ok(());
        }
        let (state, leaving) = (&self.state, &self.leaving);
        leaving.moved();
        let check = |mesh: &Mesh, peers: &[usize]| {
            if state.has_failed() {
                return Err(failing::failed(state, &job.desc));
            }
            if deadline.passed() {
                return Err(failing::timeout(state, mesh, &job.desc, deadline));
            }
            failing::left(state, mesh, &job.desc, peers, leaving)
        };
        let connected = self.mesh.connect(&peers, deadline, &check);
        connected.map_err(|why| failing::unconnected(&self.state, &self.mesh, &job.desc, why))
    }

    fn transfer(&mut self, job: &Job, action: &Action) -> Option<Transfer> {
        let elem_bytes = job.dtype.size_bytes();
        match action {
            Action::Send { to, from } => {
                let bytes = from.count * elem_bytes;
                let head = Head { desc: job.desc, factor: factor(job.op), bytes: bytes as u64 };
                let out = Outgoing::new(head, self.address(job, from));
                Some(Transfer::Send { peer: *to, out })
            }
            Action::Recv { from, into } => Some(Transfer::Recv(Receive {
                peer: *from,
                into: self.address(job, into),
                bytes: into.count * elem_bytes,
                got: 0,
                begun: false,
            })),
            Action::Fold { into, own, from } => {
                let me = self.state.rank;
                let mut lists = core::mem::take(&mut self.lists);
                let sources = &mut lists.sources;
                sources.clear();
                let below = from.iter().filter(|peer| **peer < me).map(|peer| Source::Peer(*peer));
                sources.extend(below);
                sources.push(Source::Own);
                sources
                    .extend(from.iter().filter(|peer| **peer > me).map(|peer| Source::Peer(*peer)));
                Some(Transfer::Fold(FoldRun::new(
                    self.fold(job),
                    self.address(job, into),
                    self.address(job, own),
                    factor(job.op),
                    elem_bytes,
                    into.count,
                    lists,
                )))
            }
            Action::Copy { .. } | Action::FoldLocal { .. } => None,
        }
    }

    /// # Safety
    /// As [`Engine::run`].
    unsafe fn local(&mut self, job: &Job, action: &Action) {
        let elem_bytes = job.dtype.size_bytes();
        match action {
            Action::Copy { from, into } => {
                let (source, target) = (self.address(job, from), self.address(job, into));
                // SAFETY: both ranges are valid by the caller's contract; `copy` allows overlap.
                unsafe { core::ptr::copy(source, target, from.count * elem_bytes) };
            }
            Action::FoldLocal { into, parts } => {
                let fold = self.fold(job);
                let target = self.address(job, into);
                let parts: Vec<(*const u8, f64)> = parts
                    .iter()
                    .map(|part| (self.address(job, part).cast_const(), factor(job.op)))
                    .collect();
                // SAFETY: the ranges are valid by the caller's contract; the schedule lets parts be
                // the result itself or apart from it.
                unsafe {
                    fold_local(fold, target, &parts, elem_bytes, into.count, &mut self.acc);
                }
            }
            Action::Send { .. } | Action::Recv { .. } | Action::Fold { .. } => {}
        }
    }

    fn fold(&self, job: &Job) -> Fold {
        Fold::new(job.dtype, job.op.unwrap_or(ReduceOp::Sum), self.state.members.len())
    }

    /// The address of a slice; meaningless for an empty one.
    fn address(&mut self, job: &Job, slice: &Slice) -> *mut u8 {
        let base = match slice.buf {
            Buf::Send => job.send.cast_mut(),
            Buf::Recv => job.recv,
            Buf::Scratch => self.scratch.as_mut_ptr().cast::<u8>(),
        };
        base.wrapping_add(slice.at * job.dtype.size_bytes())
    }
}

/// This rank's factor of a pre-multiplied sum.
fn factor(op: Option<ReduceOp>) -> f64 {
    match op {
        Some(ReduceOp::PreMulSum(factor)) => factor,
        _ => 1.0,
    }
}
