//! Entries for `fuzz/`.

use crate::store::server::engine::Engine;
use crate::wire::RequestParser;
use crate::wire::store::Request;

/// More than a table and an answer may take.
const LIMIT_BYTES: usize = 1 << 20;

type Requests = Vec<Request<Vec<u8>>>;

/// What a parser makes of `pieces`, and whether it was a violation in the end.
fn parsed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Requests, bool) {
    let mut parser = RequestParser::new();
    let mut requests = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            match parser.next(&mut piece) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => assert!(piece.is_empty(), "it stops before the end"),
                Err(_) => return (requests, true),
            }
        }
    }
    (requests, false)
}

/// What a client sends, in pieces of a length that the first byte tells: the same requests as in one
/// piece, which mean the same after they were written again, and which the server answers.
pub fn store_requests(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (requests, broken) = parsed(std::iter::once(bytes));
    let pieces = parsed(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!((&requests, broken), (&pieces.0, pieces.1));
    let mut again = Vec::new();
    requests.iter().for_each(|request| request.encode(&mut again));
    assert_eq!((&requests, false), (&parsed(std::iter::once(again.as_slice())).0, false));
    let mut engine = Engine::new(LIMIT_BYTES, LIMIT_BYTES);
    let mut out = Vec::new();
    for (at, request) in requests.into_iter().enumerate() {
        // Two clients, so that one can wake the other.
        let client = at as u64 % 2;
        if engine.handle(client, request, &mut out).is_err() {
            engine.forget(client);
        }
        assert!(engine.take_woken().iter().all(|woken| *woken < 2));
        out.clear();
    }
}
