//! Inline commands: one line, words parted by blanks, for people with nothing but `nc`.

use bytes::Bytes;

use super::ProtocolError;

/// The words of a line. In double quotes `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH` and escaped quotes are understood, in single
/// quotes `\'` alone; a closing quote ends its word.
pub(super) fn words(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    let mut rest = line;
    let mut words = Vec::new();
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(words);
        }
        let (word, used) = word(rest)?;
        words.push(Bytes::from(word));
        rest = &rest[used..];
    }
}

fn word(line: &[u8]) -> Result<(Vec<u8>, usize), ProtocolError> {
    let mut word = Vec::new();
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = quoted(line, at, &mut word)?;
                return Ok((word, at));
            }
            byte if is_blank(byte) => break,
            byte => word.push(byte),
        }
        at += 1;
    }
    Ok((word, at))
}

/// Reads a quoted text that opens at `open`; gives the place after its closing quote.
fn quoted(line: &[u8], open: usize, word: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    let quote = line[open];
    let mut at = open + 1;
    loop {
        match line.get(at) {
            None => return Err(ProtocolError::Quotes),
            Some(byte) if *byte == quote => {
                let ends = line.get(at + 1).is_none_or(|next| is_blank(*next));
                return if ends { Ok(at + 1) } else { Err(ProtocolError::Quotes) };
            }
            Some(b'\\') if at + 1 < line.len() => at += escaped(&line[at..], quote, word),
            Some(byte) => {
                word.push(*byte);
                at += 1;
            }
        }
    }
}

/// Reads what follows a backslash; gives how many bytes that were, the backslash included.
fn escaped(text: &[u8], quote: u8, word: &mut Vec<u8>) -> usize {
    if quote == b'\'' {
        let is_quote = text[1] == b'\'';
        word.push(if is_quote { b'\'' } else { b'\\' });
        return if is_quote { 2 } else { 1 };
    }
    if let [_, b'x', high, low, ..] = text
        && let (Some(high), Some(low)) = (hex(*high), hex(*low))
    {
        word.push(high << 4 | low);
        return 4;
    }
    word.push(match text[1] {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    });
    2
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}
