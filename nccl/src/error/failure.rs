//! Why a group failed, as it travels between ranks.

use std::time::Duration;

use super::At;
use super::Error;
use crate::desc::OpDesc;

/// A rank that had not arrived when a deadline passed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absent {
    /// Its rank in the group.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// What it was doing last, in words.
    pub doing: String,
}

impl Absent {
    /// A rank that had not arrived.
    pub(crate) fn new(rank: usize, host: String, pid: u32, doing: String) -> Self {
        Self { rank, host, pid, doing }
    }
}

/// The first cause of a group's failure. Ranks are those of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A rank is gone, silent, or unreachable.
    PeerLost { rank: usize, host: String, pid: u32, why: String },
    /// Two ranks called different things.
    Mismatch { first: (usize, OpDesc), second: (usize, OpDesc) },
    /// The deadline of `origin` passed.
    Timeout { origin: usize, op: OpDesc, waited: Duration, absent: Vec<Absent> },
    /// A rank ended the group.
    Aborted { rank: usize, reason: String },
    /// `reporter` received from `rank` what it must not.
    Protocol { reporter: usize, rank: usize, what: String },
}

impl Failure {
    /// The error a rank returns for it.
    pub(crate) fn into_error(self, at: At) -> Error {
        match self {
            Self::PeerLost { rank, host, pid, why } => Error::PeerLost { at, rank, host, pid, why },
            Self::Mismatch { first, second } => Error::Mismatch {
                at,
                first: (first.0, first.1.to_string()),
                second: (second.0, second.1.to_string()),
            },
            Self::Timeout { origin, op, waited, absent } => {
                Error::Timeout { at, origin, op: op.to_string(), waited, absent }
            }
            Self::Aborted { rank, reason } => Error::Aborted { at, rank, reason },
            Self::Protocol { reporter, rank, what } => Error::Protocol { at, reporter, rank, what },
        }
    }
}

/// `rank 0 waited 30.0s in #18 all_reduce ...; not arrived: rank 2 (host h, pid 7): idle since ...`.
pub(super) fn timeout_text(origin: usize, op: &str, waited: Duration, absent: &[Absent]) -> String {
    const SHOWN: usize = 16;
    let mut text = format!("rank {origin} waited {waited:.1?} in {op}; ");
    if absent.is_empty() {
        text.push_str(
            "every rank has called it, so the data does not move: network or a stopped peer",
        );
        return text;
    }
    text.push_str("not arrived: ");
    for (at, one) in absent.iter().take(SHOWN).enumerate() {
        if at > 0 {
            text.push_str("; ");
        }
        text.push_str(&format!(
            "rank {} (host {}, pid {}): {}",
            one.rank, one.host, one.pid, one.doing
        ));
    }
    if absent.len() > SHOWN {
        text.push_str(&format!("; and {} more", absent.len() - SHOWN));
    }
    text
}
