//! A store in a file that all ranks reach.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::net::Backoff;
use crate::store::file::log::CLOSED;
use crate::store::file::log::Log;
use crate::store::file::log::OPEN;
use crate::store::names;

mod calls;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod log;

/// How often the file is looked at while a key is missing, as torch does.
const POLL: Duration = Duration::from_millis(10);

/// How long closing may wait for the file's lock.
const FAREWELL: Duration = Duration::from_millis(200);

/// Longest value, as in the other stores.
const MAX_VALUE_BYTES: usize = 1 << 30;

/// A store in a file on a file system that all ranks share, in the format of
/// `torch.distributed.FileStore`: both kinds of ranks may meet in one file.
///
/// Every change is appended to the file under a lock (`flock`), and nothing is ever removed, so
/// use a new file for each job. A store that is made with [`FileStore::with_world_size`] is
/// removed by the last rank that closes it. Queues are an addition of ours that torch passes over.
///
/// ```
/// use std::time::Duration;
/// use nccl::store::{FileStore, Store};
///
/// let path = std::env::temp_dir().join(format!("store-{}", std::process::id()));
/// let store = FileStore::with_world_size(&path, 1, Duration::from_secs(5))?;
/// store.set("k", b"v")?;
/// assert_eq!(store.get("k")?, b"v");
/// drop(store);
/// assert!(!path.exists());
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    world_size: Option<usize>,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    /// Device and inode of the file: another file at the same path is another store.
    identity: Option<(u64, u64)>,
}

/// A locked file with the log up to date.
#[derive(Debug)]
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    /// The lock goes with it.
    file: File,
}

impl FileStore {
    /// Opens or makes the store at `path`; `timeout` bounds calls that are given none.
    ///
    /// # Errors
    /// When the file cannot be opened, read or locked, or is no store.
    pub fn new(path: impl AsRef<Path>, timeout: Duration) -> Result<Self> {
        Self::open(path.as_ref(), None, timeout)
    }

    /// As [`FileStore::new`]; the file is removed once `world_size` stores were closed.
    ///
    /// # Errors
    /// As [`FileStore::new`].
    pub fn with_world_size(
        path: impl AsRef<Path>,
        world_size: usize,
        timeout: Duration,
    ) -> Result<Self> {
        Self::open(path.as_ref(), Some(world_size), timeout)
    }

    fn open(path: &Path, world_size: Option<usize>, timeout: Duration) -> Result<Self> {
        let state = Mutex::new(State { log: Log::new(), identity: None });
        let store = Self { path: path.to_owned(), world_size, timeout, state };
        match store.count(OPEN, 1, &Deadline::after(timeout)) {
            Ok(_) => Ok(store),
            Err(error) => {
                // Its drop would count it as closed, though it was never open.
                store.forget();
                Err(error)
            }
        }
    }

    /// Lets the drop do nothing.
    fn forget(&self) {
        self.lock_state().identity = None;
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to one of the counters that are no keys.
    fn count(&self, name: &'static [u8], delta: i64, deadline: &Deadline) -> Result<i64> {
        let mut locked = self.locked("open", FlockOperation::NonBlockingLockExclusive, deadline)?;
        let number = locked.state.log.counter(name).saturating_add(delta);
        let mut record = Vec::new();
        log::put_raw(&mut record, name, number.to_string().as_bytes());
        self.write("open", &mut locked, &record)?;
        Ok(number)
    }

    /// Locks the file and reads what others have written.
    fn locked(
        &self,
        op: &'static str,
        how: FlockOperation,
        deadline: &Deadline,
    ) -> Result<Locked<'_>> {
        let state = self.lock_state();
        let failed = |error| self.failed(op, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(state.identity.is_none())
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| self.unopened(op, error, state.identity.is_some()))?;
        let mut backoff = Backoff::new(Duration::from_micros(200), POLL);
        loop {
            match rustix::fs::flock(&file, how) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            if deadline.passed() {
                return Err(self.timed_out(op, "the lock of the file", deadline));
            }
            thread::sleep(deadline.left_at_most(backoff.pause()));
        }
        let mut locked = Locked { state, file };
        let is_exclusive = how == FlockOperation::NonBlockingLockExclusive;
        self.refresh(op, &mut locked, is_exclusive)?;
        Ok(locked)
    }

    fn refresh(&self, op: &'static str, locked: &mut Locked<'_>, is_exclusive: bool) -> Result<()> {
        let failed = |error| self.failed(op, error);
        let about = locked.file.metadata().map_err(failed)?;
        let identity = (about.dev(), about.ino());
        let taken = locked.state.log.taken_bytes;
        if *locked.state.identity.get_or_insert(identity) != identity || about.len() < taken {
            return Err(self.lost(op, "the file was replaced or cut by somebody"));
        }
        if about.len() == taken {
            return Ok(());
        }
        let bytes = read_from(&locked.file, taken, about.len()).map_err(failed)?;
        locked.state.log.take(&bytes).map_err(|no_log| self.lost(op, &no_log.to_string()))?;
        if is_exclusive && locked.state.log.taken_bytes < about.len() {
            // Its writer was killed while it held the lock: nobody else writes now.
            ::log::warn!("{}: removes a record that was not written to its end", self.name());
            locked.file.set_len(locked.state.log.taken_bytes).map_err(failed)?;
        }
        Ok(())
    }

    /// Appends whole records, or nothing.
    fn write(&self, op: &'static str, locked: &mut Locked<'_>, records: &[u8]) -> Result<()> {
        let end = locked.state.log.taken_bytes;
        if let Err(error) = locked.file.write_all_at(records, end) {
            let _ = locked.file.set_len(end);
            return Err(self.failed(op, error));
        }
        locked.state.log.take(records).map_err(|no_log| self.lost(op, &no_log.to_string()))
    }

    /// Looks at the file until `found` finds something.
    fn poll<T>(
        &self,
        op: &'static str,
        deadline: &Deadline,
        mut found: impl FnMut(&State) -> Result<T, String>,
    ) -> Result<T> {
        loop {
            let locked = self.locked(op, FlockOperation::NonBlockingLockShared, deadline)?;
            let missing = match found(&locked.state) {
                Ok(value) => return Ok(value),
                Err(missing) => missing,
            };
            let seen = locked.state.log.taken_bytes;
            drop(locked);
            // The length alone says whether there is something new.
            loop {
                if deadline.passed() {
                    return Err(self.timed_out(op, &missing, deadline));
                }
                thread::sleep(deadline.left_at_most(POLL));
                let about = self.path.metadata().map_err(|error| self.unopened(op, error, true))?;
                if about.len() != seen {
                    break;
                }
            }
        }
    }

    fn name(&self) -> String {
        format!("file://{}", self.path.display())
    }

    fn failed(&self, op: &'static str, error: io::Error) -> Error {
        Error::system(format!("store {}: {op}", self.name()), error)
    }

    fn unopened(&self, op: &'static str, error: io::Error, was_there: bool) -> Error {
        if was_there && error.kind() == io::ErrorKind::NotFound {
            return self.lost(op, "the file was removed, by a rank that has finished or a person");
        }
        self.failed(op, error)
    }

    fn lost(&self, op: &'static str, why: &str) -> Error {
        Error::StoreLost { store: self.name(), op, why: why.to_owned() }
    }

    fn timed_out(&self, op: &'static str, keys: &str, deadline: &Deadline) -> Error {
        let (store, keys) = (self.name(), keys.to_owned());
        Error::StoreTimeout { store, op, keys, waited: deadline.waited() }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        let is_open = self.lock_state().identity.is_some();
        if !is_open || !self.path.exists() {
            return;
        }
        let deadline = Deadline::after(FAREWELL);
        let closed = self.count(CLOSED, 1, &deadline);
        let open = self.count(OPEN, -1, &deadline);
        if let (Ok(closed), Ok(0), Some(world_size)) = (closed, open, self.world_size)
            && usize::try_from(closed).is_ok_and(|closed| closed >= world_size)
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn read_from(file: &File, from: u64, until: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(until.saturating_sub(from))
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "the file is too long"))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// Keys that are missing, for a message.
fn missing_of(state: &State, keys: &[&str]) -> Result<(), String> {
    let missing: Vec<&str> =
        keys.iter().copied().filter(|key| !state.log.table.contains(key.as_bytes())).collect();
    if missing.is_empty() { Ok(()) } else { Err(names::list(&missing)) }
}
