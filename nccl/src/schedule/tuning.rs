//! Which algorithm for which group and size: the numbers, and what `NCCL_ALGO` may force.

use core::fmt;

/// A family of algorithms. Forced, each one is valid for every operation and group size; where
/// an operation has no such algorithm the nearest one is taken, see `docs/algorithms.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    /// Every rank exchanges all it has with every rank that needs it, in one step.
    Flat,
    /// Binomial tree; one round per doubling of the group.
    Tree,
    /// Each rank passes blocks on to the next rank.
    Ring,
    /// Blocks are collected over doubling distances; one round per doubling of the group.
    Bruck,
    /// The buffer is cut into one chunk per rank, each rank is responsible for its own.
    Direct,
}

impl Algorithm {
    /// Every family.
    pub(crate) const ALL: [Self; 5] =
        [Self::Flat, Self::Tree, Self::Ring, Self::Bruck, Self::Direct];

    /// Its name in variables and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Tree => "tree",
            Self::Ring => "ring",
            Self::Bruck => "bruck",
            Self::Direct => "direct",
        }
    }

    /// The family of a word of `NCCL_ALGO`, in any case. NCCL's `PAT` gathers over doubling
    /// distances, as Bruck does; the words for hardware we do not drive (`NVLS`, `CollNet`) name
    /// none.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("pat") {
            return Some(Self::Bruck);
        }
        Self::ALL.into_iter().find(|algorithm| name.eq_ignore_ascii_case(algorithm.name()))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The sizes at which one algorithm gives way to another. Equal on all ranks of a group: compare
/// [`Tuning::digest`] when the group is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Largest group in which every rank talks to every other one at once, even if only to agree.
    pub(crate) flat_ranks: usize,
    /// Most peers that one step of an all-to-all or of a flat large all-gather talks to.
    pub(crate) window_ranks: usize,
    /// `all_reduce` in small groups: exchange the whole inputs up to this many received bytes.
    pub(crate) all_reduce_flat_bytes: usize,
    /// `all_reduce` in large groups: collect the whole inputs up to this many received bytes.
    pub(crate) all_reduce_bruck_bytes: usize,
    /// All-gather beyond `flat_ranks`: doubling distances up to this many received bytes.
    pub(crate) all_gather_bruck_bytes: usize,
    /// All-gather beyond `window_ranks`: a ring from this many received bytes on.
    pub(crate) all_gather_ring_bytes: usize,
    /// `broadcast` among up to 4 ranks: the root sends everything up to this many bytes.
    pub(crate) broadcast_flat4_bytes: usize,
    /// `broadcast` among up to `flat_ranks`: the root sends everything up to this many bytes.
    pub(crate) broadcast_flat_bytes: usize,
    /// `broadcast` in large groups: binomial tree up to this many bytes.
    pub(crate) broadcast_tree_bytes: usize,
    /// `reduce`: the root folds everything up to this many received bytes.
    pub(crate) reduce_flat_bytes: usize,
    /// `all_to_all` and `reduce_scatter` in large groups: relay blocks up to this many bytes.
    pub(crate) relay_block_bytes: usize,
    /// The algorithm to use wherever there is one.
    pub(crate) algorithm: Option<Algorithm>,
    /// Whether receivers read the sender's memory themselves, on all pairs: the sender then has
    /// nothing to do per receiver.
    pub(crate) single_copy: bool,
    /// Whether all ranks hear from all in operations with a root too, where the data alone do not
    /// see to it.
    pub(crate) agreement: bool,
}

/// 8: with up to 7 peers one exchange costs less than a second round; the empty messages of one
/// operation stay below 64 in the whole group.
const FLAT_RANKS: usize = 8;
/// 16: enough peers at once to keep a link busy; few enough that nobody is sent to by all others
/// at the same time.
const WINDOW_RANKS: usize = 16;
/// 32 KiB: the second round that chunks need costs as much as moving a few KiB to tens of KiB.
const ALL_REDUCE_FLAT_BYTES: usize = 32 << 10;
/// 64 KiB: about what a link moves in the time of the n - 1 messages that chunks need; and every
/// rank folds all of it.
const ALL_REDUCE_BRUCK_BYTES: usize = 64 << 10;
/// 64 KiB: doubling distances save messages and cost one more copy of everything.
const ALL_GATHER_BRUCK_BYTES: usize = 64 << 10;
/// 512 KiB: a ring has n - 1 rounds, but moves each block once between neighbours, which on
/// several hosts means once per host.
const ALL_GATHER_RING_BYTES: usize = 512 << 10;
/// 16 KiB: with at most 3 receivers the root's copies are the price of saving a round.
const BROADCAST_FLAT4_BYTES: usize = 16 << 10;
/// 4 KiB: as above with up to 7 receivers.
const BROADCAST_FLAT_BYTES: usize = 4 << 10;
/// 16 KiB: a tree moves the buffer log2 n times one after the other, chunks about twice.
const BROADCAST_TREE_BYTES: usize = 16 << 10;
/// 32 KiB: the root folds n - 1 buffers alone; beyond, each rank folds its chunk.
const REDUCE_FLAT_BYTES: usize = 32 << 10;
/// 256 bytes: relaying moves every block log2 n / 2 times to save messages, so it must be small.
const RELAY_BLOCK_BYTES: usize = 256;
/// 64 MiB: algorithms that collect everything in scratch give way beyond, even when forced, so
/// that a variable cannot ask for more memory than the machine has.
pub(super) const SCRATCH_LIMIT_BYTES: usize = 64 << 20;

impl Default for Tuning {
    fn default() -> Self {
        Self {
            flat_ranks: FLAT_RANKS,
            window_ranks: WINDOW_RANKS,
            all_reduce_flat_bytes: ALL_REDUCE_FLAT_BYTES,
            all_reduce_bruck_bytes: ALL_REDUCE_BRUCK_BYTES,
            all_gather_bruck_bytes: ALL_GATHER_BRUCK_BYTES,
            all_gather_ring_bytes: ALL_GATHER_RING_BYTES,
            broadcast_flat4_bytes: BROADCAST_FLAT4_BYTES,
            broadcast_flat_bytes: BROADCAST_FLAT_BYTES,
            broadcast_tree_bytes: BROADCAST_TREE_BYTES,
            reduce_flat_bytes: REDUCE_FLAT_BYTES,
            relay_block_bytes: RELAY_BLOCK_BYTES,
            algorithm: None,
            single_copy: false,
            agreement: true,
        }
    }
}

impl Tuning {
    /// A number that differs where tunings differ: ranks that plan differently would wait for
    /// messages that nobody sends.
    pub(crate) fn digest(&self) -> u64 {
        let forced = self.algorithm.map_or(0, |algorithm| algorithm as usize + 1);
        let fields = [
            self.flat_ranks,
            self.window_ranks,
            self.all_reduce_flat_bytes,
            self.all_reduce_bruck_bytes,
            self.all_gather_bruck_bytes,
            self.all_gather_ring_bytes,
            self.broadcast_flat4_bytes,
            self.broadcast_flat_bytes,
            self.broadcast_tree_bytes,
            self.reduce_flat_bytes,
            self.relay_block_bytes,
            forced,
            usize::from(self.single_copy),
            usize::from(self.agreement),
        ];
        // FNV-1a over the fields' bytes: stable across builds and machines.
        let bytes = fields.into_iter().flat_map(|field| (field as u64).to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Whether empty messages go to everybody at once rather than over doubling distances.
    pub(super) fn agrees_flat(&self, world_size: usize) -> bool {
        match self.algorithm {
            Some(Algorithm::Flat) => true,
            Some(Algorithm::Tree | Algorithm::Bruck | Algorithm::Ring) => false,
            Some(Algorithm::Direct) | None => world_size <= self.flat_ranks,
        }
    }

    /// How `ranks` ranks gather blocks of `total_bytes` together: flat, Bruck or ring.
    pub(super) fn gathering(&self, ranks: usize, total_bytes: usize) -> Algorithm {
        match self.algorithm {
            Some(Algorithm::Flat | Algorithm::Direct) => Algorithm::Flat,
            Some(Algorithm::Ring) => Algorithm::Ring,
            Some(Algorithm::Tree | Algorithm::Bruck) if total_bytes <= SCRATCH_LIMIT_BYTES => {
                Algorithm::Bruck
            }
            Some(Algorithm::Tree | Algorithm::Bruck) => Algorithm::Ring,
            None if ranks <= self.flat_ranks => Algorithm::Flat,
            None if total_bytes <= self.all_gather_bruck_bytes => Algorithm::Bruck,
            None if ranks <= self.window_ranks => Algorithm::Flat,
            None if total_bytes < self.all_gather_ring_bytes => Algorithm::Bruck,
            None => Algorithm::Ring,
        }
    }

    /// Whether blocks of `block_bytes`, one per pair of ranks, are relayed over doubling
    /// distances. Never if `straight`: then each must come from its rank itself.
    pub(super) fn relays(&self, ranks: usize, block_bytes: usize, straight: bool) -> bool {
        let fits = block_bytes.saturating_mul(2 * ranks) <= SCRATCH_LIMIT_BYTES;
        !straight
            && fits
            && match self.algorithm {
                Some(Algorithm::Tree | Algorithm::Bruck) => true,
                Some(_) => false,
                None => ranks > self.window_ranks && block_bytes <= self.relay_block_bytes,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_unknown_ones_refused() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::from_name(&algorithm.name().to_uppercase()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("PAT"), Some(Algorithm::Bruck));
        assert_eq!(Algorithm::from_name("NVLS"), None);
        assert_eq!(Algorithm::from_name(""), None);
    }

    #[test]
    fn the_digest_tells_tunings_apart() {
        let plain = Tuning::default();
        assert_eq!(plain.digest(), Tuning::default().digest());
        let mut seen = vec![plain.digest()];
        for algorithm in Algorithm::ALL {
            seen.push(Tuning { algorithm: Some(algorithm), ..Tuning::default() }.digest());
        }
        seen.push(Tuning { single_copy: true, ..Tuning::default() }.digest());
        seen.push(Tuning { agreement: false, ..Tuning::default() }.digest());
        seen.push(Tuning { reduce_flat_bytes: 1, ..Tuning::default() }.digest());
        seen.push(Tuning { relay_block_bytes: 1, ..Tuning::default() }.digest());
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
