//! Joining as rank 0: be the hub, and wait until all have come.

use std::time::Duration;

use super::hub;
use super::hub::Hub;
use super::join::Announcement;
use super::join::Joined;
use super::join::Joining;
use super::join::KEY;
use super::join_member;
use super::thread::Role;
use crate::clock::Deadline;
use crate::error::Result;
use crate::wire::control::Message;

/// How long an earlier hub may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long ranks that come late are told why the world cannot be.
const LINGER: Duration = Duration::from_millis(500);
/// The longest wait before the loop looks at the clock.
const SLICE: Duration = Duration::from_millis(100);

/// Joins.
pub(super) fn join(mut joining: Joining) -> Result<Joined> {
    let world_size = joining.config.member.world_size;
    let mut hub = Hub::bind(joining.config.bind, joining.me.clone(), world_size, joining.pulse)?;
    announce(&joining, &hub)?;
    loop {
        hub.turn(joining.deadline.left_at_most(SLICE));
        if let Some(why) = hub.verdict() {
            return Err(condemned(&joining, &mut hub, why));
        }
        let missing = hub.missing();
        if missing.is_empty() {
            if let Some(why) = hub::unreachable(&hub.peers()) {
                hub.condemn(&why);
                return Err(condemned(&joining, &mut hub, why));
            }
            let (peers, token) = hub.start();
            return Ok(Joined { role: Role::Hub(Box::new(hub)), peers, token });
        }
        if joining.deadline.passed() || hub.is_abandoned() {
            hub.give_up(&missing, joining.deadline.waited());
            return Err(joining.missing(missing, hub.advice()));
        }
        joining.progress(|| join_member::waiting_for(&missing, world_size));
    }
}

/// Tells those who come late, for a moment.
fn condemned(joining: &Joining, hub: &mut Hub, why: String) -> crate::Error {
    let linger = Deadline::after(LINGER);
    while !linger.passed() {
        hub.turn(linger.left_at_most(SLICE));
    }
    hub.flush(&Deadline::after(SLICE));
    joining.refused(why)
}

/// Puts the hub's address into the store, unless another rank 0 answers there.
fn announce(joining: &Joining, hub: &Hub) -> Result<()> {
    let store = &joining.config.store;
    let own = Announcement {
        token: hub.token,
        pid: joining.me.pid,
        host: joining.me.host.clone(),
        addrs: vec![hub.addr()?],
    };
    let own = own.encode();
    loop {
        let old = match store.check(&[KEY])? {
            true => store.get_within(KEY, joining.deadline.left())?,
            false => Vec::new(),
        };
        if let Some(why) = Announcement::decode(&old).and_then(|old| probe(joining, &old)) {
            return Err(joining.refused(why));
        }
        if store.compare_set(KEY, &old, own.as_bytes())? == own.as_bytes() {
            return Ok(());
        }
        if joining.deadline.passed() {
            let why = format!("another rank 0 keeps writing {KEY} in {}", store.describe());
            return Err(joining.refused(why));
        }
    }
}

/// Asks an announced hub whether it runs; says how it refuses this rank 0.
fn probe(joining: &Joining, old: &Announcement) -> Option<String> {
    let mut conn = join_member::call(joining, old).ok()?;
    let answer = Deadline::after(joining.deadline.left_at_most(ANSWER));
    match join_member::next(&mut conn, &answer) {
        Ok(Some(Message::Refused { retry: false, why })) => Some(why),
        Ok(None) => {
            log::warn!(target: "nccl::control",
                "whoever listens at {} does not answer; taking over from the rank 0 of \
                 host {}, pid {} that the store names", old.list(), old.host, old.pid);
            None
        }
        _ => None,
    }
}
