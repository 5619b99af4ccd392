//! Groups: what is called between start and end begins at the end. Depth and queue are a thread's.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::thread;

use crate::comm;
use crate::comm::Comm;
use crate::fail::Fail;
use crate::fail::IN_PROGRESS;
use crate::fail::Outcome;
use crate::fail::SYSTEM;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::fail::lock;
use crate::ffi::Out;
use crate::launch;
use crate::launch::Issued;
use crate::op::Call;
use crate::watch;

/// The making of a communicator.
pub(crate) struct Making {
    pub(crate) function: &'static str,
    /// Whose state tells of the progress: the parent for a split, else the new one.
    pub(crate) watched: Arc<Comm>,
    pub(crate) new: Option<Arc<Comm>>,
    /// Where the handle goes.
    pub(crate) out: Out<usize>,
    pub(crate) work: Box<dyn FnOnce() -> Outcome + Send>,
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}", self.function, self.new)
    }
}

/// What a thread has in its group.
#[derive(Default)]
struct Group {
    depth: u32,
    issued: Vec<Issued>,
    makings: Vec<Making>,
    error: Option<Fail>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::new(Group::default());
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.depth > 0 {
            watch::violation(&format!("a thread ended inside {} groups", self.depth));
        }
    }
}

pub(crate) fn start() {
    GROUP.with_borrow_mut(|group| group.depth += 1);
}

/// Leaves the depth raised, as some versions do when making a communicator fails.
pub(crate) fn leak_level() {
    start();
}

pub(crate) fn is_open() -> bool {
    GROUP.with_borrow(|group| group.depth > 0)
}

/// Notes an error, which the end of the group returns again.
pub(crate) fn note<T>(outcome: Outcome<T>) -> Outcome<T> {
    if let Err(fail) = &outcome
        && fail.0 != IN_PROGRESS
    {
        GROUP.with_borrow_mut(|group| {
            if group.depth > 0 {
                group.error.get_or_insert(*fail);
            }
        });
    }
    outcome
}

/// Ends a group; the outermost end begins everything.
pub(crate) fn end() -> Outcome {
    let ended = GROUP.with_borrow_mut(|group| {
        group.depth = group.depth.checked_sub(1)?;
        Some((group.depth == 0).then(|| {
            let issued = std::mem::take(&mut group.issued);
            (issued, std::mem::take(&mut group.makings), group.error.take())
        }))
    });
    let Some(ended) = ended else {
        if !watch::take_repair() {
            watch::violation("ncclGroupEnd without ncclGroupStart");
        }
        return fail(USAGE, "ncclGroupEnd: not in a group call.");
    };
    let Some((issued, makings, error)) = ended else { return Ok(()) };
    if let Some(error) = error {
        return Err(error);
    }
    if !issued.is_empty() && !makings.is_empty() {
        watch::violation("communicators made and operations issued in one group");
        return fail(USAGE, "init and collectives in one group");
    }
    make_all(makings)?;
    launch::launch(issued, "ncclGroupEnd")
}

/// Ends a group without beginning or telling anything.
pub(crate) fn forget() {
    GROUP.with_borrow_mut(|group| {
        group.depth = group.depth.saturating_sub(1);
        if group.depth == 0 {
            *group = Group::default();
        }
    });
}

/// Ends a group without beginning anything.
pub(crate) fn discard() -> Outcome {
    GROUP.with_borrow_mut(|group| {
        if group.depth == 1 {
            group.issued.clear();
            group.makings.clear();
        }
    });
    end()
}

/// Takes a call: into the group, or to its stream.
pub(crate) fn issue(handle: usize, call: Call, stream: usize) -> Outcome {
    note(try_issue(handle, call, stream))
}

fn try_issue(handle: usize, call: Call, stream: usize) -> Outcome {
    let function = call.function;
    let comm = comm::get_for(handle, function)?;
    let _inside = watch::inside(handle, function);
    let _issuing = watch::issuing(comm.device, handle, function);
    launch::check(&comm, &call, stream)?;
    if call.count == 0 && call.signal.is_none() && !call.is_pair() {
        return Ok(());
    }
    let own = lock(&comm.own_ops).get(&call.op).copied().filter(|_| call.reduces());
    let issued = Issued { comm, call: Call { own, ..call }, stream };
    if is_open() {
        GROUP.with_borrow_mut(|group| group.issued.push(issued));
        return Ok(());
    }
    launch::launch(vec![issued], function)
}

/// Takes the making of a communicator: into the group, or now.
pub(crate) fn make(making: Making) -> Outcome {
    if is_open() {
        GROUP.with_borrow_mut(|group| group.makings.push(making));
        return Ok(());
    }
    make_all(vec![making])
}

/// Makes communicators side by side; those that block are waited for.
fn make_all(makings: Vec<Making>) -> Outcome {
    let mut waiting = Vec::new();
    let mut result = Ok(());
    for Making { function, watched, new, out, work } in makings {
        let at = new.as_ref().map(|comm| comm.handle);
        if !watched.config.blocking {
            let outcome = comm::now_or_later(&watched, function, move || {
                work()?;
                at.map_or(Ok(()), |handle| out.set(function, handle))
            });
            result = result.and(outcome);
            continue;
        }
        match thread::Builder::new().name("fake-nccl-init".to_owned()).spawn(work) {
            Ok(thread) => waiting.push((thread, at, out, function)),
            Err(_) => result = fail(SYSTEM, "no thread for making a communicator"),
        }
    }
    for (thread, at, out, function) in waiting {
        let outcome = thread.join().unwrap_or(Err(Fail(SYSTEM)));
        match (outcome, at) {
            (Ok(()), Some(handle)) => out.set(function, handle)?,
            (Ok(()), None) => {}
            (Err(fail), at) => {
                // NCCL cleans up, and leaves no handle.
                let _ = out.set(function, 0);
                if let Some(handle) = at
                    && let Ok(comm) = comm::get(handle, function)
                {
                    comm.abort();
                    comm::retire(handle, "its making failed");
                }
                result = result.and(Err(fail));
            }
        }
    }
    result
}
