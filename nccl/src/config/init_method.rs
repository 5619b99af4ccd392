//! torch's `init_method`: `env://`, `tcp://host:port`, `file:///path`.

use std::path::PathBuf;

use crate::config::address::HostPort;
use crate::config::number;
use crate::error::Error;
use crate::error::Result;

/// Where ranks meet, as a URL says it, and perhaps which rank this is.
///
/// ```
/// use nccl::config::InitMethod;
///
/// let method = InitMethod::parse("tcp://[fd00::1]:29500?rank=1&world_size=4")?;
/// let InitMethod::Tcp { at, member, .. } = method else { unreachable!() };
/// assert_eq!(at.to_string(), "[fd00::1]:29500");
/// assert_eq!(member.map(|member| (member.rank, member.world_size)), Some((1, 4)));
/// assert!(InitMethod::parse("mpi://").is_err());
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitMethod {
    /// `env://`: everything from the environment.
    Env,
    /// `tcp://host:port`: rank 0 serves the store there.
    #[non_exhaustive]
    Tcp {
        /// The address.
        at: HostPort,
        /// Which rank this is, if `?rank=&world_size=` say so.
        member: Option<crate::rank::Member>,
    },
    /// `file:///path`: a file that all ranks share.
    #[non_exhaustive]
    File {
        /// The absolute path.
        path: PathBuf,
        /// Which rank this is, if `?rank=&world_size=` say so.
        member: Option<crate::rank::Member>,
    },
}

impl InitMethod {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`Error::Env`] with `init_method`, the text and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).map_err(|problem| Error::env("init_method", text, problem))
    }
}

fn parse(text: &str) -> Result<InitMethod, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("is no URL; it must be env://, tcp://<host>:<port> or file:///<path>".into());
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    match scheme {
        "env" if place.is_empty() && query.is_none() => Ok(InitMethod::Env),
        "env" => Err("must be env:// alone; rank and address come from the environment".into()),
        "tcp" => {
            let at = HostPort::parse(place.strip_suffix('/').unwrap_or(place))?;
            Ok(InitMethod::Tcp { at, member: member(query)? })
        }
        "file" => {
            if !place.starts_with('/') || place.ends_with('/') {
                return Err("needs an absolute path of a file: file:///shared/path/job1".into());
            }
            Ok(InitMethod::File { path: PathBuf::from(place), member: member(query)? })
        }
        _ => Err(format!("has the scheme {scheme:?}; there are env, tcp and file")),
    }
}

/// Rank and size of a query; both or none.
fn member(query: Option<&str>) -> Result<Option<crate::rank::Member>, String> {
    let (mut rank, mut world_size) = (None, None);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = match name {
            "rank" => &mut rank,
            "world_size" => &mut world_size,
            _ => return Err(format!("has {name:?} after `?`; there are rank and world_size")),
        };
        let number =
            number::decimal(value).map_err(|problem| format!("{name}={value:?} {problem}"))?;
        if slot.replace(usize::try_from(number).unwrap_or(usize::MAX)).is_some() {
            return Err(format!("says {name} twice"));
        }
    }
    match (rank, world_size) {
        (None, None) => Ok(None),
        (Some(_), None) => Err("says rank but not world_size; give both or none".into()),
        (None, Some(_)) => Err("says world_size but not rank; give both or none".into()),
        (Some(_), Some(size)) if size == 0 || size > number::MAX_WORLD_SIZE => {
            Err(format!("says world_size {size}; it must be 1 to {}", number::MAX_WORLD_SIZE))
        }
        (Some(rank), Some(size)) if rank >= size => {
            Err(format!("says rank {rank}, which is not below world_size {size}"))
        }
        (Some(rank), Some(world_size)) => Ok(Some(crate::rank::Member { rank, world_size })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::Member;
    use proptest::prelude::*;

    #[test]
    fn the_three_schemes_are_read() {
        assert_eq!(InitMethod::parse("env://").unwrap(), InitMethod::Env);
        let at = HostPort::new("node0", 29500);
        for text in ["tcp://node0:29500", "tcp://node0:29500/"] {
            let tcp = InitMethod::Tcp { at: at.clone(), member: None };
            assert_eq!(InitMethod::parse(text).unwrap(), tcp);
        }
        let member = Some(Member { rank: 0, world_size: 2 });
        let file = InitMethod::File { path: "/s/job 1".into(), member };
        assert_eq!(InitMethod::parse("file:///s/job 1?rank=0&world_size=2").unwrap(), file);
    }

    #[test]
    fn the_rest_says_what_is_wrong() {
        for (text, part) in [
            ("", "is no URL"),
            ("node0:29500", "is no URL"),
            ("env://x", "env:// alone"),
            ("tcp://node0", "has no port"),
            ("tcp://fd00::1:5", "needs brackets"),
            ("tcp://node0:0", "no port that others"),
            ("file://rel", "absolute path"),
            ("file:///", "absolute path"),
            ("mpi://", "there are env, tcp and file"),
            ("file:///a?rank=1", "not world_size"),
            ("file:///a?world_size=1", "not rank"),
            ("file:///a?rank=2&world_size=2", "not below"),
            ("file:///a?rank=-1&world_size=2", "negative"),
            ("file:///a?rank=0&world_size=0", "1 to 1000000"),
            ("file:///a?rank=0&rank=1&world_size=2", "twice"),
            ("file:///a?size=2", "there are rank and world_size"),
        ] {
            let problem = InitMethod::parse(text).unwrap_err().to_string();
            assert!(problem.starts_with("init_method="), "{problem}");
            assert!(problem.contains(part), "{text:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_method_or_an_error(text in ".*", rest in ".*") {
            let _ = InitMethod::parse(&text);
            for scheme in ["env", "tcp", "file"] {
                let _ = InitMethod::parse(&format!("{scheme}://{rest}"));
            }
        }
    }
}
