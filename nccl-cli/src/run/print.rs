//! Writes to one stream of this process from a thread of its own.
//!
//! Whoever reads us may be slow or stopped. The threads that read the ranks then wait here (so
//! do the ranks, as with any pipe), but the supervisor never does: its notices are few, and
//! taken without limit.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Bytes that may wait before those who print have to.
const ROOM_BYTES: usize = 1 << 20;

/// One stream of this process.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    writing_since: Option<Instant>,
    broken: bool,
}

impl Printer {
    /// Starts the thread; `on_broken` is called once if nobody can read the stream any more.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(
        name: &str,
        to: impl Write + Send + 'static,
        on_broken: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            own.write_all_to(to);
            on_broken();
        })?;
        Ok(Self { shared })
    }

    /// Prints whole lines, waiting while too much is queued.
    pub(crate) fn lines(&self, bytes: Vec<u8>) {
        let mut state = self.shared.lock();
        while state.waiting_bytes > ROOM_BYTES && !state.broken {
            state = self.shared.wait(state);
        }
        state.push(bytes);
        self.shared.changed.notify_all();
    }

    /// Prints a notice of the launcher; never waits.
    pub(crate) fn notice(&self, text: &str) {
        let mut bytes = Vec::with_capacity(text.len() + 16);
        for line in text.lines() {
            bytes.extend_from_slice(b"nccl run: ");
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        self.raw_notice(bytes);
    }

    /// Prints bytes that are whole lines already; never waits.
    pub(crate) fn raw_notice(&self, bytes: Vec<u8>) {
        self.shared.lock().push(bytes);
        self.shared.changed.notify_all();
    }

    /// Whether one write has been going on for so long that the reader must be slow.
    pub(crate) fn is_stuck(&self) -> bool {
        const SLOW: Duration = Duration::from_millis(100);
        self.shared.lock().writing_since.is_some_and(|since| since.elapsed() > SLOW)
    }

    /// Waits until everything was written, for `at_most`; true if it was.
    pub(crate) fn flushed(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut state = self.shared.lock();
        while !state.is_idle() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    fn push(&mut self, bytes: Vec<u8>) {
        if !self.broken {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
    }

    fn is_idle(&self) -> bool {
        self.broken || (self.waiting.is_empty() && self.writing_since.is_none())
    }
}

impl Shared {
    /// Returns when the stream is broken.
    fn write_all_to(&self, mut to: impl Write) {
        let mut state = self.lock();
        loop {
            let Some(bytes) = state.waiting.pop_front() else {
                state = self.wait(state);
                continue;
            };
            state.waiting_bytes -= bytes.len();
            state.writing_since = Some(Instant::now());
            drop(state);
            let written = to.write_all(&bytes).and_then(|()| to.flush());
            state = self.lock();
            state.writing_since = None;
            if written.is_err() {
                state.broken = true;
                state.waiting.clear();
                state.waiting_bytes = 0;
            }
            self.changed.notify_all();
            if state.broken {
                return;
            }
        }
    }

    /// What a panicking thread left is still a queue of whole lines.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_notice_does_not_wait_for_a_reader_that_never_reads() {
        let (to_nobody, _kept) = mpsc::sync_channel::<()>(0);
        struct Never(mpsc::SyncSender<()>);
        impl Write for Never {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                self.0.send(()).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(1)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let printer = Printer::start("test", Never(to_nobody), || ()).unwrap();
        printer.lines(vec![b'x'; 10]);
        for _ in 0..1000 {
            printer.notice(&"y".repeat(10_000));
        }
        assert!(!printer.flushed(Duration::from_millis(150)));
        assert!(printer.is_stuck());
    }

    #[test]
    fn a_stream_that_nobody_reads_any_more_is_told_once_and_blocks_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (told, broken) = mpsc::channel();
        let printer = Printer::start("test", writer, move || told.send(()).unwrap()).unwrap();
        for _ in 0..10 {
            printer.lines(vec![b'x'; ROOM_BYTES]);
        }
        broken.recv_timeout(Duration::from_secs(2)).unwrap();
        assert!(printer.flushed(Duration::from_secs(2)));
        assert!(broken.recv().is_err());
    }
}
