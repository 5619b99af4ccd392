//! Where lines go, whatever state that is in.

use core::time::Duration;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Stdout;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;

/// How long a line waits for a pipe that nobody empties. Threads that must stay alive log, too.
const WAIT: Duration = Duration::from_millis(50);

/// After a line was lost for lack of room, others are tried without waiting for this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Where lines go.
pub(super) struct Sink {
    target: Target,
    state: Mutex<State>,
}

enum Target {
    Stdout(Stdout),
    File(File),
}

#[derive(Default)]
struct State {
    lost: u64,
    stuck_since: Option<Instant>,
}

impl Sink {
    /// Standard output, by its descriptor: a lock of the program's on `std::io::stdout` would stop
    /// our threads.
    pub(super) fn stdout() -> Self {
        Self { target: Target::Stdout(io::stdout()), state: Mutex::default() }
    }

    /// A file, emptied first, as NCCL does.
    ///
    /// # Errors
    /// When it cannot be opened; a named pipe that nobody reads cannot.
    pub(super) fn file(path: &str) -> io::Result<Self> {
        // Without NONBLOCK, opening a named pipe would wait for its reader.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        Ok(Self { target: Target::File(file), state: Mutex::default() })
    }

    /// Writes a line in one piece, or loses it.
    pub(super) fn write(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lost > 0 {
            let note = format!("(NCCL: {} log lines were lost here)\n", state.lost);
            if !self.put(note.as_bytes(), &mut state) {
                state.lost = state.lost.saturating_add(1);
                return;
            }
            state.lost = 0;
        }
        if !self.put(line.as_bytes(), &mut state) {
            state.lost = state.lost.saturating_add(1);
        }
    }

    fn put(&self, mut bytes: &[u8], state: &mut State) -> bool {
        let fd = match &self.target {
            Target::Stdout(stdout) => stdout.as_fd(),
            Target::File(file) => file.as_fd(),
        };
        let begun = Instant::now();
        while !bytes.is_empty() {
            let patient = state.stuck_since.is_none_or(|since| since.elapsed() > PAUSE);
            if !has_room(fd, if patient { WAIT } else { Duration::ZERO }) {
                state.stuck_since = Some(Instant::now());
                return false;
            }
            match rustix::io::write(fd, bytes) {
                Ok(0) => return false,
                Ok(written) => bytes = bytes.get(written..).unwrap_or(&[]),
                Err(Errno::INTR) => {}
                // `poll` promised room, but not enough for this line.
                Err(Errno::AGAIN) if begun.elapsed() < WAIT => {}
                Err(_) => return false,
            }
        }
        state.stuck_since = None;
        true
    }
}

/// Waits until a line fits into `fd`. Files always have room, as far as `poll` knows.
fn has_room(fd: BorrowedFd<'_>, wait: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let wait = Timespec::try_from(wait).ok();
    match rustix::event::poll(&mut fds, wait.as_ref()) {
        Ok(ready) => ready > 0,
        // Some kernels' seccomp filters know no poll: then the write itself has to tell.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let sink = Sink::file("/dev/full").unwrap();
        sink.write("one\n");
        sink.write("two\n");
        assert_eq!(sink.state.lock().unwrap().lost, 2);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert!(Sink::file("/no/such/folder/log").is_err());
    }

    #[test]
    fn a_pipe_without_a_reader_does_not_stop_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(Sink::file(path.to_str().unwrap()).is_err());
    }

    #[test]
    fn a_stuck_pipe_loses_lines_quickly_and_a_freed_one_tells_how_many() {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink {
            target: Target::File(File::from(OwnedFd::from(writer))),
            state: Mutex::default(),
        };
        let line = format!("{}\n", "x".repeat(4000));
        let begun = Instant::now();
        for _ in 0..100 {
            sink.write(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let lost = sink.state.lock().unwrap().lost;
        assert!((1..100).contains(&lost), "{lost}");
        let kept = 100 - usize::try_from(lost).unwrap();
        let mut reader = File::from(OwnedFd::from(reader));
        let mut drained = vec![0; kept * line.len()];
        reader.read_exact(&mut drained).unwrap();
        sink.write("again\n");
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("(NCCL: {lost} log lines were lost here)\nagain\n"));
    }

    #[test]
    fn a_closed_pipe_loses_lines() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = Sink {
            target: Target::File(File::from(OwnedFd::from(writer))),
            state: Mutex::default(),
        };
        sink.write("one\n");
        assert_eq!(sink.state.lock().unwrap().lost, 1);
    }
}
