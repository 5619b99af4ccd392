//! The signals this process gets, as values on a channel, and what signals are called.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::SIGCHLD;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::consts::SIGTSTP;
use signal_hook::consts::SIGUSR1;
use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;

/// The signals that a launcher passes on.
const WATCHED: [i32; 6] = [SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2];

/// Calls `deliver` from a thread of its own for every watched signal, until it returns false.
///
/// A signal that was ignored when this process started stays ignored: `nohup nccl run` must
/// survive the hang-up.
///
/// # Errors
/// The kernel refuses a handler or a thread.
pub(crate) fn watch(mut deliver: impl FnMut(i32) -> bool + Send + 'static) -> io::Result<()> {
    // A parent that ignores SIGCHLD hands that down, and then no exit status is ever kept for us.
    // Any handler undoes it; programs we start get the default back.
    signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)))?;
    let ignored = ignored_mask();
    let wanted = WATCHED.into_iter().filter(|signal| ignored & mask_of(*signal) == 0);
    let mut signals = Signals::new(wanted)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if !deliver(signal) {
                return;
            }
        }
    })?;
    Ok(())
}

/// Takes the ending signals without acting on them: the process goes on whatever is sent.
///
/// # Errors
/// The kernel refuses a handler.
pub(crate) fn disregard() -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// Stops this process as Ctrl-Z does; returns when it is continued.
pub(crate) fn stop_self() {
    if let Err(why) = signal_hook::low_level::emulate_default_handler(SIGTSTP) {
        eprintln!("nccl run: cannot stop: {why}");
    }
}

/// `SIGSEGV` for 11, `signal 40` for what has no name.
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// The set of ignored signals, as the kernel writes it; empty where it cannot be read.
fn ignored_mask() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or(0)
}

fn parse_ignored(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn mask_of(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_set_is_read_from_the_status_text() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        let ignored = parse_ignored(status).unwrap();
        assert_ne!(ignored & mask_of(SIGHUP), 0);
        assert_eq!(ignored & mask_of(SIGINT), 0);
        assert_eq!(parse_ignored("Name:\tx\n"), None);
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(11), "SIGSEGV");
        assert_eq!(name(40), "signal 40");
    }
}
