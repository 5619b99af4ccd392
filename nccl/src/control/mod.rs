//! The control plane: who is there, who is gone, who failed.
//!
//! Every rank of a world keeps one connection to a hub in rank 0's process. Data never flows
//! here, so the hub hears of every death at once, whatever the data connections do, and tells
//! all. One thread per process and world serves it, together with the listeners where peers make
//! data connections. Calls of other threads never block on the network: they leave commands.

mod accept;
mod conn;
mod dial;
mod frames;
mod greet;
mod hub;
mod inbox;
mod join;
mod join_hub;
mod join_member;
mod peer;
mod port;
mod questions;
mod shared;
mod strays;
#[cfg(test)]
mod tests;
mod thread;
mod token;
#[cfg(target_os = "linux")]
mod unix;

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use dial::Undialed;
pub(crate) use inbox::Accepted;
pub(crate) use inbox::LinkKey;
pub(crate) use inbox::Stream;
pub(crate) use join::JoinConfig;
pub(crate) use shared::PeerState;

use crate::clock::Deadline;
use crate::error::Failure;
use crate::rank::Member;
use crate::trace::GroupState;
use crate::trace::Status;
use crate::trace::lock;
use crate::wire::Peer;
use crate::wire::control::ASK_RANKS;
use crate::wire::control::Message;
use shared::Command;
use shared::Shared;

/// How long closing may take in all.
const CLOSE: Duration = Duration::from_millis(200);

/// This rank's part of the control plane. Dropping it leaves the world in order.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Control {
    /// The records of all ranks, in order.
    pub(crate) fn peers(&self) -> &[Peer] {
        &self.shared.peers
    }

    /// This rank, of how many.
    pub(crate) fn member(&self) -> Member {
        self.shared.member
    }

    /// Adds a group, which from now on fails when one of its members is lost, or when another
    /// rank fails it. What is known against it already is applied at once.
    pub(crate) fn register(&self, group: Arc<GroupState>) {
        self.shared.register(group);
    }

    /// Forgets a group; its data connections that nobody has fetched are closed.
    pub(crate) fn unregister(&self, id: u64) {
        self.shared.unregister(id);
    }

    /// Fails a group here at once and on all other ranks soon; the first cause wins. Never blocks.
    pub(crate) fn fail(&self, id: u64, failure: &Failure) {
        if self.shared.fail(id, failure) {
            self.shared
                .command(Command::Send(Message::Fail { group: id, failure: failure.clone() }));
        }
    }

    /// What every member of a group is doing, by group rank; none for who has not answered by the
    /// timeout or cannot. The control threads answer, also for ranks that are stuck.
    pub(crate) fn ask(&self, id: u64, timeout: Duration) -> Vec<Option<Status>> {
        let deadline = Deadline::after(timeout);
        let Some(group) = self.shared.group(id) else { return Vec::new() };
        let me = self.shared.member.rank;
        let settled: Vec<bool> = group
            .members
            .iter()
            .map(|rank| *rank == me || self.shared.peer_state(*rank) != PeerState::Alive)
            .collect();
        let open = group.members.iter().zip(&settled).filter(|(_, settled)| !**settled);
        let others: Vec<usize> = open.map(|(rank, _)| *rank).collect();
        let question = self.shared.questions.begin(group.members.clone(), settled);
        for members in others.chunks(ASK_RANKS) {
            let members = members.to_vec();
            self.shared.command(Command::Send(Message::Ask { question, group: id, members }));
        }
        let mut answers = self.shared.questions.finish(question, &deadline);
        if let Some(own) = answers.get_mut(group.rank) {
            *own = Some(group.status());
        }
        answers
    }

    /// Fetches a data connection that a peer has made, if it is here.
    pub(crate) fn take(&self, key: &LinkKey) -> Option<Accepted> {
        self.shared.inbox.take(key)
    }

    /// Why no data connection comes in, if the system has accepted none for `grace`.
    pub(crate) fn refused_for(&self, grace: Duration) -> Option<Arc<io::Error>> {
        self.shared.inbox.refused_for(grace)
    }

    /// Fetches a data connection, waiting for it at most `timeout`.
    #[cfg(test)]
    pub(crate) fn wait_for(&self, key: &LinkKey, timeout: Duration) -> Option<Accepted> {
        self.shared.inbox.wait_for(key, timeout)
    }

    /// Tells the others that this rank leaves a group in order.
    pub(crate) fn leave(&self, group: u64) {
        let rank = self.shared.member.rank;
        self.shared.command(Command::Send(Message::Left { rank, group: Some(group) }));
    }

    /// Whether a rank of a registered group has left it, or the world, in order.
    pub(crate) fn left(&self, group: u64, group_rank: usize) -> bool {
        self.shared.left(group, group_rank)
    }

    /// Whether a rank of the world is still there.
    pub(crate) fn peer_state(&self, world_rank: usize) -> PeerState {
        self.shared.peer_state(world_rank)
    }

    /// Leaves the world in order and closes everything; takes 200 ms at most.
    pub(crate) fn close(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        self.shared.command(Command::Close);
        if self.shared.wait_for_end(CLOSE) {
            drop(thread.join());
        }
    }

    /// Ends without a word, as a killed process does.
    #[cfg(test)]
    fn vanish(&self) {
        self.shared.command(Command::Vanish);
        assert!(self.shared.wait_for_end(Duration::from_secs(5)));
    }

    /// Says nothing more, as a stopped process does.
    #[cfg(test)]
    fn mute(&self) {
        self.shared.command(Command::Mute);
        while !self.shared.muted.load(std::sync::atomic::Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close();
    }
}
