//! Entries for `fuzz/`.

use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::clock::Deadline;
use crate::store::client::conn::Broken;
use crate::store::client::conn::Conn;

/// Replies of a server that says anything: the first byte tells how many reads there are, the next
/// ones which, and the rest is what the server says before it closes.
pub fn store_replies(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let Some((reads, said)) = rest.split_at_checked(usize::from(count % 8)) else { return };
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return };
    // More than fits would wait for a reader.
    let said = said.get(..said.len().min(32 << 10)).unwrap_or_default();
    if theirs.write_all(said).and_then(|()| theirs.shutdown(Shutdown::Write)).is_err() {
        return;
    }
    // A stream of bytes like any other to the reader.
    let mut conn = Conn::new(TcpStream::from(OwnedFd::from(ours)));
    let deadline = Deadline::after(Duration::from_secs(5));
    for read in reads {
        let done = match read % 5 {
            0 => conn.receive_u8(&deadline).map(drop),
            1 => conn.receive_i64(&deadline).map(drop),
            2 => conn.receive_count(&deadline).map(drop),
            3 => conn.receive_value(&deadline).map(|value| assert!(value.len() <= said.len())),
            _ => {
                assert!(conn.receive_some(&deadline).len() <= 64);
                Ok(())
            }
        };
        match done {
            Ok(()) => {}
            Err(Broken::Lost(why)) => {
                assert!(!why.is_empty());
                return;
            }
            Err(Broken::Timeout) => panic!("everything is here, nothing is to be waited for"),
        }
    }
}
