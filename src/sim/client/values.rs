//! What clients write: numbers, each written once; now and then a long value, which is its number and something behind it.
//!
//! How much is behind it follows from the number, so that a part of a value is told from the whole.

use std::fmt::Write;

use bytes::Bytes;

/// The shortest and the longest of what is put behind a number.
const PADDING: (usize, usize) = (200, 2_000);

/// A number that nobody writes.
const NONE: u64 = u64::MAX;

/// A number as it is written.
pub(super) fn text(number: u64, long: bool) -> Bytes {
    let mut text = number.to_string();
    if long {
        write!(text, ":{:.<1$}", "", padding(number)).expect("a text takes all");
    }
    Bytes::from(text)
}

/// The number of what was read; one that nobody writes if it is not as somebody wrote it.
pub(super) fn number(bytes: &Bytes) -> u64 {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[..digits]).ok().and_then(|text| text.parse().ok()).unwrap_or(NONE);
    if *bytes == text(number, digits < bytes.len()) { number } else { NONE }
}

fn padding(number: u64) -> usize {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    PADDING.0 + mixed as usize % (PADDING.1 - PADDING.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_by_its_number_and_a_part_of_it_is_no_value() {
        for value in [7, 1 << 32 | 9] {
            let (short, long) = (text(value, false), text(value, true));
            assert_eq!((number(&short), number(&long)), (value, value));
            assert!(short.len() < PADDING.0 && long.len() > PADDING.0);
            assert_eq!(number(&long.slice(..long.len() - 1)), NONE);
        }
        assert_eq!(number(&Bytes::from_static(b"+1")), NONE);
        assert_eq!(number(&Bytes::new()), NONE);
    }
}
