//! Which backend carries the groups of a world: the same answer on all ranks, since all look at
//! the same facts.

use crate::backend::nccl::Facts;
use crate::config::BackendChoice;
use crate::error::Error;
use crate::error::Result;
use crate::rank;
use crate::wire::Peer;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The CPU backend; with why, if it was not asked for.
    Cpu(Option<String>),
    /// NCCL.
    Nccl,
}

/// What a rank was told, and why it cannot use NCCL, if so.
pub(super) struct Wish<'a> {
    pub(super) wants: BackendChoice,
    pub(super) lacks: &'a str,
    /// Its host and process, for messages.
    pub(super) place: String,
}

impl<'a> Wish<'a> {
    pub(super) fn of(peer: &'a Peer) -> Self {
        Self { wants: peer.wants, lacks: &peer.lacks, place: peer.place() }
    }
}

/// What the ranks' wishes allow; `me` is this rank, for errors. NCCL is still to be looked at.
///
/// # Errors
/// NCCL is asked for, and cannot be.
pub(super) fn by_wishes(me: usize, wishes: &[Wish<'_>]) -> Result<Choice> {
    let those = |wanted: BackendChoice| -> Vec<usize> {
        (0..wishes.len()).filter(|rank| wishes[*rank].wants == wanted).collect()
    };
    let (cpu, nccl) = (those(BackendChoice::Cpu), those(BackendChoice::Nccl));
    let refuse = |why| Err(Error::Join { rank: me, world_size: wishes.len(), why });
    if !cpu.is_empty() {
        if nccl.is_empty() {
            return Ok(Choice::Cpu(None));
        }
        return refuse(format!(
            "NCCL_RS_BACKEND is nccl on rank {}, and cpu on rank {}; set the same on all ranks",
            rank::list(&nccl),
            rank::list(&cpu)
        ));
    }
    let lacking: Vec<usize> = (0..wishes.len()).filter(|r| !wishes[*r].lacks.is_empty()).collect();
    let Some(first) = lacking.first() else { return Ok(Choice::Nccl) };
    // Of itself a rank knows more than what it could tell the others.
    let shown = if lacking.contains(&me) { me } else { *first };
    let why = format!(
        "no NCCL on rank {}: rank {shown} ({}): {}",
        rank::list(&lacking),
        wishes[shown].place,
        wishes[shown].lacks
    );
    if nccl.is_empty() {
        // Where nobody has a GPU nobody expects one.
        let expected = lacking.len() < wishes.len();
        return Ok(Choice::Cpu(expected.then_some(why)));
    }
    refuse(format!("{why} (NCCL_RS_BACKEND=nccl is set on rank {})", rank::list(&nccl)))
}

/// What the facts allow, if the wishes allow NCCL; `required` if one asks for it.
///
/// # Errors
/// NCCL is required, and the ranks' libraries or devices do not go together.
pub(super) fn by_facts(me: usize, facts: &[Facts], required: bool) -> Result<Choice> {
    match problem(facts) {
        None => Ok(Choice::Nccl),
        Some(why) if required => Err(Error::Join { rank: me, world_size: facts.len(), why }),
        Some(why) => Ok(Choice::Cpu(Some(why))),
    }
}

/// The first two ranks whose facts do not go together.
fn problem(facts: &[Facts]) -> Option<String> {
    let first = facts.first()?;
    for (rank, one) in facts.iter().enumerate() {
        if one.version != first.version {
            return Some(format!(
                "rank 0 has NCCL {}, and rank {rank} has {}; the ranks must have the same",
                first.version_text(),
                one.version_text()
            ));
        }
        if one.file != first.file {
            return Some(format!(
                "the libnccl of rank {rank} is another file than that of rank 0, though both say \
                 {}; install the same on all nodes",
                first.version_text()
            ));
        }
        let twin = facts[..rank].iter().position(|before| before.device == one.device);
        if let Some(before) = twin
            && !(one.may_share && facts[before].may_share)
        {
            return Some(format!(
                "ranks {before} and {rank} have the same GPU {}; give each its own \
                 (CUDA_VISIBLE_DEVICES, NCCL_RS_DEVICE){}",
                one.device_text(),
                if one.can_share() {
                    ", or set NCCL_MULTI_RANK_GPU_ENABLE=1 on all ranks"
                } else {
                    "; several ranks of one GPU need NCCL 2.30.3"
                }
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackendChoice::Auto;
    use crate::config::BackendChoice::Cpu;
    use crate::config::BackendChoice::Nccl;

    fn wishes(list: &[(BackendChoice, &'static str)]) -> Vec<Wish<'static>> {
        let wish = |(wants, lacks): &(BackendChoice, &'static str)| Wish {
            wants: *wants,
            lacks,
            place: "host a, pid 1".to_owned(),
        };
        list.iter().map(wish).collect()
    }

    fn choose(list: &[(BackendChoice, &'static str)]) -> Result<Choice, String> {
        by_wishes(1, &wishes(list)).map_err(|error| error.to_string())
    }

    #[test]
    fn nccl_only_where_every_rank_can_and_none_says_cpu() {
        assert_eq!(choose(&[(Auto, ""), (Auto, "")]), Ok(Choice::Nccl));
        assert_eq!(choose(&[(Nccl, ""), (Auto, "")]), Ok(Choice::Nccl));
        assert_eq!(choose(&[(Cpu, ""), (Auto, "")]), Ok(Choice::Cpu(None)));
        assert_eq!(choose(&[(Auto, "no driver"), (Auto, "no driver")]), Ok(Choice::Cpu(None)));
        let some = choose(&[(Auto, ""), (Auto, "no driver"), (Auto, "")]);
        let why = "no NCCL on rank 1: rank 1 (host a, pid 1): no driver".to_owned();
        assert_eq!(some, Ok(Choice::Cpu(Some(why))));
    }

    #[test]
    fn what_cannot_be_is_an_error_with_the_ranks() {
        assert_eq!(
            choose(&[(Nccl, ""), (Cpu, ""), (Cpu, "")]).unwrap_err(),
            "rank 1 of 3 cannot join: NCCL_RS_BACKEND is nccl on rank 0, and cpu on rank 1, 2; \
             set the same on all ranks"
        );
        assert_eq!(
            choose(&[(Nccl, ""), (Nccl, "no GPU")]).unwrap_err(),
            "rank 1 of 2 cannot join: no NCCL on rank 1: rank 1 (host a, pid 1): no GPU \
             (NCCL_RS_BACKEND=nccl is set on rank 0, 1)"
        );
    }

    fn facts(device: u8) -> Facts {
        Facts { version: 23007, file: 7, device: [device; 16], may_share: false }
    }

    #[test]
    fn another_version_file_or_the_same_gpu_is_told_with_both_ranks() {
        let told = |list: &[Facts]| by_facts(0, list, true).unwrap_err().to_string();
        assert_eq!(by_facts(0, &[facts(1), facts(2)], true).unwrap(), Choice::Nccl);
        let old = Facts { version: 22809, ..facts(2) };
        let text = told(&[facts(1), old]);
        assert!(text.contains("rank 0 has NCCL 2.30.7, and rank 1 has 2.28.9"), "{text}");
        let text = told(&[facts(1), Facts { file: 8, ..facts(2) }]);
        assert!(text.contains("the libnccl of rank 1 is another file"), "{text}");
        let text = told(&[facts(1), facts(2), facts(1)]);
        assert!(text.contains("ranks 0 and 2 have the same GPU GPU-01010101-0101"), "{text}");
        assert!(text.contains("NCCL_MULTI_RANK_GPU_ENABLE=1"), "{text}");
        let shared = Facts { may_share: true, ..facts(1) };
        assert_eq!(by_facts(0, &[shared, shared], true).unwrap(), Choice::Nccl);
        assert!(matches!(by_facts(0, &[facts(1), facts(1)], false), Ok(Choice::Cpu(Some(_)))));
    }
}
