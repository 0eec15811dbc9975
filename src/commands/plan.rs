//! From a command to the ranges that must carry it out, and from their replies to the one that the client gets.
//!
//! At the plain door a command may concern any ranges, and some commands of several keys are split between them (not
//! atomic, and said so). At the cluster door nothing is split: its clients know slots and send keys of one slot together;
//! there, a command without keys concerns the ranges that this node heads, because these clients ask every node.
//!
//! The cursor of `SCAN` is the range's number and, in the lower bits, the place in it; ranges are gone through in order. The
//! first step in a range looks into the next ones as well, because most meshes have more ranges than a step wants keys.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::scan::Scan;
use super::spec::{Join, Route, Spec, Work};
use super::{errors, keys};
use crate::keyspace::PLACE_BITS;
use crate::messages::client::{Reply, Request};
use crate::types::{RangeId, Slot};

/// How many ranges one step of a scan looks into at most.
const WINDOW: usize = 64;

/// Which ranges a door speaks for.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// The plain door: all.
    Mesh,
    /// The cluster door: those that this node heads, in order.
    Node(&'a [RangeId]),
}

/// What must be done for a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The session answers it by itself (`connection::run`).
    Connection,
    /// An operator's command, for whoever renders the mesh.
    Mesh,
    /// One range; its reply is the client's.
    One(Request),
    /// Several ranges, in this order; perhaps none. Their replies, in the same order, are given to the merge.
    Many(Vec<Request>, Merge),
}

/// How replies of several ranges become the client's.
#[derive(Clone, Debug, PartialEq)]
pub struct Merge {
    how: How,
    writes: bool,
    /// Whether a range that this node does not head any more counts as empty.
    skips_moved: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum How {
    /// Which places of the client's reply each request's values go to.
    Values(Vec<Vec<usize>>),
    Sum,
    Ok,
    /// Ranges asked, the one after the last, and how many keys are wanted.
    Scan {
        ranges: Vec<RangeId>,
        next: Option<RangeId>,
        count: usize,
    },
}

/// What must be done for these words, which `admit` has found to be this command, in a mesh of `ranges` ranges.
///
/// # Errors
/// What the client is told when nothing can be done.
pub fn plan(spec: &Spec, words: Vec<Bytes>, ranges: usize, reach: Reach<'_>) -> Result<Plan, Reply> {
    let route = match spec.work {
        Work::Connection(_) | Work::Subcommands => return Ok(Plan::Connection),
        Work::Mesh => return Ok(Plan::Mesh),
        Work::Data(route, _) => route,
    };
    match route {
        Route::Keys => {
            let slot = shared_slot(spec, &words)?;
            Ok(one(spec, words, slot.range(ranges)))
        }
        Route::Split(join) => split(spec, words, ranges, reach, join),
        Route::Every(join) => every(spec, &words, ranges, reach, join),
        Route::Scan => scan(spec, words, ranges, reach),
        Route::Slot => {
            let slot = slot_word(&words)?;
            Ok(one(spec, words, slot.range(ranges)))
        }
    }
}

fn one(spec: &Spec, words: Vec<Bytes>, range: RangeId) -> Plan {
    Plan::One(Request { range, words, write: spec.writes(), session: 0 })
}

fn shared_slot(spec: &Spec, words: &[Bytes]) -> Result<Slot, Reply> {
    let mut slots = keys(spec, words).map(|key| Slot::of_key(key));
    let first = slots.next().ok_or_else(|| errors::wrong_number(spec.name))?;
    if slots.all(|slot| slot == first) { Ok(first) } else { Err(errors::cross_slot()) }
}

/// The slot that the third word names.
pub(super) fn slot_word(words: &[Bytes]) -> Result<Slot, Reply> {
    let number = super::data::integer(&words[2])?;
    match u16::try_from(number) {
        Ok(number) if number < crate::types::SLOTS => Ok(Slot(number)),
        _ => Err(Reply::error("ERR Invalid slot")),
    }
}

fn split(spec: &Spec, words: Vec<Bytes>, ranges: usize, reach: Reach<'_>, join: Join) -> Result<Plan, Reply> {
    let step = spec.keys.step as usize;
    if !(words.len() - 1).is_multiple_of(step) {
        return Err(errors::wrong_number(spec.name));
    }
    if let Reach::Node(_) = reach {
        let slot = shared_slot(spec, &words)?;
        return Ok(one(spec, words, slot.range(ranges)));
    }
    let mut parts: BTreeMap<RangeId, Vec<usize>> = BTreeMap::new();
    for place in spec.keys.places(words.len()) {
        parts.entry(RangeId::of_key(&words[place], ranges)).or_default().push(place);
    }
    if parts.len() == 1 {
        let range = *parts.keys().next().expect("there is one");
        return Ok(one(spec, words, range));
    }
    let request = |(range, places): (&RangeId, &Vec<usize>)| {
        let arguments = places.iter().flat_map(|place| &words[*place..*place + step]);
        let words = std::iter::once(&words[0]).chain(arguments).cloned().collect();
        Request { range: *range, words, write: spec.writes(), session: 0 }
    };
    let requests = parts.iter().map(request).collect();
    let how = match join {
        Join::Sum => How::Sum,
        Join::Ok => How::Ok,
        Join::Values => {
            How::Values(parts.into_values().map(|places| places.into_iter().map(|place| place - 1).collect()).collect())
        }
    };
    Ok(Plan::Many(requests, Merge { how, writes: spec.writes(), skips_moved: false }))
}

fn every(spec: &Spec, words: &[Bytes], ranges: usize, reach: Reach<'_>, join: Join) -> Result<Plan, Reply> {
    if spec.writes() {
        super::flush::check_flush(words)?;
    }
    let request = |range| Request { range, words: words.to_vec(), write: spec.writes(), session: 0 };
    let requests = match reach {
        Reach::Mesh => (0..ranges).map(|range| request(RangeId(range as u16))).collect(),
        Reach::Node(headed) => headed.iter().map(|range| request(*range)).collect(),
    };
    let how = if join == Join::Ok { How::Ok } else { How::Sum };
    Ok(Plan::Many(requests, Merge { how, writes: spec.writes(), skips_moved: matches!(reach, Reach::Node(_)) }))
}

fn scan(spec: &Spec, words: Vec<Bytes>, ranges: usize, reach: Reach<'_>) -> Result<Plan, Reply> {
    let Scan { cursor, count, .. } = Scan::read(&words)?;
    let (from, place) = ((cursor >> PLACE_BITS) as usize, cursor & ((1 << PLACE_BITS) - 1));
    let all: Vec<RangeId> = match reach {
        Reach::Mesh => (from..ranges.min(from + WINDOW + 1)).map(|range| RangeId(range as u16)).collect(),
        Reach::Node(headed) => {
            headed.iter().copied().filter(|range| usize::from(range.0) >= from).take(WINDOW + 1).collect()
        }
    };
    // The range that the cursor stands in may be another node's by now: then the next one is begun.
    let place = if all.first().is_some_and(|first| usize::from(first.0) == from) { place } else { 0 };
    let window = if place == 0 { WINDOW } else { 1 };
    let asked: Vec<RangeId> = all.iter().copied().take(window).collect();
    let request = |(at, range): (usize, &RangeId)| {
        let mut words = words.clone();
        words[1] = Bytes::from(if at == 0 { place } else { 0 }.to_string());
        Request { range: *range, words, write: spec.writes(), session: 0 }
    };
    let requests = asked.iter().enumerate().map(request).collect();
    let how = How::Scan { next: all.get(window).copied(), ranges: asked, count };
    Ok(Plan::Many(requests, Merge { how, writes: false, skips_moved: matches!(reach, Reach::Node(_)) }))
}

impl Merge {
    /// The client's reply, from those of the requests in their order.
    pub fn finish(self, replies: Vec<Reply>) -> Reply {
        let (writes, skips_moved) = (self.writes, self.skips_moved);
        let moved = |reply: &Reply| skips_moved && matches!(reply, Reply::Error(text) if text.starts_with("MOVED "));
        if let How::Scan { ranges, next, count } = self.how {
            let steps = ranges.into_iter().zip(replies).filter(|(_, reply)| !moved(reply)).collect();
            return scanned(steps, next, count);
        }
        let replies: Vec<Reply> = match self.how {
            // Its places go by the place of the request, so that none may be left out.
            How::Values(_) => replies,
            _ => replies.into_iter().filter(|reply| !moved(reply)).collect(),
        };
        if let Some(error) = failure(&replies, writes) {
            return error;
        }
        match self.how {
            How::Values(places) => values(places, replies),
            How::Ok => Reply::ok(),
            _ => Reply::Integer(replies.iter().map(number).sum()),
        }
    }
}

/// What is told when not all went well. A code on which clients send the command again would be wrong for one that was
/// partly applied.
fn failure(replies: &[Reply], writes: bool) -> Option<Reply> {
    let errors = replies.iter().filter_map(|reply| match reply {
        Reply::Error(text) => Some(text),
        _ => None,
    });
    let worst = errors.clone().find(|text| text.starts_with("UNCERTAIN ")).or_else(|| errors.clone().next())?;
    if writes && errors.count() < replies.len() && !worst.starts_with("UNCERTAIN ") {
        return Some(errors::partly(worst));
    }
    Some(Reply::Error(worst.clone()))
}

fn values(places: Vec<Vec<usize>>, replies: Vec<Reply>) -> Reply {
    let mut all = vec![Reply::Null; places.iter().map(Vec::len).sum()];
    for (places, reply) in places.into_iter().zip(replies) {
        let Reply::Array(values) = reply else { continue };
        for (place, value) in places.into_iter().zip(values) {
            all[place] = value;
        }
    }
    Reply::Array(all)
}

fn number(reply: &Reply) -> i64 {
    if let Reply::Integer(number) = reply { *number } else { 0 }
}

/// The keys of as many ranges as are needed for `count`, and where to go on.
fn scanned(steps: Vec<(RangeId, Reply)>, next: Option<RangeId>, count: usize) -> Reply {
    let mut found = Vec::new();
    let mut goes_on = next.map(|range| (range, 0));
    for (at, (range, reply)) in steps.into_iter().enumerate() {
        if at > 0 && found.len() >= count {
            goes_on = Some((range, 0));
            break;
        }
        match (reply, at) {
            (Reply::Array(step), _) => {
                let here = take_step(step, &mut found);
                if here != 0 {
                    goes_on = Some((range, here));
                    break;
                }
            }
            (error, 0) => return error,
            // What was found so far is told; the client meets the error when it goes on from here.
            _ => {
                goes_on = Some((range, 0));
                break;
            }
        }
    }
    assert!(goes_on != Some((RangeId(0), 0)), "a scan does not go back to its start");
    let cursor = goes_on.map_or(0, |(range, place)| u64::from(range.0) << PLACE_BITS | place);
    Reply::Array(vec![Reply::text(cursor.to_string()), Reply::Array(found)])
}

/// Takes the keys of a step in one range; gives the place to go on there, 0 at its end.
fn take_step(step: Vec<Reply>, found: &mut Vec<Reply>) -> u64 {
    let mut step = step.into_iter();
    let place = match step.next() {
        Some(Reply::Bulk(text)) => std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        _ => 0,
    };
    if let Some(Reply::Array(keys)) = step.next() {
        found.extend(keys);
    }
    place
}
