//! One client's work on one key: a command at a time, to the door that should have the key, and a note of what came of it.
//!
//! What nobody knows the outcome of is noted so, and never sent again. Every error but UNCERTAIN says that nothing was carried
//! out (docs/errors.md), so a value that was refused and is read nevertheless speaks against the mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::route::Route;
use crate::cli::client::Client;
use crate::messages::client::Reply;
use crate::sim::checker::Kind;
use crate::sim::clock::Time;
use crate::types::Slot;

/// Something that a client asked, and what it learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Deed {
    /// Which client.
    pub client: u32,
    /// Of which key.
    pub key: usize,
    /// What came of what.
    pub what: What,
    /// When it was asked.
    pub start: Time,
    /// When the reply was there, or was no longer waited for.
    pub end: Time,
}

/// What was done, with what is known of its outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// To a register.
    Register(Kind),
    /// INCR was answered with this number.
    Counted(u64),
    /// INCR may have counted, or may yet.
    MayCount,
    /// INCR surely did not count.
    NotCounted,
    /// A counter was read.
    Stood(u64),
    /// There was what no client of ours wrote; or, of a counter, nothing.
    Strange(String),
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, start, end, .. } = self;
        let (command, outcome) = self.told();
        write!(f, "{start} to {end}  client {client:<3} {command:<12} {outcome}")
    }
}

impl Deed {
    /// The command without its key, and what came of it.
    pub fn told(&self) -> (String, String) {
        let told = |command: String, outcome: &str| (command, outcome.to_owned());
        match &self.what {
            What::Register(Kind::Wrote(value)) => told(format!("SET {value}"), "acknowledged"),
            What::Register(Kind::MayWrite(value)) => told(format!("SET {value}"), "outcome unknown"),
            What::Register(Kind::Refused(value)) => told(format!("SET {value}"), "refused"),
            What::Register(Kind::Read(Some(value))) => ("GET".into(), format!("answered {value}")),
            What::Register(Kind::Read(None)) => told("GET".into(), "answered nothing"),
            What::Counted(number) => ("INCR".into(), format!("answered {number}")),
            What::MayCount => told("INCR".into(), "outcome unknown"),
            What::NotCounted => told("INCR".into(), "refused"),
            What::Stood(number) => ("GET".into(), format!("answered {number}")),
            What::Strange(what) => ("GET".into(), format!("answered {what}")),
        }
    }
}

/// What has become of one command.
enum Asked {
    Answered(Reply),
    /// No byte of it has left.
    NotSent,
    /// It was sent, and no reply came.
    Unknown,
}

/// What one client has to do with one key.
pub(super) struct Hand {
    client: u32,
    key: usize,
    name: String,
    slot: u16,
    began: Instant,
    route: Arc<Route>,
    /// Connections that stand, by door.
    lines: BTreeMap<String, Client>,
    /// What it has done.
    pub(super) history: Vec<Deed>,
}

impl Hand {
    pub(super) fn new(client: u32, key: usize, name: &str, began: Instant, route: &Arc<Route>) -> Self {
        let (slot, route) = (Slot::of_key(name.as_bytes()).0, Arc::clone(route));
        Self { client, key, name: name.to_owned(), slot, began, route, lines: BTreeMap::new(), history: Vec::new() }
    }

    pub(super) fn now(&self) -> Time {
        Time(self.began.elapsed().as_nanos() as u64)
    }

    /// Sets a register, which ends by itself after so many milliseconds. True: acknowledged.
    pub(super) fn write(&mut self, value: u64, ttl_ms: &str) -> bool {
        let start = self.now();
        let kind = match self.ask(&["SET", &self.name.clone(), &value.to_string(), "PX", ttl_ms]) {
            Asked::Answered(Reply::Simple(_)) => Kind::Wrote(value),
            Asked::Answered(Reply::Error(text)) if text.starts_with("UNCERTAIN") => Kind::MayWrite(value),
            Asked::Answered(_) | Asked::NotSent => Kind::Refused(value),
            Asked::Unknown => Kind::MayWrite(value),
        };
        self.note(What::Register(kind), start);
        matches!(kind, Kind::Wrote(_))
    }

    /// Reads a register. True: it was told.
    pub(super) fn read(&mut self) -> bool {
        self.look(|value| What::Register(Kind::Read(value)))
    }

    /// Reads a counter. True: it was told.
    pub(super) fn stand(&mut self) -> bool {
        self.look(|value| value.map_or(What::Strange("nothing".into()), What::Stood))
    }

    fn look(&mut self, what: impl Fn(Option<u64>) -> What) -> bool {
        let start = self.now();
        let what = match self.ask(&["GET", &self.name.clone()]) {
            Asked::Answered(Reply::Bulk(bytes)) => {
                match std::str::from_utf8(&bytes).ok().and_then(|it| it.parse().ok()) {
                    Some(value) => what(Some(value)),
                    None => What::Strange(format!("{:?}", String::from_utf8_lossy(&bytes))),
                }
            }
            Asked::Answered(Reply::Null) => what(None),
            Asked::Answered(Reply::Error(text)) if text.starts_with("WRONGTYPE") => What::Strange(text.into_owned()),
            _ => return false,
        };
        self.note(what, start);
        true
    }

    /// Begins a counter, which ends by itself after so many milliseconds. True: it is there.
    pub(super) fn begin_counter(&mut self, ttl_ms: &str) -> bool {
        let asked = self.ask(&["SET", &self.name.clone(), "0", "PX", ttl_ms, "NX"]);
        matches!(asked, Asked::Answered(Reply::Simple(_) | Reply::Null))
    }

    /// Counts once.
    pub(super) fn count(&mut self) {
        let start = self.now();
        let what = match self.ask(&["INCR", &self.name.clone()]) {
            Asked::Answered(Reply::Integer(number)) if number > 0 => What::Counted(number.unsigned_abs()),
            Asked::Answered(Reply::Integer(number)) => What::Strange(number.to_string()),
            Asked::Answered(Reply::Error(text)) if text.starts_with("UNCERTAIN") => What::MayCount,
            Asked::Answered(Reply::Error(text)) if text.starts_with("WRONGTYPE") || text.contains("not an integer") => {
                What::Strange(text.into_owned())
            }
            Asked::Answered(_) | Asked::NotSent => What::NotCounted,
            Asked::Unknown => What::MayCount,
        };
        self.note(what, start);
    }

    /// Deletes the key. True: it is gone.
    pub(super) fn delete(&mut self) -> bool {
        matches!(self.ask(&["DEL", &self.name.clone()]), Asked::Answered(Reply::Integer(_)))
    }

    fn note(&mut self, what: What, start: Time) {
        self.history.push(Deed { client: self.client, key: self.key, what, start, end: self.now() });
    }

    /// One command to the door that should have the key, and what is to be learnt from the reply.
    fn ask(&mut self, words: &[&str]) -> Asked {
        let (edition, door) = self.route.door(self.slot);
        let Some(door) = door else {
            self.route.refresh(edition, None);
            return Asked::NotSent;
        };
        let asked = self.ask_at(&door, words);
        match &asked {
            Asked::Answered(Reply::Error(text)) => match text.strip_prefix("MOVED ") {
                Some(rest) => self.route.moved(self.slot, rest.split(' ').nth(1).unwrap_or_default()),
                None => self.route.refresh(edition, None),
            },
            Asked::Answered(_) => {}
            Asked::NotSent | Asked::Unknown => self.route.refresh(edition, Some(&door)),
        }
        asked
    }

    fn ask_at(&mut self, door: &str, words: &[&str]) -> Asked {
        let line = match self.lines.remove(door) {
            Some(line) => Ok(line),
            None => self.route.manners.connect(door),
        };
        let Ok(mut line) = line else { return Asked::NotSent };
        match line.ask(words) {
            Ok(reply) => {
                self.lines.insert(door.to_owned(), line);
                Asked::Answered(reply)
            }
            // The connection goes with the reply that did not come: it would be taken for the next one's.
            Err(_) => Asked::Unknown,
        }
    }
}
