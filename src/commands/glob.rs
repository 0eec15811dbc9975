//! Patterns, as `SCAN` and `CONFIG GET` take them: `*`, `?`, `[a-c]`, `[^x]`, and `\` before what is meant literally.

/// Whether the text is of the pattern. Takes at most pattern times text steps, whatever the pattern.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to go on when what follows the last star does not fit: there in the pattern, one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, read));
            continue;
        }
        match (pattern.get(at), text.get(read)) {
            (None, None) => return true,
            (Some(_), Some(byte)) => {
                let (fits, next) = one(pattern, at, *byte);
                if fits {
                    (at, read) = (next, read + 1);
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((star, from)) if from < text.len() => {
                retry = Some((star, from + 1));
                (at, read) = (star, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether one byte is of the part of the pattern that begins at `at`, and where the next part begins.
fn one(pattern: &[u8], at: usize, byte: u8) -> (bool, usize) {
    match pattern[at] {
        b'?' => (true, at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte, at + 2),
        literal => (literal == byte, at + 1),
    }
}

fn class(pattern: &[u8], start: usize, byte: u8) -> (bool, usize) {
    let negated = pattern.get(start) == Some(&b'^');
    let mut at = start + usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[at..] {
            [] => return (found != negated, at),
            [b']', ..] => return (found != negated, at + 1),
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_those_of_redis() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("a*c", "abbc"),
            ("a?c", "abc"),
            ("*a*b*", "xaxbx"),
            ("[abc]", "b"),
            ("[^abc]", "x"),
            ("[a-c]x", "bx"),
            ("[c-a]x", "bx"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("a[b", "ab"),
            ("h\\", "h\\"),
            ("**", "abc"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a*c", "ab"),
            ("a?c", "ac"),
            ("[abc]", "x"),
            ("[^abc]", "a"),
            ("\\*", "a"),
            ("?", ""),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        assert!(!matches("a*".repeat(100).as_bytes(), "a".repeat(99).as_bytes()));
        assert!(!matches(format!("{}b", "*a".repeat(500)).as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
