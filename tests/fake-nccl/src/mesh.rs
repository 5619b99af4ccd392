//! The connections of a communicator: one socket to each other rank, a thread that reads it, and
//! what has arrived. Readers never stop reading, so a writer waits only for a stopped process.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fail::lock;
use crate::frame;
use crate::frame::Desc;
use crate::frame::Head;

/// A waiting operation ends because the communicator is aborted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aborted;

/// How a peer left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It destroyed or finalized its communicator.
    Orderly,
    /// Its connection broke.
    Lost,
}

/// A message with the description that its sender gave.
pub(crate) type Message = (Head, Vec<u8>);

/// What has arrived and was not taken yet, by sender.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) collectives: BTreeMap<(u64, usize), Message>,
    pub(crate) pairs: BTreeMap<usize, VecDeque<Message>>,
    pub(crate) acks: BTreeMap<usize, u64>,
    pub(crate) talk: BTreeMap<(u64, usize), Vec<u8>>,
    pub(crate) signals: BTreeMap<(usize, i32), u64>,
    pub(crate) gone: BTreeMap<usize, Gone>,
    /// What this rank itself called, by number, to compare late arrivals with.
    pub(crate) own: BTreeMap<u64, Desc>,
    aborted: bool,
    /// Operations of streams end; talk goes on.
    stopped: bool,
}

/// Applies what arrives without being waited for.
pub(crate) trait Receiver: Send + Sync {
    /// A put into a window of this rank.
    fn put(&self, from: usize, head: &Head, bytes: &[u8]);
    /// A peer's connection broke.
    fn lost(&self, peer: usize);
    /// The description of a peer's collective is another one.
    fn differs(&self, peer: usize, seq: u64, own: &Desc, other: &Desc);
}

/// The connections.
pub(crate) struct Mesh {
    pub(crate) rank: usize,
    links: BTreeMap<usize, Link>,
    inbox: Mutex<Inbox>,
    changed: Condvar,
    readers: Mutex<Vec<JoinHandle<()>>>,
    receiver: Weak<dyn Receiver>,
}

#[derive(Debug)]
struct Link {
    writing: Mutex<()>,
    socket: UnixStream,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mesh of rank {}", self.rank)
    }
}

impl Mesh {
    /// Takes over connected sockets, and reads them from now on.
    pub(crate) fn start(
        rank: usize,
        sockets: BTreeMap<usize, UnixStream>,
        receiver: Weak<dyn Receiver>,
    ) -> Arc<Self> {
        let link = |socket| Link { writing: Mutex::new(()), socket };
        let mesh = Arc::new(Self {
            rank,
            links: sockets.into_iter().map(|(peer, socket)| (peer, link(socket))).collect(),
            inbox: Mutex::default(),
            changed: Condvar::new(),
            readers: Mutex::default(),
            receiver,
        });
        for peer in mesh.links.keys().copied() {
            let reading = Arc::clone(&mesh);
            let thread = thread::Builder::new().name("fake-nccl-link".to_owned());
            match thread.stack_size(128 << 10).spawn(move || reading.read(peer)) {
                Ok(reader) => lock(&mesh.readers).push(reader),
                Err(_) => mesh.leave(peer, Gone::Lost),
            }
        }
        mesh
    }

    /// The other ranks.
    pub(crate) fn peers(&self) -> impl Iterator<Item = usize> {
        self.links.keys().copied()
    }

    /// Sends a message; to itself, it arrives at once.
    pub(crate) fn send(&self, to: usize, head: &Head, bytes: &[u8]) {
        match self.links.get(&to) {
            None => self.arrive(self.rank, *head, bytes.to_vec()),
            Some(link) => {
                let _turn = lock(&link.writing);
                // If it breaks, the reader hears of it.
                let _ = frame::write(&link.socket, head, bytes);
            }
        }
    }

    /// Waits until something is there, or until operations shall end.
    pub(crate) fn wait<T>(&self, found: impl FnMut(&mut Inbox) -> Option<T>) -> Result<T, Aborted> {
        self.wait_for(found, false)
    }

    /// Waits until something is there, or until the communicator is aborted.
    pub(crate) fn wait_talking<T>(
        &self,
        found: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Result<T, Aborted> {
        self.wait_for(found, true)
    }

    fn wait_for<T>(
        &self,
        mut found: impl FnMut(&mut Inbox) -> Option<T>,
        talking: bool,
    ) -> Result<T, Aborted> {
        let mut inbox = lock(&self.inbox);
        loop {
            if inbox.aborted || (inbox.stopped && !talking) {
                return Err(Aborted);
            }
            if let Some(found) = found(&mut inbox) {
                return Ok(found);
            }
            inbox = self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for ever, until abort.
    pub(crate) fn hang(&self) -> Aborted {
        self.wait(|_| None::<()>).err().unwrap_or(Aborted)
    }

    /// Waits for a time, or until abort.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Aborted> {
        let inbox = lock(&self.inbox);
        let goes_on = |inbox: &mut Inbox| !inbox.aborted && !inbox.stopped;
        let waiting = self.changed.wait_timeout_while(inbox, time, goes_on);
        let (mut inbox, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        if goes_on(&mut inbox) { Ok(()) } else { Err(Aborted) }
    }

    /// Looks at, or changes, what has arrived.
    pub(crate) fn with<T>(&self, body: impl FnOnce(&mut Inbox) -> T) -> T {
        let result = body(&mut lock(&self.inbox));
        self.changed.notify_all();
        result
    }

    /// Ends all waits. With it the connections break, without a goodbye.
    pub(crate) fn abort(&self) {
        self.with(|inbox| inbox.aborted = true);
        self.close();
    }

    /// Ends the operations of streams, now and for ever. The connections stay.
    pub(crate) fn stop(&self) {
        self.with(|inbox| inbox.stopped = true);
    }

    /// Says goodbye to all.
    pub(crate) fn goodbye(&self) {
        for peer in self.peers() {
            self.send(peer, &Head { what: frame::BYE, ..Head::default() }, &[]);
        }
    }

    /// Waits until all others have said goodbye, or are lost.
    pub(crate) fn wait_for_goodbyes(&self) -> Result<(), Aborted> {
        let peers: Vec<usize> = self.peers().collect();
        self.wait_talking(|inbox| {
            peers.iter().all(|peer| inbox.gone.contains_key(peer)).then_some(())
        })
    }

    /// Closes the connections, and ends the threads that read them.
    pub(crate) fn close(&self) {
        for link in self.links.values() {
            let _ = link.socket.shutdown(Shutdown::Both);
        }
        let readers = std::mem::take(&mut *lock(&self.readers));
        for reader in readers {
            if reader.thread().id() != thread::current().id() {
                let _ = reader.join();
            }
        }
    }

    fn read(&self, peer: usize) {
        let Some(link) = self.links.get(&peer) else { return };
        loop {
            match frame::read(&link.socket) {
                Ok((head, _)) if head.what == frame::BYE => return self.leave(peer, Gone::Orderly),
                Ok((head, bytes)) => self.arrive(peer, head, bytes),
                Err(_) => return self.leave(peer, Gone::Lost),
            }
        }
    }

    fn leave(&self, peer: usize, how: Gone) {
        let aborted = self.with(|inbox| {
            inbox.gone.insert(peer, how);
            inbox.aborted
        });
        if how == Gone::Lost
            && !aborted
            && let Some(receiver) = self.receiver.upgrade()
        {
            receiver.lost(peer);
        }
    }

    fn arrive(&self, from: usize, head: Head, bytes: Vec<u8>) {
        if head.what == frame::PUT {
            if let Some(receiver) = self.receiver.upgrade() {
                receiver.put(from, &head, &bytes);
            }
            let index = i32::try_from(head.desc.op).unwrap_or(0);
            self.with(|inbox| *inbox.signals.entry((from, index)).or_default() += 1);
            return;
        }
        let differing = self.with(|inbox| {
            let own = inbox.own.get(&head.seq).copied();
            let is_collective = head.what == frame::COLLECTIVE;
            match head.what {
                frame::COLLECTIVE => {
                    inbox.collectives.insert((head.seq, from), (head, bytes));
                }
                frame::PAIR => inbox.pairs.entry(from).or_default().push_back((head, bytes)),
                frame::ACK => *inbox.acks.entry(from).or_default() += 1,
                _ => {
                    inbox.talk.insert((head.seq, from), bytes);
                }
            }
            own.filter(|own| is_collective && *own != head.desc)
        });
        if let (Some(own), Some(receiver)) = (differing, self.receiver.upgrade()) {
            receiver.differs(from, head.seq, &own, &head.desc);
        }
    }
}
