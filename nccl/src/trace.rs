//! What a group is doing on this rank, and why it stopped: read by other threads and ranks.

use core::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::desc::OpDesc;
use crate::error::At;
use crate::error::Error;
use crate::error::Failure;

/// The state of one group on one rank, shared between its calls and the control thread.
///
/// The hot path writes a few relaxed atomics and takes no clock; the control thread looks once a
/// second and remembers since when nothing moved.
pub(crate) struct GroupState {
    /// Number of the group, equal on all its ranks and unique in the job.
    pub(crate) id: u64,
    /// Its name, for messages.
    pub(crate) name: String,
    /// This rank in the group.
    pub(crate) rank: usize,
    /// The world rank of every rank of the group.
    pub(crate) members: Vec<usize>,
    failed: AtomicBool,
    cause: Mutex<Option<Failure>>,
    /// Even: idle; odd: inside an operation. Grows by one at every change.
    turns: AtomicU32,
    desc: [AtomicU64; 3],
    seen: Mutex<(u32, Instant)>,
}

impl fmt::Debug for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupState")
            .field("name", &self.name)
            .field("rank", &self.rank)
            .field("doing", &self.status())
            .finish_non_exhaustive()
    }
}

/// What a rank is doing in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The current operation, or the last one if `busy` is false; `seq` 0 before the first.
    pub(crate) desc: OpDesc,
    /// Whether it is inside that operation.
    pub(crate) busy: bool,
    /// For how long nothing has changed, to a second.
    pub(crate) since: Duration,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.as_secs();
        match (self.desc.seq, self.busy) {
            (0, _) => write!(f, "has called nothing in this group yet"),
            (_, true) => write!(f, "in {} for {since} s", self.desc),
            (_, false) => write!(f, "finished {}, called nothing since ({since} s)", self.desc),
        }
    }
}

impl GroupState {
    /// The state of a new group.
    pub(crate) fn new(id: u64, name: String, rank: usize, members: Vec<usize>) -> Self {
        Self {
            id,
            name,
            rank,
            members,
            failed: AtomicBool::new(false),
            cause: Mutex::new(None),
            turns: AtomicU32::new(0),
            desc: [const { AtomicU64::new(0) }; 3],
            seen: Mutex::new((0, Instant::now())),
        }
    }

    /// Notes that this rank begins `desc`. One operation at a time.
    pub(crate) fn begin(&self, desc: &OpDesc) {
        let words = pack(desc);
        for (slot, word) in self.desc.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        let turn = self.turns.load(Ordering::Relaxed);
        self.turns
            .store((turn | 1).wrapping_add(if turn & 1 == 1 { 2 } else { 0 }), Ordering::Release);
    }

    /// Notes that the operation is over.
    pub(crate) fn end(&self) {
        let turn = self.turns.load(Ordering::Relaxed);
        self.turns.store((turn | 1).wrapping_add(1), Ordering::Release);
    }

    /// As [`GroupState::end`], if it is inside an operation.
    pub(crate) fn end_if_busy(&self) {
        if self.turns.load(Ordering::Relaxed) & 1 == 1 {
            self.end();
        }
    }

    /// What this rank is doing.
    pub(crate) fn status(&self) -> Status {
        let turn = self.turns.load(Ordering::Acquire);
        let words = [0, 1, 2].map(|at: usize| self.desc[at].load(Ordering::Relaxed));
        let seen = lock(&self.seen);
        let since = if seen.0 == turn { seen.1.elapsed() } else { Duration::ZERO };
        Status { desc: unpack(words), busy: turn & 1 == 1, since }
    }

    /// Remembers when the current state was first seen; called about once a second.
    pub(crate) fn sample(&self) {
        let turn = self.turns.load(Ordering::Relaxed);
        let mut seen = lock(&self.seen);
        if seen.0 != turn {
            *seen = (turn, Instant::now());
        }
    }

    /// Whether the group failed. Cheap enough for a spin loop.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Records why the group failed; the first cause stays. Returns whether this was the first.
    pub(crate) fn fail(&self, failure: Failure) -> bool {
        let mut cause = lock(&self.cause);
        let first = cause.is_none();
        if first {
            *cause = Some(failure);
        }
        self.failed.store(true, Ordering::Release);
        first
    }

    /// Why the group failed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.cause).clone()
    }

    /// The error for the first cause, as met in operation `op`.
    pub(crate) fn error(&self, op: Option<&OpDesc>) -> Option<Error> {
        let at = At { group: self.name.clone(), rank: self.rank, op: op.map(ToString::to_string) };
        self.failure().map(|failure| failure.into_error(at))
    }
}

/// A lock whose holder panicked still guards sound data here: every value is replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pack(desc: &OpDesc) -> [u64; 3] {
    let small = u32::from_le_bytes([desc.kind, desc.dtype, desc.op, desc.flags]);
    [u64::from(desc.seq) | (u64::from(small) << 32), u64::from(desc.root), desc.count]
}

#[expect(clippy::cast_possible_truncation, reason = "each cast takes the half it names")]
fn unpack(words: [u64; 3]) -> OpDesc {
    let [kind, dtype, op, flags] = ((words[0] >> 32) as u32).to_le_bytes();
    OpDesc { seq: words[0] as u32, kind, dtype, op, flags, root: words[1] as u32, count: words[2] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desc::Kind;
    use crate::desc::NO_ROOT;

    #[test]
    fn a_group_tells_what_it_does_and_why_it_failed() {
        let state = GroupState::new(0, "world".into(), 1, vec![0, 1]);
        assert_eq!(state.status().to_string(), "has called nothing in this group yet");
        let desc = OpDesc {
            seq: 7,
            kind: Kind::AllReduce as u8,
            dtype: 7,
            op: 1,
            flags: 0,
            root: NO_ROOT,
            count: 5,
        };
        state.begin(&desc);
        assert_eq!(state.status().desc, desc);
        assert!(state.status().busy);
        state.end();
        assert!(!state.status().busy);
        state.begin(&desc);
        assert!(state.status().busy);

        assert!(!state.has_failed());
        assert!(state.fail(Failure::Aborted { rank: 0, reason: "first".into() }));
        assert!(!state.fail(Failure::Aborted { rank: 0, reason: "second".into() }));
        let text = state.error(Some(&desc)).map(|e| e.to_string());
        let expected = "group \"world\", rank 1, #7 all_reduce f32\u{d7}5 sum: rank 0 aborted the group: first";
        assert_eq!(text.as_deref(), Some(expected));
    }
}
