//! Joining as a rank other than 0: find the hub, and wait until all have.

use std::io;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use super::conn;
use super::conn::Conn;
use super::join::Announcement;
use super::join::Joined;
use super::join::Joining;
use super::join::KEY;
use super::thread::Role;
use crate::clock::Deadline;
use crate::error::Error;
use crate::error::Result;
use crate::rank;
use crate::wire::control::CONTROL_MAGIC;
use crate::wire::control::FRAME_BYTES;
use crate::wire::control::Message;
use crate::wire::control::TABLE_BYTES;

/// How long an address, and a hub that was reached, may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long one look into the store may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long the hub may take to hear that this rank gives up.
const GOODBYE: Duration = Duration::from_millis(100);
/// The breaks between attempts, which double.
const BREAKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Why an attempt came to nothing.
pub(super) enum Setback {
    /// Another one may do better.
    Again(String),
    /// It would not.
    Final(Error),
}

/// Joins.
pub(super) fn join(mut joining: Joining) -> Result<Joined> {
    let mut pause = BREAKS.0;
    let mut last: Option<(Announcement, String)> = None;
    loop {
        if joining.deadline.passed() {
            return Err(give_up(&joining, last));
        }
        joining.progress(|| waiting_line(last.as_ref()));
        let look = joining.deadline.left_at_most(LOOK);
        let value = match joining.config.store.get_within(KEY, look) {
            Ok(value) => value,
            Err(Error::StoreTimeout { .. }) => continue,
            Err(error) => return Err(error),
        };
        let Some(hub) = Announcement::decode(&value) else {
            std::thread::sleep(joining.deadline.left_at_most(BREAKS.1));
            continue;
        };
        match attempt(&mut joining, &hub) {
            Ok(joined) => return Ok(joined),
            Err(Setback::Final(error)) => return Err(error),
            Err(Setback::Again(why)) => last = Some((hub, why)),
        }
        std::thread::sleep(joining.deadline.left_at_most(pause));
        pause = (pause * 2).min(BREAKS.1);
    }
}

fn waiting_line(last: Option<&(Announcement, String)>) -> String {
    match last {
        None => "waiting for rank 0, which has not announced itself in the store".to_owned(),
        Some((hub, why)) => {
            let Announcement { host, pid, .. } = hub;
            format!("waiting for rank 0 (host {host}, pid {pid}, at {}): {why}", hub.list())
        }
    }
}

fn give_up(joining: &Joining, last: Option<(Announcement, String)>) -> Error {
    match last {
        None => {
            let store = joining.config.store.describe();
            let advice = format!(
                "rank 0 has not announced itself in the store {store}; look at its output, and \
                 whether it uses the same store"
            );
            joining.missing(vec![0], advice)
        }
        Some((hub, why)) => Error::Connect {
            what: "rank 0",
            addr: format!("{} (host {}, pid {})", hub.list(), hub.host, hub.pid),
            why,
            waited: joining.deadline.waited(),
        },
    }
}

/// Connects to a hub and says hello.
pub(super) fn call(joining: &Joining, hub: &Announcement) -> Result<Conn, String> {
    let mut last = "it announced no address".to_owned();
    for addr in &hub.addrs {
        let left = joining.deadline.left_at_most(ANSWER).max(Duration::from_millis(1));
        let connected = TcpStream::connect_timeout(addr, left)
            .and_then(|stream| Conn::new(stream, TABLE_BYTES));
        match connected {
            Ok(mut conn) => {
                let hello = Message::Hello {
                    token: hub.token,
                    world_size: joining.config.member.world_size,
                    peer: Box::new(joining.me.clone()),
                };
                let bytes = [&CONTROL_MAGIC[..], &hello.encode()].concat();
                match conn.send_bytes(bytes.into()) {
                    Ok(()) => return Ok(conn),
                    Err(end) => last = end.to_string(),
                }
            }
            Err(error) => last = connect_text(&error),
        }
    }
    Err(last)
}

fn connect_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: it has ended, or the store holds an earlier start's address".into()
        }
        _ => error.to_string(),
    }
}

/// The next message, at most until the deadline; none if it passed.
pub(super) fn next(conn: &mut Conn, deadline: &Deadline) -> Result<Option<Message>, String> {
    let text = |end: conn::End| match end {
        conn::End::Closed => "it closed the connection".to_owned(),
        other => other.to_string(),
    };
    loop {
        if let Some(message) = conn.next().map_err(text)? {
            return Ok(Some(message));
        }
        if deadline.passed() {
            return Ok(None);
        }
        conn::wait(&mut [conn.poll_fd()], deadline.left());
        let read = conn.flush().and_then(|()| conn.read());
        if let Some(message) = conn.next().map_err(text)? {
            return Ok(Some(message));
        }
        read.map_err(text)?;
    }
}

/// Talks with one hub until all ranks are there.
fn attempt(joining: &mut Joining, hub: &Announcement) -> Result<Joined, Setback> {
    let mut conn = call(joining, hub).map_err(Setback::Again)?;
    let mut waited_for: Option<Vec<usize>> = None;
    let mut beaten = Instant::now();
    let world_size = joining.config.member.world_size;
    loop {
        if let Some(missing) = &waited_for {
            joining.progress(|| waiting_for(missing, world_size));
        }
        let patience = if waited_for.is_some() { joining.pulse.timeout } else { ANSWER };
        if conn.silent() >= patience {
            return Err(Setback::Again(format!("no answer for {patience:.1?}")));
        }
        let slice = Deadline::after(joining.deadline.left_at_most(joining.pulse.beat));
        match next(&mut conn, &slice).map_err(Setback::Again)? {
            Some(Message::Welcome { token, peers }) => {
                return welcome(joining, conn, token, peers);
            }
            Some(Message::Waiting { missing }) => waited_for = Some(missing),
            Some(Message::Refused { retry: true, why }) => return Err(Setback::Again(why)),
            Some(Message::Refused { retry: false, why }) => {
                return Err(Setback::Final(joining.refused(why)));
            }
            Some(Message::Missing { ranks, waited, advice }) => {
                let error = Error::Missing { ranks, world_size, waited, advice };
                return Err(Setback::Final(error));
            }
            Some(_) | None => {}
        }
        if joining.deadline.passed() {
            let Some(ranks) = waited_for else { return Err(Setback::Again("no answer".into())) };
            return Err(Setback::Final(leave_unfinished(joining, &mut conn, ranks)));
        }
        if beaten.elapsed() >= joining.pulse.beat {
            beaten = Instant::now();
            let beat = conn.send(&Message::Heartbeat);
            beat.map_err(|end| Setback::Again(end.to_string()))?;
        }
    }
}

/// The line about those who are missing.
pub(super) fn waiting_for(missing: &[usize], world_size: usize) -> String {
    let (count, list) = (missing.len(), rank::list(missing));
    format!("waiting for {count} of {world_size} ranks to join: rank {list}")
}

/// Tells the hub that this rank gives up, so that it is not counted as missing there.
fn leave_unfinished(joining: &Joining, conn: &mut Conn, ranks: Vec<usize>) -> Error {
    let advice = "look at the output of the missing ranks, and whether they use the same store";
    let waited = joining.deadline.waited();
    let message = Message::Missing { ranks: ranks.clone(), waited, advice: advice.into() };
    if conn.send(&message).is_ok() {
        conn.finish();
        let goodbye = Deadline::after(GOODBYE);
        while !conn.drain() && !goodbye.passed() {
            conn::wait(&mut [conn.poll_fd()], goodbye.left());
        }
    }
    joining.missing(ranks, advice.into())
}

fn welcome(
    joining: &Joining,
    mut conn: Conn,
    token: [u8; 16],
    peers: Vec<crate::wire::Peer>,
) -> Result<Joined, Setback> {
    let in_order = peers.iter().enumerate().all(|(rank, peer)| peer.rank == rank);
    if peers.len() != joining.config.member.world_size || !in_order {
        let why = "rank 0 sent a table that does not fit this world";
        return Err(Setback::Final(joining.refused(why)));
    }
    conn.set_limit(FRAME_BYTES);
    Ok(Joined { role: Role::Link(Box::new(conn)), peers, token })
}
