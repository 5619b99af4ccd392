//! The connections of one client, shared by the threads that use it.
//!
//! All requests that read or change something go over one connection, the main one, so that every
//! thread sees what it wrote before: two connections have no common order. A thread that waits
//! keeps the main connection only until another thread wants it, then waits on one of its own.

use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::store::client::conn::Conn;

/// Connections besides the main one that are kept for the next waits.
const SPARES: usize = 4;

/// The connections.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    /// Written by a thread that wants the main connection while its holder waits.
    bell: UnixStream,
    ear: UnixStream,
}

#[derive(Debug)]
struct State {
    main: Option<Conn>,
    is_taken: bool,
    /// Whether the holder of the main connection waits and listens for the bell.
    is_parked: bool,
    wanting: usize,
    spares: Vec<Conn>,
}

impl Pool {
    /// A pool around its first connection.
    pub(super) fn new(main: Conn) -> Result<Self> {
        let failed = |error| Error::system("cannot make a pair of sockets for the store", error);
        let (bell, ear) = UnixStream::pair().map_err(failed)?;
        bell.set_nonblocking(true).map_err(failed)?;
        ear.set_nonblocking(true).map_err(failed)?;
        let state = State {
            main: Some(main),
            is_taken: false,
            is_parked: false,
            wanting: 0,
            spares: Vec::new(),
        };
        Ok(Self { state: Mutex::new(state), freed: Condvar::new(), bell, ear })
    }

    /// Takes the main connection; none if the deadline passed first.
    pub(super) fn lease(&self, deadline: &Deadline) -> Option<Lease<'_>> {
        let mut state = self.state();
        if state.is_taken {
            state.wanting += 1;
            while state.is_taken && !deadline.passed() {
                if state.is_parked {
                    // A full pipe is readable already.
                    let _ = (&self.bell).write(&[1]);
                }
                state = self
                    .freed
                    .wait_timeout(state, deadline.left())
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            state.wanting -= 1;
            if state.is_taken {
                return None;
            }
        }
        state.is_taken = true;
        let conn = state.main.take();
        Some(Lease { pool: self, conn })
    }

    /// Takes a connection that is not the main one, if one is left.
    pub(super) fn take_spare(&self) -> Option<Conn> {
        let mut state = self.state();
        while let Some(conn) = state.spares.pop() {
            if conn.is_quiet() {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection that is not the main one for later.
    pub(super) fn put_spare(&self, conn: Conn) {
        let mut state = self.state();
        if state.spares.len() < SPARES {
            state.spares.push(conn);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The main connection in the hands of one thread; goes back when dropped.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    /// The connection; none after it broke.
    pub(super) conn: Option<Conn>,
}

impl Lease<'_> {
    /// Begins to listen for others that want the connection; returns what becomes readable then,
    /// or none if somebody wants it already.
    pub(super) fn park(&self) -> Option<&UnixStream> {
        let mut drain = [0; 64];
        let mut state = self.pool.state();
        while matches!((&self.pool.ear).read(&mut drain), Ok(1..)) {}
        state.is_parked = state.wanting == 0;
        state.is_parked.then_some(&self.pool.ear)
    }

    /// Listens no longer.
    pub(super) fn unpark(&self) {
        self.pool.state().is_parked = false;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.main = self.conn.take();
        state.is_taken = false;
        state.is_parked = false;
        drop(state);
        self.pool.freed.notify_one();
    }
}
