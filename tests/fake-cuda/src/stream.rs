//! Streams: a queue and a thread each. The legacy default stream waits for the others and they for
//! it; each thread has a default stream of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use crate::capture;
use crate::capture::Capture;
use crate::code::Code;
use crate::context;
use crate::knobs;
use crate::registry::Registry;
use crate::registry::lock;
use crate::registry::new_handle;

/// What a stream does, once now or again and again from a graph.
pub(crate) type Op = Arc<dyn Fn() + Send + Sync>;

/// What makes a stream different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Made by the program.
    Plain,
    /// Stream 0 or 0x1: in order with all blocking streams.
    Legacy,
}

/// A stream.
pub(crate) struct Stream {
    pub(crate) handle: usize,
    pub(crate) device: usize,
    pub(crate) flags: u32,
    pub(crate) priority: i32,
    role: Role,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ops: VecDeque<Op>,
    submitted: u64,
    completed: u64,
    closed: bool,
    capture: Option<Arc<Capture>>,
}

/// A point in a stream's queue.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    stream: Arc<Stream>,
    at: u64,
}

/// Where an operation went.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// Into the queue.
    Queued(Point),
    /// Into a graph that is being captured.
    Captured,
}

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: u32 = 1;

static STREAMS: Registry<Stream> = Registry::new();
static LEGACY: Mutex<BTreeMap<usize, Arc<Stream>>> = Mutex::new(BTreeMap::new());

thread_local! {
    static OWN: RefCell<OwnStreams> = const { RefCell::new(OwnStreams(BTreeMap::new())) };
}

/// A thread's default streams by device; they end with the thread.
struct OwnStreams(BTreeMap<usize, Arc<Stream>>);

impl Drop for OwnStreams {
    fn drop(&mut self) {
        for stream in self.0.values() {
            let _ = STREAMS.remove(stream.handle);
            stream.close();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:#x} of device {}", self.handle, self.device)
    }
}

impl Stream {
    fn start(device: usize, flags: u32, priority: i32, role: Role) -> Result<Arc<Self>, Code> {
        let state = State {
            ops: VecDeque::new(),
            submitted: 0,
            completed: 0,
            closed: false,
            capture: None,
        };
        let stream = Arc::new(Self {
            handle: new_handle(),
            device,
            flags,
            priority,
            role,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let worker = Arc::clone(&stream);
        let thread = thread::Builder::new().name("fake-stream".to_owned());
        thread.spawn(move || worker.work()).map_err(|_| Code::OUT_OF_MEMORY)?;
        STREAMS.add(stream.handle, Arc::clone(&stream));
        Ok(stream)
    }

    fn work(&self) {
        loop {
            let op = {
                let mut state = lock(&self.state);
                loop {
                    if let Some(op) = state.ops.pop_front() {
                        break op;
                    }
                    if state.closed {
                        return;
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if !knobs::slowness().is_zero() {
                thread::sleep(knobs::slowness());
            }
            op();
            // What the operation held is let go before anybody hears that it is over.
            drop(op);
            lock(&self.state).completed += 1;
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    fn push(self: &Arc<Self>, op: Op) -> Point {
        let mut state = lock(&self.state);
        state.ops.push_back(op);
        state.submitted += 1;
        let at = state.submitted;
        drop(state);
        self.changed.notify_all();
        Point { stream: Arc::clone(self), at }
    }

    /// The end of the queue as it is now.
    pub(crate) fn tail(self: &Arc<Self>) -> Point {
        Point { stream: Arc::clone(self), at: lock(&self.state).submitted }
    }

    /// The capture that it takes part in.
    pub(crate) fn capture(&self) -> Option<Arc<Capture>> {
        lock(&self.state).capture.clone()
    }

    pub(crate) fn set_capture(&self, capture: Option<Arc<Capture>>) {
        lock(&self.state).capture = capture;
    }

    fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    pub(crate) fn is_legacy(&self) -> bool {
        self.role == Role::Legacy
    }
}

impl Point {
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.stream.state).completed >= self.at
    }

    pub(crate) fn wait(&self) {
        let mut state = lock(&self.stream.state);
        while state.completed < self.at {
            state = self.stream.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Makes a stream on the current device.
pub(crate) fn create(flags: u32, priority: i32) -> Result<usize, Code> {
    let device = context::current_device()?;
    Ok(Stream::start(device, flags, priority, Role::Plain)?.handle)
}

/// Destroys a stream; what is queued still runs.
pub(crate) fn destroy(handle: usize) -> Result<(), Code> {
    if handle <= 2 {
        return Err(Code::INVALID_HANDLE);
    }
    STREAMS.remove(handle)?.close();
    Ok(())
}

/// The stream of a handle, the default ones of the current device included.
pub(crate) fn get(handle: usize) -> Result<Arc<Stream>, Code> {
    let device = context::current_device()?;
    match handle {
        0 | 1 => legacy(device),
        2 => OWN.with_borrow_mut(|own| match own.0.get(&device) {
            Some(stream) => Ok(Arc::clone(stream)),
            None => {
                let stream = Stream::start(device, 0, 0, Role::Plain)?;
                own.0.insert(device, Arc::clone(&stream));
                Ok(stream)
            }
        }),
        _ => STREAMS.get(handle),
    }
}

/// The device of a stream, without looking at the current context except for default streams.
pub(crate) fn device_of(handle: usize) -> Result<usize, Code> {
    if handle <= 2 { context::current_device() } else { Ok(STREAMS.get(handle)?.device) }
}

/// Puts an operation into a stream's queue, or into the graph that it is captured for.
pub(crate) fn submit(stream: &Arc<Stream>, op: Op) -> Result<Submitted, Code> {
    if let Some(capture) = stream.capture() {
        capture.add(stream.handle, op)?;
        return Ok(Submitted::Captured);
    }
    let before = if stream.is_legacy() {
        let others = others_of(stream.device);
        capture::no_implicit(&others)?;
        others.iter().map(Stream::tail).filter(|point| !point.is_over()).collect()
    } else if stream.is_blocking() {
        let legacy = lock(&LEGACY).get(&stream.device).map(Stream::tail);
        legacy.into_iter().filter(|point| !point.is_over()).collect()
    } else {
        Vec::new()
    };
    if before.is_empty() {
        return Ok(Submitted::Queued(stream.push(op)));
    }
    Ok(Submitted::Queued(stream.push(Arc::new(move || {
        before.iter().for_each(Point::wait);
        op();
    }))))
}

/// Waits for what is queued in all streams of a device now.
pub(crate) fn wait_for_device(device: usize) {
    let of = |stream: &Arc<Stream>| stream.device == device;
    for stream in STREAMS.all().into_iter().filter(of) {
        stream.tail().wait();
    }
}

fn legacy(device: usize) -> Result<Arc<Stream>, Code> {
    let mut streams = lock(&LEGACY);
    if let Some(stream) = streams.get(&device) {
        return Ok(Arc::clone(stream));
    }
    let stream = Stream::start(device, 0, 0, Role::Legacy)?;
    streams.insert(device, Arc::clone(&stream));
    Ok(stream)
}

fn others_of(device: usize) -> Vec<Arc<Stream>> {
    let mut all = STREAMS.all();
    all.retain(|one| one.device == device && one.is_blocking() && !one.is_legacy());
    all
}
