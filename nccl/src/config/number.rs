//! Numbers in variables: plain decimal digits, nothing else.

use crate::config::env::Env;
use crate::error::Error;
use crate::error::Result;

/// The most ranks of a world. More is a mistake in a variable, not a machine.
pub(crate) const MAX_WORLD_SIZE: usize = 1_000_000;

/// What a number must look like.
const RULE: &str = "must be a plain decimal number (digits only: no sign, space, unit or prefix)";

/// The number that `text` is; one too large for the type becomes the largest.
pub(super) fn decimal(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err(format!("is empty; it {RULE}"));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RULE.into());
    }
    if digits.len() < text.len() {
        return Err("must not be negative".into());
    }
    Ok(text.bytes().fold(0_u64, |sum, byte| {
        sum.saturating_mul(10).saturating_add(u64::from(byte.saturating_sub(b'0')))
    }))
}

/// The number that `text` is, between `least` and `most`.
pub(super) fn within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let value = decimal(text)?;
    if value < least {
        return Err(format!("must be at least {least}"));
    }
    if value > most {
        return Err(format!("must be at most {most}"));
    }
    Ok(value)
}

/// The number in a variable, if it is set.
pub(super) fn read(env: &Env, var: &str) -> Result<Option<usize>> {
    let Some(text) = env.get(var)? else { return Ok(None) };
    let value = decimal(text).map_err(|problem| Error::env(var, text, problem))?;
    Ok(Some(usize::try_from(value).unwrap_or(usize::MAX)))
}

/// The number of something there must be at least one of, and at most [`MAX_WORLD_SIZE`].
pub(super) fn read_size(env: &Env, var: &str) -> Result<Option<usize>> {
    let Some(size) = read(env, var)? else { return Ok(None) };
    let text = env.get(var)?.unwrap_or_default();
    if size == 0 {
        return Err(Error::env(var, text, "must be at least 1"));
    }
    if size > MAX_WORLD_SIZE {
        let problem = format!("is more than {MAX_WORLD_SIZE}, the most ranks a world can have");
        return Err(Error::env(var, text, problem));
    }
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_digits_are_numbers() {
        for (text, value) in [("0", 0), ("42", 42), ("007", 7), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(decimal(text), Ok(value), "{text}");
        }
        assert_eq!(decimal(&format!("1{}", "0".repeat(30))), Ok(u64::MAX));
        for text in ["abc", " 1", "1 ", "1\n", "+1", "0x1", "1e3", "--1", "-", "1_000", "\u{661}"] {
            assert_eq!(decimal(text), Err(RULE.to_owned()), "{text:?}");
        }
        assert_eq!(decimal("-1"), Err("must not be negative".into()));
        assert_eq!(decimal(""), Err(format!("is empty; it {RULE}")));
        assert_eq!(within("70000", 1, 65535), Err("must be at most 65535".into()));
        assert_eq!(within("0", 1, 65535), Err("must be at least 1".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_an_error(text in ".*") {
            let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            prop_assert_eq!(decimal(&text).is_ok(), ok);
        }

        #[test]
        fn every_number_reads_back(value: u64) {
            prop_assert_eq!(decimal(&value.to_string()), Ok(value));
        }
    }
}
