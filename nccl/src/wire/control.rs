//! The messages between the ranks of a world and its hub.

use std::time::Duration;

use super::Malformed;
use super::Reader;
use super::Writer;
use super::control_failure::read_desc;
use super::control_failure::read_duration;
use super::control_failure::read_failure;
use super::control_failure::write_desc;
use super::control_failure::write_duration;
use super::control_failure::write_failure;
use super::control_failure::write_rank;
use super::control_peer::Peer;
use super::control_peer::array;
use super::control_peer::cut;
use super::control_peer::rank;
use super::control_peer::text;
use crate::desc::OpDesc;
use crate::error::Failure;

/// How every control connection begins; the last byte is the version.
pub(crate) const CONTROL_MAGIC: [u8; 8] = *b"NCCLRSC1";
/// The longest message but for those of joining.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
/// The longest message of joining: the table of all ranks.
pub(crate) const TABLE_BYTES: usize = 16 << 20;
/// The most ranks that fit into one [`Message::Ask`].
pub(crate) const ASK_RANKS: usize = 8192;

/// The longest sentence.
const WHY_BYTES: usize = 4096;
/// The least bytes of a record.
const PEER_MIN_BYTES: usize = 73;

/// What a rank is doing in a group, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doing {
    /// The current or the last operation.
    pub(crate) desc: OpDesc,
    /// Whether it is inside it.
    pub(crate) busy: bool,
    /// Since when.
    pub(crate) since: Duration,
}

/// One message. Ranks are world ranks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// A rank asks the hub to let it in.
    Hello { token: [u8; 16], world_size: usize, peer: Box<Peer> },
    /// The hub has let it in.
    Accepted,
    /// The hub still waits for these.
    Waiting { missing: Vec<usize> },
    /// The hub does not let it in; a later attempt may meet another hub.
    Refused { retry: bool, why: String },
    /// The hub's deadline passed without these.
    Missing { ranks: Vec<usize>, waited: Duration, advice: String },
    /// All are there.
    Welcome { token: [u8; 16], peers: Vec<Peer> },
    /// Nothing, but alive.
    Heartbeat,
    /// The hub lost a rank.
    Lost { rank: usize, why: String },
    /// A rank left a group, or all of them, in order. The hub writes the rank.
    Left { rank: usize, group: Option<u64> },
    /// A group failed.
    Fail { group: u64, failure: Failure },
    /// A rank asks what these do in a group.
    Ask { question: u64, group: u64, members: Vec<usize> },
    /// The hub passes the question on for `rank`.
    Question { question: u64, group: u64, rank: usize },
    /// The answer: to the hub with the rank that asked, from the hub with the rank that answers.
    Answer { question: u64, rank: usize, doing: Option<Doing> },
}

impl Message {
    /// The message behind its length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = self.body().finish();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Writer::new().u32(length).raw(&body).finish()
    }

    fn body(&self) -> Writer {
        let to = Writer::new();
        match self {
            Self::Hello { token, world_size, peer } => {
                peer.write(write_rank(to.u8(1).raw(token), *world_size))
            }
            Self::Accepted => to.u8(2),
            Self::Waiting { missing } => write_ranks(to.u8(3), missing),
            Self::Refused { retry, why } => to.u8(4).u8(u8::from(*retry)).str(cut(why, WHY_BYTES)),
            Self::Missing { ranks, waited, advice } => {
                write_duration(write_ranks(to.u8(5), ranks), *waited).str(cut(advice, WHY_BYTES))
            }
            Self::Welcome { token, peers } => {
                let to = to.u8(6).raw(token).usize(peers.len());
                peers.iter().fold(to, |to, peer| peer.write(to))
            }
            Self::Heartbeat => to.u8(7),
            Self::Lost { rank, why } => write_rank(to.u8(8), *rank).str(cut(why, WHY_BYTES)),
            Self::Left { rank, group } => write_rank(to.u8(9), *rank)
                .u8(u8::from(group.is_some()))
                .u64(group.unwrap_or_default()),
            Self::Fail { group, failure } => write_failure(to.u8(10).u64(*group), failure),
            Self::Ask { question, group, members } => {
                write_ranks(to.u8(11).u64(*question).u64(*group), members)
            }
            Self::Question { question, group, rank } => {
                write_rank(to.u8(12).u64(*question).u64(*group), *rank)
            }
            Self::Answer { question, rank, doing } => {
                write_doing(write_rank(to.u8(13).u64(*question), *rank), doing.as_ref())
            }
        }
    }

    /// What the bytes of one message, without its length, say.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let message = Self::read(&mut from)?;
        from.end()?;
        Ok(message)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.u8()? {
            1 => Self::Hello {
                token: array(from)?,
                world_size: rank(from)?,
                peer: Box::new(Peer::read(from)?),
            },
            2 => Self::Accepted,
            3 => Self::Waiting { missing: read_ranks(from)? },
            4 => Self::Refused { retry: from.u8()? != 0, why: text(from, WHY_BYTES)? },
            5 => Self::Missing {
                ranks: read_ranks(from)?,
                waited: read_duration(from)?,
                advice: text(from, WHY_BYTES)?,
            },
            6 => Self::Welcome { token: array(from)?, peers: read_peers(from)? },
            7 => Self::Heartbeat,
            8 => Self::Lost { rank: rank(from)?, why: text(from, WHY_BYTES)? },
            9 => Self::Left { rank: rank(from)?, group: read_group(from)? },
            10 => Self::Fail { group: from.u64()?, failure: read_failure(from)? },
            11 => {
                Self::Ask { question: from.u64()?, group: from.u64()?, members: read_ranks(from)? }
            }
            12 => Self::Question { question: from.u64()?, group: from.u64()?, rank: rank(from)? },
            13 => {
                Self::Answer { question: from.u64()?, rank: rank(from)?, doing: read_doing(from)? }
            }
            _ => return Err(Malformed("an unknown message")),
        })
    }
}

fn read_group(from: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    let is_some = from.u8()? != 0;
    let group = from.u64()?;
    Ok(is_some.then_some(group))
}

fn write_ranks(to: Writer, ranks: &[usize]) -> Writer {
    ranks.iter().fold(to.usize(ranks.len()), |to, rank| write_rank(to, *rank))
}

fn read_ranks(from: &mut Reader<'_>) -> Result<Vec<usize>, Malformed> {
    let count = from.usize()?;
    if count > from.left() / size_of::<u32>() {
        return Err(Malformed("more ranks than bytes for them"));
    }
    (0..count).map(|_| rank(from)).collect()
}

fn read_peers(from: &mut Reader<'_>) -> Result<Vec<Peer>, Malformed> {
    let count = from.usize()?;
    if count > from.left() / PEER_MIN_BYTES {
        return Err(Malformed("more records than bytes for them"));
    }
    (0..count).map(|_| Peer::read(from)).collect()
}

fn write_doing(to: Writer, doing: Option<&Doing>) -> Writer {
    match doing {
        None => to.u8(0),
        Some(doing) => {
            let to = write_desc(to.u8(1), &doing.desc).u8(u8::from(doing.busy));
            write_duration(to, doing.since)
        }
    }
}

fn read_doing(from: &mut Reader<'_>) -> Result<Option<Doing>, Malformed> {
    if from.u8()? == 0 {
        return Ok(None);
    }
    let desc = read_desc(from)?;
    let busy = from.u8()? != 0;
    Ok(Some(Doing { desc, busy, since: read_duration(from)? }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::control_failure::tests::samples as failures;
    use super::super::control_peer::tests::sample as peer;
    use super::*;
    use proptest::prelude::*;

    /// One of every message.
    pub(crate) fn samples() -> Vec<Message> {
        let waited = Duration::from_millis(1500);
        let doing =
            Doing { desc: OpDesc { seq: 3, ..OpDesc::default() }, busy: true, since: waited };
        let mut all = vec![
            Message::Hello { token: [1; 16], world_size: 4, peer: Box::new(peer(2)) },
            Message::Accepted,
            Message::Waiting { missing: vec![1, 5] },
            Message::Refused { retry: true, why: "no".into() },
            Message::Missing { ranks: vec![3], waited, advice: "look".into() },
            Message::Welcome { token: [2; 16], peers: vec![peer(0), peer(1)] },
            Message::Heartbeat,
            Message::Lost { rank: 1, why: "is gone".into() },
            Message::Left { rank: 1, group: None },
            Message::Left { rank: 1, group: Some(0) },
            Message::Ask { question: 8, group: 9, members: vec![0, 2] },
            Message::Question { question: 8, group: 9, rank: 0 },
            Message::Answer { question: 8, rank: 0, doing: None },
            Message::Answer { question: 8, rank: 0, doing: Some(doing) },
        ];
        all.extend(failures().into_iter().map(|failure| Message::Fail { group: 4, failure }));
        all
    }

    #[test]
    fn every_message_survives_the_wire() {
        for message in samples() {
            let bytes = message.encode();
            assert_eq!(
                u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize,
                bytes.len() - 4
            );
            assert_eq!(Message::decode(&bytes[4..]).unwrap(), message);
        }
    }

    #[test]
    fn no_message_is_read_from_a_part_of_it_or_with_more_behind() {
        for message in samples() {
            let bytes = message.encode();
            for end in 4..bytes.len() {
                assert!(Message::decode(&bytes[4..end]).is_err(), "{message:?} cut at {end}");
            }
            let mut more = bytes[4..].to_vec();
            more.push(0);
            assert!(Message::decode(&more).is_err(), "{message:?}");
        }
    }

    #[test]
    fn a_count_beyond_the_message_is_refused_before_anything_is_allocated() {
        for tag in [3_u8, 5] {
            for count in [1_u64, 1 << 31, u64::MAX] {
                let bytes = Writer::new().u8(tag).u64(count).finish();
                assert!(Message::decode(&bytes).is_err());
            }
        }
        let bytes = Writer::new().u8(6).raw(&[0; 16]).u64(1 << 60).finish();
        assert!(Message::decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Message::decode(&bytes));
        }

        #[test]
        fn flipped_bytes_never_panic(which in 0..18_usize, at in any::<u16>(), to in any::<u8>()) {
            let all = samples();
            let mut bytes = all[which % all.len()].encode();
            let at = 4 + usize::from(at) % (bytes.len() - 4);
            bytes[at] = to;
            drop(Message::decode(&bytes[4..]));
        }
    }
}
