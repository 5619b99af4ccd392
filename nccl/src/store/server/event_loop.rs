//! The one thread of a server: waits for its sockets and gives each client its turn.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use crate::net::Interest;
use crate::net::Poller;
use crate::net::Ready;
use crate::store::server::ServerLimits;
use crate::store::server::conn::Conn;
use crate::store::server::conn::End;
use crate::store::server::conn::is_again;
use crate::store::server::engine::Engine;
use crate::store::server::stranger::StrangerLog;

const LISTENER: u64 = 0;
const ENDER: u64 = 1;
const FIRST_CONN: u64 = 2;

const READ: Interest = Interest { read: true, write: false };

/// Bytes that one connection may send between two looks at the others.
const BYTES_PER_TURN: usize = 64 * 1024;
/// Connections that are taken between two looks at the others.
const ACCEPTS_PER_TURN: usize = 64;
/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(100);
/// How long no connection is taken after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the unfinished request of each connection may take whatever the others take.
const FREE_REQUEST_BYTES: usize = 64 * 1024;

/// The state of the thread.
#[derive(Debug)]
pub(super) struct EventLoop {
    listener: TcpListener,
    port: u16,
    /// Kept open for the poller: readable once the server ends.
    _ender: UnixStream,
    limits: ServerLimits,
    poller: Poller,
    engine: Engine,
    conns: HashMap<u64, Conn>,
    next_token: u64,
    /// Connections that can go on without a further byte.
    again: Vec<u64>,
    /// What requests and answers of all connections take.
    held_bytes: usize,
    scratch: Vec<u8>,
    next_sweep: Instant,
    timed: bool,
    paused_until: Option<Instant>,
    /// Closed to take and refuse a connection when there are no descriptors left.
    reserve: Option<File>,
    strangers: StrangerLog,
}

impl EventLoop {
    /// A loop over a listener that does not block.
    pub(super) fn new(
        listener: TcpListener,
        port: u16,
        ender: UnixStream,
        limits: ServerLimits,
    ) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.add(&listener, LISTENER, READ)?;
        poller.add(&ender, ENDER, READ)?;
        Ok(Self {
            listener,
            port,
            _ender: ender,
            limits,
            poller,
            engine: Engine::new(limits.max_bytes, limits.max_answer_bytes),
            conns: HashMap::new(),
            next_token: FIRST_CONN,
            again: Vec::new(),
            held_bytes: 0,
            scratch: vec![0; BYTES_PER_TURN],
            next_sweep: Instant::now(),
            timed: false,
            paused_until: None,
            reserve: File::open("/dev/null").ok(),
            strangers: StrangerLog::default(),
        })
    }

    /// Serves until the server ends.
    pub(super) fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            if let Err(error) = self.poller.wait(&mut ready, self.patience()) {
                log::error!("store on port {}: ends: cannot wait for clients: {error}", self.port);
                return;
            }
            if ready.iter().any(|one| one.token == ENDER) {
                return;
            }
            for token in std::mem::take(&mut self.again) {
                self.turn(token, false);
            }
            for one in &ready {
                match one.token {
                    LISTENER => self.accept(),
                    token => self.ready(token, one),
                }
            }
            self.sweep(Instant::now());
        }
    }

    /// How long the poller may wait.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        (self.timed || self.paused_until.is_some()).then_some(SWEEP)
    }

    fn ready(&mut self, token: u64, one: &Ready) {
        self.turn(token, one.read || one.hangup);
        if one.hangup && self.conns.get(&token).is_some_and(|conn| !conn.wanted().read) {
            // Reported without end while nothing of it is read.
            self.close(token, &End::Gone);
        }
    }

    fn turn(&mut self, token: u64, readable: bool) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        let done = conn.turn(&mut self.engine, &mut self.scratch, readable);
        conn.recount(&mut self.held_bytes);
        self.timed |= conn.is_timed();
        match done {
            Err(end) => self.close(token, &end),
            Ok(_) if self.is_too_much(token) => {
                let limit = self.limits.max_bytes;
                let text = format!("unfinished requests of all clients exceed {limit} bytes");
                self.close(token, &End::Fault(text));
            }
            Ok(more) => {
                if more {
                    self.again.push(token);
                }
                self.watch(token);
            }
        }
        self.deliver();
    }

    /// Whether the connection's unfinished request is one too many.
    fn is_too_much(&self, token: u64) -> bool {
        self.held_bytes > self.limits.max_bytes
            && self.conns.get(&token).is_some_and(|conn| conn.request_bytes() > FREE_REQUEST_BYTES)
    }

    /// Tells those whose wait is over.
    fn deliver(&mut self) {
        loop {
            // Closing one can wake another.
            let woken = self.engine.take_woken();
            if woken.is_empty() {
                return;
            }
            for token in woken {
                let Some(conn) = self.conns.get_mut(&token) else { continue };
                let told = conn.stop_waiting();
                conn.recount(&mut self.held_bytes);
                match told {
                    Ok(()) => {
                        self.timed |= conn.is_timed();
                        self.watch(token);
                    }
                    Err(end) => self.close(token, &end),
                }
            }
        }
    }

    /// Tells the poller what the connection waits for, if that has changed.
    fn watch(&mut self, token: u64) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        let wanted = conn.wanted();
        if wanted == conn.interest {
            return;
        }
        conn.interest = wanted;
        if let Err(error) = self.poller.modify(conn.stream(), token, wanted) {
            self.close(token, &End::Fault(format!("it cannot be watched: {error}")));
        }
    }

    fn close(&mut self, token: u64, end: &End) {
        let Some(conn) = self.conns.remove(&token) else { return };
        self.held_bytes = self.held_bytes.saturating_sub(conn.counted_bytes);
        self.poller.remove(conn.stream(), token);
        self.engine.forget(token);
        if let End::Fault(text) = end {
            self.strangers.warn(self.port, conn.peer, text);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_again(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.refuse_one(&error);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        // Without this an answer can wait for an acknowledgement; it is no reason to refuse.
        let _ = stream.set_nodelay(true);
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1).max(FIRST_CONN);
        let added =
            stream.set_nonblocking(true).and_then(|()| self.poller.add(&stream, token, READ));
        match added {
            Ok(()) => {
                self.conns.insert(token, Conn::new(stream, peer, token));
                self.timed = true;
            }
            Err(error) => log::warn!("store on port {}: cannot watch {peer}: {error}", self.port),
        }
    }

    /// Takes one connection with the reserved descriptor and closes it, so that its client knows;
    /// then takes none for a moment.
    fn refuse_one(&mut self, error: &io::Error) {
        if self.paused_until.is_none() {
            log::warn!(
                "store on port {}: cannot take a connection ({error}) with {} clients: raise `ulimit -n`; \
                 new clients have to try again",
                self.port,
                self.conns.len()
            );
        }
        self.reserve = None;
        drop(self.listener.accept());
        self.reserve = File::open("/dev/null").ok();
        self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
        self.poller.remove(&self.listener, LISTENER);
    }

    /// Looks at all deadlines, now and then.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP;
        if self.paused_until.is_some_and(|until| now >= until)
            && self.poller.add(&self.listener, LISTENER, READ).is_ok()
        {
            self.paused_until = None;
        }
        if !self.timed {
            return;
        }
        self.timed = false;
        let mut overdue = Vec::new();
        for (token, conn) in &self.conns {
            self.timed |= conn.is_timed();
            if let Err(end) = conn.overdue(&self.limits, now) {
                overdue.push((*token, end));
            }
        }
        for (token, end) in overdue {
            self.close(token, &end);
        }
        self.deliver();
    }
}
