//! What a library lacks, and since when others have it.

use crate::version::Version;

/// The library that was opened is too old for something, or was built without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{function} needs NCCL {needs}, and the libnccl that was opened is {found}{}", without(*.needs, *.found))]
#[non_exhaustive]
pub struct Missing {
    /// The function, or the member of a struct as `ncclConfig_t.nvlsCTAs`.
    pub function: &'static str,
    /// The first version that has it.
    pub needs: Version,
    /// The version that was opened.
    pub found: Version,
}

impl Missing {
    /// Makes the error from its parts.
    #[must_use]
    pub const fn new(function: &'static str, needs: Version, found: Version) -> Self {
        Self { function, needs, found }
    }
}

fn without(needs: Version, found: Version) -> &'static str {
    if found < needs { "" } else { ", but was built without it" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_is_needed_and_what_is_there() {
        let old = Missing::new("ncclCommSplit", Version::new(2, 18, 1), Version::new(2, 18, 0));
        let said = "ncclCommSplit needs NCCL 2.18.1, and the libnccl that was opened is 2.18.0";
        assert_eq!(old.to_string(), said);
        let odd = Missing { found: Version::new(2, 30, 7), ..old };
        assert!(odd.to_string().ends_with("is 2.30.7, but was built without it"), "{odd}");
    }
}
