//! What a store holds, and what each request does to it. Knows no socket, file or thread.

use core::fmt;
use std::collections::HashMap;
use std::collections::VecDeque;

/// What an entry costs besides its key and value, about.
const ENTRY_BYTES: usize = 64;

/// Longest value that appending makes; longer ones could not be read back.
pub(super) const MAX_STORED_BYTES: usize = 48 * 1024 * 1024;

/// Why a table does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The value to add to is no decimal number.
    NotANumber,
    /// The sum would not fit into 64 bits.
    Overflow,
    /// The table holds as much as it may.
    Full { limit_bytes: usize },
    /// The appended value would be too long.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber => {
                f.write_str("the value is no decimal number, so nothing can be added")
            }
            Self::Overflow => f.write_str("the sum does not fit into 64 bits"),
            Self::Full { limit_bytes } => {
                write!(f, "the store is full: it holds up to {limit_bytes} bytes; delete keys")
            }
            Self::TooLong => {
                write!(f, "the value would be longer than {MAX_STORED_BYTES} bytes")
            }
        }
    }
}

/// Keys with values, and queues, up to a number of bytes.
#[derive(Debug)]
pub(super) struct Table {
    values: HashMap<Vec<u8>, Vec<u8>>,
    queues: HashMap<Vec<u8>, VecDeque<Vec<u8>>>,
    bytes: usize,
    limit_bytes: usize,
}

impl Table {
    /// An empty table that takes up to `limit_bytes`.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { values: HashMap::new(), queues: HashMap::new(), bytes: 0, limit_bytes }
    }

    /// How many bytes it holds, with what the entries cost.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// Whether `key` has a value, or a queue that is not empty.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.values.contains_key(key) || self.queues.contains_key(key)
    }

    /// How many keys have a value.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The keys that have a value, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.values.keys().map(Vec::as_slice)
    }

    /// Sets `key` to `value`.
    pub(super) fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Refusal> {
        let old = self.values.get(&key).map(|value| cost(&key, value));
        self.reserve(cost(&key, &value), old.unwrap_or(0))?;
        self.values.insert(key, value);
        Ok(())
    }

    /// Sets several keys, or none.
    pub(super) fn set_all(&mut self, pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), Refusal> {
        // A key that comes twice has the last of its values.
        let pairs: HashMap<Vec<u8>, Vec<u8>> = pairs.into_iter().collect();
        let added: usize = pairs.iter().map(|(key, value)| cost(key, value)).sum();
        let old = pairs.keys().filter_map(|key| self.values.get(key).map(|value| cost(key, value)));
        let removed = old.sum();
        self.reserve(added, removed)?;
        self.values.extend(pairs);
        Ok(())
    }

    /// Removes the value of `key`; says whether there was one.
    pub(super) fn delete(&mut self, key: &[u8]) -> bool {
        match self.values.remove(key) {
            Some(value) => {
                self.bytes = self.bytes.saturating_sub(cost(key, &value));
                true
            }
            None => false,
        }
    }

    /// The number at `key`, if it is one.
    pub(super) fn number(&self, key: &[u8]) -> Option<i64> {
        parse_number(self.values.get(key)?)
    }

    /// Adds to the number of `key`, 0 if it has no value.
    pub(super) fn add(&mut self, key: Vec<u8>, delta: i64) -> Result<i64, Refusal> {
        let sum = self.sum(&key, delta)?;
        self.set(key, sum.to_string().into_bytes())?;
        Ok(sum)
    }

    /// What adding to the number of `key` would give.
    pub(super) fn sum(&self, key: &[u8], delta: i64) -> Result<i64, Refusal> {
        let old = match self.values.get(key) {
            Some(value) => parse_number(value).ok_or(Refusal::NotANumber)?,
            None => 0,
        };
        old.checked_add(delta).ok_or(Refusal::Overflow)
    }

    /// Sets `key` to `desired` if it is `expected`, or missing while `expected` is empty. Returns
    /// what torch answers, and whether it was set.
    pub(super) fn compare_set(
        &mut self,
        key: Vec<u8>,
        expected: Vec<u8>,
        desired: Vec<u8>,
    ) -> Result<(Vec<u8>, bool), Refusal> {
        match self.values.get(&key) {
            Some(current) if *current != expected => return Ok((current.clone(), false)),
            None if !expected.is_empty() => return Ok((expected, false)),
            _ => {}
        }
        self.set(key, desired.clone())?;
        Ok((desired, true))
    }

    /// Appends to the value of `key`, an empty one if it has none.
    pub(super) fn append(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), Refusal> {
        let old = self.values.get(&key).map(Vec::len);
        if old.unwrap_or(0).saturating_add(value.len()) > MAX_STORED_BYTES {
            return Err(Refusal::TooLong);
        }
        let added = if old.is_some() { value.len() } else { cost(&key, value) };
        self.reserve(added, 0)?;
        self.values.entry(key).or_default().extend_from_slice(value);
        Ok(())
    }

    /// Appends a value to the queue `key`.
    pub(super) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Refusal> {
        self.reserve(cost(&key, &value), 0)?;
        self.queues.entry(key).or_default().push_back(value);
        Ok(())
    }

    /// Takes the first value of the queue `key`, and says how many there were.
    pub(super) fn pop(&mut self, key: &[u8]) -> (usize, Option<Vec<u8>>) {
        let Some(queue) = self.queues.get_mut(key) else { return (0, None) };
        let before = queue.len();
        let first = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(key);
        }
        if let Some(value) = &first {
            self.bytes = self.bytes.saturating_sub(cost(key, value));
        }
        (before, first)
    }

    /// The first value of the queue `key`.
    pub(super) fn first(&self, key: &[u8]) -> Option<&[u8]> {
        self.queues.get(key)?.front().map(Vec::as_slice)
    }

    /// How many values the queue `key` holds.
    pub(super) fn queue_len(&self, key: &[u8]) -> usize {
        self.queues.get(key).map_or(0, VecDeque::len)
    }

    fn reserve(&mut self, added: usize, removed: usize) -> Result<(), Refusal> {
        let bytes = self.bytes.saturating_sub(removed).saturating_add(added);
        // What makes it smaller is always allowed.
        if bytes > self.limit_bytes && added > removed {
            return Err(Refusal::Full { limit_bytes: self.limit_bytes });
        }
        self.bytes = bytes;
        Ok(())
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len().saturating_add(value.len()).saturating_add(ENTRY_BYTES)
}

/// The number that a text begins with, as C's `strtoll` reads it: blanks, a sign, digits.
fn parse_number(text: &[u8]) -> Option<i64> {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | 9..=13)).count();
    let text = text.get(blanks..)?;
    let signs = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let digits = text.get(signs..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    core::str::from_utf8(text.get(..signs + digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[test]
    fn numbers_are_read_as_strtoll_reads_them() {
        for (text, number) in [
            ("5", Some(5)),
            ("-2", Some(-2)),
            ("\t\n -12abc", Some(-12)),
            ("+5", Some(5)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("abc", None),
            ("\u{e9}5", None),
        ] {
            assert_eq!(parse_number(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn adding_never_wraps_and_leaves_the_value() {
        let mut table = Table::new(1 << 20);
        table.set(b("n"), i64::MAX.to_string().into_bytes()).unwrap();
        assert_eq!(table.add(b("n"), 1), Err(Refusal::Overflow));
        assert_eq!(table.number(b"n"), Some(i64::MAX));
        table.set(b("t"), b("text")).unwrap();
        assert_eq!(table.add(b("t"), 1), Err(Refusal::NotANumber));
    }

    #[test]
    fn a_full_table_refuses_to_grow_and_can_shrink() {
        let mut table = Table::new(1000);
        table.set(b("a"), vec![0; 900]).unwrap();
        assert_eq!(table.bytes(), 1 + 900 + ENTRY_BYTES);
        let full = Err(Refusal::Full { limit_bytes: 1000 });
        assert_eq!(table.set(b("b"), b("")), full);
        assert_eq!(table.append(b("a"), &[0; 36]), full);
        assert_eq!(table.push(b("q"), b("")), full);
        assert_eq!(table.set_all(vec![(b("a"), b("")), (b("c"), vec![0; 900])]), full);
        assert_eq!(table.get(b"a").map(<[u8]>::len), Some(900), "nothing of it was applied");
        table.append(b("a"), &[0; 35]).unwrap();
        table.set(b("a"), vec![0; 10]).unwrap();
        assert!(table.delete(b"a"));
        assert_eq!(table.bytes(), 0);
        table.push(b("q"), b("x")).unwrap();
        assert_eq!(table.pop(b"q"), (1, Some(b("x"))));
        assert_eq!((table.bytes(), table.contains(b"q")), (0, false));
    }

    #[test]
    fn compare_set_answers_as_torch_does() {
        let mut table = Table::new(1 << 20);
        let mut ask = |e: &str, d: &str| table.compare_set(b("c"), b(e), b(d)).unwrap();
        assert_eq!(ask("no", "z"), (b("no"), false));
        assert_eq!(ask("", "x"), (b("x"), true));
        assert_eq!(ask("x", "y"), (b("y"), true));
        assert_eq!(ask("no", "z"), (b("y"), false));
        assert_eq!(ask("", "z"), (b("y"), false));
    }
}
