//! How a buffer is cut into blocks, and who stands in a circle.

use super::Buf;
use super::Shape;
use super::Slice;

/// One block per rank, one behind the other in a buffer.
#[derive(Clone, Debug)]
pub(super) enum Blocks {
    /// Blocks of one size.
    Even(usize),
    /// A buffer cut into `parts` nearly equal chunks, at multiples of `unit` elements.
    Split {
        /// Elements of the buffer.
        count: usize,
        /// Number of chunks.
        parts: usize,
        /// Elements that stay together.
        unit: usize,
    },
    /// Where each block begins, and the end of the last one.
    Listed(Vec<usize>),
}

/// Chunks begin on cache lines, so that no two ranks write to one.
const LINE_BYTES: usize = 64;
/// ... unless chunks are so small that the shares would become uneven.
const ALIGNED_CHUNK_BYTES: usize = 4096;

impl Blocks {
    /// `shape.count` elements cut into `parts` chunks.
    pub(super) fn split(shape: &Shape, parts: usize) -> Self {
        let large = shape.bytes() >= parts.saturating_mul(ALIGNED_CHUNK_BYTES);
        let unit = if large { (LINE_BYTES / shape.elem_bytes.max(1)).max(1) } else { 1 };
        Self::Split { count: shape.count, parts, unit }
    }

    /// Blocks of the given sizes.
    pub(super) fn listed(counts: &[usize]) -> Self {
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut at = 0;
        starts.push(at);
        for count in counts {
            at += count;
            starts.push(at);
        }
        Self::Listed(starts)
    }

    /// Where block `index` begins; for the number of blocks, the end of the last one.
    pub(super) fn start(&self, index: usize) -> usize {
        match self {
            Self::Even(each) => index * each,
            Self::Split { count, parts, unit } => {
                let units = count.div_ceil(*unit);
                let (share, extra) = (units / parts, units % parts);
                (unit * (index * share + index.min(extra))).min(*count)
            }
            Self::Listed(starts) => {
                starts.get(index).or_else(|| starts.last()).copied().unwrap_or(0)
            }
        }
    }

    /// How many elements the blocks `first..end` have.
    pub(super) fn count(&self, first: usize, end: usize) -> usize {
        self.start(end) - self.start(first)
    }

    /// Block `index` in `buf`.
    pub(super) fn slice(&self, buf: Buf, index: usize) -> Slice {
        self.range(buf, index, index + 1)
    }

    /// The blocks `first..end` in `buf`.
    pub(super) fn range(&self, buf: Buf, first: usize, end: usize) -> Slice {
        Slice::new(buf, self.start(first), self.count(first, end))
    }
}

/// Ranks in a circle: `len` of the group's ranks from `first` on, around the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circle {
    /// The rank at index 0.
    first: usize,
    /// How many stand in it.
    pub(super) len: usize,
    /// The group's size.
    world_size: usize,
    /// This rank's index.
    pub(super) me: usize,
}

impl Circle {
    /// All ranks; the index is the rank.
    pub(super) fn everybody(shape: &Shape) -> Self {
        let world_size = shape.member.world_size;
        Self { first: 0, len: world_size, world_size, me: shape.member.rank }
    }

    /// All ranks but the root, from the one behind it on. On the root `me` is `len`, and only
    /// [`Circle::rank`] makes sense.
    pub(super) fn without_root(shape: &Shape) -> Self {
        let world_size = shape.member.world_size;
        let first = (shape.root + 1) % world_size;
        let me = (shape.member.rank + world_size - first) % world_size;
        Self { first, len: world_size - 1, world_size, me }
    }

    /// The rank at an index below `len`.
    pub(super) const fn rank(&self, index: usize) -> usize {
        (self.first + index) % self.world_size
    }

    /// The index `distance <= len` after this rank.
    pub(super) const fn ahead(&self, distance: usize) -> usize {
        (self.me + distance) % self.len
    }

    /// The index `distance <= len` before this rank.
    pub(super) const fn behind(&self, distance: usize) -> usize {
        (self.me + self.len - distance) % self.len
    }
}

/// The distances 1, 2, 4, ... below `len`: the rounds after which all have heard from all.
pub(super) fn doubling(len: usize) -> impl Iterator<Item = usize> {
    core::iter::successors(Some(1_usize), |distance| distance.checked_mul(2))
        .take_while(move |distance| *distance < len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_buffer_and_differ_by_at_most_one_unit() {
        for count in [0, 1, 2, 5, 16, 17, 1000, 65537] {
            for parts in [1, 2, 3, 7, 64] {
                for unit in [1, 16] {
                    let blocks = Blocks::Split { count, parts, unit };
                    let sizes: Vec<usize> = (0..parts).map(|j| blocks.count(j, j + 1)).collect();
                    assert_eq!(sizes.iter().sum::<usize>(), count);
                    assert_eq!(blocks.start(parts), count);
                    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                    assert!(most - least < 2 * unit, "{count} in {parts}: {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn doubling_distances_number_the_logarithm() {
        for (len, rounds) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6), (65, 7)] {
            assert_eq!(doubling(len).count(), rounds, "{len}");
        }
    }
}
