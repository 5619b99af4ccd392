//! A connection to the hub that has not said who it is.

use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;

use super::conn::Conn;
use super::conn::End;
use super::strays::looks_like;
use crate::wire::Peer;
use crate::wire::control::CONTROL_MAGIC;
use crate::wire::control::Message;

/// How long it has to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far it is.
pub(super) enum Step {
    /// Not all is here.
    Wait,
    /// It is no rank of ours.
    Close(String),
    /// It is a rank.
    Hello { token: [u8; 16], world_size: usize, peer: Box<Peer> },
}

/// The connection.
#[derive(Debug)]
pub(super) struct Greeting {
    conn: Conn,
    addr: IpAddr,
    since: Instant,
    magic: [u8; CONTROL_MAGIC.len()],
    have: usize,
}

impl Greeting {
    /// One that was just accepted.
    pub(super) fn new(conn: Conn, addr: IpAddr) -> Self {
        let magic = [0; CONTROL_MAGIC.len()];
        Self { conn, addr, since: Instant::now(), magic, have: 0 }
    }

    /// Where it comes from.
    pub(super) fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Whether it has taken too long.
    pub(super) fn is_late(&self) -> bool {
        self.since.elapsed() >= PATIENCE
    }

    /// What to wait for.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        self.conn.poll_fd()
    }

    /// The connection of a rank.
    pub(super) fn into_conn(self) -> Conn {
        self.conn
    }

    /// Reads what is here.
    pub(super) fn step(&mut self) -> Step {
        while self.have < self.magic.len() {
            let rest = self.magic.get_mut(self.have..).unwrap_or_default();
            match self.conn.read_into(rest) {
                Ok(0) => return Step::Wait,
                Ok(count) => self.have += count,
                Err(end) => return Step::Close(ended(&end)),
            }
            let first = self.magic.get(..self.have).unwrap_or_default();
            if let Some(what) = looks_like(first, &CONTROL_MAGIC) {
                return Step::Close(what.into());
            }
        }
        let read = self.conn.read();
        match (self.conn.next(), read) {
            (Ok(Some(Message::Hello { token, world_size, peer })), _) => {
                Step::Hello { token, world_size, peer }
            }
            (Ok(Some(_)), _) => Step::Close("its first message is no hello".into()),
            (Ok(None), Ok(())) => Step::Wait,
            (Ok(None), Err(end)) | (Err(end), _) => Step::Close(ended(&end)),
        }
    }
}

fn ended(end: &End) -> String {
    match end {
        End::Closed => "it closed before it said who it is".into(),
        End::Nonsense(what) => format!("it speaks no protocol of ours: {what}"),
        other => other.to_string(),
    }
}
