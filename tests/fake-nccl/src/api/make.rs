//! Communicators out of communicators: split, shrink, grow.

#![expect(unsafe_code, reason = "exports NCCL's names")]

use std::sync::Arc;

use crate::codec::Reader;
use crate::codec::Writer;
use crate::comm;
use crate::comm::Comm;
use crate::comm::Phase;
use crate::config;
use crate::config::Config;
use crate::fail::ARGUMENT;
use crate::fail::Outcome;
use crate::fail::SYSTEM;
use crate::fail::fail;
use crate::fail::lock;
use crate::ffi::Out;
use crate::ffi::api;
use crate::group;
use crate::group::Making;
use crate::init;
use crate::rendezvous;
use crate::rendezvous::Card;
use crate::rendezvous::UniqueId;
use crate::watch;

/// `NCCL_SHRINK_ABORT`
const SHRINK_ABORT: i32 = 1;

api! {
    fn ncclCommSplit(comm: usize, color: i32, key: i32, new: Out<usize>, config: Out<u8>) {
        group::note(split(comm, color, key, new, config))
    }

    fn ncclCommShrink(comm: usize, excluded: Out<i32>, count: i32, new: Out<usize>, config: Out<u8>, flags: i32) {
        group::note(shrink(comm, excluded, count, new, config, flags))
    }

    fn ncclCommGetUniqueId(comm: usize, id: Out<UniqueId>) {
        comm::get_for(comm, "ncclCommGetUniqueId")?.usable("ncclCommGetUniqueId")?;
        id.set("CommGetUniqueId", rendezvous::unique_id()?)
    }

    fn ncclCommGrow(comm: usize, world_size: i32, id: Out<UniqueId>, rank: i32, new: Out<usize>, config: Out<u8>) {
        group::note(grow(comm, world_size, id, rank, new, config))
    }
}

/// A parent that may be used for making another one.
fn parent(handle: usize, function: &'static str, out: Out<usize>) -> Outcome<Arc<Comm>> {
    if handle == 0 {
        watch::violation(&format!("{function} with a NULL communicator, where NCCL crashes"));
    }
    let comm = comm::get_for(handle, function)?;
    if out.is_null() {
        return fail(ARGUMENT, format!("{function} : newcomm argument is NULL"));
    }
    Ok(comm)
}

/// The configuration of a child: the parent's, unless one is given.
fn config_of(parent: &Comm, config: Out<u8>) -> Outcome<Config> {
    if config.is_null() { Ok(parent.config.clone()) } else { config::read(config) }
}

fn split(handle: usize, color: i32, key: i32, out: Out<usize>, config: Out<u8>) -> Outcome {
    let function = "ncclCommSplit";
    let parent = parent(handle, function, out)?;
    let _inside = watch::inside(handle, function);
    // A revoked communicator may still be split.
    if parent.phase() != Phase::Revoked {
        parent.usable(function)?;
    }
    if color < -1 {
        return fail(ARGUMENT, format!("CommSplit : color {color} is negative"));
    }
    let config = config_of(&parent, config)?;
    let watched = Arc::clone(&parent);
    let work = move || {
        let (listener, name) = rendezvous::listen()?;
        let mut words = Writer::default();
        words.signed(i64::from(color)).signed(i64::from(key)).bytes(&name);
        let everyone: Vec<usize> = (0..parent.world_size).collect();
        let heard = init::talk(&parent, &everyone, &words.0)?;
        if color == -1 {
            return out.set(function, 0);
        }
        let Some(members) = members_of(i64::from(color), &heard) else {
            return fail(SYSTEM, "a broken message of a split");
        };
        let ranks: Vec<usize> = members.iter().map(|member| member.0).collect();
        let names = members.into_iter().map(|member| member.1).collect();
        build(&parent, &ranks, names, &listener, config, out)
    };
    group::make(Making { function, watched, new: None, out, work: Box::new(work) })
}

/// The ranks of a color and the names of their sockets, by key, then by rank.
fn members_of(color: i64, heard: &[Vec<u8>]) -> Option<Vec<(usize, Vec<u8>)>> {
    let mut members = Vec::new();
    for (rank, words) in heard.iter().enumerate() {
        let mut words = Reader(words);
        let (their_color, key, name) = (words.signed()?, words.signed()?, words.bytes()?);
        if their_color == color {
            members.push((key, rank, name.to_vec()));
        }
    }
    members.sort();
    Some(members.into_iter().map(|(_, rank, name)| (rank, name)).collect())
}

/// Makes a child of these ranks of the parent, in this order, and puts its handle into place.
fn build(
    parent: &Comm,
    ranks: &[usize],
    names: Vec<Vec<u8>>,
    listener: &std::os::unix::net::UnixListener,
    config: Config,
    out: Out<usize>,
) -> Outcome {
    let Some(own) = ranks.iter().position(|rank| *rank == parent.rank) else {
        return fail(ARGUMENT, "this rank is not a member");
    };
    let child = Comm::new(ranks.len(), own, parent.device, config);
    let parents: &[Card] = parent.cards.get().map_or(&[], Vec::as_slice);
    let card = |(at, (rank, name)): (usize, (&usize, Vec<u8>))| {
        let old = parents.get(*rank).cloned().unwrap_or_default();
        Card { rank: at as u64, world_size: ranks.len() as u64, listens_at: name, ..old }
    };
    let cards = ranks.iter().zip(names).enumerate().map(card).collect();
    match init::by_cards(&child, cards, listener) {
        Ok(()) => out.set("newcomm", child.handle),
        Err(fail) => {
            child.abort();
            comm::retire(child.handle, "its making failed");
            Err(fail)
        }
    }
}

fn shrink(
    handle: usize,
    excluded: Out<i32>,
    count: i32,
    out: Out<usize>,
    config: Out<u8>,
    flags: i32,
) -> Outcome {
    let function = "ncclCommShrink";
    let parent = parent(handle, function, out)?;
    let _inside = watch::inside(handle, function);
    let count = usize::try_from(count).unwrap_or(0);
    let mut gone: Vec<i32> = (0..count).filter_map(|at| excluded.at_if_any(at)).collect();
    gone.sort_unstable();
    // NCCL sorts the caller's list in place.
    for (at, rank) in gone.iter().enumerate() {
        excluded.at(at).set(function, *rank)?;
    }
    let ranks: Vec<usize> = (0..parent.world_size)
        .filter(|rank| !gone.iter().any(|gone| usize::try_from(*gone) == Ok(*rank)))
        .collect();
    if gone.is_empty() || gone.len() + ranks.len() != parent.world_size {
        return fail(ARGUMENT, "CommShrink : invalid list of excluded ranks");
    }
    if !ranks.contains(&parent.rank) {
        watch::violation("ncclCommShrink called by a rank that it excludes");
        return fail(ARGUMENT, "CommShrink : this rank is excluded");
    }
    if flags & SHRINK_ABORT == 0 {
        parent.usable(function)?;
    } else {
        // Errors of the parent do not matter: getting rid of them is what this is for. What was
        // under way ends.
        parent.stop_operations();
    }
    let config = config_of(&parent, config)?;
    let watched = Arc::clone(&parent);
    let work = move || {
        let (listener, name) = rendezvous::listen()?;
        let names = init::talk(&parent, &ranks, &name)?;
        build(&parent, &ranks, names, &listener, config, out)
    };
    group::make(Making { function, watched, new: None, out, work: Box::new(work) })
}

fn grow(
    handle: usize,
    world_size: i32,
    id: Out<UniqueId>,
    rank: i32,
    out: Out<usize>,
    config: Out<u8>,
) -> Outcome {
    let function = "ncclCommGrow";
    let world_size = usize::try_from(world_size).unwrap_or(0);
    if handle == 0 {
        let (Some(id), Ok(rank)) = (id.get(), usize::try_from(rank)) else {
            return fail(ARGUMENT, "CommGrow : a new rank needs a unique id and its rank");
        };
        if rank >= world_size {
            return fail(ARGUMENT, format!("CommGrow : rank {rank} of {world_size}"));
        }
        let config = config::read(config)?;
        let child = Comm::new(world_size, rank, init::current_device()?, config);
        if !child.config.blocking {
            out.set(function, child.handle)?;
        }
        let new = child.config.blocking.then(|| Arc::clone(&child));
        let own = Arc::clone(&child);
        let work = Box::new(move || init::by_id(&own, &id));
        return group::make(Making { function, watched: child, new, out, work });
    }
    let parent = parent(handle, function, out)?;
    let _inside = watch::inside(handle, function);
    parent.usable(function)?;
    if world_size <= parent.world_size || rank != -1 && usize::try_from(rank) != Ok(parent.rank) {
        return fail(ARGUMENT, format!("CommGrow : rank {rank} of {world_size}"));
    }
    let config = config_of(&parent, config)?;
    let own_id = id.get();
    let watched = Arc::clone(&parent);
    let work = move || {
        let everyone: Vec<usize> = (0..parent.world_size).collect();
        let words = own_id.map(|id| id.0.to_vec()).unwrap_or_default();
        let heard = init::talk(&parent, &everyone, &words)?;
        let mut ids = heard.iter().filter_map(|words| <[u8; 128]>::try_from(words.as_slice()).ok());
        let (Some(id), None) = (ids.next(), ids.next()) else {
            return fail(ARGUMENT, "CommGrow : one rank, and only one, passes the unique id");
        };
        let child = Comm::new(world_size, parent.rank, parent.device, config);
        init::by_id(&child, &UniqueId(id))?;
        out.set(function, child.handle)
    };
    group::make(Making { function, watched, new: None, out, work: Box::new(work) })
}

/// Whether a communicator still has ops of its own; NCCL wants them destroyed first.
pub(crate) fn has_own_ops(comm: &Comm) -> bool {
    !lock(&comm.own_ops).is_empty()
}
