//! From calls to streams: the checks of a call, and the host functions that run it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::comm;
use crate::comm::Comm;
use crate::cuda;
use crate::exec;
use crate::fail::ARGUMENT;
use crate::fail::Fail;
use crate::fail::IN_PROGRESS;
use crate::fail::Outcome;
use crate::fail::fail;
use crate::fail::lock;
use crate::op::Call;
use crate::op::Kind;
use crate::version;
use crate::watch;

/// A call that waits for the end of its group.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) comm: Arc<Comm>,
    pub(crate) call: Call,
    pub(crate) stream: usize,
}

/// Calls of one communicator that run together.
struct Batch {
    comm: Arc<Comm>,
    calls: Vec<Call>,
    ticket: Option<u64>,
    /// How many streams must come to it before it runs.
    streams: usize,
    gate: Mutex<Gate>,
    opened: Condvar,
}

#[derive(Default)]
struct Gate {
    arrived: usize,
    done: bool,
}

/// `cudaStreamPerThread`
const PER_THREAD: usize = 2;

/// Batches by number, which is what a stream gets. Captured ones stay.
static BATCHES: Mutex<BTreeMap<usize, Arc<Batch>>> = Mutex::new(BTreeMap::new());

/// Checks a call. What NCCL would not notice is told to the checker.
pub(crate) fn check(comm: &Comm, call: &Call, stream: usize) -> Outcome {
    comm.usable(call.function)?;
    let is_own = |op: i32| lock(&comm.own_ops).get(&op).is_some_and(|own| own.dtype == call.dtype);
    call.check(comm.world_size, is_own)?;
    let cuda = cuda::driver()?;
    let (function, device) = (call.function, comm.device);
    let (in_bytes, out_bytes) = call.sizes_bytes(comm.world_size, comm.rank);
    for (what, address, size_bytes) in
        [("input", call.send, in_bytes), ("output", call.recv, out_bytes)]
    {
        if size_bytes == 0 {
            continue;
        }
        let Some(range) = cuda.range(address) else {
            let text = format!("{function}: {what} {address:#x} is not memory of the device");
            watch::violation(&text);
            return fail(ARGUMENT, text);
        };
        if range.size_bytes < size_bytes {
            let text = format!(
                "{function}: {what} {address:#x} needs {size_bytes} bytes, {} are there",
                range.size_bytes
            );
            watch::violation(&text);
            return fail(ARGUMENT, text);
        }
        if range.on_device && range.device != device {
            watch::violation(&format!(
                "{function}: {what} on device {}, communicator on device {device}",
                range.device
            ));
        }
    }
    check_overlap(comm, call, in_bytes, out_bytes);
    check_stream(comm, call, stream)
}

fn check_stream(comm: &Comm, call: &Call, stream: usize) -> Outcome {
    let cuda = cuda::driver()?;
    let (function, device) = (call.function, comm.device);
    let on = cuda.stream_device(stream);
    if on == -1 {
        watch::violation(&format!("{function}: {stream:#x} is no stream"));
        return fail(ARGUMENT, format!("{function}: {stream:#x} is no stream"));
    }
    if on != device {
        // For a default stream that is the current device.
        watch::violation(&format!(
            "{function}: stream {stream:#x} on device {on}, communicator on device {device}"
        ));
    }
    if stream == PER_THREAD && launches_elsewhere(comm) {
        watch::violation(&format!(
            "{function}: per-thread default stream with a communicator that does not block: NCCL \
             {} launches from a thread of its own, whose default stream is another one",
            version::code()
        ));
    }
    Ok(())
}

/// Input and output must be apart, or placed as NCCL's operations in place want it.
fn check_overlap(comm: &Comm, call: &Call, in_bytes: usize, out_bytes: usize) {
    let apart = call.send + in_bytes <= call.recv || call.recv + out_bytes <= call.send;
    if apart || in_bytes == 0 || out_bytes == 0 {
        return;
    }
    let own = comm.rank * call.count * call.element();
    let in_place = match call.kind {
        Kind::AllGather | Kind::Gather => call.send == call.recv + own,
        Kind::ReduceScatter | Kind::Scatter => call.recv == call.send + own,
        Kind::AllToAll => false,
        _ => call.send == call.recv,
    };
    if !in_place {
        watch::violation(&format!(
            "{}: input {:#x} and output {:#x} overlap, and not as in place",
            call.function, call.send, call.recv
        ));
    }
}

/// Launches the calls of a group, communicator by communicator.
pub(crate) fn launch(issued: Vec<Issued>, function: &'static str) -> Outcome {
    let mut groups: Vec<(Arc<Comm>, Vec<usize>, Vec<Call>)> = Vec::new();
    for Issued { comm, call, stream } in issued {
        let known = groups.iter_mut().find(|group| group.0.handle == comm.handle);
        match known {
            Some((_, streams, calls)) => {
                if !streams.contains(&stream) {
                    streams.push(stream);
                }
                calls.push(call);
            }
            None => groups.push((comm, vec![stream], vec![call])),
        }
    }
    let mixed = groups.iter().any(|group| group.0.config.blocking)
        && groups.iter().any(|group| !group.0.config.blocking);
    if mixed {
        return fail(
            ARGUMENT,
            "Blocking and nonblocking communicators are not allowed in the same group.",
        );
    }
    let mut in_progress = false;
    for (comm, streams, calls) in groups {
        let _inside = watch::inside(comm.handle, function);
        let _issuing = watch::issuing(comm.device, comm.handle, function);
        let function = calls.first().map_or(function, |call| call.function);
        let elsewhere = launches_elsewhere(&comm);
        let own = Arc::clone(&comm);
        let work = move || enqueue(&own, calls, &streams, elsewhere);
        let outcome = if elsewhere { comm::now_or_later(&comm, function, work) } else { work() };
        match outcome {
            Err(Fail(IN_PROGRESS)) => in_progress = true,
            other => other?,
        }
    }
    if in_progress { Err(Fail(IN_PROGRESS)) } else { Ok(()) }
}

/// Whether NCCL launches the communicator's work from a thread of its own: since 2.23, if it does
/// not block.
fn launches_elsewhere(comm: &Comm) -> bool {
    !comm.config.blocking && version::code() >= 22300
}

fn enqueue(comm: &Arc<Comm>, calls: Vec<Call>, streams: &[usize], elsewhere: bool) -> Outcome {
    let cuda = cuda::driver()?;
    if elsewhere {
        cuda.set_device(comm.device)?;
    }
    let captured = streams.iter().any(|stream| cuda.is_capturing(*stream));
    // A graph runs its nodes one after the other: all of it in the first stream.
    let streams = if captured { &streams[..1] } else { streams };
    let number = {
        let mut batches = lock(&BATCHES);
        let number = batches.last_key_value().map_or(1, |(last, _)| last + 1);
        let ticket = if captured { None } else { Some(comm.issue()) };
        let batch = Batch {
            comm: Arc::clone(comm),
            calls,
            ticket,
            streams: streams.len(),
            gate: Mutex::default(),
            opened: Condvar::new(),
        };
        batches.insert(number, Arc::new(batch));
        number
    };
    for stream in streams {
        if let Err(fail) = cuda.launch(*stream, arrive, number) {
            if let Some(batch) = lock(&BATCHES).remove(&number) {
                comm.end(batch.ticket, false);
            }
            return Err(fail);
        }
    }
    Ok(())
}

/// A stream has come to a batch. The last one to come runs it, the others wait for that.
extern "C" fn arrive(number: *mut c_void) {
    let number = number.addr();
    let Some(batch) = lock(&BATCHES).get(&number).cloned() else { return };
    if batch.ticket.is_none() {
        // From a graph: the communicator may be gone.
        if comm::get(batch.comm.handle, "a launch of a graph").is_ok() {
            exec::run(&batch.comm, &batch.calls, None);
        }
        return;
    }
    let mut gate = lock(&batch.gate);
    gate.arrived += 1;
    if gate.arrived == batch.streams {
        drop(gate);
        lock(&BATCHES).remove(&number);
        exec::run(&batch.comm, &batch.calls, batch.ticket);
        lock(&batch.gate).done = true;
        batch.opened.notify_all();
        return;
    }
    while !gate.done && !batch.comm.is_aborted() {
        let wait = batch.opened.wait_timeout(gate, Duration::from_millis(100));
        gate = wait.unwrap_or_else(PoisonError::into_inner).0;
    }
}
