//! Why libnccl could not be opened.

use core::fmt;

use crate::result::NcclResult;
use crate::search::VARIABLE;
use crate::version::Version;

/// Why libnccl could not be opened: every place tried, with what was wrong there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub struct LoadError {
    explicit: bool,
    attempts: Vec<Attempt>,
}

impl LoadError {
    /// Every place tried, in order.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Whether one library was asked for by path, so that no other was tried.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.explicit
    }

    pub(crate) fn new(explicit: bool, attempts: Vec<Attempt>) -> Self {
        Self { explicit, attempts }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no usable libnccl ({} or newer); tried", Version::OLDEST)?;
        for Attempt { place, problem } in &self.attempts {
            let words = problem.to_string();
            // The linker's words begin with the place too.
            let words = words
                .strip_prefix(place.as_str())
                .map_or(&*words, |rest| rest.trim_start_matches([':', ' ']));
            write!(f, "\n  {place}: {words}")?;
        }
        if self.explicit {
            write!(f, "\nnothing else is tried when a library is asked for")
        } else {
            write!(
                f,
                "\ninstall NCCL (as `pip install nvidia-nccl-cu13`), or set {VARIABLE} to the path \
                 of a libnccl.so.2"
            )
        }
    }
}

/// One place and what was wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// A path, a name given to the linker, or a pattern of paths of which none exists.
    pub place: String,
    /// What was wrong.
    pub problem: Problem,
}

impl Attempt {
    pub(crate) fn new(place: impl Into<String>, problem: Problem) -> Self {
        Self { place: place.into(), problem }
    }
}

/// What is wrong with one library.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// There is nothing.
    Absent(String),
    /// There is something that must not or cannot be opened; it was not given to the linker.
    Refused(String),
    /// The linker refused, in its words.
    Linker(String),
    /// A symbol is missing that every NCCL has.
    MissingSymbol(&'static str),
    /// `ncclGetVersion` failed.
    VersionCall(NcclResult),
    /// `ncclGetVersion` gave a number that is no version.
    NoVersion(i32),
    /// The library is older than this crate works with.
    TooOld(Version),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(why) | Self::Refused(why) | Self::Linker(why) => f.write_str(why),
            Self::MissingSymbol(name) => {
                write!(f, "opens, but is not NCCL: it has no symbol {name}")
            }
            Self::VersionCall(result) => write!(f, "ncclGetVersion failed: {result}"),
            Self::NoVersion(code) => {
                write!(f, "ncclGetVersion says {code}, which is no version of NCCL")
            }
            Self::TooOld(found) => {
                write!(f, "is NCCL {found}, which is too old: {} is needed", Version::OLDEST)
            }
        }
    }
}
