//! What happened in a run, as a digest and, if wished, for a person to read.
//!
//! Two runs of one seed must be the same run. Whatever happens is folded into a digest in the order in which it happens, so
//! comparing two digests compares two runs.

use std::fmt;

use sha2::{Digest, Sha256};

use super::clock::Time;
use crate::messages::peer::PeerMessage;

/// Something that happened, kept for a person.
#[derive(Clone, Debug)]
pub struct Happening {
    /// When, in true time.
    pub at: Time,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A node hears what another has said.
    Heard {
        /// Who said it, by name.
        from: String,
        /// Who hears it, by name.
        to: String,
        /// What was said.
        message: Box<PeerMessage>,
    },
    /// Something that whoever runs the mesh would want to know: harm, a process that starts or ends, what a node notes.
    Told {
        /// Where, if it is about one place.
        place: Option<String>,
        /// What.
        text: String,
    },
    /// Anything else.
    Detail(String),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Heard { from, to, message } => write!(f, "{} {to} hears {from}: {message:?}", self.at),
            What::Told { place: Some(place), text } => write!(f, "{} {place} {text}", self.at),
            What::Told { place: None, text } | What::Detail(text) => write!(f, "{} {text}", self.at),
        }
    }
}

/// How much of what happens is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// The digest alone.
    #[default]
    Nothing,
    /// What is told.
    Told,
    /// Everything.
    All,
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Trace {
    digest: Sha256,
    events: u64,
    keep: Keep,
    kept: Vec<Happening>,
}

impl Trace {
    /// Keeps so much for a person to read from now on, besides the digest.
    pub fn keep(&mut self, keep: Keep) {
        self.keep = self.keep.max(keep);
    }

    /// Whether everything is kept: where composing it is dear, ask first.
    pub fn keeps_all(&self) -> bool {
        self.keep == Keep::All
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

    /// Notes a detail, if everything is kept.
    pub fn line(&mut self, at: Time, text: impl FnOnce() -> String) {
        if self.keeps_all() {
            self.kept.push(Happening { at, what: What::Detail(text()) });
        }
    }

    /// Tells something about a place, or about all.
    pub fn tell(&mut self, at: Time, place: Option<&str>, text: impl FnOnce() -> String) {
        if self.keep >= Keep::Told {
            let place = place.map(str::to_owned);
            self.kept.push(Happening { at, what: What::Told { place, text: text() } });
        }
    }

    /// Notes that a message was heard, if everything is kept.
    pub fn heard(&mut self, at: Time, from: &str, to: &str, message: &PeerMessage) {
        if self.keeps_all() {
            let (from, to, message) = (from.to_owned(), to.to_owned(), Box::new(message.clone()));
            self.kept.push(Happening { at, what: What::Heard { from, to, message } });
        }
    }

    /// What was kept since this was last asked for.
    pub fn take(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.kept)
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

/// What a message is called: the first word of its debug text.
pub fn first_word(message: &impl fmt::Debug) -> String {
    let text = format!("{message:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
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
