//! How much is said: `NCCL_DEBUG`.

/// The levels of `NCCL_DEBUG`, in NCCL's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing.
    None,
    /// The version.
    Version,
    /// Warnings.
    Warn,
    /// What happens at set-up.
    Info,
    /// As `Info`; NCCL's debug builds stop at a warning.
    Abort,
    /// Every call.
    Trace,
}

impl Level {
    /// The level that a value of `NCCL_DEBUG` names, in any case. NCCL is silent for others.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        const NAMES: [(&str, Level); 6] = [
            ("NONE", Level::None),
            ("VERSION", Level::Version),
            ("WARN", Level::Warn),
            ("INFO", Level::Info),
            ("ABORT", Level::Abort),
            ("TRACE", Level::Trace),
        ];
        let named = |(name, _): &&(&str, Self)| name.eq_ignore_ascii_case(value.trim());
        NAMES.iter().find(named).map(|(_, level)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_read_in_any_case() {
        let read = |value| Level::parse(value).unwrap();
        let names = ["none", "Version", "WARN", "info", "abort", " TRACE "];
        assert!(names.windows(2).all(|pair| read(pair[0]) < read(pair[1])));
        for value in ["", "INFO,WARN", "3", "debug"] {
            assert_eq!(Level::parse(value), None, "{value:?}");
        }
    }
}
