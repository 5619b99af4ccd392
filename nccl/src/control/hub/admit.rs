//! Who is let in, until all are there.

use std::time::Duration;

use super::Hub;
use super::Slot;
use crate::clock::Deadline;
use crate::control::conn::Conn;
use crate::rank;
use crate::wire::Peer;
use crate::wire::control::FRAME_BYTES;
use crate::wire::control::Message;

impl Hub {
    /// The ranks that have not joined.
    pub(in crate::control) fn missing(&self) -> Vec<usize> {
        let absent = |(rank, slot): (usize, &Slot)| slot.peer.is_none().then_some(rank);
        self.slots.iter().enumerate().filter_map(absent).collect()
    }

    /// The records of those who have.
    pub(in crate::control) fn peers(&self) -> Vec<Peer> {
        self.slots.iter().filter_map(|slot| slot.peer.clone()).collect()
    }

    /// Why this world cannot be.
    pub(in crate::control) fn verdict(&self) -> Option<String> {
        self.verdict.clone()
    }

    /// Whether a rank's deadline has passed before this one's.
    pub(in crate::control) fn is_abandoned(&self) -> bool {
        self.gave_up
    }

    /// What to look at when ranks are missing.
    pub(in crate::control) fn advice(&self) -> String {
        let mut advice = String::from(
            "look at the output of the missing ranks, and whether they use the same store",
        );
        for gone in self.gone.iter().rev().take(4) {
            advice.push_str("; ");
            advice.push_str(gone);
        }
        advice
    }

    /// Tells all that the deadline has passed, and waits a moment until it is sent.
    pub(in crate::control) fn give_up(&mut self, ranks: &[usize], waited: Duration) {
        let advice = self.advice();
        let message = Message::Missing { ranks: ranks.to_vec(), waited, advice };
        self.broadcast(&message, 0);
        self.flush(&Deadline::after(Duration::from_millis(150)));
    }

    /// Sends every rank the table: the world begins. Returns it with the world's token.
    pub(in crate::control) fn start(&mut self) -> (Vec<Peer>, [u8; 16]) {
        let peers = self.peers();
        let token = self.world_token;
        self.started = true;
        self.broadcast(&Message::Welcome { token, peers: peers.clone() }, 0);
        self.settle();
        (peers, token)
    }

    /// Lets a rank in, or says why not.
    pub(in crate::control) fn admit(
        &mut self,
        mut conn: Conn,
        token: &[u8; 16],
        world_size: usize,
        peer: Peer,
    ) {
        let rank = peer.rank;
        let refusal = self.refusal(token, world_size, &peer);
        let Some((retry, why)) = refusal else {
            let missing = self.missing().into_iter().filter(|other| *other != rank).collect();
            conn.set_limit(FRAME_BYTES);
            let sent = conn
                .send(&Message::Accepted)
                .and_then(|()| conn.send(&Message::Waiting { missing }));
            if let (Ok(()), Some(slot)) = (sent, self.slots.get_mut(rank)) {
                *slot = Slot { peer: Some(peer), conn: Some(conn), ended: None };
                self.news = true;
            }
            return;
        };
        drop(conn.send(&Message::Refused { retry, why }));
        conn.finish();
    }

    /// Whether another attempt makes sense, and why this one is refused.
    fn refusal(
        &mut self,
        token: &[u8; 16],
        world_size: usize,
        peer: &Peer,
    ) -> Option<(bool, String)> {
        if *token != self.token {
            return Some((true, "another world's hub answers here".into()));
        }
        if let Some(verdict) = &self.verdict {
            return Some((false, verdict.clone()));
        }
        let (rank, own) = (peer.rank, self.slots.len());
        if world_size != own {
            let why = format!("rank {rank} says WORLD_SIZE {world_size}, rank 0 says {own}");
            let places = self.slots.first().and_then(|slot| slot.peer.as_ref()).map(Peer::place);
            let places = places.unwrap_or_default();
            let why = format!("{why} (rank {rank}: {}; rank 0: {places})", peer.place());
            if !self.started {
                self.condemn(&why);
            }
            return Some((false, why));
        }
        let Some(slot) = self.slots.get(rank) else {
            return Some((false, format!("rank {rank} is not below WORLD_SIZE {own}")));
        };
        if let Some(ended) = &slot.ended {
            let why = format!("the world that runs has lost rank {rank}, which {ended}");
            return Some((true, format!("{why}; start all ranks anew")));
        }
        let Some(first) = &slot.peer else { return None };
        let again = !self.started && first.same_process(peer) && first.tcp == peer.tcp;
        (!again).then(|| {
            let (first, second) = (first.place(), peer.place());
            (false, format!("rank {rank} already runs: {first}; this one is {second}"))
        })
    }

    /// Tells everybody why this world cannot be.
    pub(in crate::control) fn condemn(&mut self, why: &str) {
        self.verdict = Some(why.to_owned());
        self.broadcast(&Message::Refused { retry: false, why: why.to_owned() }, 0);
    }
}

/// A world whose ranks cannot reach each other: loopback addresses on several hosts.
pub(in crate::control) fn unreachable(peers: &[Peer]) -> Option<String> {
    let first = peers.first()?;
    let other = peers.iter().find(|peer| !peer.same_host(first))?;
    let lonely: Vec<&Peer> =
        peers.iter().filter(|peer| peer.tcp.iter().all(|addr| addr.ip().is_loopback())).collect();
    let example = lonely.first()?;
    let addr = example.tcp.first().map(ToString::to_string).unwrap_or_default();
    let ranks: Vec<usize> = lonely.iter().map(|peer| peer.rank).collect();
    Some(format!(
        "rank {} ({}) listens on {addr}, which the other host ({}, rank {}) cannot reach; \
         set NCCL_SOCKET_IFNAME to an interface that joins the hosts, on rank {}",
        example.rank,
        example.place(),
        other.host,
        other.rank,
        rank::list(&ranks)
    ))
}
