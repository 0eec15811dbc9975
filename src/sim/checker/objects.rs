//! Every key of which clients do more than set and read is one object: some single order of all that was done to it, an order
//! that time agrees with, explains each answer.
//!
//! The search of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) in the form that Lowe gave it (Testing for
//! Linearizability, 2017): operations take effect as late as they can, just before somebody has an answer, and what was
//! looked at once (which of the open operations are done, and what the key then holds) is not looked at again. So an answer
//! leaves a few possible situations behind, all that came before is forgotten, and a history is judged in linear time as long as
//! few operations are open at once. It is exact. What was asked for and never answered stays open for ever, and may take effect
//! at any time after it was asked for, or never; a situation that needs fewer of those than another and is otherwise the
//! same stands for both. What was refused never took effect.
//!
//! More than [`MOST`] situations are not looked at: the history is then *unfinished*, which is counted. Clients keep below
//! that: they give a key up for a new one before long, and as soon as a few outcomes are unknown.
//!
//! Generations are seen as in `registers`: each is a history of its own. The first begins with nothing, for the key is new. A
//! later one begins with nothing, or with what some former holder had. That may be more than any order explains: a head that
//! is cut off carries out what it cannot answer, on a copy that the others have left behind. So what was left is taken to be
//! any one value, until an answer tells more of it. An operation during which the generation changed may belong to either
//! side, or its effect is lost with the older, so its answer is not looked at; one that was never answered may take effect in
//! any generation from its own on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::{Checker, Fact};
use crate::messages::client::Reply;
use crate::sim::clock::Time;
use crate::types::Generation;

#[cfg(test)]
mod tests;

/// So many situations are looked at in one history at most.
const MOST: usize = 100_000;

/// So many operations are open at once at most: one bit each.
const OPEN: usize = 64;

/// So many operations before a wrong answer are told with it.
const TOLD: usize = 12;

/// What a client asked of an object, and what it learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which object: its number, and how often its key was changed for a new one.
    pub key: (u32, u32),
    /// What was asked.
    pub asked: Asked,
    /// What came of it.
    pub came: Came,
    /// When it was asked, and in which generation of the range.
    pub start: (Time, Generation),
    /// When that was known, and in which generation of the range.
    pub end: (Time, Generation),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: String| text.chars().take(60).collect::<String>();
        let (asked, came) = (short(format!("{:?}", self.asked)), short(format!("{:?}", self.came)));
        write!(f, "{asked} from {} to {}, generation {}: {came}", self.start.0, self.end.0, self.start.1)
    }
}

/// What can be asked of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `GET`
    Get,
    /// `SET`
    Set(Bytes),
    /// `SET` with `NX`
    SetIfNone(Bytes),
    /// `SETNX`, which answers otherwise.
    SetOnce(Bytes),
    /// `SET` with `IFEQ`
    Swap {
        /// What it has to hold.
        old: Bytes,
        /// What it then holds.
        new: Bytes,
    },
    /// `GETSET`
    Exchange(Bytes),
    /// `GETDEL`
    Take,
    /// `DEL`
    Delete,
    /// `INCR`
    Count,
    /// `APPEND`
    Append(Bytes),
}

impl Asked {
    /// The command, on this key.
    pub fn words(&self, key: &Bytes) -> Vec<Bytes> {
        let word = |text: &'static str| Bytes::from_static(text.as_bytes());
        match self {
            Self::Get => vec![word("GET"), key.clone()],
            Self::Set(new) => vec![word("SET"), key.clone(), new.clone()],
            Self::SetIfNone(new) => vec![word("SET"), key.clone(), new.clone(), word("NX")],
            Self::SetOnce(new) => vec![word("SETNX"), key.clone(), new.clone()],
            Self::Swap { old, new } => vec![word("SET"), key.clone(), new.clone(), word("IFEQ"), old.clone()],
            Self::Exchange(new) => vec![word("GETSET"), key.clone(), new.clone()],
            Self::Take => vec![word("GETDEL"), key.clone()],
            Self::Delete => vec![word("DEL"), key.clone()],
            Self::Count => vec![word("INCR"), key.clone()],
            Self::Append(more) => vec![word("APPEND"), key.clone(), more.clone()],
        }
    }
}

/// What is known of an outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// This answer.
    Answer(Reply),
    /// It may have taken effect, or may yet.
    Unknown,
    /// It surely has not, and never will.
    Refused,
}

/// What no order explains.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// This answer.
    #[error("no order of what was done explains {0}")]
    Wrong(Box<Call>),
    /// Perhaps: it would take too long to tell.
    #[error("too much is possible")]
    Unfinished,
}

/// Every key of which clients do more than set and read is a linearizable object.
#[derive(Debug, Default)]
pub struct Objects {
    histories: BTreeMap<(u32, u32), Vec<Call>>,
    unfinished: u64,
}

impl Checker for Objects {
    fn name(&self) -> &'static str {
        "objects"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        if let Fact::Called(call) = fact {
            self.histories.entry(call.key).or_default().push((*call).clone());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for history in self.histories.values() {
            match judge(history) {
                Ok(()) => {}
                Err(Fault::Unfinished) => self.unfinished += 1,
                Err(Fault::Wrong(wrong)) => return Err(told(&wrong, history)),
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> u64 {
        self.unfinished
    }
}

/// What is wrong, and what was done shortly before.
fn told(wrong: &Call, history: &[Call]) -> String {
    let mut before: Vec<&Call> = history.iter().filter(|call| call.start <= wrong.end && *call != wrong).collect();
    before.sort_by_key(|call| call.end);
    let before: Vec<String> = before[before.len().saturating_sub(TOLD)..].iter().map(ToString::to_string).collect();
    let (object, era) = wrong.key;
    format!("object {object}, key {era}: no order explains {wrong}; before it: {}", before.join("; "))
}

/// Checks the history of one key, which nobody had used before.
///
/// # Errors
/// When no order explains an answer, or when that would take too long to tell.
pub fn judge(history: &[Call]) -> Result<(), Fault> {
    let generations: BTreeSet<Generation> = history.iter().map(|call| call.start.1).collect();
    let first = generations.first().copied();
    generations.into_iter().try_for_each(|generation| {
        let mut begins = vec![Held::Nothing];
        begins.extend((Some(generation) != first).then_some(Held::Left));
        judge_from(history, generation, begins)
    })
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Nothing,
    /// Some value of a former generation.
    Left,
    Value(Bytes),
}

/// A possible situation: what is held, and which of the open operations are done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Situation {
    held: Held,
    /// Of those that have an answer.
    done: u64,
    /// Of those whose outcome is unknown.
    done_unknown: u64,
}

/// What happens in a history: an operation is asked, or has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked,
    Answered,
}

fn judge_from(history: &[Call], generation: Generation, begins: Vec<Held>) -> Result<(), Fault> {
    let mut events = Vec::new();
    for (index, call) in history.iter().enumerate() {
        let (first, last) = (call.start.1, call.end.1);
        match call.came {
            Came::Answer(_) if first == generation && last == generation => {
                events.push((call.start.0, Event::Asked, index, true));
                events.push((call.end.0, Event::Answered, index, true));
            }
            Came::Answer(_) if first <= generation && generation <= last => {
                events.push((call.start.0, Event::Asked, index, false));
            }
            Came::Unknown if first <= generation => events.push((call.start.0, Event::Asked, index, false)),
            _ => {}
        }
    }
    // Of two things at one instant the asking comes first: they may be in either order.
    events.sort_unstable();
    let begins = begins.into_iter().map(|held| Situation { held, done: 0, done_unknown: 0 });
    let mut search = Search { history, open: [None; OPEN], situations: begins.collect(), looked_at: 0 };
    for (_, event, index, answered) in events {
        match event {
            Event::Asked if answered || history[index].asked != Asked::Get => search.ask(index, answered)?,
            Event::Asked => {}
            Event::Answered => search.answer(index)?,
        }
    }
    Ok(())
}

/// The search, at one instant.
struct Search<'a> {
    history: &'a [Call],
    /// What was asked and has no answer yet, or never will, and which of both.
    open: [Option<(usize, bool)>; OPEN],
    situations: Vec<Situation>,
    looked_at: usize,
}

impl Search<'_> {
    fn ask(&mut self, index: usize, answered: bool) -> Result<(), Fault> {
        let free = self.open.iter_mut().find(|place| place.is_none()).ok_or(Fault::Unfinished)?;
        *free = Some((index, answered));
        Ok(())
    }

    /// Whatever is possible now: this operation is done in it, and those that had to be done before.
    fn answer(&mut self, index: usize) -> Result<(), Fault> {
        let place = self.open.iter().position(|open| *open == Some((index, true))).expect("it was asked before");
        let bit = 1 << place;
        let mut seen = Seen::default();
        let mut after = Seen::default();
        // In the order of how much was done, so that what needs less is there first.
        let mut now = std::mem::take(&mut self.situations);
        while !now.is_empty() {
            let mut next = Vec::new();
            for situation in now {
                if situation.done & bit != 0 {
                    after.add(Situation { done: situation.done & !bit, ..situation });
                } else if seen.add(situation.clone()) {
                    self.looked_at += 1;
                    self.go_on(&situation, &mut next);
                }
            }
            if self.looked_at > MOST {
                return Err(Fault::Unfinished);
            }
            now = next;
        }
        self.open[place] = None;
        self.situations = after.take();
        if self.situations.is_empty() { Err(Fault::Wrong(Box::new(self.history[index].clone()))) } else { Ok(()) }
    }

    /// All situations that are one operation further.
    fn go_on(&self, from: &Situation, next: &mut Vec<Situation>) {
        for (place, (index, answered)) in
            self.open.iter().enumerate().filter_map(|(place, open)| open.map(|open| (place, open)))
        {
            let bit = 1 << place;
            let call = &self.history[index];
            if answered && from.done & bit == 0 {
                let Came::Answer(answer) = &call.came else { continue };
                let held = explain(&from.held, &call.asked, answer);
                next.extend(held.map(|held| Situation { held, done: from.done | bit, ..*from }));
            } else if !answered && from.done_unknown & bit == 0 {
                // Without an effect it need not be done.
                let held = Some(carry_out(&from.held, &call.asked).0).filter(|held| *held != from.held);
                next.extend(held.map(|held| Situation { held, done_unknown: from.done_unknown | bit, ..*from }));
            }
        }
    }
}

/// What was looked at. Of situations that differ in nothing but how much of unknown outcome they need, those that need least.
#[derive(Default)]
struct Seen(BTreeMap<(u64, Held), Vec<u64>>);

impl Seen {
    /// Whether it was news.
    fn add(&mut self, situation: Situation) -> bool {
        let Situation { held, done, done_unknown } = situation;
        let least = self.0.entry((done, held)).or_default();
        let news = least.iter().all(|known| known & !done_unknown != 0);
        if news {
            least.retain(|known| done_unknown & !known != 0);
            least.push(done_unknown);
        }
        news
    }

    fn take(self) -> Vec<Situation> {
        let all = self.0.into_iter().flat_map(|((done, held), least)| {
            least.into_iter().map(move |done_unknown| Situation { held: held.clone(), done, done_unknown })
        });
        let mut all: Vec<Situation> = all.collect();
        all.sort_by_key(|situation| situation.done.count_ones() + situation.done_unknown.count_ones());
        all
    }
}

/// What is held after an operation that was answered so; none if that cannot be.
fn explain(held: &Held, asked: &Asked, answer: &Reply) -> Option<Held> {
    if *held == Held::Left {
        return explain_left(asked, answer);
    }
    let (after, would_be) = carry_out(held, asked);
    match (answer, would_be) {
        // In which words an error is told is looked at elsewhere.
        (Reply::Error(_), Reply::Error(_)) => Some(after),
        (answer, would_be) => (*answer == would_be).then_some(after),
    }
}

/// The same, if some value was left that nothing is known of.
fn explain_left(asked: &Asked, answer: &Reply) -> Option<Held> {
    let value = |bytes: &Bytes| Some(Held::Value(bytes.clone()));
    match (asked, answer) {
        (Asked::Get, Reply::Bulk(bytes)) => value(bytes),
        (Asked::Set(new) | Asked::Swap { new, .. }, Reply::Simple(_)) => value(new),
        (Asked::Exchange(new), Reply::Bulk(_)) => value(new),
        (Asked::Take, Reply::Bulk(_)) | (Asked::Delete, Reply::Integer(1)) => Some(Held::Nothing),
        (Asked::SetIfNone(_) | Asked::Swap { .. }, Reply::Null) => Some(Held::Left),
        (Asked::SetOnce(_), Reply::Integer(0)) | (Asked::Count, Reply::Error(_)) => Some(Held::Left),
        (Asked::Count, Reply::Integer(number)) => value(&Bytes::from(number.to_string())),
        (Asked::Append(more), Reply::Integer(length)) if *length > more.len() as i64 => Some(Held::Left),
        _ => None,
    }
}

/// What one node alone would make of it: the definition of an object.
fn carry_out(held: &Held, asked: &Asked) -> (Held, Reply) {
    let value = |bytes: &Bytes| Held::Value(bytes.clone());
    let told = match held {
        Held::Value(bytes) => Reply::Bulk(bytes.clone()),
        Held::Nothing | Held::Left => Reply::Null,
    };
    let none = *held == Held::Nothing;
    match asked {
        Asked::Get => (held.clone(), told),
        Asked::Set(new) => (value(new), Reply::ok()),
        Asked::SetIfNone(new) if none => (value(new), Reply::ok()),
        Asked::SetIfNone(_) => (held.clone(), Reply::Null),
        Asked::SetOnce(new) if none => (value(new), Reply::Integer(1)),
        Asked::SetOnce(_) => (held.clone(), Reply::Integer(0)),
        // Of what was left nobody knows whether it is equal; that it is does the most.
        Asked::Swap { old, new } if *held == value(old) || *held == Held::Left => (value(new), Reply::ok()),
        Asked::Swap { .. } => (held.clone(), Reply::Null),
        Asked::Exchange(new) => (value(new), told),
        Asked::Take => (Held::Nothing, told),
        Asked::Delete => (Held::Nothing, Reply::Integer(i64::from(!none))),
        Asked::Count => count(held),
        Asked::Append(more) => append(held, more),
    }
}

fn count(held: &Held) -> (Held, Reply) {
    let number = match held {
        Held::Nothing => Some(0),
        Held::Left => None,
        Held::Value(bytes) => integer(bytes),
    };
    match number.and_then(|number| number.checked_add(1)) {
        Some(sum) => (Held::Value(Bytes::from(sum.to_string())), Reply::Integer(sum)),
        None => (held.clone(), Reply::error("ERR")),
    }
}

/// A number as it is told, and in no other spelling.
fn integer(bytes: &Bytes) -> Option<i64> {
    let number: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == &bytes[..]).then_some(number)
}

fn append(held: &Held, more: &Bytes) -> (Held, Reply) {
    let before: &[u8] = match held {
        Held::Value(bytes) => bytes,
        Held::Nothing => &[],
        Held::Left => return (Held::Left, Reply::Null),
    };
    let after = Bytes::from([before, more].concat());
    let length = after.len() as i64;
    (Held::Value(after), Reply::Integer(length))
}
