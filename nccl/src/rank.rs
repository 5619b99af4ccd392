//! Who a process is: its rank, and the number of ranks, in the group at hand.

use core::fmt;

/// A process's number in one group, and how many there are.
///
/// Two numbers of one type are easily swapped in a call; here each has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two numbers, and no third will come")]
pub struct Member {
    /// This process's number in the group, `0..world_size`.
    pub rank: usize,
    /// How many ranks the group has.
    pub world_size: usize,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.world_size)
    }
}

/// A list of ranks for messages: `1, 2, 5-8` and, past sixteen entries, `... (40 in all)`.
pub(crate) fn list(ranks: &[usize]) -> String {
    const SHOWN: usize = 16;
    let mut text = String::new();
    let mut entries = 0;
    let mut at = 0;
    while at < ranks.len() && entries < SHOWN {
        let first = ranks[at];
        let mut last = at;
        while last + 1 < ranks.len() && ranks[last + 1] == ranks[last] + 1 {
            last += 1;
        }
        if last - at < 2 {
            last = at; // "3, 4" reads better than "3-4"
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&first.to_string());
        if last > at {
            text.push('-');
            text.push_str(&ranks[last].to_string());
        }
        at = last + 1;
        entries += 1;
    }
    if at < ranks.len() {
        text.push_str(&format!(" ... ({} in all)", ranks.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn ranks_are_listed_with_runs_joined() {
        assert_eq!(list(&[]), "");
        assert_eq!(list(&[3]), "3");
        assert_eq!(list(&[3, 4]), "3, 4");
        assert_eq!(list(&[0, 1, 2, 5, 7, 8, 9]), "0-2, 5, 7-9");
        let odd: Vec<usize> = (0..40).map(|i| 2 * i).collect();
        assert!(list(&odd).ends_with("30 ... (40 in all)"), "{}", list(&odd));
    }
}
