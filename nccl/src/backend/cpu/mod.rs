//! Collectives on the CPU: schedules run over links in memory and over sockets.

#![expect(unsafe_code, reason = "operations name their buffers by address")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::backend::Call;
use crate::backend::P2p;
use crate::backend::digest;
use crate::clock::LazyDeadline;
use crate::control::Control;
use crate::desc::Kind;
use crate::desc::NO_ROOT;
use crate::desc::OpDesc;
use crate::error::Error;
use crate::error::Failure;
use crate::error::Result;
use crate::op::ReduceOp;
use crate::rank::Member;
use crate::schedule::Schedule;
use crate::schedule::Shape;
use crate::schedule::Tuning;
use crate::schedule::plan;
use crate::trace::GroupState;

mod engine;
mod exclusive;
mod failing;
mod fold;
mod mesh;
mod options;
mod p2p;
mod transfer;
mod waiter;
mod wiring;

pub(crate) use options::CpuOptions;
pub(crate) use options::Forced;

use engine::Engine;
use engine::Job;
use exclusive::Exclusive;
use mesh::Mesh;
use p2p::P2pEngine;
use wiring::Wiring;

/// The channels of a group: collectives, and messages between pairs.
const COLLECTIVES: u16 = 0;
const PAIRS: u16 = 1;

/// The CPU backend of one group.
pub(crate) struct CpuBackend {
    state: Arc<GroupState>,
    control: Option<Arc<Control>>,
    tuning: Tuning,
    collectives: Exclusive<Collectives>,
    pairs: P2pEngine,
}

/// What the collectives of a group need, used by one thread at a time.
struct Collectives {
    engine: Engine,
    seq: u32,
    planned: Option<(Shape, Schedule)>,
    algorithm: &'static str,
}

impl fmt::Debug for CpuBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuBackend").field("state", &self.state).finish_non_exhaustive()
    }
}

impl CpuBackend {
    /// The backend of the group of `state`; a world of one needs no control plane.
    pub(crate) fn new(
        state: Arc<GroupState>,
        control: Option<Arc<Control>>,
        options: &CpuOptions,
        tuning: Tuning,
    ) -> Result<Self> {
        let world_size = state.members.len();
        let control = control.filter(|_| world_size > 1);
        let local = control.as_ref().map_or(1, |control| local_ranks(control));
        let wiring = |channel| match &control {
            None => Ok(None),
            Some(control) => {
                Wiring::new(control.clone(), state.clone(), options.clone(), channel).map(Some)
            }
        };
        let mesh = Mesh::new(world_size, wiring(COLLECTIVES)?, local)?;
        let engine = Engine::new(mesh, state.clone());
        let pairs = P2pEngine::new(state.clone(), wiring(PAIRS)?, local);
        let collectives = Collectives { engine, seq: 0, planned: None, algorithm: "none" };
        Ok(Self { state, control, tuning, collectives: Exclusive::new(collectives), pairs })
    }

    /// Fails if the group has failed before.
    fn usable(&self) -> Result<()> {
        if !self.state.has_failed() {
            return Ok(());
        }
        let cause = failing::failed(&self.state, &OpDesc::default());
        Err(poisoned(&self.state, cause))
    }
}

/// The error of every call after the first failure.
fn poisoned(state: &GroupState, cause: Error) -> Error {
    let cause = state.error(None).unwrap_or(cause);
    Error::Poisoned { group: state.name.clone(), cause: Box::new(cause) }
}

/// How many ranks of the world share this machine.
fn local_ranks(control: &Control) -> usize {
    let peers = control.peers();
    let me = peers.get(control.member().rank);
    me.map_or(1, |me| peers.iter().filter(|peer| me.same_host(peer)).count())
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn transport(&self, peer: usize) -> Option<&'static str> {
        let collectives = self.collectives.take();
        collectives.engine.mesh.name(peer).or_else(|| self.pairs.transport(peer))
    }

    fn algorithm(&self) -> &'static str {
        self.collectives.take().algorithm
    }

    unsafe fn collective(&self, call: &Call<'_>, timeout: Duration) -> Result<()> {
        self.usable()?;
        let mut collectives = self.collectives.take();
        let member = Member { rank: self.state.rank, world_size: self.state.members.len() };
        let deadline = LazyDeadline::after(timeout);
        collectives.seq = collectives.seq.wrapping_add(1);
        let desc = describe(call, collectives.seq);
        let Collectives { engine, planned, algorithm, .. } = &mut *collectives;
        let schedule = scheduled(planned, call, member, &self.tuning);
        *algorithm = schedule.algorithm;
        let (send, recv) = (call.send, call.recv);
        let job = Job { desc, dtype: call.dtype, op: call.op, send, recv };
        self.state.begin(&desc);
        let mut guard = CancelOnPanic { engine, returned: false };
        // SAFETY: the schedule names ranges within what the kind and the counts imply, for which the
        // caller vouches.
        let outcome = unsafe { guard.engine.run(&job, schedule, &deadline) };
        guard.returned = true;
        drop(guard);
        if outcome.is_ok() {
            self.state.end();
        }
        outcome
    }

    unsafe fn p2p_post(&self, ops: &[P2p]) -> Result<Vec<u64>> {
        self.usable()?;
        // SAFETY: passed on from the caller.
        Ok(unsafe { self.pairs.post(ops) })
    }

    fn p2p_wait(&self, ticket: u64, timeout: Duration) -> Result<Option<usize>> {
        self.pairs.wait(ticket, timeout)
    }

    fn p2p_test(&self, ticket: u64) -> Result<Option<usize>> {
        self.pairs.test(ticket)
    }

    fn p2p_expire(&self, ticket: u64, waited: Duration) -> Error {
        self.pairs.expire(ticket, waited)
    }

    fn p2p_forget(&self, tickets: &[u64]) {
        self.pairs.forget(tickets);
    }

    fn abort(&self, reason: &str) {
        let failure = Failure::Aborted { rank: self.state.rank, reason: reason.to_owned() };
        if self.state.fail(failure.clone())
            && let Some(control) = &self.control
        {
            control.fail(self.state.id, &failure);
        }
    }
}

/// Takes the buffers of a call back from the peers that read them, if the call unwinds.
struct CancelOnPanic<'a> {
    engine: &'a mut Engine,
    returned: bool,
}

impl Drop for CancelOnPanic<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.engine.mesh.cancel();
        }
    }
}

/// The schedule for `call`: the last one again if it has the same shape.
fn scheduled<'a>(
    planned: &'a mut Option<(Shape, Schedule)>,
    call: &Call<'_>,
    member: Member,
    tuning: &Tuning,
) -> &'a Schedule {
    let again = planned.as_ref().is_some_and(|(shape, _)| is_shape_of(shape, call));
    if !again {
        let shape = shape_of(call, member);
        let schedule = plan(&shape, tuning);
        return &planned.insert((shape, schedule)).1;
    }
    &planned.get_or_insert_with(|| (shape_of(call, member), Schedule::default())).1
}

fn shape_of(call: &Call<'_>, member: Member) -> Shape {
    Shape {
        kind: call.kind,
        member,
        count: call.count,
        root: call.root.unwrap_or(0),
        elem_bytes: call.dtype.size_bytes(),
        in_place: call.in_place,
        send_counts: call.send_counts.to_vec(),
        recv_counts: call.recv_counts.to_vec(),
        factor_per_rank: matches!(call.op, Some(ReduceOp::PreMulSum(_))),
        reduces: call.op.is_some(),
    }
}

fn is_shape_of(shape: &Shape, call: &Call<'_>) -> bool {
    shape.kind == call.kind
        && shape.count == call.count
        && shape.root == call.root.unwrap_or(0)
        && shape.elem_bytes == call.dtype.size_bytes()
        && shape.in_place == call.in_place
        && shape.factor_per_rank == matches!(call.op, Some(ReduceOp::PreMulSum(_)))
        && shape.reduces == call.op.is_some()
        && same_counts(&shape.send_counts, call.send_counts)
        && same_counts(&shape.recv_counts, call.recv_counts)
}

/// Whether two lists are equal, most often both empty. Then nothing must be compared: libc's
/// `memcmp` for AVX-512 loads from the dangling addresses of two empty lists under an empty mask,
/// which costs some 90 ns.
fn same_counts(one: &[usize], other: &[usize]) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// What all ranks must agree on.
fn describe(call: &Call<'_>, seq: u32) -> OpDesc {
    let count = match (call.whole, call.kind) {
        (Some(whole), _) => whole,
        (None, Kind::AllGatherV | Kind::ReduceScatterV) => digest(call.recv_counts),
        (None, Kind::AllToAllV) => 0,
        (None, _) => call.count as u64,
    };
    let root = call.root.map_or(NO_ROOT, |root| u32::try_from(root).unwrap_or(NO_ROOT));
    OpDesc {
        seq,
        kind: call.kind as u8,
        dtype: call.dtype as u8,
        op: call.op.map_or(0, ReduceOp::code),
        flags: 0,
        root,
        count,
    }
}

impl Drop for CpuBackend {
    fn drop(&mut self) {
        let mut collectives = self.collectives.take();
        collectives.engine.mesh.cancel();
        drop(collectives);
        self.pairs.close();
    }
}
