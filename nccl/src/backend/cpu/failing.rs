//! From trouble to an error that every rank of the group gets.

use std::cell::Cell;
use std::time::Duration;
use std::time::Instant;

use super::mesh::Mesh;
use super::mesh::Unconnected;
use super::transfer::Trouble;
use crate::clock::Deadline;
use crate::debug;
use crate::desc::OpDesc;
use crate::error::Absent;
use crate::error::At;
use crate::error::Error;
use crate::error::Failure;
use crate::error::Result;
use crate::trace::GroupState;
use crate::transport::LinkError;

/// How long a broken connection waits for the control plane to say that its rank is dead.
const VERDICT_TIME: Duration = Duration::from_millis(800);
/// How long a message of a rank that has left may be on its way.
const LEAVING_TIME: Duration = Duration::from_millis(300);
/// How long a timeout asks the others what they are doing.
const ASK_TIME: Duration = Duration::from_millis(700);

/// The error of a group that has failed, met in `desc`.
pub(super) fn failed(state: &GroupState, desc: &OpDesc) -> Error {
    state.error(Some(desc)).unwrap_or_else(|| {
        let at = At { group: state.name.clone(), rank: state.rank, op: Some(desc.to_string()) };
        Error::Aborted { at, rank: state.rank, reason: "the group was ended".to_owned() }
    })
}

/// Tells everyone, and returns what this rank returns.
fn fail(state: &GroupState, mesh: &Mesh, desc: &OpDesc, failure: &Failure) -> Error {
    mesh.fail(state, failure);
    let error = failed(state, desc);
    debug::warning!(0, "{error}");
    error
}

/// What a step's trouble means: the error of this rank, told to the others.
pub(super) fn trouble(state: &GroupState, mesh: &Mesh, desc: &OpDesc, trouble: Trouble) -> Error {
    let (place, has_left) = (|peer| mesh.host_and_pid(peer), |peer| mesh.has_left(peer));
    let failure = meaning(state, desc, trouble, place, has_left);
    fail(state, mesh, desc, &failure)
}

/// What trouble means for the group; `place` says where a rank runs, `has_left` whether it has left
/// the group in order.
pub(super) fn meaning(
    state: &GroupState,
    desc: &OpDesc,
    trouble: Trouble,
    place: impl Fn(usize) -> (String, u32),
    has_left: impl Fn(usize) -> bool,
) -> Failure {
    match trouble {
        Trouble::Mismatch(peer, theirs) => {
            Failure::Mismatch { first: (state.rank, *desc), second: (peer, theirs) }
        }
        Trouble::Length { peer, expected, got } => Failure::Protocol {
            reporter: state.rank,
            rank: peer,
            what: format!("a message of {got} bytes where its own counts say {expected} ({desc})"),
        },
        Trouble::Own(reason) => Failure::Aborted { rank: state.rank, reason },
        Trouble::Link(peer, LinkError::Protocol(what)) => {
            Failure::Protocol { reporter: state.rank, rank: peer, what: what.to_owned() }
        }
        Trouble::Link(peer, LinkError::Lost(why)) => {
            // The control plane knows of a death within milliseconds and says more about it.
            let wait = Deadline::after(VERDICT_TIME);
            while !state.has_failed() && !wait.passed() {
                if has_left(peer) {
                    return leaver(peer, place(peer));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let (host, pid) = place(peer);
            Failure::PeerLost { rank: peer, host, pid, why }
        }
    }
}

/// What an error in making a link is for a step.
pub(super) fn of_link(peer: usize, error: Error) -> Trouble {
    match error {
        Error::PeerLost { why, .. } => Trouble::Link(peer, LinkError::Lost(why)),
        Error::Connect { why, .. } => Trouble::Own(format!("it cannot connect: {why}")),
        // Its own descriptors, memory or settings: the peer has no part in it.
        other => Trouble::Own(format!("it cannot connect to rank {peer}: {other}")),
    }
}

/// Links could not be made: the error of this rank, told to the others.
pub(super) fn unconnected(
    state: &GroupState,
    mesh: &Mesh,
    desc: &OpDesc,
    why: Unconnected,
) -> Error {
    match why {
        Unconnected::Failed(error) => error,
        Unconnected::Link(peer, error) => trouble(state, mesh, desc, of_link(peer, error)),
    }
}

/// Since when somebody waited for is known to have left, while nothing moves: what it sent before
/// may take another way than the news that it left, and come later.
#[derive(Debug, Default)]
pub(super) struct Leaving(Cell<Option<Instant>>);

impl Leaving {
    /// Something moved.
    pub(super) fn moved(&self) {
        self.0.set(None);
    }

    /// Whether what it sent before would be here by now.
    pub(super) fn is_over(&self) -> bool {
        let since = self.0.get().unwrap_or_else(Instant::now);
        self.0.set(Some(since));
        since.elapsed() >= LEAVING_TIME
    }
}

/// What a group fails with when a rank that is waited for has left it in order.
pub(super) fn leaver(rank: usize, (host, pid): (String, u32)) -> Failure {
    let why = "left the group (finalized or dropped it)".to_owned();
    Failure::PeerLost { rank, host, pid, why }
}

/// Fails if one of `peers` has left the group in order, and so will never answer.
pub(super) fn left(
    state: &GroupState,
    mesh: &Mesh,
    desc: &OpDesc,
    peers: &[usize],
    leaving: &Leaving,
) -> Result<()> {
    match peers.iter().find(|peer| mesh.has_left(**peer)) {
        Some(peer) if leaving.is_over() => {
            Err(fail(state, mesh, desc, &leaver(*peer, mesh.host_and_pid(*peer))))
        }
        _ => Ok(()),
    }
}

/// The deadline passed: says who has not arrived.
pub(super) fn timeout(
    state: &GroupState,
    mesh: &Mesh,
    desc: &OpDesc,
    deadline: &Deadline,
) -> Error {
    let waited = deadline.waited();
    let absent = absent(state, mesh, desc);
    let failure = Failure::Timeout { origin: state.rank, op: *desc, waited, absent };
    fail(state, mesh, desc, &failure)
}

/// The ranks that have not called `desc` yet, with what they do instead.
fn absent(state: &GroupState, mesh: &Mesh, desc: &OpDesc) -> Vec<Absent> {
    let statuses = mesh.ask(ASK_TIME);
    let mut absent = Vec::new();
    for (rank, status) in statuses.into_iter().enumerate() {
        if rank == state.rank {
            continue;
        }
        let doing = match status {
            // Further on, or in this very operation: another one with its number is not arriving.
            Some(status) if status.desc.seq > desc.seq || status.desc == *desc => continue,
            Some(status) => status.to_string(),
            None => "does not answer".to_owned(),
        };
        let (host, pid) = mesh.host_and_pid(rank);
        absent.push(Absent::new(rank, host, pid, doing));
    }
    absent
}
