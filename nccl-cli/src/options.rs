//! Values of options, as every subcommand reads them.

use std::time::Duration;

use nccl::config::BackendChoice;
use nccl::config::TransportChoice;

/// Reads `2`, `0.5`: seconds, more than none, less than what a clock can add.
///
/// # Errors
/// Says what can be written.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    const MOST_SECONDS: f64 = 1e9;
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds > 0.0 && seconds <= MOST_SECONDS {
        Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())
    } else {
        Err("must be more than 0 seconds (and at most 1e9)".to_owned())
    }
}

/// Reads `8`, `4K`, `1M`, `2GiB`: bytes, with suffixes of powers of 1024.
///
/// # Errors
/// Says what a size looks like.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    const WANTED: &str = "not a size; write bytes as 8, 4K, 1M or 2G";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
    let shift = match suffix.trim_end_matches("IB").trim_end_matches('B') {
        "" if suffix == "IB" => return Err(WANTED.to_owned()),
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(WANTED.to_owned()),
    };
    let number: usize = digits.parse().map_err(|_| WANTED.to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than an address has".to_owned())
}

/// Reads the name of a backend.
///
/// # Errors
/// Says what can be written.
pub(crate) fn backend(name: &str) -> Result<BackendChoice, String> {
    match name {
        "auto" => Ok(BackendChoice::Auto),
        "cpu" => Ok(BackendChoice::Cpu),
        "nccl" => Ok(BackendChoice::Nccl),
        _ => Err("must be auto, cpu or nccl".to_owned()),
    }
}

/// Reads the name of a transport.
///
/// # Errors
/// Says what can be written.
pub(crate) fn transport(name: &str) -> Result<TransportChoice, String> {
    match name {
        "shm" => Ok(TransportChoice::Shm),
        "tcp" => Ok(TransportChoice::Tcp),
        _ => Err("must be shm or tcp; leave it out to choose by pair".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["0", "-1", "NaN", "inf", "1e300", "", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn suffixes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("8", 8),
            ("8B", 8),
            ("4K", 4096),
            ("4k", 4096),
            ("1M", 1 << 20),
            ("1MiB", 1 << 20),
            ("2GB", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "1.5M", "-1", "4 K", "4X", "4iB", "99999999999G", "1KK"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
