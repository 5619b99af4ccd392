//! Parsers of values: text in, value or problem out.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::address::HostPort;
use crate::config::number;

/// Milliseconds, at least 1. What is too long for a `Duration` is the longest.
pub(super) fn millis(text: &str) -> Result<Duration, String> {
    match number::decimal(text)? {
        0 => Err("must be at least 1 ms; a wait without a bound does not exist here".into()),
        ms => Ok(Duration::from_millis(ms)),
    }
}

/// Bytes, at least 1, with an optional `K`, `M` or `G` (powers of 1024).
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    match bytes_or_zero(text)? {
        0 => Err("must be at least 1 byte".into()),
        bytes => Ok(bytes),
    }
}

/// The size of a slot: bytes, a multiple of 64 from 1 KiB to 1 MiB.
pub(super) fn slot_bytes(text: &str) -> Result<Option<usize>, String> {
    match bytes(text)? {
        bytes if (1024..=1 << 20).contains(&bytes) && bytes.is_multiple_of(64) => Ok(Some(bytes)),
        _ => Err("must be a multiple of 64 from 1024 to 1048576".into()),
    }
}

/// Bytes with an optional `K`, `M` or `G` (powers of 1024).
pub(super) fn bytes_or_zero(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.len() - 1, 1_u64 << 10),
        Some(b'm' | b'M') => (text.len() - 1, 1 << 20),
        Some(b'g' | b'G') => (text.len() - 1, 1 << 30),
        _ => (text.len(), 1),
    };
    let number = number::decimal(text.get(..digits).unwrap_or_default())
        .map_err(|problem| format!("{problem}, or one with K, M or G"))?;
    let bytes = number.checked_mul(unit).and_then(|bytes| usize::try_from(bytes).ok());
    bytes
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| "is more than the address space".into())
}

/// 0 or 1.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("is neither 0 nor 1".to_owned()),
    }
}

/// A path that is not empty.
pub(super) fn path(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Err("is empty; set it to a path, or unset it".into());
    }
    Ok(Some(PathBuf::from(text)))
}

/// A text that is not empty.
pub(super) fn text(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Err("is empty; give it a value, or unset it".into());
    }
    Ok(Some(text.to_owned()))
}

/// A number of ranks.
pub(super) fn world_size(text: &str) -> Result<Option<usize>, String> {
    let most = u64::try_from(number::MAX_WORLD_SIZE).unwrap_or(u64::MAX);
    let size = number::within(text, 1, most)?;
    Ok(usize::try_from(size).ok())
}

/// `host:port`.
pub(super) fn host_port(text: &str) -> Result<Option<HostPort>, String> {
    HostPort::parse(text).map(Some)
}

/// A number as NCCL reads it: decimal, `0x` hexadecimal or `0` octal, perhaps with a sign.
///
/// NCCL reads as far as it understands (`4M` is 4, `abc` is 0); nobody means that, so such a text
/// is a problem here.
pub(super) fn nccl_number(text: &str) -> Result<i64, String> {
    let trimmed = text.trim_start();
    let (negative, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (radix, digits) =
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            (16, hex)
        } else if rest.len() > 1 && rest.starts_with('0') {
            (8, rest.trim_start_matches('0'))
        } else {
            (10, rest)
        };
    let digits = if digits.is_empty() && radix == 8 { "0" } else { digits };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = i64::from_str_radix(digits, radix).ok().filter(|_| plain);
    let value = value.and_then(|value| if negative { value.checked_neg() } else { Some(value) });
    value.ok_or_else(|| "is no number".into())
}

/// NCCL's switches: 0 is off, any other number on.
pub(super) fn nccl_switch(text: &str) -> Result<bool, String> {
    nccl_number(text).map(|value| value != 0)
}

/// A count of NCCL's: at least 1; -2 and -1 say "automatic".
pub(super) fn nccl_count(text: &str) -> Result<Option<usize>, String> {
    match nccl_number(text)? {
        -2 | -1 => Ok(None),
        value if value < 1 => Err("must be at least 1".into()),
        value => usize::try_from(value).map(Some).map_err(|_| "is too large".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn milliseconds_are_bounded_below_and_saturate_above() {
        assert_eq!(millis("1500"), Ok(Duration::from_millis(1500)));
        assert_eq!(millis(&"9".repeat(40)), Ok(Duration::from_millis(u64::MAX)));
        for text in ["0", "-1", "1.5", "10s", "", "NaN"] {
            assert!(millis(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bytes_take_powers_of_1024() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("2m"), Ok(2 << 20));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        assert_eq!(bytes_or_zero("0"), Ok(0));
        for text in ["0", "K", "4KB", "4 K", "-4", "99999999999G", "18446744073709551615"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn nccls_numbers_have_three_radices() {
        for (text, value) in
            [("4194304", 4_194_304), ("0x10", 16), ("010", 8), ("-2", -2), (" 7", 7)]
        {
            assert_eq!(nccl_number(text), Ok(value), "{text:?}");
        }
        assert_eq!(nccl_number("00"), Ok(0));
        for text in ["4M", "abc", "0x", "09", "", "-", "--1", "+-1", "9223372036854775808"] {
            assert!(nccl_number(text).is_err(), "{text:?}");
        }
        assert_eq!(nccl_switch("2"), Ok(true));
        assert_eq!(nccl_count("-2"), Ok(None));
        assert!(nccl_count("0").is_err());
    }

    proptest! {
        #[test]
        fn no_parser_panics(text in ".*") {
            let _ = millis(&text);
            let _ = bytes(&text);
            let _ = nccl_number(&text);
            let _ = nccl_count(&text);
            let _ = world_size(&text);
            let _ = host_port(&text);
        }
    }
}
