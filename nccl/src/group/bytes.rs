//! Byte strings of any length as messages, as other libraries send objects.

use super::ProcessGroup;
use crate::error::Error;
use crate::error::Result;

/// The longest byte string of one rank: what a wrong or hostile length may make us allocate.
const LONGEST_BYTES: u64 = 4 << 30;

impl ProcessGroup {
    /// Copies `bytes` of `root` to every rank; the others' is replaced, whatever its length.
    ///
    /// # Errors
    /// As [`ProcessGroup::broadcast`].
    ///
    /// # Source
    /// `broadcast_object_list` of c10d.
    pub fn broadcast_bytes(&self, bytes: &mut Vec<u8>, root: usize) -> Result<()> {
        let mut length = [bytes.len() as u64];
        self.broadcast(&mut length, root)?;
        if self.rank() != root {
            let length = checked("broadcast_bytes", length[0], root)?;
            bytes.clear();
            bytes.resize(length, 0);
        }
        self.broadcast(bytes, root)
    }

    /// Gathers the bytes of every rank on every rank, in rank order.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_gather`].
    ///
    /// # Examples
    /// ```
    /// # nccl::run_threads(3, |group| {
    /// let names = group.all_gather_bytes("x".repeat(group.rank()).as_bytes())?;
    /// assert_eq!(names, [&b""[..], b"x", b"xx"]);
    /// # Ok(()) })?;
    /// # Ok::<(), nccl::Error>(())
    /// ```
    ///
    /// # Source
    /// `all_gather_object` of c10d.
    pub fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let counts = self.all_lengths("all_gather_bytes", bytes.len())?;
        let mut all = vec![0; counts.iter().sum()];
        self.all_gather_v(bytes, &mut all, &counts)?;
        Ok(apart(&all, &counts))
    }

    /// Gathers the bytes of every rank on `root`, in rank order; `None` on the others.
    ///
    /// # Errors
    /// As [`ProcessGroup::gather`].
    ///
    /// # Source
    /// `gather_object` of c10d.
    pub fn gather_bytes(&self, bytes: &[u8], root: usize) -> Result<Option<Vec<Vec<u8>>>> {
        crate::count::check_root("gather_bytes", root, self.world_size())?;
        let none = vec![0; self.world_size()];
        let counts = self.all_lengths("gather_bytes", bytes.len())?;
        let mut sends = none.clone();
        sends[root] = bytes.len();
        let is_root = self.rank() == root;
        let receives = if is_root { &counts } else { &none };
        let mut all = vec![0; receives.iter().sum()];
        self.all_to_all_v(bytes, &mut all, &sends, receives)?;
        Ok(is_root.then(|| apart(&all, &counts)))
    }

    /// Gives rank `r` the bytes `parts[r]` of `root`; the others pass an empty list.
    ///
    /// # Errors
    /// As [`ProcessGroup::scatter`].
    ///
    /// # Source
    /// `scatter_object_list` of c10d.
    pub fn scatter_bytes(&self, parts: &[Vec<u8>], root: usize) -> Result<Vec<u8>> {
        const OP: &str = "scatter_bytes";
        crate::count::check_root(OP, root, self.world_size())?;
        let expected = if self.rank() == root { self.world_size() } else { 0 };
        if parts.len() != expected {
            return Err(Error::Count { op: OP, buffer: "parts", expected, got: parts.len() });
        }
        let lengths: Vec<u64> = parts.iter().map(|part| part.len() as u64).collect();
        let mut length = [0_u64];
        self.scatter(&lengths, &mut length, root)?;
        let mut receives = vec![0; self.world_size()];
        receives[root] = checked(OP, length[0], root)?;
        let none = vec![0; self.world_size()];
        let sends: Vec<usize> = parts.iter().map(Vec::len).collect();
        let mut part = vec![0; receives[root]];
        let sends = if self.rank() == root { &sends } else { &none };
        self.all_to_all_v(&parts.concat(), &mut part, sends, &receives)?;
        Ok(part)
    }

    fn all_lengths(&self, op: &'static str, own: usize) -> Result<Vec<usize>> {
        let mut lengths = vec![0_u64; self.world_size()];
        self.all_gather(&[own as u64], &mut lengths)?;
        lengths.iter().enumerate().map(|(rank, length)| checked(op, *length, rank)).collect()
    }
}

fn checked(op: &'static str, length: u64, rank: usize) -> Result<usize> {
    match usize::try_from(length) {
        Ok(length_bytes) if length <= LONGEST_BYTES => Ok(length_bytes),
        _ => {
            let problem = format!(
                "rank {rank} has {length} bytes, more than the {LONGEST_BYTES} that one message may have"
            );
            Err(Error::Usage { op, problem })
        }
    }
}

fn apart(all: &[u8], counts: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = all;
    let take = |count: &usize| {
        let (part, after) = rest.split_at((*count).min(rest.len()));
        rest = after;
        part.to_vec()
    };
    counts.iter().map(take).collect()
}
