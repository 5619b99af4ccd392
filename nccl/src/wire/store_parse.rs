//! Requests out of bytes that arrive in any pieces.

use core::fmt;
use core::mem;

use crate::wire::store::Command;
use crate::wire::store::MAX_KEY_BYTES;
use crate::wire::store::MAX_KEYS;
use crate::wire::store::MAX_VALUE_BYTES;
use crate::wire::store::Request;

/// How far a buffer grows ahead of the bytes that are here: a length alone costs nothing.
const GROW_BYTES: usize = 64 * 1024;

/// Bytes that are no request. The connection that sent them cannot be understood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// No command has this number.
    UnknownCommand(u8),
    /// A length or a count is above its limit.
    TooLarge { field: &'static str, got: u64, max: usize },
    /// The parser was used after it had failed.
    Broken,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(code) => write!(f, "{code} is the number of no command"),
            Self::TooLarge { field, got, max } => {
                write!(f, "the {field} is {got}, above the limit of {max}")
            }
            Self::Broken => f.write_str("bytes after a request that could not be understood"),
        }
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The first byte of a request.
    Command,
    /// A number of this many bytes, and what it is.
    Number(usize, Number),
    /// The bytes of a key or a value.
    Text,
    /// Nothing: an earlier byte was wrong.
    Broken,
}

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// How many keys or pairs follow.
    Count,
    /// How long the next key or value is.
    Length,
    /// The number that ends the request.
    Last,
}

/// Takes requests from a stream of bytes and keeps its place between the pieces.
///
/// Every byte is looked at once. A request comes out when its last byte is here and not before;
/// lengths are checked as soon as they are known, and memory grows only as bytes arrive.
#[derive(Debug)]
pub(crate) struct RequestParser {
    step: Step,
    command: Command,
    digits: [u8; 8],
    digits_len: usize,
    texts: Vec<Vec<u8>>,
    texts_wanted: usize,
    text: Vec<u8>,
    text_wanted: usize,
    held_bytes: usize,
}

impl RequestParser {
    /// A parser at the beginning of a request.
    pub(crate) fn new() -> Self {
        Self {
            step: Step::Command,
            command: Command::Validate,
            digits: [0; 8],
            digits_len: 0,
            texts: Vec::new(),
            texts_wanted: 0,
            text: Vec::new(),
            text_wanted: 0,
            held_bytes: 0,
        }
    }

    /// Whether a request has begun and is not whole.
    pub(crate) fn is_inside(&self) -> bool {
        !matches!(self.step, Step::Command)
    }

    /// About how much memory the unfinished request takes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes bytes from the front of `input` until a request is whole or `input` is empty.
    pub(crate) fn next(
        &mut self,
        input: &mut &[u8],
    ) -> Result<Option<Request<Vec<u8>>>, Violation> {
        loop {
            let whole = match self.step {
                Step::Broken => Err(Violation::Broken),
                Step::Command => match input.split_first() {
                    None => return Ok(None),
                    Some((&code, rest)) => {
                        *input = rest;
                        self.begin(code)
                    }
                },
                Step::Number(wanted, meaning) => match self.number(input, wanted) {
                    None => return Ok(None),
                    Some(number) => self.take_number(meaning, number),
                },
                Step::Text => {
                    if !self.fill_text(input) {
                        return Ok(None);
                    }
                    self.end_text()
                }
            };
            match whole {
                Ok(None) => {}
                Ok(Some(request)) => {
                    self.step = Step::Command;
                    self.held_bytes = 0;
                    return Ok(Some(request));
                }
                Err(violation) => {
                    self.step = Step::Broken;
                    self.texts = Vec::new();
                    self.text = Vec::new();
                    self.held_bytes = 0;
                    return Err(violation);
                }
            }
        }
    }

    fn begin(&mut self, code: u8) -> Result<Option<Request<Vec<u8>>>, Violation> {
        self.command = Command::of(code).ok_or(Violation::UnknownCommand(code))?;
        self.texts_wanted = match self.command {
            Command::CountKeys => return Ok(Some(Request::CountKeys)),
            Command::CancelWait => return Ok(Some(Request::CancelWait)),
            Command::ListKeys => return Ok(Some(Request::ListKeys)),
            Command::Validate | Command::Ping => {
                self.step = Step::Number(4, Number::Last);
                return Ok(None);
            }
            Command::Check | Command::Wait | Command::MultiGet | Command::MultiSet => {
                self.step = Step::Number(8, Number::Count);
                return Ok(None);
            }
            Command::CompareSet => 3,
            Command::Set | Command::Append | Command::QueuePush => 2,
            _ => 1,
        };
        self.step = Step::Number(8, Number::Length);
        Ok(None)
    }

    /// The next number, if all its `wanted` bytes are here.
    fn number(&mut self, input: &mut &[u8], wanted: usize) -> Option<u64> {
        while self.digits_len < wanted {
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            if let Some(digit) = self.digits.get_mut(self.digits_len) {
                *digit = byte;
            }
            self.digits_len += 1;
        }
        let number = u64::from_le_bytes(self.digits);
        self.digits = [0; 8];
        self.digits_len = 0;
        Some(number)
    }

    fn take_number(
        &mut self,
        meaning: Number,
        number: u64,
    ) -> Result<Option<Request<Vec<u8>>>, Violation> {
        match meaning {
            Number::Count => {
                let count = limited("number of keys", number, MAX_KEYS)?;
                let each = if self.command == Command::MultiSet { 2 } else { 1 };
                self.texts_wanted = count.saturating_mul(each);
                self.step = Step::Number(8, Number::Length);
                Ok((count == 0).then(|| self.finish(0)))
            }
            Number::Length => {
                let (field, max) = self.next_text();
                self.text_wanted = limited(field, number, max)?;
                self.step = Step::Text;
                Ok(None)
            }
            Number::Last => Ok(Some(self.finish(number))),
        }
    }

    /// What the next text is, and how long it may be.
    fn next_text(&self) -> (&'static str, usize) {
        let at = self.texts.len();
        let is_key = match self.command {
            Command::MultiSet => at.is_multiple_of(2),
            Command::Check | Command::Wait | Command::MultiGet => true,
            _ => at == 0,
        };
        if is_key {
            ("length of a key", MAX_KEY_BYTES)
        } else {
            ("length of a value", MAX_VALUE_BYTES)
        }
    }

    /// Takes what is here of the current text; says whether it is whole.
    fn fill_text(&mut self, input: &mut &[u8]) -> bool {
        let missing = self.text_wanted.saturating_sub(self.text.len());
        let (now, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if self.text.capacity() - self.text.len() < now.len() {
            let ahead = self.text.len().max(GROW_BYTES).min(missing);
            self.text.reserve_exact(ahead.max(now.len()));
        }
        self.text.extend_from_slice(now);
        self.held_bytes = self.held_bytes.saturating_add(now.len());
        self.text.len() >= self.text_wanted
    }

    fn end_text(&mut self) -> Result<Option<Request<Vec<u8>>>, Violation> {
        self.texts.push(mem::take(&mut self.text));
        self.held_bytes = self.held_bytes.saturating_add(size_of::<Vec<u8>>());
        if self.texts.len() < self.texts_wanted {
            self.step = Step::Number(8, Number::Length);
            return Ok(None);
        }
        if matches!(self.command, Command::Add | Command::Barrier) {
            self.step = Step::Number(8, Number::Last);
            return Ok(None);
        }
        Ok(Some(self.finish(0)))
    }

    /// The request, now that everything of it is here.
    fn finish(&mut self, last: u64) -> Request<Vec<u8>> {
        let mut texts = mem::take(&mut self.texts).into_iter();
        // Exactly as many texts are here as the command has: the steps above have counted them.
        let mut text = || texts.next().unwrap_or_default();
        match self.command {
            Command::Validate => Request::Validate(low_half(last)),
            Command::Ping => Request::Ping(low_half(last)),
            Command::Set => Request::Set(text(), text()),
            Command::CompareSet => Request::CompareSet(text(), text(), text()),
            Command::Get => Request::Get(text()),
            Command::Add => Request::Add(text(), last.cast_signed()),
            Command::Check => Request::Check(texts.collect()),
            Command::Wait => Request::Wait(texts.collect()),
            Command::CountKeys => Request::CountKeys,
            Command::Delete => Request::Delete(text()),
            Command::Append => Request::Append(text(), text()),
            Command::MultiGet => Request::MultiGet(texts.collect()),
            Command::MultiSet => {
                let pairs = texts.len() / 2;
                Request::MultiSet(
                    (0..pairs)
                        .map(|_| {
                            (texts.next().unwrap_or_default(), texts.next().unwrap_or_default())
                        })
                        .collect(),
                )
            }
            Command::CancelWait => Request::CancelWait,
            Command::QueuePush => Request::QueuePush(text(), text()),
            Command::QueuePop => Request::QueuePop(text()),
            Command::QueueLen => Request::QueueLen(text()),
            Command::ListKeys => Request::ListKeys,
            Command::Barrier => Request::Barrier(text(), last.cast_signed()),
        }
    }
}

fn limited(field: &'static str, got: u64, max: usize) -> Result<usize, Violation> {
    match usize::try_from(got) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Violation::TooLarge { field, got, max }),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the number was read from four bytes")]
fn low_half(number: u64) -> u32 {
    number as u32
}

#[cfg(test)]
#[path = "store_parse_tests.rs"]
mod tests;
