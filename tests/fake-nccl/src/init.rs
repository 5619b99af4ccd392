//! Making communicators: by a unique id, or out of a parent.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::comm::Comm;
use crate::cuda;
use crate::fail::Outcome;
use crate::fail::REMOTE;
use crate::fail::USAGE;
use crate::fail::fail;
use crate::frame;
use crate::frame::Head;
use crate::knobs;
use crate::mesh::Mesh;
use crate::mesh::Receiver;
use crate::rendezvous;
use crate::rendezvous::Card;
use crate::rendezvous::UniqueId;
use crate::version;

/// Joins the ranks of a unique id. Blocks until all have come.
pub(crate) fn by_id(comm: &Arc<Comm>, id: &UniqueId) -> Outcome {
    dawdle(comm)?;
    let (listener, name) = rendezvous::listen()?;
    let card = card_of(comm, name);
    let cards = rendezvous::through_root(id, &card, &|| comm.is_aborted())?;
    finish(comm, cards, &listener)
}

/// Joins those ranks of a parent whose cards are chosen, in that order.
pub(crate) fn by_cards(comm: &Arc<Comm>, cards: Vec<Card>, listener: &UnixListener) -> Outcome {
    dawdle(comm)?;
    finish(comm, cards, listener)
}

/// This rank's card.
pub(crate) fn card_of(comm: &Comm, listens_at: Vec<u8>) -> Card {
    Card {
        rank: comm.rank as u64,
        world_size: comm.world_size as u64,
        version: u64::try_from(version::code()).unwrap_or_default(),
        host: std::env::var("NCCL_HOSTID").unwrap_or_default().into_bytes(),
        pid: u64::from(std::process::id()),
        device: u64::try_from(comm.device).unwrap_or_default(),
        listens_at,
    }
}

/// Tells the given ranks of a communicator something, and gives what they tell, in their order.
pub(crate) fn talk(comm: &Comm, ranks: &[usize], words: &[u8]) -> Outcome<Vec<Vec<u8>>> {
    let mesh = comm.mesh()?;
    let seq = comm.next_talk(ranks);
    for to in ranks {
        mesh.send(*to, &Head { what: frame::TALK, seq, ..Head::default() }, words);
    }
    let mut heard = Vec::new();
    for from in ranks {
        match mesh.wait_talking(|inbox| inbox.talk.remove(&(seq, *from))) {
            Ok(words) => heard.push(words),
            Err(_) => return fail(REMOTE, "aborted while making a communicator"),
        }
    }
    Ok(heard)
}

/// Comes late, or never, as the knobs say.
fn dawdle(comm: &Comm) -> Outcome {
    const STEP: Duration = Duration::from_millis(10);
    let mut left = knobs::delay("init", comm.rank);
    let never = knobs::hangs("init", comm.rank);
    while never || !left.is_zero() {
        if comm.is_aborted() {
            return fail(REMOTE, "aborted while making a communicator");
        }
        thread::sleep(STEP.min(if never { STEP } else { left }));
        left = left.saturating_sub(STEP);
    }
    Ok(())
}

/// Checks the others, and connects to them.
fn finish(comm: &Arc<Comm>, cards: Vec<Card>, listener: &UnixListener) -> Outcome {
    for (rank, card) in cards.iter().enumerate() {
        let own = u64::try_from(version::code()).unwrap_or_default();
        if card.version != own {
            let text = format!(
                "Mismatched NCCL version detected : rank {} version {own} rank {rank} version {}",
                comm.rank, card.version
            );
            return fail(USAGE, text);
        }
    }
    one_rank_per_device(&cards)?;
    let sockets = rendezvous::connect_all(comm.rank, &cards, listener, &|| comm.is_aborted())?;
    let weak = Arc::downgrade(comm);
    let receiver: std::sync::Weak<dyn Receiver> = weak;
    let mesh = Mesh::start(comm.rank, sockets, receiver);
    comm.connect(cards, mesh);
    Ok(())
}

/// NCCL refuses two ranks on one device; since 2.30.3 it can be told not to.
fn one_rank_per_device(cards: &[Card]) -> Outcome {
    for (rank, card) in cards.iter().enumerate() {
        let same = |other: &Card| other.host == card.host && other.device == card.device;
        let Some(other) = cards.iter().take(rank).position(same) else { continue };
        if version::code() < 23003 {
            let text = format!(
                "Duplicate GPU detected : rank {rank} and rank {other} both on CUDA device {:x}",
                (0x17 + 4 * card.device) << 12
            );
            return fail(USAGE, text);
        }
        if !knobs::is_on("NCCL_MULTI_RANK_GPU_ENABLE") {
            return fail(
                USAGE,
                "Multiple Ranks are using the same GPU/Partition. Set \
                 NCCL_MULTI_RANK_GPU_ENABLE=1 to enable this",
            );
        }
    }
    Ok(())
}

/// The device that is current now, for a new communicator.
pub(crate) fn current_device() -> Outcome<i32> {
    let cuda = cuda::driver()?;
    if !cuda.has_context() {
        cuda.set_device(0)?;
    }
    Ok(cuda.current_device())
}
