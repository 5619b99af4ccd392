//! What the control thread and the calls of a rank share.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::inbox::Inbox;
use super::questions::Questions;
use crate::clock::Deadline;
use crate::error::Failure;
use crate::rank::Member;
use crate::trace::GroupState;
use crate::trace::lock;
use crate::wire::Peer;
use crate::wire::control::Doing;
use crate::wire::control::Message;

/// How many failures of groups that nobody has registered are remembered.
const EARLY_FAILURES: usize = 1024;
/// How many leavings of single groups are remembered.
const LEAVINGS: usize = 64 << 10;

/// Whether a rank of the world is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Nothing else is known.
    Alive,
    /// It left in order.
    Left,
    /// It is gone, silent, or unreachable; says how that showed.
    Lost(String),
}

/// What a call wants of the control thread.
#[derive(Debug)]
pub(super) enum Command {
    /// To send this to the hub.
    Send(Message),
    /// To say goodbye and end.
    Close,
    /// To end without a word, as a killed process does.
    #[cfg(test)]
    Vanish,
    /// To stay, but say nothing more, as a stopped process does.
    #[cfg(test)]
    Mute,
}

/// Commands under way; none are taken once the thread has ended.
#[derive(Debug, Default)]
struct Commands {
    queue: VecDeque<Command>,
    ended: bool,
}

/// What is known of groups and ranks.
#[derive(Debug)]
struct Book {
    groups: HashMap<u64, Arc<GroupState>>,
    early: VecDeque<(u64, Failure)>,
    states: Vec<PeerState>,
    left: HashSet<(u64, usize)>,
    left_order: VecDeque<(u64, usize)>,
}

/// Everything that both sides see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) member: Member,
    pub(super) peers: Vec<Peer>,
    pub(super) token: [u8; 16],
    pub(super) inbox: Inbox,
    pub(super) questions: Questions,
    book: Mutex<Book>,
    commands: Mutex<Commands>,
    ended: Condvar,
    #[cfg(test)]
    pub(super) muted: std::sync::atomic::AtomicBool,
    /// Wakes the thread; none in a world of one, which has no thread.
    wake: Option<UnixStream>,
}

impl Shared {
    /// The state of a rank that has just joined.
    pub(super) fn new(
        member: Member,
        peers: Vec<Peer>,
        token: [u8; 16],
        wake: Option<UnixStream>,
    ) -> Self {
        let states = vec![PeerState::Alive; member.world_size];
        let commands = Commands { ended: wake.is_none(), ..Commands::default() };
        Self {
            member,
            peers,
            token,
            inbox: Inbox::default(),
            questions: Questions::default(),
            book: Mutex::new(Book {
                groups: HashMap::new(),
                early: VecDeque::new(),
                states,
                left: HashSet::new(),
                left_order: VecDeque::new(),
            }),
            commands: Mutex::new(commands),
            ended: Condvar::new(),
            #[cfg(test)]
            muted: false.into(),
            wake,
        }
    }

    // ---- commands ----

    /// Hands a command to the thread; says whether there still is one.
    pub(super) fn command(&self, command: Command) -> bool {
        let mut commands = lock(&self.commands);
        if commands.ended {
            return false;
        }
        commands.queue.push_back(command);
        drop(commands);
        if let Some(mut wake) = self.wake.as_ref() {
            // Full means that the thread will wake anyway.
            drop(wake.write(&[0]));
        }
        true
    }

    /// The commands given since the last time.
    pub(super) fn commands(&self) -> VecDeque<Command> {
        std::mem::take(&mut lock(&self.commands).queue)
    }

    /// Notes that the thread has closed everything.
    pub(super) fn end(&self) {
        let mut commands = lock(&self.commands);
        commands.ended = true;
        commands.queue.clear();
        drop(commands);
        self.ended.notify_all();
        self.questions.close();
        self.inbox.clear();
    }

    /// Waits for [`Shared::end`], at most `timeout`; says whether it came.
    pub(super) fn wait_for_end(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        let mut commands = lock(&self.commands);
        while !commands.ended && !deadline.passed() {
            let woken = self.ended.wait_timeout(commands, deadline.left());
            commands = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        commands.ended
    }

    // ---- groups ----

    /// Adds a group; what is known against it already is applied.
    pub(super) fn register(&self, group: Arc<GroupState>) {
        let mut book = lock(&self.book);
        let early = book.early.iter().position(|(id, _)| *id == group.id);
        if let Some((_, failure)) = early.and_then(|at| book.early.remove(at)) {
            group.fail(failure);
        }
        for (world_rank, state) in book.states.iter().enumerate() {
            if let PeerState::Lost(why) = state {
                self.fail_for(&group, world_rank, why);
            }
        }
        book.groups.insert(group.id, group);
    }

    /// Forgets a group.
    pub(super) fn unregister(&self, id: u64) {
        let mut book = lock(&self.book);
        book.groups.remove(&id);
        book.left.retain(|(group, _)| *group != id);
        book.left_order.retain(|(group, _)| *group != id);
        drop(book);
        self.inbox.forget(id);
    }

    /// The group `id`, if it is registered.
    pub(super) fn group(&self, id: u64) -> Option<Arc<GroupState>> {
        lock(&self.book).groups.get(&id).cloned()
    }

    /// Fails a group here; a group not known yet fails when it is registered. Returns whether
    /// this is the group's cause, and not another that came before.
    pub(super) fn fail(&self, id: u64, failure: &Failure) -> bool {
        let mut book = lock(&self.book);
        if let Some(group) = book.groups.get(&id) {
            return group.fail(failure.clone()) || group.failure().as_ref() == Some(failure);
        }
        if book.early.iter().any(|(known, _)| *known == id) {
            return false;
        }
        if book.early.len() >= EARLY_FAILURES {
            book.early.pop_front();
        }
        book.early.push_back((id, failure.clone()));
        true
    }

    /// Looks at what every group does.
    pub(super) fn sample(&self) {
        lock(&self.book).groups.values().for_each(|group| group.sample());
    }

    // ---- ranks ----

    /// Whether a rank of the world is still there.
    pub(super) fn peer_state(&self, world_rank: usize) -> PeerState {
        let lost = || PeerState::Lost("is no rank of this world".into());
        lock(&self.book).states.get(world_rank).cloned().unwrap_or_else(lost)
    }

    /// Whether a rank of a group has left that group, or the world.
    pub(super) fn left(&self, id: u64, group_rank: usize) -> bool {
        let book = lock(&self.book);
        let world_rank = book.groups.get(&id).and_then(|group| group.members.get(group_rank));
        world_rank.is_some_and(|world_rank| {
            book.left.contains(&(id, *world_rank))
                || book.states.get(*world_rank) == Some(&PeerState::Left)
        })
    }

    /// Notes that a rank is lost and fails the groups it is in. A rank that left in order, or is
    /// known to be lost, stays what it is.
    pub(super) fn lost(&self, world_rank: usize, why: &str) {
        let mut book = lock(&self.book);
        match book.states.get_mut(world_rank) {
            Some(state) if *state == PeerState::Alive => *state = PeerState::Lost(why.to_owned()),
            _ => return,
        }
        for group in book.groups.values() {
            self.fail_for(group, world_rank, why);
        }
        drop(book);
        self.questions.answer_for(world_rank);
        if let Some(peer) = self.peers.get(world_rank) {
            let me = self.member.rank;
            let place = peer.place();
            log::warn!(target: "nccl::control", "rank {me}: rank {world_rank} ({place}) {why}");
        }
    }

    fn fail_for(&self, group: &GroupState, world_rank: usize, why: &str) {
        let rank = group.members.iter().position(|member| *member == world_rank);
        if let (Some(rank), Some(peer)) = (rank, self.peers.get(world_rank)) {
            let (host, pid) = (peer.host.clone(), peer.pid);
            group.fail(Failure::PeerLost { rank, host, pid, why: why.to_owned() });
        }
    }

    /// Notes that a rank left a group, or the world.
    fn note_left(&self, world_rank: usize, group: Option<u64>) {
        let mut book = lock(&self.book);
        let Some(state) = book.states.get_mut(world_rank) else { return };
        match group {
            None if *state == PeerState::Alive => *state = PeerState::Left,
            None => {}
            Some(id) => {
                if book.left.insert((id, world_rank)) {
                    book.left_order.push_back((id, world_rank));
                }
                if book.left_order.len() > LEAVINGS
                    && let Some(oldest) = book.left_order.pop_front()
                {
                    book.left.remove(&oldest);
                }
            }
        }
        drop(book);
        if group.is_none() {
            self.questions.answer_for(world_rank);
        }
    }

    /// Lets a message from the hub take effect; returns the answer to a question.
    pub(super) fn apply(&self, message: Message) -> Option<Message> {
        match message {
            Message::Lost { rank, why } => self.lost(rank, &why),
            Message::Left { rank, group } => self.note_left(rank, group),
            Message::Fail { group, failure } => {
                self.fail(group, &failure);
            }
            Message::Question { question, group, rank } => {
                let status = self.group(group).map(|group| group.status());
                let doing = status.map(|status| Doing {
                    desc: status.desc,
                    busy: status.busy,
                    since: status.since,
                });
                return Some(Message::Answer { question, rank, doing });
            }
            Message::Answer { question, rank, doing } => {
                self.questions.answer(question, rank, doing);
            }
            _ => {}
        }
        None
    }
}
