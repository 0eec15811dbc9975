//! Replies to bytes.

use bytes::{BufMut, BytesMut};

use super::Protocol;
use crate::messages::client::Reply;

/// Appends a reply as the client's protocol writes it.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut BytesMut) {
    match (reply, protocol) {
        (Reply::Simple(text), _) => line(b'+', text, out),
        (Reply::Error(text), _) => line(b'-', text, out),
        (Reply::Integer(number), _) => head(b':', *number, out),
        (Reply::Bulk(bytes), _) => bulk(b'$', bytes, out),
        (Reply::Null, Protocol::Resp2) => out.put_slice(b"$-1\r\n"),
        (Reply::Null, Protocol::Resp3) => out.put_slice(b"_\r\n"),
        (Reply::Array(items), _) | (Reply::Set(items), Protocol::Resp2) => all(b'*', items, protocol, out),
        (Reply::Set(items), Protocol::Resp3) => all(b'~', items, protocol, out),
        (Reply::Map(pairs), _) => map(pairs, protocol, out),
        (Reply::Double(number), Protocol::Resp2) => bulk(b'$', double(*number).as_bytes(), out),
        (Reply::Double(number), Protocol::Resp3) => line(b',', &double(*number), out),
        (Reply::Boolean(truth), Protocol::Resp2) => head(b':', i64::from(*truth), out),
        (Reply::Boolean(truth), Protocol::Resp3) => out.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        (Reply::Verbatim(text), Protocol::Resp2) => bulk(b'$', text.as_bytes(), out),
        (Reply::Verbatim(text), Protocol::Resp3) => {
            head(b'=', text.len() as i64 + 4, out);
            out.put_slice(b"txt:");
            out.put_slice(text.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
}

/// The bytes of one reply, for those that are kept encoded.
pub fn encode_flat(reply: &Reply, protocol: Protocol) -> bytes::Bytes {
    let mut out = BytesMut::new();
    encode(reply, protocol, &mut out);
    out.freeze()
}

fn map(pairs: &[(Reply, Reply)], protocol: Protocol, out: &mut BytesMut) {
    match protocol {
        Protocol::Resp2 => head(b'*', pairs.len() as i64 * 2, out),
        Protocol::Resp3 => head(b'%', pairs.len() as i64, out),
    }
    for (key, value) in pairs {
        encode(key, protocol, out);
        encode(value, protocol, out);
    }
}

fn all(kind: u8, items: &[Reply], protocol: Protocol, out: &mut BytesMut) {
    head(kind, items.len() as i64, out);
    for item in items {
        encode(item, protocol, out);
    }
}

fn bulk(kind: u8, bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + 16);
    head(kind, bytes.len() as i64, out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// One line of text. A line break in it would be taken for its end, so it becomes a blank.
fn line(kind: u8, text: &str, out: &mut BytesMut) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    if text.bytes().any(|byte| byte == b'\r' || byte == b'\n') {
        out.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
    } else {
        out.put_slice(text.as_bytes());
    }
    out.put_slice(b"\r\n");
}

fn head(kind: u8, number: i64, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.reserve(digits.len() + 4);
    out.put_u8(kind);
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[start..]);
    out.put_slice(b"\r\n");
}

fn double(number: f64) -> String {
    match number {
        number if number.is_nan() => "nan".into(),
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        number => number.to_string(),
    }
}
