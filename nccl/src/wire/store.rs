//! The requests and replies of torch's TCPStore, as bytes.
//!
//! A request is one byte that names the command, then its fields; numbers are little-endian, text
//! and values stand behind their length in eight bytes. Requests carry no number: a connection
//! answers in order, and some commands are never answered.
//!
//! # Source
//! `TCPStoreBackend.hpp` and `TCPStoreLibUvBackend.cpp` of torch.

/// The number that a connection begins with.
pub(crate) const MAGIC: u32 = 0x3C85_F7CE;

/// Longest key in bytes, with its leading slash.
pub(crate) const MAX_KEY_BYTES: usize = 8 * 1024;
/// Longest value of one request in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// Most keys in one request.
pub(crate) const MAX_KEYS: usize = 128 * 1024;

/// Reply to a check: all keys exist.
pub(crate) const READY: u8 = 0;
/// Reply to a check: some key does not exist.
pub(crate) const NOT_READY: u8 = 1;
/// Reply to a wait: all keys exist.
pub(crate) const STOP_WAITING: u8 = 0;
/// Reply to the end of a wait.
pub(crate) const WAIT_CANCELED: u8 = 1;

/// The number of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Command {
    Validate = 0,
    Set = 1,
    CompareSet = 2,
    Get = 3,
    Add = 4,
    Check = 5,
    Wait = 6,
    CountKeys = 7,
    Delete = 8,
    Append = 9,
    MultiGet = 10,
    MultiSet = 11,
    CancelWait = 12,
    Ping = 13,
    QueuePush = 14,
    QueuePop = 15,
    QueueLen = 16,
    ListKeys = 17,
    Barrier = 18,
}

impl Command {
    /// Every command, in the order of the numbers.
    pub(crate) const ALL: [Self; 19] = [
        Self::Validate,
        Self::Set,
        Self::CompareSet,
        Self::Get,
        Self::Add,
        Self::Check,
        Self::Wait,
        Self::CountKeys,
        Self::Delete,
        Self::Append,
        Self::MultiGet,
        Self::MultiSet,
        Self::CancelWait,
        Self::Ping,
        Self::QueuePush,
        Self::QueuePop,
        Self::QueueLen,
        Self::ListKeys,
        Self::Barrier,
    ];

    /// The command of a number.
    pub(crate) fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// One request, whose keys and values are `B`: borrowed where it is made, owned where it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request<B> {
    /// Begins a connection; not answered.
    Validate(u32),
    /// Sets a key; not answered.
    Set(B, B),
    /// Sets the key to the third if it is the second; answers the value.
    CompareSet(B, B, B),
    /// Answers the value, an empty one where there is none.
    Get(B),
    /// Adds to the decimal number of the key; answers the sum.
    Add(B, i64),
    /// Answers whether all keys exist.
    Check(Vec<B>),
    /// Answers once all keys exist.
    Wait(Vec<B>),
    /// Answers the number of keys.
    CountKeys,
    /// Removes a key; answers whether it was there.
    Delete(B),
    /// Appends to the value; not answered.
    Append(B, B),
    /// Answers the values.
    MultiGet(Vec<B>),
    /// Sets keys; not answered.
    MultiSet(Vec<(B, B)>),
    /// Ends a wait; answered.
    CancelWait,
    /// Answers the same number.
    Ping(u32),
    /// Appends to a queue; not answered.
    QueuePush(B, B),
    /// Takes the first value of a queue; answers the length before, then the value if there is one.
    QueuePop(B),
    /// Answers the length of a queue.
    QueueLen(B),
    /// Answers every key.
    ListKeys,
    /// Adds 1 to the key; answers once it is the second or more.
    Barrier(B, i64),
}

impl<B: AsRef<[u8]>> Request<B> {
    /// The command of the request.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Validate(_) => Command::Validate,
            Self::Set(..) => Command::Set,
            Self::CompareSet(..) => Command::CompareSet,
            Self::Get(_) => Command::Get,
            Self::Add(..) => Command::Add,
            Self::Check(_) => Command::Check,
            Self::Wait(_) => Command::Wait,
            Self::CountKeys => Command::CountKeys,
            Self::Delete(_) => Command::Delete,
            Self::Append(..) => Command::Append,
            Self::MultiGet(_) => Command::MultiGet,
            Self::MultiSet(_) => Command::MultiSet,
            Self::CancelWait => Command::CancelWait,
            Self::Ping(_) => Command::Ping,
            Self::QueuePush(..) => Command::QueuePush,
            Self::QueuePop(_) => Command::QueuePop,
            Self::QueueLen(_) => Command::QueueLen,
            Self::ListKeys => Command::ListKeys,
            Self::Barrier(..) => Command::Barrier,
        }
    }

    /// Appends the request's bytes to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.command() as u8);
        match self {
            Self::CountKeys | Self::CancelWait | Self::ListKeys => {}
            Self::Validate(number) | Self::Ping(number) => {
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Get(key) | Self::Delete(key) | Self::QueuePop(key) | Self::QueueLen(key) => {
                put_bytes(out, key.as_ref());
            }
            Self::Set(key, value) | Self::Append(key, value) | Self::QueuePush(key, value) => {
                put_bytes(out, key.as_ref());
                put_bytes(out, value.as_ref());
            }
            Self::CompareSet(key, expected, desired) => {
                put_bytes(out, key.as_ref());
                put_bytes(out, expected.as_ref());
                put_bytes(out, desired.as_ref());
            }
            Self::Add(key, number) | Self::Barrier(key, number) => {
                put_bytes(out, key.as_ref());
                put_i64(out, *number);
            }
            Self::Check(keys) | Self::Wait(keys) | Self::MultiGet(keys) => {
                put_count(out, keys.len());
                keys.iter().for_each(|key| put_bytes(out, key.as_ref()));
            }
            Self::MultiSet(pairs) => {
                put_count(out, pairs.len());
                for (key, value) in pairs {
                    put_bytes(out, key.as_ref());
                    put_bytes(out, value.as_ref());
                }
            }
        }
    }
}

/// Appends bytes behind their length: a text of a request, or the value of a reply.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a number of a reply.
pub(crate) fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a count of things.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(request: &Request<&[u8]>) -> String {
        let mut out = Vec::new();
        request.encode(&mut out);
        out.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn requests_have_the_bytes_that_torch_sends() {
        assert_eq!(hex(&Request::Validate(MAGIC)), "00cef7853c");
        assert_eq!(hex(&Request::Set(b"/k", b"v")), "0102000000000000002f6b010000000000000076");
        assert_eq!(hex(&Request::Add(b"/n", -7)), "0402000000000000002f6ef9ffffffffffffff");
        assert_eq!(
            hex(&Request::Check(vec![b"/k", b"/zz"])),
            "05020000000000000002000000000000002f6b03000000000000002f7a7a"
        );
        assert_eq!(hex(&Request::Barrier(b"/b", 1)), "1202000000000000002f620100000000000000");
        assert_eq!(hex(&Request::CancelWait), "0c");
    }

    #[test]
    fn the_numbers_of_the_commands_are_0_to_18() {
        for code in 0..=255_u8 {
            match Command::of(code) {
                Some(command) => assert_eq!(command as u8, code),
                None => assert!(code > 18),
            }
        }
        assert_eq!(Command::of(18), Some(Command::Barrier));
    }
}
