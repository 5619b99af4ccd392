//! What a rank prints: read by line, tagged, kept in a log file, the last lines remembered.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::run::print::Printer;

/// A longer line is cut here: a rank that prints no newline must not cost memory without end.
pub(crate) const LINE_BYTES: usize = 64 * 1024;

/// How many of a rank's last lines a report shows.
pub(crate) const TAIL_LINES: usize = 20;

/// How much of each of them.
const TAIL_LINE_BYTES: usize = 500;

/// The last lines of one stream of one rank.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    lines: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl Tail {
    /// Adds the lines to those of before and drops the oldest.
    fn extend(&self, new: impl Iterator<Item = Vec<u8>>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(new);
        let surplus = lines.len().saturating_sub(TAIL_LINES);
        lines.drain(..surplus);
    }

    /// The lines, oldest first, without their ends.
    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// Where the lines of one stream of one rank go.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Before each line; empty for none.
    pub(crate) tag: String,
    /// Our own stream.
    pub(crate) printer: Printer,
    /// Remembers the last lines.
    pub(crate) tail: Tail,
    /// Gets the bytes as they are.
    pub(crate) log: Option<File>,
    /// For what goes wrong with the log file.
    pub(crate) notices: Printer,
    /// The stream's name in such a notice.
    pub(crate) name: String,
}

/// Reads to the end of the stream. Never stops reading because nobody wants the output: the rank
/// would block on a full pipe.
pub(crate) fn pump(mut from: impl Read, mut sink: Sink) {
    let mut chunk = vec![0; LINE_BYTES];
    let mut lines = Lines::new(sink.tag.clone());
    loop {
        let got = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => got,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let bytes = chunk.get(..got).unwrap_or_default();
        sink.log(bytes);
        sink.print(lines.take(bytes));
    }
    sink.print(lines.finish());
}

impl Sink {
    /// A full disk ends the log file, not the run.
    fn log(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.log else { return };
        if let Err(why) = file.write_all(bytes) {
            let name = &self.name;
            self.notices.notice(&format!("the log file of {name} is incomplete from here: {why}"));
            self.log = None;
        }
    }

    fn print(&self, whole: Whole) {
        if !whole.printed.is_empty() {
            self.tail.extend(whole.tail.into_iter());
            self.printer.lines(whole.printed);
        }
    }
}

/// Whole lines, ready for print.
#[derive(Debug, Default)]
struct Whole {
    printed: Vec<u8>,
    tail: VecDeque<Vec<u8>>,
}

impl Whole {
    fn push(&mut self, tag: &str, line: &[u8]) {
        self.printed.extend_from_slice(tag.as_bytes());
        self.printed.extend_from_slice(line);
        self.printed.push(b'\n');
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.get(..TAIL_LINE_BYTES).unwrap_or(line).to_vec());
    }
}

/// Cuts a stream of bytes into lines; the bytes need not be text.
#[derive(Debug)]
struct Lines {
    tag: String,
    begun: Vec<u8>,
}

impl Lines {
    fn new(tag: String) -> Self {
        Self { tag, begun: Vec::new() }
    }

    /// The lines that end within `bytes`, and pieces of the one that is too long.
    fn take(&mut self, mut bytes: &[u8]) -> Whole {
        let mut whole = Whole::default();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.begin(line, &mut whole);
            whole.push(&self.tag, &self.begun);
            self.begun.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.begin(bytes, &mut whole);
        whole
    }

    /// Adds to the line that has no end yet; afterwards it is at most [`LINE_BYTES`] long.
    fn begin(&mut self, mut more: &[u8], whole: &mut Whole) {
        while self.begun.len() + more.len() > LINE_BYTES {
            let (fits, rest) = more.split_at(LINE_BYTES - self.begun.len());
            self.begun.extend_from_slice(fits);
            whole.push(&self.tag, &self.begun);
            self.begun.clear();
            more = rest;
        }
        self.begun.extend_from_slice(more);
    }

    /// What was printed without a newline at the end.
    fn finish(&mut self) -> Whole {
        let mut whole = Whole::default();
        if !self.begun.is_empty() {
            whole.push(&self.tag, &self.begun);
            self.begun.clear();
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<u8> {
        let mut lines = Lines::new("[rank 3] ".to_owned());
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(lines.take(piece).printed);
        }
        all.extend(lines.finish().printed);
        all
    }

    #[test]
    fn every_line_gets_the_tag_wherever_the_stream_is_cut() {
        let text = b"one\n\ntw\xff\xfeo\nthree";
        let expected = b"[rank 3] one\n[rank 3] \n[rank 3] tw\xff\xfeo\n[rank 3] three\n";
        for at in 0..=text.len() {
            let (first, second) = text.split_at(at);
            assert_eq!(cut(&[first, second]), expected, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(cut(&bytes), expected);
        assert_eq!(cut(&[]), b"");
    }

    #[test]
    fn a_line_without_end_is_cut_and_loses_nothing() {
        let long = vec![b'x'; 3 * LINE_BYTES + 5];
        let printed = cut(&[&long[..LINE_BYTES + 1], &long[LINE_BYTES + 1..]]);
        let lines: Vec<&[u8]> = printed.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 5);
        let lengths: Vec<usize> = lines.iter().map(|line| line.len().saturating_sub(9)).collect();
        assert_eq!(lengths, [LINE_BYTES, LINE_BYTES, LINE_BYTES, 5, 0]);
    }

    #[test]
    fn a_line_of_just_the_limit_stays_whole() {
        let mut line = vec![b'x'; LINE_BYTES];
        line.push(b'\n');
        assert_eq!(cut(&[&line]).len(), LINE_BYTES + 1 + 9);
    }

    #[test]
    fn the_tail_holds_the_last_lines() {
        let tail = Tail::default();
        tail.extend((0..15).map(|n| vec![n]));
        tail.extend((15..30).map(|n| vec![n]));
        let expected: Vec<Vec<u8>> = (10..30).map(|n| vec![n]).collect();
        assert_eq!(tail.lines(), expected);
    }
}
