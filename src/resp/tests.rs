//! What the protocol promises: facts first, then claims checked with random input.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::messages::client::Reply;

type Commands = Result<Vec<Vec<Bytes>>, ProtocolError>;

fn read_all(parser: &mut Parser, input: &mut BytesMut, commands: &mut Vec<Vec<Bytes>>) -> Result<(), ProtocolError> {
    while let Some(words) = parser.next(input)? {
        commands.push(words);
    }
    Ok(())
}

/// What comes of bytes that arrive in pieces of these sizes, over and over.
fn parse_in(bytes: &[u8], pieces: &[usize], limits: Limits) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let (mut parser, mut input, mut commands) = (Parser::new(limits), BytesMut::new(), Vec::new());
    let mut sizes = pieces.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = (*sizes.next().expect("at least one piece")).min(rest.len());
        input.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        if let Err(error) = read_all(&mut parser, &mut input, &mut commands) {
            return (commands, Some(error));
        }
    }
    (commands, None)
}

fn parse(bytes: &[u8]) -> Commands {
    match parse_in(bytes, &[usize::MAX], Limits::CLIENT) {
        (commands, None) => Ok(commands),
        (_, Some(error)) => Err(error),
    }
}

fn stranger(bytes: &[u8]) -> Commands {
    match parse_in(bytes, &[usize::MAX], Limits::STRANGER) {
        (commands, None) => Ok(commands),
        (_, Some(error)) => Err(error),
    }
}

fn words(words: &[&str]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn written(words: &[Bytes]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&Reply::Array(words.iter().cloned().map(Reply::Bulk).collect()), Protocol::Resp2, &mut out);
    out.to_vec()
}

#[test]
fn commands_are_arrays_of_bulk_strings() {
    assert_eq!(
        parse(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"),
        Ok(vec![words(&["GET", "a"]), words(&["PING"])])
    );
    assert_eq!(parse(b"*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\n"), Ok(vec![words(&[""])]));
    assert_eq!(parse(b"*1\r\n$4\r\n\r\n\r\n\r\n"), Ok(vec![words(&["\r\n\r\n"])]));
}

#[test]
fn commands_are_lines() {
    assert_eq!(parse(b"PING\r\nSET a  b\n\r\n\n"), Ok(vec![words(&["PING"]), words(&["SET", "a", "b"])]));
    assert_eq!(parse(b"SET \"a b\\n\\x41\\\"\" 'c\\'d\\n'\r\n"), Ok(vec![words(&["SET", "a b\nA\"", "c'd\\n"])]));
    assert_eq!(parse(b"SET a \"\"\r\n"), Ok(vec![words(&["SET", "a", ""])]));
    assert_eq!(parse(b"SET foo\"bar\" \"\\xzz\"\r\n"), Ok(vec![words(&["SET", "foobar", "xzz"])]));
    for open in ["\"a", "'a", "\"a\"b", "'a'b", "\"\\"] {
        assert_eq!(parse(format!("SET {open}\r\n").as_bytes()), Err(ProtocolError::Quotes), "{open}");
    }
    assert_eq!(parse(b"POST / HTTP/1.1\r\n"), Err(ProtocolError::Http));
    assert_eq!(parse(b"Host: a\r\n"), Err(ProtocolError::Http));
}

#[test]
fn errors_are_those_that_clients_know() {
    let long = "1".repeat(70_000);
    let cases = [
        ("*x\r\n", "invalid multibulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\rx", "invalid multibulk length"),
        ("*1\r\n:1\r\n", "expected '$', got ':'"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$ 1\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*1\r\n$1\r\nabc", "expected CRLF after a bulk string"),
        (&format!("*{long}"), "too big mbulk count string"),
        (&format!("*1\r\n${long}"), "too big bulk count string"),
        (&long, "too big inline request"),
        (&format!("{long}\r\n"), "too big inline request"),
    ];
    for (input, text) in cases {
        let error = parse(input.as_bytes()).expect_err(text);
        assert_eq!(
            error.reply(),
            Reply::error(format!("ERR Protocol error: {text}")),
            "{}",
            &input[..10.min(input.len())]
        );
    }
}

#[test]
fn strangers_may_send_little() {
    assert_eq!(stranger(b"*11\r\n"), Err(ProtocolError::StrangerCount));
    assert_eq!(stranger(b"*2000000\r\n"), Err(ProtocolError::Count));
    assert_eq!(stranger(b"*2\r\n$16385\r\n"), Err(ProtocolError::StrangerLength));
    assert_eq!(stranger(b"a b c d e f g h i j k\r\n"), Err(ProtocolError::StrangerCount));
    assert_eq!(stranger(&[b'a'; 17_000]), Err(ProtocolError::InlineTooBig));
    let most: Vec<Bytes> = vec![Bytes::from(vec![b'x'; 16 << 10]); 10];
    assert_eq!(stranger(&written(&most)), Ok(vec![most]));
}

#[test]
fn a_command_has_a_limit_of_its_own() {
    let limits = Limits { words: 8, word: 8, inline: 8, command: 32 };
    assert_eq!(parse_in(b"*3\r\n$8\r\naaaaaaaa\r\n$8\r\n", &[100], limits), (vec![], None));
    assert_eq!(
        parse_in(b"*3\r\n$8\r\naaaaaaaa\r\n$8\r\naaaaaaaa\r\n$1\r\n", &[100], limits),
        (vec![], Some(ProtocolError::CommandTooBig))
    );
}

#[test]
fn a_claim_of_much_allocates_nothing() {
    let mut parser = Parser::new(Limits::CLIENT);
    let mut input = BytesMut::from(&b"*1048576\r\n$536870912\r\nabc"[..]);
    let capacity = input.capacity();
    assert_eq!(parser.next(&mut input), Ok(None));
    assert_eq!(input.capacity(), capacity);
    assert_eq!(parser.wanting(&input), 536_870_912 + 2 - 3);
}

#[test]
fn a_parser_that_failed_stays_so() {
    let mut parser = Parser::new(Limits::CLIENT);
    let mut input = BytesMut::from(&b"*x\r\n"[..]);
    assert_eq!(parser.next(&mut input), Err(ProtocolError::Count));
    let mut input = BytesMut::from(&b"PING\r\n"[..]);
    assert_eq!(parser.next(&mut input), Err(ProtocolError::Count));
}

#[test]
fn replies_are_written_in_both_protocols() {
    let cases: [(Reply, &str, &str); 13] = [
        (Reply::ok(), "+OK\r\n", "+OK\r\n"),
        (Reply::error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        (Reply::Integer(-12), ":-12\r\n", ":-12\r\n"),
        (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (Reply::text("a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
        (Reply::Null, "$-1\r\n", "_\r\n"),
        (Reply::Array(vec![Reply::Null]), "*1\r\n$-1\r\n", "*1\r\n_\r\n"),
        (Reply::Set(vec![Reply::Integer(0)]), "*1\r\n:0\r\n", "~1\r\n:0\r\n"),
        (Reply::Map(vec![(Reply::text("a"), Reply::Integer(1))]), "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"),
        (Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (Reply::Boolean(true), ":1\r\n", "#t\r\n"),
        (Reply::Verbatim("hi".into()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
    ];
    for (reply, two, three) in cases {
        assert_eq!(encode_flat(&reply, Protocol::Resp2), two, "{reply:?}");
        assert_eq!(encode_flat(&reply, Protocol::Resp3), three, "{reply:?}");
    }
}

fn any_command() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(vec(any::<u8>(), 0..20).prop_map(Bytes::from), 1..6).prop_map(|words| written(&words)),
        "[a-z\"' \\\\]{0,20}\r?\n".prop_map(String::into_bytes),
        "\\*-?[0-9]{1,3}\r\n".prop_map(String::into_bytes),
        "[*$+a-z0-9\r\n-]{0,12}".prop_map(String::into_bytes),
    ]
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        "[ -~]{0,20}".prop_map(|text| Reply::Simple(text.into())),
        "[ -~]{0,20}".prop_map(|text| Reply::Error(text.into())),
        any::<i64>().prop_map(Reply::Integer),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Reply::Bulk(bytes.into())),
        Just(Reply::Null),
        any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()).prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
        ".{0,20}".prop_map(Reply::Verbatim),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Reply::Array),
            vec(inner.clone(), 0..5).prop_map(Reply::Set),
            vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
        ]
    })
}

/// The same reply as one who speaks RESP2 reads it.
fn as_resp2(reply: Reply) -> Reply {
    match reply {
        Reply::Array(items) | Reply::Set(items) => Reply::Array(items.into_iter().map(as_resp2).collect()),
        Reply::Map(pairs) => {
            Reply::Array(pairs.into_iter().flat_map(|(key, value)| [as_resp2(key), as_resp2(value)]).collect())
        }
        Reply::Double(number) => Reply::text(number.to_string()),
        Reply::Boolean(truth) => Reply::Integer(truth.into()),
        Reply::Verbatim(text) => Reply::text(text),
        other => other,
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        commands in vec(any_command(), 1..8),
        pieces in vec(1usize..20, 1..6),
        is_stranger in any::<bool>(),
    ) {
        let limits = if is_stranger { Limits::STRANGER } else { Limits { words: 50, word: 100, inline: 15, command: 60 } };
        let bytes = commands.concat();
        let whole = parse_in(&bytes, &[usize::MAX], limits);
        prop_assert_eq!(parse_in(&bytes, &pieces, limits), whole.clone());
        prop_assert_eq!(parse_in(&bytes, &[1], limits), whole);
    }

    #[test]
    fn what_was_written_is_read(commands in vec(vec(vec(any::<u8>(), 0..50).prop_map(Bytes::from), 1..6), 1..6)) {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| written(words)).collect();
        prop_assert_eq!(parse(&bytes), Ok(commands));
    }

    #[test]
    fn a_prefix_is_never_complete(words in vec(vec(any::<u8>(), 0..20).prop_map(Bytes::from), 1..5)) {
        let bytes = written(&words);
        for cut in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(vec![]));
        }
    }

    #[test]
    fn replies_come_back(reply in any_reply()) {
        let mut three = BytesMut::from(&encode_flat(&reply, Protocol::Resp3)[..]);
        for cut in 0..three.len() {
            prop_assert_eq!(decode(&mut BytesMut::from(&three[..cut])), Ok(None));
        }
        prop_assert_eq!(decode(&mut three), Ok(Some(reply.clone())));
        prop_assert!(three.is_empty());
        let mut two = BytesMut::from(&encode_flat(&reply, Protocol::Resp2)[..]);
        prop_assert_eq!(decode(&mut two), Ok(Some(as_resp2(reply))));
    }

    #[test]
    fn noise_panics_nowhere(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let _ = decode(&mut BytesMut::from(&bytes[..]));
    }
}
