//! Bytes to replies: for `keyval ctl`, which is a client, and for tests.

use bytes::{Buf, Bytes, BytesMut};

use super::parser::integer;
use super::{Limits, ProtocolError};
use crate::messages::client::Reply;

/// How deep replies may be nested.
const DEPTH: usize = 32;

/// Takes one reply, in either protocol, out of `input`. None while it is not complete.
///
/// # Errors
/// When this is no reply, or one that is larger than [`Limits::CLIENT`] allows.
pub fn decode(input: &mut BytesMut) -> Result<Option<Reply>, ProtocolError> {
    let mut reader = Reader { input, at: 0 };
    let Some(reply) = reader.reply(DEPTH)? else { return Ok(None) };
    let used = reader.at;
    input.advance(used);
    Ok(Some(reply))
}

struct Reader<'a> {
    input: &'a BytesMut,
    at: usize,
}

impl Reader<'_> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, ProtocolError> {
        if depth == 0 {
            return Err(ProtocolError::Depth);
        }
        let Some((kind, line)) = self.line()? else { return Ok(None) };
        Ok(Some(match kind {
            b'+' => Reply::Simple(text(&line).into()),
            b'-' => Reply::Error(text(&line).into()),
            b':' => Reply::Integer(number(&line)?),
            b'_' => Reply::Null,
            b'#' => Reply::Boolean(line == "t"),
            b',' => Reply::Double(text(&line).parse().map_err(|_| ProtocolError::Reply)?),
            b'$' | b'*' if line == "-1" => Reply::Null,
            b'$' => match self.bytes(number(&line)?)? {
                Some(bytes) => Reply::Bulk(bytes),
                None => return Ok(None),
            },
            b'=' => match self.bytes(number(&line)?)? {
                Some(bytes) => Reply::Verbatim(text(bytes.get(4..).ok_or(ProtocolError::Reply)?)),
                None => return Ok(None),
            },
            b'*' | b'~' | b'>' => match self.all(number(&line)?, depth - 1)? {
                Some(items) if kind == b'~' => Reply::Set(items),
                Some(items) => Reply::Array(items),
                None => return Ok(None),
            },
            b'%' => match self.all(number(&line)?.saturating_mul(2), depth - 1)? {
                Some(items) => Reply::Map(pairs(items)),
                None => return Ok(None),
            },
            _ => return Err(ProtocolError::Reply),
        }))
    }

    fn all(&mut self, count: i64, depth: usize) -> Result<Option<Vec<Reply>>, ProtocolError> {
        let count = usize::try_from(count).map_err(|_| ProtocolError::Reply)?;
        let mut items = Vec::new();
        for _ in 0..count {
            match self.reply(depth)? {
                Some(item) => items.push(item),
                None => return Ok(None),
            }
        }
        Ok(Some(items))
    }

    fn line(&mut self) -> Result<Option<(u8, Bytes)>, ProtocolError> {
        let rest = &self.input[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let [kind, line @ .., b'\r'] = &rest[..end] else { return Err(ProtocolError::Reply) };
        self.at += end + 1;
        Ok(Some((*kind, Bytes::copy_from_slice(line))))
    }

    fn bytes(&mut self, length: i64) -> Result<Option<Bytes>, ProtocolError> {
        let length = usize::try_from(length).map_err(|_| ProtocolError::Reply)?;
        if length > Limits::CLIENT.word {
            return Err(ProtocolError::Length);
        }
        let Some(bytes) = self.input.get(self.at..self.at + length + 2) else { return Ok(None) };
        self.at += length + 2;
        match bytes {
            [bytes @ .., b'\r', b'\n'] => Ok(Some(Bytes::copy_from_slice(bytes))),
            _ => Err(ProtocolError::Reply),
        }
    }
}

fn number(line: &[u8]) -> Result<i64, ProtocolError> {
    integer(line).ok_or(ProtocolError::Reply)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pairs(items: Vec<Reply>) -> Vec<(Reply, Reply)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}
