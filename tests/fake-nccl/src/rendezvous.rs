//! How the ranks of a communicator find each other: a root thread behind the unique id, or the
//! connections of a parent communicator; then a socket between each two.

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;

use crate::codec::Reader;
use crate::codec::Writer;
use crate::fail::Outcome;
use crate::fail::REMOTE;
use crate::fail::SYSTEM;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::frame;
use crate::frame::Head;

/// `ncclUniqueId`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct UniqueId(pub(crate) [u8; 128]);

/// Where NCCL has the root's socket address; the name of the root's socket follows it here.
const NAME_AT: usize = 40;

/// How long a wait goes without a look at whether it has been aborted.
const LOOK: Duration = Duration::from_millis(20);

/// What a rank says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Card {
    pub(crate) rank: u64,
    pub(crate) world_size: u64,
    pub(crate) version: u64,
    pub(crate) host: Vec<u8>,
    pub(crate) pid: u64,
    pub(crate) device: u64,
    /// The name of the socket where it listens.
    pub(crate) listens_at: Vec<u8>,
}

impl Card {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = Writer::default();
        text.number(self.rank).number(self.world_size).number(self.version);
        text.bytes(&self.host).number(self.pid).number(self.device).bytes(&self.listens_at);
        text.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut text = Reader(bytes);
        Some(Self {
            rank: text.number()?,
            world_size: text.number()?,
            version: text.number()?,
            host: text.bytes()?.to_vec(),
            pid: text.number()?,
            device: text.number()?,
            listens_at: text.bytes()?.to_vec(),
        })
    }
}

/// A listening socket with a name that nobody else has.
pub(crate) fn listen() -> Outcome<(UnixListener, Vec<u8>)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("fake-nccl-{}-{number}-{now:x}", std::process::id()).into_bytes();
    let bound = SocketAddr::from_abstract_name(&name).and_then(|at| UnixListener::bind_addr(&at));
    match bound {
        Ok(listener) => Ok((listener, name)),
        Err(error) => fail(SYSTEM, format!("Call to bind failed : {error}")),
    }
}

/// Makes a unique id, and a thread that serves it once.
pub(crate) fn unique_id() -> Outcome<UniqueId> {
    let (listener, name) = listen()?;
    let serve = move || {
        let _ = serve_root(&listener);
    };
    if thread::Builder::new().name("fake-nccl-root".to_owned()).spawn(serve).is_err() {
        return fail(SYSTEM, "no thread for the root");
    }
    let mut id = [0; 128];
    let magic = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    id[..8].copy_from_slice(&magic.to_le_bytes());
    // AF_INET, a port, 127.0.0.1: as NCCL's ids look. Nobody listens there.
    id[8..16].copy_from_slice(&[2, 0, 0xff, 0xff, 127, 0, 0, 1]);
    id[NAME_AT..NAME_AT + name.len()].copy_from_slice(&name);
    Ok(UniqueId(id))
}

/// Tells the root who this rank is, and gives the cards of all, in rank order.
pub(crate) fn through_root(
    id: &UniqueId,
    card: &Card,
    is_aborted: &dyn Fn() -> bool,
) -> Outcome<Vec<Card>> {
    let name = id.0[NAME_AT..].split(|byte| *byte == 0).next().unwrap_or_default();
    let socket = connect(name).or_else(|error| {
        fail(REMOTE, format!("the root of the unique id is gone, or served already: {error}"))
    })?;
    let io = |error: io::Error| fail(REMOTE, format!("the root of the unique id is gone: {error}"));
    if let Err(error) = write_block(&socket, &card.to_bytes()) {
        return io(error);
    }
    let _ = socket.set_read_timeout(Some(LOOK));
    let bytes = match read_patiently(&socket, is_aborted) {
        Ok(bytes) => bytes,
        Err(error) => return io(error),
    };
    let mut text = Reader(&bytes);
    let mut cards = Vec::new();
    while let Some(card) = text.bytes() {
        cards.extend(Card::from_bytes(card));
    }
    if cards.len() as u64 != card.world_size {
        return fail(USAGE, String::from_utf8_lossy(&bytes[8.min(bytes.len())..]).into_owned());
    }
    Ok(cards)
}

/// Connects this rank with all others of the list.
pub(crate) fn connect_all(
    rank: usize,
    cards: &[Card],
    listener: &UnixListener,
    is_aborted: &dyn Fn() -> bool,
) -> Outcome<BTreeMap<usize, UnixStream>> {
    let mut sockets = BTreeMap::new();
    let broken = |error: &io::Error| format!("Call to connect failed : {error}");
    for (peer, card) in cards.iter().enumerate().take(rank) {
        let hello = Head { what: frame::HELLO, seq: rank as u64, ..Head::default() };
        let socket = connect(&card.listens_at)
            .and_then(|socket| frame::write(&socket, &hello, &[]).map(|()| socket));
        match socket {
            Ok(socket) => sockets.insert(peer, socket),
            Err(error) => return fail(REMOTE, broken(&error)),
        };
    }
    let _ = listener.set_nonblocking(true);
    while sockets.len() + 1 < cards.len() {
        match listener.accept() {
            Ok((socket, _)) => {
                let _ = socket.set_nonblocking(false);
                match frame::read(&socket) {
                    Ok((hello, _)) => {
                        let peer = usize::try_from(hello.seq).unwrap_or(usize::MAX);
                        sockets.insert(peer, socket);
                    }
                    Err(error) => return fail(REMOTE, broken(&error)),
                }
            }
            Err(_) if is_aborted() => return fail(REMOTE, "aborted while connecting"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return fail(SYSTEM, broken(&error)),
        }
    }
    Ok(sockets)
}

/// Collects a card from each rank, and sends all to all.
fn serve_root(listener: &UnixListener) -> io::Result<()> {
    let mut ranks: BTreeMap<u64, (Card, UnixStream)> = BTreeMap::new();
    let mut wrong = None;
    let mut sockets = Vec::new();
    loop {
        let (socket, _) = listener.accept()?;
        let Some(card) = read_block(&socket).ok().and_then(|bytes| Card::from_bytes(&bytes)) else {
            continue;
        };
        let world_size = card.world_size;
        if let Some((other, _)) = ranks.values().next()
            && other.world_size != world_size
        {
            let text = format!(
                "Bootstrap Root : mismatch in rank count from procs {} : {world_size}",
                other.world_size
            );
            wrong = Some(text);
        }
        let rank = card.rank;
        if let Some((_, same)) = ranks.insert(rank, (card, socket)) {
            let text = format!(
                "Bootstrap Root : rank {rank} of {world_size} ranks has already checked in"
            );
            wrong = Some(text);
            sockets.push(same);
        }
        if wrong.is_some() || ranks.len() as u64 == world_size {
            break;
        }
    }
    let mut table = Writer::default();
    match wrong {
        // A text is no card, and so tells of the failure.
        Some(text) => _ = table.bytes(text.as_bytes()),
        None => ranks.values().for_each(|(card, _)| _ = table.bytes(&card.to_bytes())),
    }
    sockets.extend(ranks.into_values().map(|(_, socket)| socket));
    for socket in sockets {
        let _ = write_block(&socket, &table.0);
    }
    Ok(())
}

fn connect(name: &[u8]) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

fn write_block(mut to: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(bytes)
}

fn read_block(socket: &UnixStream) -> io::Result<Vec<u8>> {
    read_patiently(socket, &|| false)
}

/// Reads a block, however long it takes, unless the communicator is aborted meanwhile.
fn read_patiently(mut socket: &UnixStream, is_aborted: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
    let mut fill = |into: &mut [u8]| {
        let mut have = 0;
        while have < into.len() {
            match socket.read(&mut into[have..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if is_aborted() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let mut length = [0; 8];
    fill(&mut length)?;
    let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap_or_default()];
    fill(&mut bytes)?;
    Ok(bytes)
}
