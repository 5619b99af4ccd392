//! Capture: operations become a graph instead of running, and what cannot be captured spoils it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::thread::ThreadId;

use crate::code::Code;
use crate::registry::Registry;
use crate::registry::lock;
use crate::registry::new_handle;
use crate::stream::Op;
use crate::stream::Stream;

/// `CUstreamCaptureMode`
const GLOBAL: i32 = 0;
const THREAD_LOCAL: i32 = 1;
const RELAXED: i32 = 2;

/// A capture under way.
pub(crate) struct Capture {
    pub(crate) id: u64,
    mode: i32,
    thread: ThreadId,
    origin: usize,
    state: Mutex<State>,
}

struct State {
    nodes: Vec<Op>,
    invalid: bool,
    members: BTreeMap<usize, Member>,
}

/// A stream that takes part.
struct Member {
    stream: Arc<Stream>,
    /// How many nodes there were after its last one.
    last: usize,
    /// Up to where others have waited for it.
    joined: usize,
}

/// What was captured. Nodes are kept in the order of their calls, which respects all dependencies.
pub(crate) struct Graph(pub(crate) Vec<Op>);

pub(crate) static GRAPHS: Registry<Graph> = Registry::new();
pub(crate) static EXECUTABLES: Registry<Graph> = Registry::new();
static ACTIVE: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());

thread_local! {
    static MODE: Cell<i32> = const { Cell::new(GLOBAL) };
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capture {}", self.id)
    }
}

impl Capture {
    /// Adds an operation of a stream.
    pub(crate) fn add(&self, stream: usize, op: Op) -> Result<(), Code> {
        let mut state = lock(&self.state);
        if state.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        state.nodes.push(op);
        let last = state.nodes.len();
        if let Some(member) = state.members.get_mut(&stream) {
            member.last = last;
        }
        Ok(())
    }

    pub(crate) fn invalidate(&self) {
        lock(&self.state).invalid = true;
    }

    pub(crate) fn is_invalid(&self) -> bool {
        lock(&self.state).invalid
    }

    /// Where a stream stands, for an event.
    pub(crate) fn position(&self, stream: usize) -> usize {
        lock(&self.state).members.get(&stream).map_or(0, |member| member.last)
    }

    /// A stream waits for another one that stood at `position`: it joins if it was outside.
    pub(crate) fn wait(
        self: &Arc<Self>,
        waiter: &Arc<Stream>,
        other: usize,
        position: usize,
    ) -> Result<(), Code> {
        match waiter.capture() {
            Some(own) if !Arc::ptr_eq(&own, self) => {
                own.invalidate();
                self.invalidate();
                return Err(Code::STREAM_CAPTURE_MERGE);
            }
            Some(_) => {}
            None => {
                let member = Member { stream: Arc::clone(waiter), last: 0, joined: 0 };
                lock(&self.state).members.insert(waiter.handle, member);
                waiter.set_capture(Some(Arc::clone(self)));
            }
        }
        if waiter.handle != other
            && let Some(member) = lock(&self.state).members.get_mut(&other)
        {
            member.joined = member.joined.max(position);
        }
        Ok(())
    }
}

/// Begins a capture on a stream.
pub(crate) fn begin(stream: &Arc<Stream>, mode: i32) -> Result<(), Code> {
    if !(GLOBAL..=RELAXED).contains(&mode) {
        return Err(Code::INVALID_VALUE);
    }
    if stream.is_legacy() {
        return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
    }
    if stream.capture().is_some() {
        return Err(Code::ILLEGAL_STATE);
    }
    let member = Member { stream: Arc::clone(stream), last: 0, joined: 0 };
    let members = BTreeMap::from([(stream.handle, member)]);
    let capture = Arc::new(Capture {
        id: u64::try_from(new_handle()).unwrap_or_default(),
        mode,
        thread: thread::current().id(),
        origin: stream.handle,
        state: Mutex::new(State { nodes: Vec::new(), invalid: false, members }),
    });
    stream.set_capture(Some(Arc::clone(&capture)));
    lock(&ACTIVE).push(capture);
    Ok(())
}

/// Ends the capture that began on a stream, and gives the graph's handle.
pub(crate) fn end(stream: &Arc<Stream>) -> Result<usize, Code> {
    let capture = stream.capture().ok_or(Code::ILLEGAL_STATE)?;
    if capture.origin != stream.handle {
        capture.invalidate();
        return Err(Code::STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != RELAXED && capture.thread != thread::current().id() {
        return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
    }
    lock(&ACTIVE).retain(|other| !Arc::ptr_eq(other, &capture));
    let mut state = lock(&capture.state);
    let forgotten = |(handle, member): (&usize, &Member)| {
        *handle != capture.origin && member.joined < member.last
    };
    let unjoined = state.members.iter().any(forgotten);
    for member in state.members.values() {
        member.stream.set_capture(None);
    }
    // Members hold streams, which hold the capture.
    state.members.clear();
    if state.invalid {
        return Err(Code::STREAM_CAPTURE_INVALIDATED);
    }
    if unjoined {
        return Err(Code::STREAM_CAPTURE_UNJOINED);
    }
    let graph = Arc::new(Graph(std::mem::take(&mut state.nodes)));
    let handle = new_handle();
    GRAPHS.add(handle, graph);
    Ok(handle)
}

/// Changes how strict the calling thread is about captures of others, and gives how it was.
pub(crate) fn exchange_mode(mode: i32) -> Result<i32, Code> {
    if (GLOBAL..=RELAXED).contains(&mode) {
        Ok(MODE.replace(mode))
    } else {
        Err(Code::INVALID_VALUE)
    }
}

/// Refuses a call that might disturb a capture under way (allocations, waits, queries), as the
/// modes of the captures and of this thread say, and spoils the captures it would disturb.
pub(crate) fn not_now() -> Result<(), Code> {
    let own_mode = MODE.get();
    if own_mode == RELAXED {
        return Ok(());
    }
    let here = thread::current().id();
    let disturbed = |capture: &&Arc<Capture>| match capture.mode {
        GLOBAL => own_mode == GLOBAL || capture.thread == here,
        THREAD_LOCAL => capture.thread == here,
        _ => false,
    };
    let active = lock(&ACTIVE);
    let disturbed: Vec<_> = active.iter().filter(disturbed).collect();
    disturbed.iter().for_each(|capture| capture.invalidate());
    if disturbed.is_empty() { Ok(()) } else { Err(Code::STREAM_CAPTURE_UNSUPPORTED) }
}

/// Refuses a wait for, or a question about, a stream that is being captured, and spoils that.
pub(crate) fn not_captured(stream: &Stream) -> Result<(), Code> {
    match stream.capture() {
        Some(capture) => {
            capture.invalidate();
            Err(Code::STREAM_CAPTURE_UNSUPPORTED)
        }
        None => Ok(()),
    }
}

/// Refuses use of the legacy stream, which would depend on captured work.
pub(crate) fn no_implicit(others: &[Arc<Stream>]) -> Result<(), Code> {
    let captures: Vec<_> = others.iter().filter_map(|stream| stream.capture()).collect();
    captures.iter().for_each(|capture| capture.invalidate());
    if captures.is_empty() { Ok(()) } else { Err(Code::STREAM_CAPTURE_IMPLICIT) }
}
