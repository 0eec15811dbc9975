//! Bytes to commands, one at a time, from input that comes in pieces.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::{Limits, ProtocolError, inline};

/// How long the line that tells a count or a length may be.
const LINE: usize = 64 << 10;

/// Reads the commands of one connection. It remembers how far it has come in a command that is not complete, so that a
/// command that arrives in many pieces is looked at once.
#[derive(Clone, Debug)]
pub struct Parser {
    limits: Limits,
    failed: Option<ProtocolError>,
    /// Where in the input the next thing to be read begins.
    at: usize,
    /// How far the input was searched for the end of a line.
    searched: usize,
    /// Words that are still to come in the command that is being read.
    missing: usize,
    /// Length of the word that is being read.
    length: Option<usize>,
    /// Where the words read so far lie in the input.
    words: Vec<Range<usize>>,
}

impl Parser {
    /// One for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, failed: None, at: 0, searched: 0, missing: 0, length: None, words: Vec::new() }
    }

    /// From the next command on, these limits hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next command out of `input`: its words, of which there is at least one. None while it is not complete; call
    /// again when more has been appended to `input`, and do nothing else to it. While the client has not said who it is, carry
    /// each command out before the next is taken: it may change the limits.
    ///
    /// # Errors
    /// When the input breaks the protocol or a limit; then for ever.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.read(input);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// How many more bytes must come, at least, before there is a command: for sizing the next read. Never more than what
    /// has been promised within the limits, so reserve it in bounded steps.
    pub fn wanting(&self, input: &BytesMut) -> usize {
        let end = self.at + self.length.map_or(0, |length| length + 2);
        end.saturating_sub(input.len()).max(1)
    }

    fn read(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.missing == 0 {
                match input.first() {
                    None => return Ok(None),
                    Some(b'*') => match self.read_count(input)? {
                        None => return Ok(None),
                        Some(0) => continue,
                        Some(count) => self.missing = count,
                    },
                    Some(_) => match self.read_inline(input)? {
                        Some(words) if words.is_empty() => continue,
                        result => return Ok(result),
                    },
                }
            }
            while self.missing > 0 {
                if !self.read_word(input)? {
                    return Ok(None);
                }
            }
            return Ok(Some(self.take(input)));
        }
    }

    fn read_inline(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let limit = self.limits.inline;
        let end = input[self.searched..].iter().position(|byte| *byte == b'\n').map(|place| self.searched + place);
        match end {
            Some(end) if end <= limit => {
                let line = input.split_to(end + 1);
                self.searched = 0;
                let words = inline::words(&line[..end])?;
                if words.len() > self.limits.words {
                    return Err(self.too_many_words());
                }
                if words.first().is_some_and(is_http) {
                    return Err(ProtocolError::Http);
                }
                Ok(Some(words))
            }
            None if input.len() <= limit => {
                self.searched = input.len();
                Ok(None)
            }
            _ => Err(ProtocolError::InlineTooBig),
        }
    }

    /// Reads `*count`. A count below one is a command of no words, to be passed over.
    fn read_count(&mut self, input: &mut BytesMut) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(input, ProtocolError::CountTooBig, ProtocolError::Count)? else { return Ok(None) };
        let count = integer(&input[1..line.end]).ok_or(ProtocolError::Count)?;
        if count <= 0 {
            input.advance(self.at);
            self.reset();
            return Ok(Some(0));
        }
        match usize::try_from(count) {
            Ok(count) if count <= self.limits.words => Ok(Some(count)),
            Ok(count) if count <= Limits::CLIENT.words => Err(self.too_many_words()),
            _ => Err(ProtocolError::Count),
        }
    }

    /// Reads `$length` and the word itself. False: it is not complete.
    fn read_word(&mut self, input: &BytesMut) -> Result<bool, ProtocolError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.read_length(input)? {
                Some(length) => length,
                None => return Ok(false),
            },
        };
        let end = self.at + length;
        if end + 2 > self.limits.command {
            return Err(ProtocolError::CommandTooBig);
        }
        // Looked at as soon as it is there, so that the same bytes fail at the same place however they come.
        match (input.get(end), input.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {}
            (Some(b'\r') | None, None) => return Ok(false),
            _ => return Err(ProtocolError::End),
        }
        self.words.push(self.at..end);
        self.at = end + 2;
        self.searched = self.at;
        self.length = None;
        self.missing -= 1;
        Ok(true)
    }

    fn read_length(&mut self, input: &BytesMut) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::Expected(char::from(*other))),
        }
        let Some(line) = self.line(input, ProtocolError::LengthTooBig, ProtocolError::Length)? else { return Ok(None) };
        let length = integer(&input[line.start + 1..line.end]).ok_or(ProtocolError::Length)?;
        let length = usize::try_from(length).map_err(|_| ProtocolError::Length)?;
        match length {
            length if length <= self.limits.word => {}
            length if length <= Limits::CLIENT.word => return Err(ProtocolError::StrangerLength),
            _ => return Err(ProtocolError::Length),
        }
        self.length = Some(length);
        Ok(Some(length))
    }

    /// Finds the line that begins where we are, and goes behind its end.
    fn line(
        &mut self,
        input: &BytesMut,
        too_big: ProtocolError,
        invalid: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let start = self.at;
        let from = self.searched.max(start);
        let Some(end) = input[from..].iter().position(|byte| *byte == b'\r').map(|place| from + place) else {
            self.searched = input.len();
            return if input.len() - start > LINE { Err(too_big) } else { Ok(None) };
        };
        if end - start > LINE {
            return Err(too_big);
        }
        self.searched = end;
        match input.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.at = end + 2;
                self.searched = self.at;
                Ok(Some(start..end))
            }
            Some(_) => Err(invalid),
        }
    }

    fn take(&mut self, input: &mut BytesMut) -> Vec<Bytes> {
        let whole = input.split_to(self.at).freeze();
        let words = self.words.drain(..).map(|word| whole.slice(word)).collect();
        self.reset();
        words
    }

    fn reset(&mut self) {
        self.at = 0;
        self.searched = 0;
        self.missing = 0;
        self.length = None;
        // A command of very many words is rare: its list of places is not kept for the next.
        if self.words.capacity() > 1024 {
            self.words = Vec::new();
        }
    }

    fn too_many_words(&self) -> ProtocolError {
        if self.limits.words < Limits::CLIENT.words { ProtocolError::StrangerCount } else { ProtocolError::Count }
    }
}

/// A whole number as the protocol writes it: digits, with a sign at most before them. No blanks, no leading zeros.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |sum, digit| {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        let digit = (digit <= 9).then_some(if negative { -digit } else { digit })?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn is_http(word: &Bytes) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}
