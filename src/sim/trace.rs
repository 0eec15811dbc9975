//! What happened in a run, as a digest and, if wished, as lines.
//!
//! Two runs of one seed must be the same run. Whatever happens is folded into a digest in the order in which it happens, so
//! comparing two digests compares two runs.

use sha2::{Digest, Sha256};

use super::clock::Time;

/// The record of a run.
#[derive(Debug, Default)]
pub struct Trace {
    digest: Sha256,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps lines for a person to read, besides the digest.
    pub fn keep_lines(&mut self) {
        self.lines.get_or_insert_default();
    }

    /// Whether lines are kept: where composing one is dear, ask first.
    pub fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// Folds one happening into the digest.
    pub fn fold(&mut self, at: Time, kind: u8, who: u64, what: u64) {
        let mut record = [0; 25];
        record[..8].copy_from_slice(&at.0.to_le_bytes());
        record[8] = kind;
        record[9..17].copy_from_slice(&who.to_le_bytes());
        record[17..].copy_from_slice(&what.to_le_bytes());
        self.digest.update(record);
        self.events += 1;
    }

    /// Notes a line, if lines are kept.
    pub fn line(&mut self, at: Time, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{at} {}", text()));
        }
    }

    /// The lines kept so far; they are not kept any longer.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many happenings were folded in.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The digest so far.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

/// A short fingerprint of bytes, the same on every machine: good enough to tell two runs apart, and cheap.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0x9E37_79B9_7F4A_7C15 ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash ^= hash >> 32;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_both_count() {
        let run = |steps: &[(u64, u64)]| {
            let mut trace = Trace::default();
            for (at, what) in steps {
                trace.fold(Time(*at), 1, 2, *what);
            }
            trace.digest()
        };
        assert_eq!(run(&[(1, 1), (1, 2)]), run(&[(1, 1), (1, 2)]));
        assert_ne!(run(&[(1, 1), (1, 2)]), run(&[(1, 2), (1, 1)]));
        assert_ne!(fingerprint(b"abcdefgh"), fingerprint(b"abcdefgh\0"));
    }
}
