//! Keys in messages.

/// `"a", "b" and 3 more`.
pub(super) fn list<K: AsRef<str>>(keys: &[K]) -> String {
    const SHOWN: usize = 16;
    let mut text = String::new();
    for (at, key) in keys.iter().take(SHOWN).enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(&format!("{:?}", short(key.as_ref())));
    }
    if keys.len() > SHOWN {
        text.push_str(&format!(" and {} more", keys.len() - SHOWN));
    }
    text
}

/// A key that is cut where it gets too long for a message.
fn short(key: &str) -> String {
    const SHOWN: usize = 200;
    if key.chars().count() <= SHOWN {
        return key.to_owned();
    }
    let cut: String = key.chars().take(SHOWN).collect();
    format!("{cut}... ({} bytes)", key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_long_keys_are_cut() {
        assert_eq!(list(&["a", "b"]), "\"a\", \"b\"");
        assert!(list(&vec!["k"; 20]).ends_with(" and 4 more"));
        assert!(list(&["x".repeat(8000)]).ends_with("... (8000 bytes)\""));
    }
}
