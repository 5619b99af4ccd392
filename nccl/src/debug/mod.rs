//! Log lines in NCCL's format and words, so that one habit of debugging serves both backends.
//!
//! `host:pid:tid [dev] NCCL INFO text` on stdout or in `NCCL_DEBUG_FILE`, chosen by `NCCL_DEBUG`
//! and `NCCL_DEBUG_SUBSYS` with NCCL 2.30's meaning; the same text goes to the `log` crate with
//! the target `nccl::net`, `nccl::init` and so on. A line that nobody wants costs two relaxed
//! loads, one of ours and one of `log`'s. Writing never fails for the caller and never waits long:
//! a full disk, a closed or a stuck pipe lose lines, which the next line that gets through counts.

use core::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod level;
mod line;
mod logger;
mod sink;
mod subsys;

use logger::Logger;
pub(crate) use subsys::Subsys;

/// What reaches our own sink: bits of [`Subsys`] for INFO lines, and [`WARN`]. Nothing before
/// [`init`].
static WANTED: AtomicU32 = AtomicU32::new(0);

/// The bit of warnings in [`WANTED`], above all subsystems.
const WARN: u32 = 1 << 31;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Opens the process's log with the values of `NCCL_DEBUG`, `NCCL_DEBUG_SUBSYS` and
/// `NCCL_DEBUG_FILE`. Only the first call counts; says whether this was it.
pub(crate) fn init(debug: Option<&str>, subsys: Option<&str>, file: Option<&str>) -> bool {
    let mut first = false;
    let logger = LOGGER.get_or_init(|| {
        first = true;
        Logger::new(debug, subsys, file)
    });
    if first {
        WANTED.store(logger.wanted(), Ordering::Relaxed);
        for problem in logger.problems() {
            write_warn(file!(), line!(), 0, format_args!("{problem}"));
        }
    }
    first
}

/// Whether an INFO line of one of these subsystems reaches anybody.
pub(crate) fn wants_info(subsys: Subsys) -> bool {
    WANTED.load(Ordering::Relaxed) & subsys.bits() != 0
        || log::log_enabled!(target: subsys.target(), log::Level::Info)
}

/// Writes an INFO line, for [`info!`]. `dev` stands where NCCL has the CUDA device: the local rank.
pub(crate) fn write_info(subsys: Subsys, dev: i32, text: fmt::Arguments<'_>) {
    if WANTED.load(Ordering::Relaxed) & subsys.bits() != 0
        && let Some(logger) = LOGGER.get()
    {
        logger.info(dev, text);
    }
    log::info!(target: subsys.target(), "{text}");
}

/// Writes a WARN line; subsystems do not filter those. For [`warning!`].
pub(crate) fn write_warn(file: &str, line: u32, dev: i32, text: fmt::Arguments<'_>) {
    if WANTED.load(Ordering::Relaxed) & WARN != 0
        && let Some(logger) = LOGGER.get()
    {
        logger.warn(file, line, dev, text);
    }
    log::warn!(target: "nccl", "{text}");
}

/// Writes the version as NCCL does: bare, by `rank` 0 only, at `NCCL_DEBUG=VERSION` and `WARN`; as
/// an INFO line of every process from `INFO` on.
pub(crate) fn version(rank: usize, dev: i32, text: fmt::Arguments<'_>) {
    if let Some(logger) = LOGGER.get() {
        logger.version(rank, dev, text);
    }
    log::debug!(target: "nccl::init", "{text}");
}

/// An INFO line: `info!(Subsys::NET, dev, "Connected to {peer}")`. The text is built only if
/// somebody wants it.
macro_rules! info {
    ($subsys:expr, $dev:expr, $($text:tt)+) => {{
        let subsys: $crate::debug::Subsys = $subsys;
        if $crate::debug::wants_info(subsys) {
            $crate::debug::write_info(subsys, $dev, format_args!($($text)+));
        }
    }};
}

/// A WARN line: `warning!(dev, "rank {rank} is gone")`.
macro_rules! warning {
    ($dev:expr, $($text:tt)+) => {
        $crate::debug::write_warn(file!(), line!(), $dev, format_args!($($text)+))
    };
}

pub(crate) use info;
pub(crate) use warning;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_before_init_and_without_a_listener_cost_no_formatting() {
        struct Never;
        impl fmt::Display for Never {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("the text was built although nobody wants it");
            }
        }
        info!(Subsys::NET, 0, "{}", Never);
        warning!(0, "{}", Never);
        version(0, 0, format_args!("{Never}"));
    }

    #[test]
    fn the_bit_of_warnings_is_no_subsystem() {
        assert_eq!(WARN & Subsys::ALL.bits(), 0);
    }
}
