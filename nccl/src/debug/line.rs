//! The shape of a line.

use core::fmt;
use core::fmt::Write;

/// The longest line: what one write puts into a pipe as a whole (`PIPE_BUF` of Linux), so that
/// lines of several processes on one pipe do not tear.
pub(super) const LINE_BYTES: usize = 4096;

/// A line that is cut at [`LINE_BYTES`] and holds no line break but the one at its end.
pub(super) struct Line {
    text: String,
    cut: bool,
}

impl Line {
    /// `host:pid:tid [dev] NCCL INFO text`.
    pub(super) fn info(place: &Place<'_>, dev: i32, text: fmt::Arguments<'_>) -> String {
        let mut line = Self::empty();
        line.head(format_args!("{place} [{dev}] NCCL INFO "));
        line.finish(text)
    }

    /// `host:pid:tid [dev] file:line NCCL WARN text`, behind an empty line as NCCL has it.
    pub(super) fn warn(
        place: &Place<'_>,
        dev: i32,
        (file, at): (&str, u32),
        text: fmt::Arguments<'_>,
    ) -> String {
        let mut line = Self::empty();
        line.head(format_args!("\n{place} [{dev}] {file}:{at} NCCL WARN "));
        line.finish(text)
    }

    /// The text alone.
    pub(super) fn bare(text: fmt::Arguments<'_>) -> String {
        Self::empty().finish(text)
    }

    fn empty() -> Self {
        Self { text: String::new(), cut: false }
    }

    /// The part before the text, which is ours and short.
    fn head(&mut self, head: fmt::Arguments<'_>) {
        // Only a `Display` of the caller's could fail, and there is none.
        let _ = self.text.write_fmt(head);
    }

    fn finish(mut self, text: fmt::Arguments<'_>) -> String {
        // Fails where it is cut, or where a `Display` fails: what is there is said.
        let _ = self.write_fmt(text);
        if self.cut {
            self.text.push_str("...");
        }
        self.text.push('\n');
        self.text
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            // Room for the dots, the line break and the longest escape.
            if self.text.len() + 16 > LINE_BYTES {
                self.cut = true;
                return Err(fmt::Error);
            }
            // What a peer sent must not look like lines of ours, nor steer a terminal.
            if char.is_control() && char != '\t' {
                self.text.extend(char.escape_default());
            } else {
                self.text.push(char);
            }
        }
        Ok(())
    }
}

/// Who writes: `host:pid:tid`.
pub(super) struct Place<'a> {
    /// The host's name as [`host`] gives it.
    pub(super) host: &'a str,
    /// The process.
    pub(super) pid: u32,
    /// The thread, as the kernel counts them.
    pub(super) tid: i32,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.host, self.pid, self.tid)
    }
}

/// The host's name as lines have it: cut at the first dot, and nothing in it that a parser of the
/// line, or a file name made of it, would stumble over.
pub(super) fn host(node_name: &str) -> String {
    let short = node_name.split('.').next().unwrap_or_default();
    let harmless = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { '-' };
    match short {
        "" => "localhost".to_owned(),
        short => short.chars().map(harmless).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { host: "node-1", pid: 12, tid: 345 };

    /// What a parser of NCCL's lines finds: place, device, source, level, text.
    fn parse(line: &str) -> Option<(&str, i32, Option<&str>, &str, &str)> {
        let (before, after) = line.strip_suffix('\n')?.trim_start().split_once("NCCL ")?;
        let (level, text) = after.split_once(' ')?;
        let (place, rest) = before.split_once(" [")?;
        let (dev, source) = rest.split_once("] ")?;
        let mut parts = place.split(':');
        let (host, pid, tid) = (parts.next()?, parts.next()?, parts.next()?);
        let good = !host.is_empty()
            && !host.contains(char::is_whitespace)
            && pid.parse::<u32>().is_ok()
            && tid.parse::<u32>().is_ok()
            && parts.next().is_none()
            && level.chars().all(|c| c.is_ascii_uppercase());
        let source = source.strip_suffix(' ');
        good.then_some((place, dev.parse().ok()?, source, level, text))
    }

    #[test]
    fn lines_have_the_shape_of_nccls() {
        let line = Line::info(&PLACE, 3, format_args!("Using network {}", "Socket"));
        assert_eq!(line, "node-1:12:345 [3] NCCL INFO Using network Socket\n");
        assert_eq!(parse(&line), Some(("node-1:12:345", 3, None, "INFO", "Using network Socket")));
        let line = Line::warn(&PLACE, -1, ("nccl/src/a.rs", 7), format_args!("gone"));
        assert_eq!(line, "\nnode-1:12:345 [-1] nccl/src/a.rs:7 NCCL WARN gone\n");
        assert_eq!(
            parse(&line),
            Some(("node-1:12:345", -1, Some("nccl/src/a.rs:7"), "WARN", "gone"))
        );
        assert_eq!(Line::bare(format_args!("NCCL version {}", 1)), "NCCL version 1\n");
    }

    #[test]
    fn a_text_cannot_forge_a_second_line_or_steer_a_terminal() {
        let text = "x\nnode-1:1:1 [0] NCCL WARN lie\x1b[31m\r";
        let line = Line::info(&PLACE, 0, format_args!("{text}"));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with("x\\nnode-1:1:1 [0] NCCL WARN lie\\u{1b}[31m\\r\n"), "{line:?}");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let text = "\u{1f980}".repeat(LINE_BYTES);
        let line = Line::info(&PLACE, 0, format_args!("{text}"));
        assert!(line.len() <= LINE_BYTES && line.len() > LINE_BYTES - 32);
        assert!(line.ends_with("...\n"));
    }

    #[test]
    fn a_display_that_fails_leaves_what_was_there() {
        struct Bad;
        impl fmt::Display for Bad {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(Line::bare(format_args!("{Bad} never")), "half\n");
    }

    #[test]
    fn host_names_are_short_and_harmless() {
        assert_eq!(host("gpu-07.cluster.example.org"), "gpu-07");
        assert_eq!(host("a%b/c:d e"), "a-b-c-d-e");
        assert_eq!(host(""), "localhost");
        assert_eq!(host(".example"), "localhost");
    }
}
