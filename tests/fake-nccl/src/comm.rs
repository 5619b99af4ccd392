//! Communicators: what a handle stands for, in which state it is, and which handles have ended.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::config::Config;
use crate::fail::ARGUMENT;
use crate::fail::Fail;
use crate::fail::IN_PROGRESS;
use crate::fail::Outcome;
use crate::fail::REMOTE;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::fail::lock;
use crate::frame::Desc;
use crate::frame::Head;
use crate::knobs;
use crate::knobs::Progress;
use crate::mesh::Aborted;
use crate::mesh::Mesh;
use crate::mesh::Receiver;
use crate::rendezvous::Card;
use crate::watch;
use crate::window::Windows;

/// Where a communicator is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Revoked,
    Finalizing,
    Finalized,
    Suspended,
}

/// Work that a communicator without blocking still has to do, once polled or waited for enough.
type Later = Box<dyn FnOnce() -> Outcome + Send>;

/// A communicator.
pub(crate) struct Comm {
    pub(crate) handle: usize,
    pub(crate) world_size: usize,
    pub(crate) rank: usize,
    pub(crate) device: i32,
    pub(crate) config: Config,
    pub(crate) windows: Windows,
    pub(crate) own_ops: Mutex<BTreeMap<i32, OwnOp>>,
    pub(crate) registered: Mutex<BTreeSet<usize>>,
    pub(crate) cards: OnceLock<Vec<Card>>,
    mesh: OnceLock<Arc<Mesh>>,
    state: Mutex<State>,
    changed: Condvar,
    order: Mutex<Order>,
    order_changed: Condvar,
    born: Instant,
}

struct State {
    phase: Phase,
    aborted: bool,
    error: i32,
    /// Functions in progress, and polls that they still need.
    busy: u64,
    polls_left: u64,
    later: Option<Later>,
    /// How often each set of ranks has talked.
    talks: BTreeMap<Vec<usize>, u64>,
}

/// Which operations were issued, and which are over. They run in the order of their issue.
#[derive(Debug, Default)]
struct Order {
    issued: u64,
    done: u64,
    collectives: u64,
    running: bool,
}

/// A pre-multiplied sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnOp {
    /// The factor's bits, or its address.
    pub(crate) value: u64,
    pub(crate) on_device: bool,
    pub(crate) dtype: i32,
}

/// What became of a handle.
enum Entry {
    Live(Arc<Comm>),
    Ended(&'static str),
}

static COMMS: Mutex<BTreeMap<usize, Entry>> = Mutex::new(BTreeMap::new());

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "communicator {:#x}, rank {} of {}", self.handle, self.rank, self.world_size)
    }
}

impl Comm {
    /// Makes a communicator that is not connected yet, and its handle.
    pub(crate) fn new(world_size: usize, rank: usize, device: i32, config: Config) -> Arc<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0x5fb0_0000_0000);
        let state = State {
            phase: Phase::Starting,
            aborted: false,
            error: 0,
            busy: 0,
            polls_left: 0,
            later: None,
            talks: BTreeMap::new(),
        };
        let comm = Arc::new(Self {
            handle: NEXT.fetch_add(4096, Ordering::Relaxed),
            world_size,
            rank,
            device,
            config,
            windows: Windows::default(),
            own_ops: Mutex::default(),
            registered: Mutex::default(),
            cards: OnceLock::new(),
            mesh: OnceLock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            order: Mutex::default(),
            order_changed: Condvar::new(),
            born: Instant::now(),
        });
        lock(&COMMS).insert(comm.handle, Entry::Live(Arc::clone(&comm)));
        comm
    }

    /// Takes over the connections: from now on it works.
    pub(crate) fn connect(&self, cards: Vec<Card>, mesh: Arc<Mesh>) {
        let _ = self.cards.set(cards);
        let _ = self.mesh.set(Arc::clone(&mesh));
        let mut state = lock(&self.state);
        state.phase = Phase::Ready;
        if state.aborted {
            mesh.abort();
        }
    }

    /// The connections, once it is connected.
    pub(crate) fn mesh(&self) -> Outcome<&Arc<Mesh>> {
        match self.mesh.get() {
            Some(mesh) => Ok(mesh),
            None => fail(ARGUMENT, "Attempt to use communicator before it is initialized"),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        lock(&self.state).phase = phase;
    }

    pub(crate) fn is_aborted(&self) -> bool {
        lock(&self.state).aborted
    }

    /// Ends all its waits, at once and for ever.
    pub(crate) fn abort(&self) {
        lock(&self.state).aborted = true;
        self.changed.notify_all();
        if let Some(mesh) = self.mesh.get() {
            mesh.abort();
        }
        drop(lock(&self.order));
        self.order_changed.notify_all();
    }

    /// Notes an asynchronous error; the first one stays.
    pub(crate) fn set_error(&self, code: i32) {
        let mut state = lock(&self.state);
        if state.error == 0 {
            state.error = code;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Says that a call on it goes on in the background.
    pub(crate) fn begin_progress(&self) {
        lock(&self.state).busy += 1;
    }

    /// Says that it is over.
    pub(crate) fn end_progress(&self, outcome: Outcome) {
        let mut state = lock(&self.state);
        state.busy = state.busy.saturating_sub(1);
        if let (Err(Fail(code)), 0) = (outcome, state.error) {
            state.error = code;
        }
    }

    /// Lets work be done only once the caller has asked for the state so many times.
    pub(crate) fn do_after_polls(&self, polls: u64, later: Later) {
        let mut state = lock(&self.state);
        state.busy += 1;
        state.polls_left = polls;
        state.later = Some(later);
    }

    /// What `ncclCommGetAsyncError` says, without counting as a question.
    pub(crate) fn async_state(&self) -> i32 {
        let operations = lock(&self.order).done;
        if let Some(code) = knobs::async_error(self.rank, operations, self.born.elapsed()) {
            self.set_error(code);
        }
        let state = lock(&self.state);
        match (state.error, state.busy) {
            (0, 0) => 0,
            (0, _) => IN_PROGRESS,
            (error, _) => error,
        }
    }

    /// A question about the state: work that waits for questions comes nearer.
    pub(crate) fn poll(&self) -> i32 {
        let due = {
            let mut state = lock(&self.state);
            state.polls_left = state.polls_left.saturating_sub(1);
            if state.polls_left == 0 { state.later.take() } else { None }
        };
        if let Some(later) = due {
            let outcome = later();
            self.end_progress(outcome);
        }
        self.async_state()
    }

    /// Checks that it can be used: connected, at rest, without error.
    pub(crate) fn usable(&self, function: &str) -> Outcome {
        match self.async_state() {
            0 => {}
            IN_PROGRESS => {
                return fail(
                    ARGUMENT,
                    "Attempt to use communicator before the previous operation returned \
                     ncclSuccess",
                );
            }
            error => return Err(Fail(error)),
        }
        match self.phase() {
            Phase::Ready => Ok(()),
            Phase::Starting => fail(ARGUMENT, "Attempt to use communicator before it is ready"),
            Phase::Revoked => fail(USAGE, format!("{function}: communicator was revoked")),
            phase => {
                watch::violation(&format!("{function} on a communicator that is {phase:?}"));
                fail(USAGE, format!("{function}: communicator is {phase:?}"))
            }
        }
    }

    /// The number of the next exchange between some ranks outside of any stream: the same on all
    /// of them, whoever else has talked in between.
    pub(crate) fn next_talk(&self, ranks: &[usize]) -> u64 {
        let mut state = lock(&self.state);
        let count = state.talks.entry(ranks.to_vec()).or_default();
        *count += 1;
        ranks.iter().fold(*count, |hash, rank| {
            (hash ^ (*rank as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }

    /// A place in the order of operations.
    pub(crate) fn issue(&self) -> u64 {
        let mut order = lock(&self.order);
        order.issued += 1;
        order.issued
    }

    /// Waits for the operations issued before, so that they run one after the other.
    pub(crate) fn begin(&self, ticket: Option<u64>) -> Result<(), Aborted> {
        let mut order = lock(&self.order);
        while order.running || ticket.is_some_and(|ticket| order.done + 1 < ticket) {
            if self.is_aborted() {
                return Err(Aborted);
            }
            let wait = self.order_changed.wait_timeout(order, Duration::from_millis(100));
            order = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        order.running = true;
        Ok(())
    }

    /// The number of the collective that runs now.
    pub(crate) fn next_collective(&self) -> u64 {
        let mut order = lock(&self.order);
        order.collectives += 1;
        order.collectives
    }

    /// The operation is over, well or not.
    pub(crate) fn end(&self, ticket: Option<u64>, began: bool) {
        let mut order = lock(&self.order);
        if ticket.is_some() {
            order.done += 1;
        }
        if began {
            order.running = false;
        }
        drop(order);
        self.order_changed.notify_all();
    }

    /// Waits until all that was issued is over. As with NCCL, for ever if a rank does not come.
    pub(crate) fn drain(&self) {
        let mut order = lock(&self.order);
        while order.done < order.issued && !self.is_aborted() {
            let wait = self.order_changed.wait_timeout(order, Duration::from_millis(100));
            order = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the streams have left all that was issued; they do, after an abort.
    pub(crate) fn drain_aborted(&self) {
        let mut order = lock(&self.order);
        while order.running {
            let wait = self.order_changed.wait_timeout(order, Duration::from_millis(100));
            order = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the operations that are under way, and all later ones; the connections stay.
    pub(crate) fn stop_operations(&self) {
        if let Some(mesh) = self.mesh.get() {
            mesh.stop();
        }
        self.drain();
    }

    /// Whether other ranks of it live in this process too.
    pub(crate) fn has_neighbours(&self) -> bool {
        let Some(own) = self.cards.get() else { return false };
        let same = |other: &Arc<Self>| {
            other.handle != self.handle
                && other.cards.get().is_some_and(|cards| {
                    cards.first().map(|card| &card.listens_at)
                        == own.first().map(|card| &card.listens_at)
                })
        };
        live().iter().any(same)
    }
}

impl Receiver for Comm {
    fn put(&self, _from: usize, head: &Head, bytes: &[u8]) {
        self.windows.put(head.seq, head.extra, bytes);
    }

    fn lost(&self, _peer: usize) {
        if !knobs::is_off("FAKE_NCCL_PEER_ERRORS") {
            self.set_error(REMOTE);
        }
    }

    fn differs(&self, peer: usize, seq: u64, own: &Desc, other: &Desc) {
        watch::violation(&format!(
            "collective {seq} differs: rank {} called {own:?}, rank {peer} {other:?}",
            self.rank
        ));
    }
}

/// The communicator of a handle. What has ended, or never was, is told to the checker.
pub(crate) fn get(handle: usize, function: &'static str) -> Outcome<Arc<Comm>> {
    let short = function.trim_start_matches("nccl");
    if handle == 0 {
        return fail(ARGUMENT, format!("{short} : comm argument is NULL"));
    }
    match lock(&COMMS).get(&handle) {
        Some(Entry::Live(comm)) => return Ok(Arc::clone(comm)),
        Some(Entry::Ended(how)) => {
            watch::violation(&format!("{function} on communicator {handle:#x} after {how}"));
        }
        None => watch::violation(&format!("{function} on {handle:#x}, which is no communicator")),
    }
    fail(ARGUMENT, "Error: corrupted comm object detected")
}

/// The communicator of a handle, with a knob's failure for its rank.
pub(crate) fn get_for(handle: usize, function: &'static str) -> Outcome<Arc<Comm>> {
    let comm = get(handle, function)?;
    knobs::hang_call(function, Some(comm.rank));
    match knobs::failure_of(function, comm.rank) {
        Some(code) => Err(Fail(code)),
        None => Ok(comm),
    }
}

/// Takes a communicator out, for good.
pub(crate) fn retire(handle: usize, how: &'static str) {
    lock(&COMMS).insert(handle, Entry::Ended(how));
}

/// Runs a call of a communicator without blocking in the background, as the knobs say, or now.
pub(crate) fn now_or_later(
    comm: &Arc<Comm>,
    function: &'static str,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> Outcome {
    if comm.config.blocking {
        return work();
    }
    match knobs::progress(function, comm.rank) {
        Some(Progress::Polls(polls)) if polls > 0 => comm.do_after_polls(polls, Box::new(work)),
        progress => {
            let pause = match progress {
                Some(Progress::Time(time)) => time,
                _ => Duration::ZERO,
            };
            comm.begin_progress();
            let own = Arc::clone(comm);
            let spawned =
                std::thread::Builder::new().name("fake-nccl-job".to_owned()).spawn(move || {
                    std::thread::sleep(pause);
                    let outcome = work();
                    own.end_progress(outcome);
                });
            if spawned.is_err() {
                comm.end_progress(fail(crate::fail::SYSTEM, "no thread for a job"));
            }
        }
    }
    Err(Fail(IN_PROGRESS))
}

fn live() -> Vec<Arc<Comm>> {
    let all = lock(&COMMS);
    let live = |entry: &Entry| match entry {
        Entry::Live(comm) => Some(Arc::clone(comm)),
        Entry::Ended(_) => None,
    };
    all.values().filter_map(live).collect()
}
