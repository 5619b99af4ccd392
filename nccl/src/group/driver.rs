//! Messages that own their buffers, moved by one thread per group.

use std::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::backend::Backend;
use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::trace::lock;

/// How long the thread waits for one message before it looks at the others; it grows while
/// nothing ends, up to the second.
const SLICE: Duration = Duration::from_micros(200);
const LONGEST_SLICE: Duration = Duration::from_millis(10);

/// A message under way, with what is to be done at its end (which owns the buffer).
struct Message {
    ticket: u64,
    deadline: Deadline,
    end: Box<dyn FnOnce(Result<usize>) + Send>,
}

/// Moves messages until all are done; its thread begins with the first one.
pub(super) struct Driver {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    fresh: Vec<Message>,
    running: bool,
    closed: bool,
    /// Messages that have not ended.
    open: usize,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("open", &lock(&self.shared.state).open).finish()
    }
}

impl Driver {
    /// A driver without a thread.
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { backend, state, changed }) }
    }

    /// Whether messages are under way.
    pub(super) fn is_busy(&self) -> bool {
        lock(&self.shared.state).open > 0
    }

    /// Sees `ticket` to its end; `end` is told the peer's rank, or why there is none.
    pub(super) fn drive(
        &self,
        ticket: u64,
        timeout: Duration,
        end: impl FnOnce(Result<usize>) + Send + 'static,
    ) -> Result<()> {
        let mut state = lock(&self.shared.state);
        if !state.running {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("nccl-pairs".to_owned());
            let started = thread.spawn(move || shared.run());
            if let Err(source) = started {
                self.shared.backend.p2p_forget(&[ticket]);
                return Err(Error::system("cannot start the thread of messages", source));
            }
            state.running = true;
        }
        let deadline = Deadline::after(timeout);
        state.fresh.push(Message { ticket, deadline, end: Box::new(end) });
        state.open += 1;
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut messages: Vec<Message> = Vec::new();
        let mut slice = SLICE;
        while self.more(&mut messages) {
            let before = messages.len();
            let oldest = messages.first().map(|message| message.ticket);
            let mut open = Vec::with_capacity(before);
            for message in messages {
                let outcome = if Some(message.ticket) == oldest {
                    self.backend.p2p_wait(message.ticket, slice)
                } else {
                    self.backend.p2p_test(message.ticket)
                };
                match outcome {
                    Ok(None) if message.deadline.passed() => {
                        let waited = message.deadline.waited();
                        let error = self.backend.p2p_expire(message.ticket, waited);
                        self.finish(message, Err(error));
                    }
                    Ok(None) => open.push(message),
                    Ok(Some(peer)) => self.finish(message, Ok(peer)),
                    Err(error) => self.finish(message, Err(error)),
                }
            }
            messages = open;
            slice = if messages.len() < before { SLICE } else { (slice * 2).min(LONGEST_SLICE) };
        }
    }

    /// Takes over new messages, waiting for some if there are none; false once there will be none.
    fn more(&self, messages: &mut Vec<Message>) -> bool {
        let mut state = lock(&self.state);
        loop {
            messages.append(&mut state.fresh);
            if !messages.is_empty() {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a message: nobody touches its buffer any more when `end` is told.
    fn finish(&self, message: Message, outcome: Result<usize>) {
        if outcome.is_err() {
            self.backend.p2p_forget(&[message.ticket]);
        }
        (message.end)(outcome);
        lock(&self.state).open -= 1;
    }
}
