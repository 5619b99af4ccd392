//! Events: a point in a stream, with the time when it was reached.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use crate::capture;
use crate::capture::Capture;
use crate::code::Code;
use crate::context;
use crate::registry::Registry;
use crate::registry::lock;
use crate::registry::new_handle;
use crate::stream;
use crate::stream::Point;
use crate::stream::Stream;
use crate::stream::Submitted;

/// `CU_EVENT_DISABLE_TIMING`
const DISABLE_TIMING: u32 = 2;

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    flags: u32,
    last: Mutex<Last>,
}

type Reached = Arc<Mutex<Option<Instant>>>;

/// What was recorded last.
#[derive(Clone, Debug)]
enum Last {
    Nothing,
    Queued { point: Point, reached: Reached },
    Captured { capture: Arc<Capture>, stream: usize, position: usize },
}

pub(crate) static EVENTS: Registry<Event> = Registry::new();

/// Makes an event.
pub(crate) fn create(flags: u32) -> Result<usize, Code> {
    context::current_device()?;
    let handle = new_handle();
    EVENTS.add(handle, Arc::new(Event { flags, last: Mutex::new(Last::Nothing) }));
    Ok(handle)
}

impl Event {
    /// Records it at the end of a stream.
    pub(crate) fn record(&self, stream: &Arc<Stream>) -> Result<(), Code> {
        if let Some(capture) = stream.capture() {
            if capture.is_invalid() {
                return Err(Code::STREAM_CAPTURE_INVALIDATED);
            }
            let position = capture.position(stream.handle);
            *lock(&self.last) = Last::Captured { capture, stream: stream.handle, position };
            return Ok(());
        }
        let reached = Reached::default();
        let stamp = Arc::clone(&reached);
        let op = move || *lock(&stamp) = Some(Instant::now());
        if let Submitted::Queued(point) = stream::submit(stream, Arc::new(op))? {
            *lock(&self.last) = Last::Queued { point, reached };
        }
        Ok(())
    }

    /// Lets a stream wait for what was recorded.
    pub(crate) fn make_wait(&self, stream: &Arc<Stream>) -> Result<(), Code> {
        match lock(&self.last).clone() {
            Last::Nothing => Ok(()),
            Last::Captured { capture, stream: other, position } => {
                capture.wait(stream, other, position)
            }
            Last::Queued { point, .. } => {
                if let Some(capture) = stream.capture() {
                    // A dependency on work outside of the capture.
                    capture.invalidate();
                    return Err(Code::STREAM_CAPTURE_ISOLATION);
                }
                stream::submit(stream, Arc::new(move || point.wait()))?;
                Ok(())
            }
        }
    }

    /// What `cuEventQuery` says.
    pub(crate) fn query(&self) -> Result<(), Code> {
        match self.outside_of_captures()? {
            Some(point) if !point.is_over() => Err(Code::NOT_READY),
            _ => Ok(()),
        }
    }

    /// Waits for it.
    pub(crate) fn wait(&self) -> Result<(), Code> {
        if let Some(point) = self.outside_of_captures()? {
            point.wait();
        }
        Ok(())
    }

    /// Milliseconds from this event to a later one.
    pub(crate) fn elapsed_ms(&self, later: &Self) -> Result<f32, Code> {
        if (self.flags | later.flags) & DISABLE_TIMING != 0 {
            return Err(Code::INVALID_HANDLE);
        }
        let when = |event: &Self| match &*lock(&event.last) {
            Last::Queued { reached, .. } => lock(reached).ok_or(Code::NOT_READY),
            _ => Err(Code::INVALID_HANDLE),
        };
        let (from, to) = (when(self)?, when(later)?);
        Ok(to.saturating_duration_since(from).as_secs_f32() * 1e3)
    }

    fn outside_of_captures(&self) -> Result<Option<Point>, Code> {
        capture::not_now()?;
        match &*lock(&self.last) {
            Last::Nothing => Ok(None),
            Last::Queued { point, .. } => Ok(Some(point.clone())),
            Last::Captured { capture, .. } => {
                capture.invalidate();
                Err(Code::CAPTURED_EVENT)
            }
        }
    }
}
