//! Subgroups.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ProcessGroup;
use crate::error::Error;
use crate::error::Result;
use crate::rank;
use crate::trace::GroupState;

/// What a rank says about the subgroup it wants: color, key, digest of the list it was given.
const WORDS: usize = 3;
/// In place of a color: the subgroup is given by a list.
const BY_LIST: u64 = u64::MAX - 1;
/// A rank in no subgroup.
const NO_COLOR: u64 = u64::MAX;

impl ProcessGroup {
    /// Makes subgroups of the ranks that pass the same `color`, ordered by `key`, then by rank.
    /// With `None` a rank takes part in the call and gets no group.
    ///
    /// A collective: every rank of this group calls it. The subgroup has its own operations, its
    /// own failures, and its own keys in the store; its connections are made when first needed.
    ///
    /// # Errors
    /// Those of the group.
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(4, |group| {
    /// let color = group.rank() as u32 % 2;
    /// let half = group.split(Some(color), 0)?.expect("every rank has a color");
    /// assert_eq!(half.world_ranks(), [color as usize, color as usize + 2]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `ncclCommSplit` of nccl.h; `split_group` of c10d; `MPI_Comm_split`.
    pub fn split(&self, color: Option<u32>, key: i64) -> Result<Option<Self>> {
        let turn = self.inner.splits.fetch_add(1, Ordering::Relaxed);
        let wish = [color.map_or(NO_COLOR, u64::from), key.cast_unsigned(), 0];
        let wishes = self.wishes("split", wish)?;
        let Some(color) = color else { return Ok(None) };
        let mut members: Vec<(i64, usize)> = (0..self.world_size())
            .filter(|rank| wishes[rank * WORDS] == u64::from(color))
            .map(|rank| (wishes[rank * WORDS + 1].cast_signed(), rank))
            .collect();
        members.sort_unstable();
        let ranks: Vec<usize> = members.into_iter().map(|(_, rank)| rank).collect();
        let name = format!("{}/{turn}:{color}", self.name());
        self.subgroup(name, &ranks).map(Some)
    }

    /// Makes the subgroup of `ranks` (of this group), in that order: rank `i` of it is `ranks[i]`.
    /// Ranks that are not in the list get `None`.
    ///
    /// A collective: every rank of this group calls it, with the same list.
    ///
    /// # Errors
    /// [`Rank`](Error::Rank) and [`Usage`](Error::Usage) for a list that cannot be, or that is
    /// another one on other ranks; errors of the group.
    ///
    /// # Source
    /// `new_group` of c10d, whose `sort_ranks=False` this is.
    pub fn subgroup_of(&self, ranks: &[usize]) -> Result<Option<Self>> {
        const OP: &str = "subgroup_of";
        let mut seen = vec![false; self.world_size()];
        for rank in ranks {
            match seen.get_mut(*rank) {
                None => {
                    let world_size = self.world_size();
                    return Err(Error::Rank { op: OP, what: "rank", rank: *rank, world_size });
                }
                Some(true) => {
                    let problem = format!("rank {rank} is twice in the list");
                    return Err(Error::Usage { op: OP, problem });
                }
                Some(seen) => *seen = true,
            }
        }
        if ranks.is_empty() {
            return Err(Error::Usage { op: OP, problem: "the list of ranks is empty".to_owned() });
        }
        let turn = self.inner.splits.fetch_add(1, Ordering::Relaxed);
        let own = hash(ranks.iter().map(|rank| *rank as u64));
        let wishes = self.wishes(OP, [BY_LIST, 0, own])?;
        let other = (0..self.world_size()).filter(|rank| wishes[rank * WORDS + 2] != own);
        let other: Vec<usize> = other.collect();
        if !other.is_empty() {
            let others = rank::list(&other);
            let problem = format!(
                "rank {} gave the list [{}], but not so the ranks {others}; give the same list on \
                 all ranks of the group",
                self.rank(),
                rank::list(ranks)
            );
            return Err(Error::Usage { op: OP, problem });
        }
        if !ranks.contains(&self.rank()) {
            return Ok(None);
        }
        let name = format!("{}/{turn}:[{}]", self.name(), rank::list(ranks));
        self.subgroup(name, ranks).map(Some)
    }

    /// What all ranks say; an error on all of them if some call `split` and others `subgroup_of`.
    fn wishes(&self, op: &'static str, wish: [u64; WORDS]) -> Result<Vec<u64>> {
        let mut wishes = vec![0; WORDS * self.world_size()];
        self.all_gather(&wish, &mut wishes)?;
        let by_list = |rank: &usize| wishes[rank * WORDS] == BY_LIST;
        let (lists, colors): (Vec<usize>, Vec<usize>) = (0..self.world_size()).partition(by_list);
        if lists.is_empty() || colors.is_empty() {
            return Ok(wishes);
        }
        let (lists, colors) = (rank::list(&lists), rank::list(&colors));
        let problem = format!("ranks {lists} called subgroup_of, ranks {colors} called split");
        Err(Error::Usage { op, problem })
    }

    /// The group of `ranks` of this group, of which this rank is one.
    fn subgroup(&self, name: String, ranks: &[usize]) -> Result<Self> {
        let parent = &self.inner.state;
        let rank = ranks.iter().position(|rank| *rank == self.rank()).unwrap_or(0);
        let members: Vec<usize> = ranks.iter().map(|rank| parent.members[*rank]).collect();
        let words = name.bytes().map(u64::from);
        let id = hash(core::iter::once(parent.id).chain(words));
        let state = Arc::new(GroupState::new(id, name, rank, members));
        Self::assemble(state, self.inner.world.clone(), self.timeout)?.join_nccl()
    }
}

/// FNV-1a over words; the same on all ranks and builds.
fn hash(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}
