use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::store::MAGIC;

type Owned = Request<Vec<u8>>;

/// One of each command.
fn samples() -> Vec<Owned> {
    let b = |text: &str| text.as_bytes().to_vec();
    vec![
        Request::Validate(MAGIC),
        Request::Set(b("/k"), b("value")),
        Request::CompareSet(b("/k"), b(""), b("x")),
        Request::Get(b("/k")),
        Request::Add(b("/n"), -5),
        Request::Check(vec![b("/a"), b("")]),
        Request::Wait(vec![b("/a"), b("/b"), b("/c")]),
        Request::CountKeys,
        Request::Delete(b("/k")),
        Request::Append(b("/k"), b("more")),
        Request::MultiGet(vec![b("/a")]),
        Request::MultiSet(vec![(b("/a"), b("1")), (b("/b"), b(""))]),
        Request::CancelWait,
        Request::Ping(0xDEAD_BEEF),
        Request::QueuePush(b("/q"), b("v")),
        Request::QueuePop(b("/q")),
        Request::QueueLen(b("/q")),
        Request::ListKeys,
        Request::Barrier(b("/b"), 3),
    ]
}

fn encode(requests: &[Owned]) -> Vec<u8> {
    let mut out = Vec::new();
    requests.iter().for_each(|request| request.encode(&mut out));
    out
}

fn parse_all(parser: &mut RequestParser, mut input: &[u8]) -> Result<Vec<Owned>, Violation> {
    let mut requests = Vec::new();
    while let Some(request) = parser.next(&mut input)? {
        requests.push(request);
    }
    assert!(input.is_empty(), "the parser leaves bytes only behind a whole request");
    Ok(requests)
}

#[test]
fn every_command_survives_the_way_there_and_back_byte_by_byte() {
    let requests = samples();
    let bytes = encode(&requests);
    assert_eq!(parse_all(&mut RequestParser::new(), &bytes).unwrap(), requests);
    let mut parser = RequestParser::new();
    let mut got = Vec::new();
    for byte in &bytes {
        got.extend(parse_all(&mut parser, std::slice::from_ref(byte)).unwrap());
    }
    assert_eq!(got, requests);
    assert!(!parser.is_inside());
    assert_eq!(parser.held_bytes(), 0);
}

#[test]
fn a_request_cut_at_any_byte_never_comes_out() {
    for request in samples() {
        let bytes = encode(std::slice::from_ref(&request));
        for cut in 0..bytes.len() {
            let mut parser = RequestParser::new();
            assert_eq!(parse_all(&mut parser, &bytes[..cut]).unwrap(), []);
            assert_eq!(parser.is_inside(), cut > 0);
            assert_eq!(
                parse_all(&mut parser, &bytes[cut..]).unwrap().as_slice(),
                [&request].map(Clone::clone)
            );
        }
    }
}

#[test]
fn every_first_byte_is_a_command_or_a_violation() {
    for code in 0..=255_u8 {
        let mut parser = RequestParser::new();
        let got = parser.next(&mut &[code][..]);
        match code {
            7 | 12 | 17 => assert!(matches!(got, Ok(Some(_))), "{code}"),
            0..=18 => assert_eq!(got, Ok(None), "{code}"),
            _ => {
                assert_eq!(got, Err(Violation::UnknownCommand(code)));
                assert_eq!(parser.next(&mut &[7_u8][..]), Err(Violation::Broken));
            }
        }
    }
}

/// The bytes before each length or count of a request, and its limit.
fn length_fields() -> Vec<(Vec<u8>, usize)> {
    let key = |code: u8, key: &[u8]| {
        let mut bytes = vec![code];
        crate::wire::store::put_bytes(&mut bytes, key);
        bytes
    };
    let count = |code: u8| {
        let mut bytes = vec![code];
        bytes.extend_from_slice(&1_u64.to_le_bytes());
        bytes
    };
    let mut fields = Vec::new();
    for code in [1, 2, 3, 4, 8, 9, 14, 15, 16, 18] {
        fields.push((vec![code], MAX_KEY_BYTES));
    }
    for code in [1, 2, 9, 14] {
        fields.push((key(code, b"/k"), MAX_VALUE_BYTES));
    }
    let mut third = key(2, b"/k");
    crate::wire::store::put_bytes(&mut third, b"");
    fields.push((third, MAX_VALUE_BYTES));
    for code in [5, 6, 10, 11] {
        fields.push((vec![code], MAX_KEYS));
        fields.push((count(code), MAX_KEY_BYTES));
    }
    let mut pair = count(11);
    crate::wire::store::put_bytes(&mut pair, b"/k");
    fields.push((pair, MAX_VALUE_BYTES));
    fields
}

#[test]
fn every_length_is_checked_before_anything_is_allocated() {
    for (before, max) in length_fields() {
        let max_number = max as u64;
        let hostile = [max_number + 1, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX];
        for number in hostile {
            let mut parser = RequestParser::new();
            let mut bytes = before.clone();
            bytes.extend_from_slice(&number.to_le_bytes());
            let got = parse_all(&mut parser, &bytes);
            assert!(
                matches!(got, Err(Violation::TooLarge { got, .. }) if got == number),
                "{before:?} {number}: {got:?}"
            );
        }
        for number in [0, 1, max_number] {
            let mut parser = RequestParser::new();
            let mut bytes = before.clone();
            bytes.extend_from_slice(&number.to_le_bytes());
            assert!(parse_all(&mut parser, &bytes).is_ok(), "{before:?} {number}");
            assert!(parser.text.capacity() <= GROW_BYTES);
            assert!(parser.texts.capacity() <= 8);
        }
    }
}

#[test]
fn an_unfinished_multi_set_costs_no_more_than_its_bytes() {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> =
        (0..100_000).map(|at| (format!("/{at:06}").into_bytes(), vec![7; 77])).collect();
    let bytes = encode(&[Request::MultiSet(pairs)]);
    assert!(bytes.len() > 10_000_000);
    let begun = std::time::Instant::now();
    let mut parser = RequestParser::new();
    for chunk in bytes[..bytes.len() - 1].chunks(100) {
        assert_eq!(parse_all(&mut parser, chunk).unwrap(), []);
    }
    assert!(parser.held_bytes() >= 8_400_000);
    assert!(begun.elapsed().as_secs() < 1, "{:?}", begun.elapsed());
}

fn any_request() -> impl Strategy<Value = Owned> {
    let text = || vec(any::<u8>(), 0..40);
    prop_oneof![
        any::<u32>().prop_map(Request::Validate),
        (text(), text()).prop_map(|(k, v)| Request::Set(k, v)),
        (text(), text(), text()).prop_map(|(k, e, d)| Request::CompareSet(k, e, d)),
        text().prop_map(Request::Get),
        (text(), any::<i64>()).prop_map(|(k, n)| Request::Add(k, n)),
        vec(text(), 0..5).prop_map(Request::Check),
        vec(text(), 0..5).prop_map(Request::Wait),
        vec(text(), 0..5).prop_map(Request::MultiGet),
        vec((text(), text()), 0..5).prop_map(Request::MultiSet),
        (text(), any::<i64>()).prop_map(|(k, n)| Request::Barrier(k, n)),
        (0..19_usize).prop_map(|at| samples().swap_remove(at)),
    ]
}

proptest! {
    #[test]
    fn any_requests_in_any_pieces_come_out_as_they_went_in(
        requests in vec(any_request(), 0..12),
        cuts in vec(1_usize..50, 1..40),
    ) {
        let bytes = encode(&requests);
        let mut parser = RequestParser::new();
        let mut got = Vec::new();
        let mut rest = &bytes[..];
        for size in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*size).min(rest.len()));
            got.extend(parse_all(&mut parser, now).unwrap());
            rest = later;
        }
        prop_assert_eq!(got, requests);
    }

    #[test]
    fn any_bytes_give_the_same_result_whole_and_in_pieces(
        bytes in vec(prop_oneof![Just(0_u8), 0..19_u8, any::<u8>()], 0..300),
        size in 1_usize..20,
    ) {
        let whole = drain(&bytes, bytes.len().max(1));
        prop_assert_eq!(whole, drain(&bytes, size));
    }
}

/// All requests up to the first violation, and that.
fn drain(bytes: &[u8], size: usize) -> (Vec<Owned>, Option<Violation>) {
    let mut parser = RequestParser::new();
    let mut requests = Vec::new();
    for mut chunk in bytes.chunks(size) {
        loop {
            match parser.next(&mut chunk) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(violation) => return (requests, Some(violation)),
            }
        }
    }
    (requests, None)
}
