//! The control thread: one per process and world, which serves everything by poll.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;

use super::accept::Acceptor;
use super::accept::Door;
use super::conn;
use super::conn::Conn;
use super::conn::End;
use super::hub::Hub;
use super::hub::Pulse;
use super::shared::Command;
use super::shared::PeerState;
use super::shared::Shared;
use crate::clock::Deadline;
use crate::wire::control::Message;

/// How often groups are looked at.
const SAMPLE: Duration = Duration::from_secs(1);
/// How long goodbyes may take.
const GOODBYE: Duration = Duration::from_millis(150);

/// The way to the others.
#[derive(Debug)]
pub(super) enum Role {
    /// The hub itself, on rank 0.
    Hub(Box<Hub>),
    /// A connection to the hub, on all others.
    Link(Box<Conn>),
    /// There is no hub any more.
    Alone,
}

/// Whether the thread goes on.
enum Next {
    Go,
    Close,
    #[cfg(test)]
    Vanish,
}

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) role: Role,
    pub(super) mesh: Acceptor,
    pub(super) wake: UnixStream,
    pub(super) pulse: Pulse,
    ticked: Instant,
    sampled: Instant,
    muted: bool,
}

impl Thread {
    /// The thread of a rank that has just joined.
    pub(super) fn new(
        shared: Arc<Shared>,
        role: Role,
        mesh: Acceptor,
        wake: UnixStream,
        pulse: Pulse,
    ) -> Self {
        let now = Instant::now();
        Self { shared, role, mesh, wake, pulse, ticked: now, sampled: now, muted: false }
    }

    /// Runs until a command ends it.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // The hub may have lost somebody, or have heard something, between its start and now.
        self.hear_hub();
        loop {
            self.turn();
            match self.obey() {
                Next::Go => self.tick(),
                Next::Close => {
                    self.goodbye();
                    break;
                }
                #[cfg(test)]
                Next::Vanish => break,
            }
        }
        drop(self);
        shared.end();
    }

    /// Waits for something to do and does it.
    fn turn(&mut self) {
        let mut set = vec![PollFd::new(&self.wake, PollFlags::IN)];
        match &self.role {
            Role::Hub(hub) => hub.poll_fds(&mut set),
            Role::Link(conn) => set.push(conn.poll_fd()),
            Role::Alone => {}
        }
        let mesh_at = set.len();
        self.mesh.poll_fds(&mut set);
        let flags = conn::wait(&mut set, self.due());
        drop(set);

        let mut wake = [0; 64];
        while self.wake.read(&mut wake).is_ok_and(|count| count == wake.len()) {}
        match &mut self.role {
            Role::Hub(hub) => {
                hub.ready(flags.get(1..mesh_at).unwrap_or_default());
                self.hear_hub();
            }
            Role::Link(_) => {
                if flags.get(1).is_some_and(|flags| !flags.is_empty()) {
                    self.read_link();
                }
            }
            Role::Alone => {}
        }
        let Shared { member, token, inbox, .. } = &*self.shared;
        let door = Door { token, me: member.rank, world_size: member.world_size, inbox };
        self.mesh.ready(flags.get(mesh_at..).unwrap_or_default(), &door);
    }

    /// How long until something is due.
    fn due(&self) -> Duration {
        let pulse = match &self.role {
            Role::Hub(hub) => hub.due(),
            Role::Link(_) => self.pulse.beat.saturating_sub(self.ticked.elapsed()),
            Role::Alone => SAMPLE,
        };
        let sample = SAMPLE.saturating_sub(self.sampled.elapsed());
        let due = pulse.min(sample).min(self.mesh.due().unwrap_or(SAMPLE));
        if self.muted { SAMPLE.min(self.pulse.beat) } else { due }
    }

    /// Carries out commands.
    fn obey(&mut self) -> Next {
        for command in self.shared.commands() {
            match command {
                Command::Send(message) => self.send(message),
                Command::Close => return Next::Close,
                #[cfg(test)]
                Command::Vanish => return Next::Vanish,
                #[cfg(test)]
                Command::Mute => {
                    self.muted = true;
                    self.shared.muted.store(true, std::sync::atomic::Ordering::Release);
                    if let Role::Hub(hub) = &mut self.role {
                        hub.mute();
                    }
                }
            }
        }
        Next::Go
    }

    fn send(&mut self, message: Message) {
        let sent = match &mut self.role {
            Role::Hub(hub) => {
                hub.handle(0, message);
                hub.settle();
                return self.hear_hub();
            }
            Role::Link(conn) => conn.send(&message),
            Role::Alone => return,
        };
        if let Err(end) = sent {
            self.lose_link(&end);
        }
    }

    /// Does what the clock asks for.
    fn tick(&mut self) {
        if self.sampled.elapsed() >= SAMPLE {
            self.sampled = Instant::now();
            self.shared.sample();
        }
        match &mut self.role {
            Role::Hub(hub) => {
                hub.tick();
                self.hear_hub();
            }
            Role::Link(conn) => {
                let passed = self.ticked.elapsed();
                if passed < self.pulse.beat || self.muted {
                    return;
                }
                self.ticked = Instant::now();
                conn.excuse(passed.saturating_sub(self.pulse.beat * 3));
                let silent = conn.silent();
                if silent >= self.pulse.timeout {
                    let why = Pulse::why(silent);
                    // It may only have been stopped: then it learns that it is out.
                    drop(conn.send(&Message::Lost { rank: 0, why: why.clone() }));
                    self.lose_link(&End::Silent(why));
                } else if let Err(end) = conn.send(&Message::Heartbeat) {
                    self.lose_link(&end);
                }
            }
            Role::Alone => {}
        }
    }

    /// Takes what the hub of this process has for rank 0.
    fn hear_hub(&mut self) {
        let Role::Hub(hub) = &mut self.role else { return };
        loop {
            let messages = hub.take_local();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                if let Some(answer) = self.shared.apply(message) {
                    hub.handle(0, answer);
                }
            }
            hub.settle();
        }
        if self.shared.peer_state(0) != PeerState::Alive {
            hub.flush(&Deadline::after(GOODBYE));
            self.role = Role::Alone;
            self.shared.questions.close();
        }
    }

    /// Takes what the hub has sent; what it sent before it ended counts.
    fn read_link(&mut self) {
        let Role::Link(conn) = &mut self.role else { return };
        let (flushed, read) = (conn.flush(), conn.read());
        let mut end = flushed.and(read).err();
        loop {
            match conn.next() {
                Ok(Some(message)) => {
                    if let Some(answer) = self.shared.apply(message)
                        && !self.muted
                        && let Err(error) = conn.send(&answer)
                    {
                        end.get_or_insert(error);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    end = Some(error);
                    break;
                }
            }
        }
        let gone = self.shared.peer_state(0) != PeerState::Alive
            || self.shared.peer_state(self.shared.member.rank) != PeerState::Alive;
        if gone || end.is_some() {
            self.lose_link(&end.unwrap_or(End::Closed));
        }
    }

    /// There is no way to the hub any more.
    fn lose_link(&mut self, end: &End) {
        self.role = Role::Alone;
        let me = self.shared.member.rank;
        if self.shared.peer_state(me) != PeerState::Alive {
            // The hub has put this rank out; all its groups have failed.
        } else if self.shared.peer_state(0) == PeerState::Left {
            log::info!(target: "nccl::control",
                "rank {me}: rank 0 has left; deaths show only on data connections from now on");
        } else {
            self.shared.lost(0, &end.to_string());
        }
        self.shared.questions.close();
    }

    /// Leaves in order, and gives the others a moment to hear it.
    fn goodbye(&mut self) {
        let deadline = Deadline::after(GOODBYE);
        match &mut self.role {
            Role::Hub(hub) => hub.close(&deadline),
            Role::Link(conn) => {
                let rank = self.shared.member.rank;
                if conn.send(&Message::Left { rank, group: None }).is_err() {
                    return;
                }
                while !conn.is_flushed() && !deadline.passed() {
                    conn::wait(&mut [conn.poll_out()], deadline.left());
                    if conn.flush().is_err() {
                        return;
                    }
                }
                // Closing with bytes unread would reset the connection and lose the goodbye.
                conn.finish();
                while !conn.drain() && !deadline.passed() {
                    conn::wait(&mut [conn.poll_fd()], deadline.left());
                }
            }
            Role::Alone => {}
        }
    }
}
