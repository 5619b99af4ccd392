//! Texts of errors without what differs from run to run, so that a test compares all the rest.

/// The text with `P` for ports of this host, `N` for process numbers, `T` for durations and `H` for
/// this host's name.
#[must_use]
pub fn plain(text: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = host.split('.').next().unwrap_or_default();
    let text = text.replace(&format!("host {host},"), "host H,");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let begins = first.is_ascii_digit() && !out.ends_with(is_of_word);
        let (token, after) = if begins { number(rest) } else { rest.split_at(first.len_utf8()) };
        rest = after;
        if !begins {
            out.push_str(token);
        } else if out.ends_with("pid ") || out.ends_with("process ") {
            out.push('N');
        } else if out.ends_with("port ") || (out.ends_with(':') && ends_with_address(&out)) {
            out.push('P');
        } else if let Some(after) = without_unit(rest) {
            out.push('T');
            rest = after;
        } else {
            out.push_str(token);
        }
    }
    out
}

/// Whether a number behind this character is part of a word, a type or a product.
fn is_of_word(before: char) -> bool {
    before.is_alphanumeric() || matches!(before, '_' | '.' | '\u{d7}' | '#')
}

/// The digits and single dots between digits at the beginning, and the rest.
fn number(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_part = |at: usize| is_digit(at) || (bytes.get(at) == Some(&b'.') && is_digit(at + 1));
    let end = (0..bytes.len()).find(|at| !is_part(*at)).unwrap_or(bytes.len());
    text.split_at(end)
}

/// Whether an address of IPv4 stands before the last colon.
fn ends_with_address(text: &str) -> bool {
    let before = text.trim_end_matches(':');
    let begin = before.rfind(|c: char| !c.is_ascii_digit() && c != '.').map_or(0, |at| at + 1);
    before.get(begin..).is_some_and(|word| word.parse::<std::net::Ipv4Addr>().is_ok())
}

/// What follows a unit of time that ends here.
fn without_unit(text: &str) -> Option<&str> {
    let after = ["ns", "\u{b5}s", "ms", " s", "s"].iter().find_map(|unit| text.strip_prefix(unit));
    after.filter(|after| !after.starts_with(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_run_to_run_is_left_out() {
        let text = "rank 2 (pid 77) waited 1.25s, 3ms, 20.0\u{b5}s, (0 s) at 127.0.0.1:4711 in \
                    #18 all_reduce f32\u{d7}40 sum; 0..2, 3 elements; port 80 is held by \
                    process 7 (x) of 10.0.0.1, 1 of 4 ranks, 2 seconds";
        let expected = "rank 2 (pid N) waited T, T, T, (T) at 127.0.0.1:P in \
                    #18 all_reduce f32\u{d7}40 sum; 0..2, 3 elements; port P is held by \
                    process N (x) of 10.0.0.1, 1 of 4 ranks, 2 seconds";
        assert_eq!(plain(text), expected);
    }
}
