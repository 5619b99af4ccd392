//! What was enqueued and is not done yet.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Deadline;
use crate::cuda::Event;
use crate::cuda::StreamRef;
use crate::desc::OpDesc;
use crate::error::Error;
use crate::error::Result;

/// The most operations that are followed at once; beyond, the newest is not, as those before it
/// are late first.
const MOST: usize = 4096;

/// Operations on streams, oldest first, each with an event behind it.
#[derive(Debug, Default)]
pub(super) struct Flight {
    open: VecDeque<Open>,
    /// Events for further use.
    events: Vec<Event>,
}

#[derive(Debug)]
struct Open {
    desc: OpDesc,
    event: Event,
    /// The stream's handle: operations of one stream wait for each other.
    stream: usize,
    /// From when it was enqueued, or the one before it on the stream was done.
    deadline: Deadline,
}

impl Flight {
    /// Follows what was just enqueued on the stream, for `timeout`.
    ///
    /// # Errors
    /// The driver's.
    pub(super) fn follow(
        &mut self,
        desc: OpDesc,
        stream: StreamRef<'_>,
        timeout: Duration,
    ) -> Result<()> {
        if self.open.len() >= MOST {
            return Ok(());
        }
        let event = match self.events.pop() {
            Some(event) => event,
            None => Event::new(stream.device())?,
        };
        event.record(stream)?;
        let (stream, deadline) = (stream.as_raw().addr(), Deadline::after(timeout));
        self.open.push_back(Open { desc, event, stream, deadline });
        Ok(())
    }

    /// Forgets what is done, and gives an operation that should be, with how long it takes
    /// already: since it was enqueued, or the one before it on its stream was done. Streams are in
    /// no order among each other, so all are looked at.
    ///
    /// # Errors
    /// The driver's, for work that failed.
    pub(super) fn late(&mut self) -> Result<Option<(OpDesc, Duration)>, (OpDesc, Error)> {
        let mut late = None;
        let mut moved = Vec::new();
        for _ in 0..self.open.len() {
            let Some(mut open) = self.open.pop_front() else { break };
            if open.event.is_reached().map_err(|error| (open.desc, error))? {
                self.events.push(open.event);
                moved.push(open.stream);
                continue;
            }
            // Its turn came just now: what is enqueued far ahead is not late for that.
            if moved.contains(&open.stream) {
                open.deadline = Deadline::after(open.deadline.timeout());
            }
            if late.is_none() && open.deadline.passed() {
                late = Some((open.desc, open.deadline.waited()));
            }
            self.open.push_back(open);
        }
        Ok(late)
    }

    /// Whether nothing is followed.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
