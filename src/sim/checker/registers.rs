//! Every key is a register: what was read is what some single order of all writes explains, an order that time agrees with.
//!
//! The zones method of Gibbons and Korach (Testing Shared Memories, 1997), exact because each write writes a value of its own:
//! a value's zone lies between the first end and the last start of the operations that wrote or read it. Where the end comes
//! first, something saw the value and later something else still saw it: the register held it all the while, so no two such
//! zones may overlap. Where the start comes first, one instant in between suffices, so such a zone may only not lie inside one
//! of the other kind.
//!
//! A write whose outcome is unknown may take effect at any time after it was asked for, or never. A write that was refused
//! never may (`UNCERTAIN` alone means unknown). A range that was begun anew has lawfully lost its keys: each generation is a
//! register of its own, which begins with nothing or with what one older value left. Operations during which the generation
//! changed tell nothing for certain; of those, reads are left out and writes may belong to either side.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Fact};
use crate::sim::clock::Time;
use crate::types::Generation;

/// What a client asked of a register, and what it learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which register.
    pub key: u32,
    /// What.
    pub kind: Kind,
    /// When it was asked, and in which generation of the range.
    pub start: (Time, Generation),
    /// When the answer was there, and in which generation of the range.
    pub end: (Time, Generation),
}

/// Kinds of operations, with what is known of their outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read this value, or nothing.
    Read(Option<u64>),
    /// Wrote this value.
    Wrote(u64),
    /// May have written this value, or may yet.
    MayWrite(u64),
    /// Was told that this value is surely not written.
    Refused(u64),
}

/// What no order of a key's operations explains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Contradiction {
    /// In words.
    pub what: String,
    /// The values whose operations suffice to show it; none stands for nothing.
    pub values: Vec<Option<u64>>,
}

/// Every key is a linearizable register.
#[derive(Debug, Default)]
pub struct Registers {
    histories: BTreeMap<u32, Vec<Operation>>,
}

impl Checker for Registers {
    fn name(&self) -> &'static str {
        "registers"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        if let Fact::Operation(operation) = fact {
            self.histories.entry(operation.key).or_default().push(**operation);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.histories.iter().try_for_each(|(key, history)| judge(history).map_err(|why| format!("key {key}: {why}")))
    }
}

/// From the first end to the last start of a value's operations.
#[derive(Clone, Copy, Debug)]
struct Zone {
    value: Option<u64>,
    first_end: Time,
    last_start: Time,
    write_start: Time,
}

const BEFORE_ALL: Time = Time(0);
const NEVER: Time = Time(u64::MAX);

/// Checks the history of one key.
///
/// # Errors
/// When no order of its operations explains what was read.
pub fn judge(history: &[Operation]) -> Result<(), Contradiction> {
    let refused: BTreeSet<u64> = history
        .iter()
        .filter_map(|operation| match operation.kind {
            Kind::Refused(value) => Some(value),
            _ => None,
        })
        .collect();
    let generations: BTreeSet<Generation> = history.iter().map(|operation| operation.start.1).collect();
    generations.into_iter().try_for_each(|generation| agree(&zones(history, generation, &refused)?))
}

fn zones(history: &[Operation], generation: Generation, refused: &BTreeSet<u64>) -> Result<Vec<Zone>, Contradiction> {
    let mut zones: BTreeMap<Option<u64>, Zone> = BTreeMap::new();
    let mut older = BTreeSet::new();
    for operation in history {
        let (first, last) = (operation.start.1, operation.end.1);
        let mut may_write = |value, first_end| {
            let start = operation.start.0;
            zones.insert(Some(value), Zone { value: Some(value), first_end, last_start: start, write_start: start });
        };
        match operation.kind {
            Kind::Wrote(value) if first == generation && last == generation => may_write(value, operation.end.0),
            Kind::Wrote(value) if first <= generation && generation <= last => may_write(value, NEVER),
            Kind::MayWrite(value) if first <= generation => may_write(value, NEVER),
            Kind::Wrote(value) if last < generation => drop(older.insert(value)),
            _ => {}
        }
    }
    let mut begins_with = None;
    let reads = history.iter().filter(|it| it.start.1 == generation && it.end.1 == generation);
    for (operation, value) in
        reads.filter_map(|it| if let Kind::Read(value) = it.kind { Some((it, value)) } else { None })
    {
        let begins = value.is_none_or(|value| older.contains(&value)) && !zones.contains_key(&value);
        if begins && let Some(other) = begins_with.replace(value) {
            let what = format!("generation {generation} began both with {} and with {}", told(other), told(value));
            return Err(Contradiction { what, values: vec![other, value] });
        }
        if begins {
            zones.insert(value, Zone { value, first_end: BEFORE_ALL, last_start: BEFORE_ALL, write_start: BEFORE_ALL });
        }
        let Some(zone) = zones.get_mut(&value) else {
            let why =
                if value.is_some_and(|it| refused.contains(&it)) { "its write was refused" } else { "nobody wrote it" };
            let what = format!("{} was read at {}, but {why}", told(value), operation.end.0);
            return Err(Contradiction { what, values: vec![value] });
        };
        if operation.end.0 < zone.write_start {
            let what = format!("{} was read at {}, before it was written", told(value), operation.end.0);
            return Err(Contradiction { what, values: vec![value] });
        }
        zone.first_end = zone.first_end.min(operation.end.0);
        zone.last_start = zone.last_start.max(operation.start.0);
    }
    // What may have been written and was never seen explains nothing and disturbs nothing.
    Ok(zones.into_values().filter(|zone| zone.first_end != NEVER).collect())
}

fn agree(zones: &[Zone]) -> Result<(), Contradiction> {
    let (mut held, points): (Vec<Zone>, Vec<Zone>) = zones.iter().partition(|zone| zone.first_end < zone.last_start);
    held.sort_by_key(|zone| zone.first_end);
    for pair in held.windows(2) {
        if pair[1].first_end < pair[0].last_start {
            return Err(clash(&pair[0], &pair[1]));
        }
    }
    for point in points {
        let before = held.partition_point(|zone| zone.first_end < point.last_start);
        if let Some(zone) = held[..before].last().filter(|zone| point.first_end < zone.last_start) {
            return Err(clash(zone, &point));
        }
    }
    Ok(())
}

fn clash(one: &Zone, other: &Zone) -> Contradiction {
    let what = format!(
        "{} was seen at {} and still at {}, but {} was seen whole in between, from {} to {}",
        told(one.value),
        one.first_end,
        one.last_start,
        told(other.value),
        other.first_end.min(other.last_start),
        other.first_end.max(other.last_start),
    );
    Contradiction { what, values: vec![one.value, other.value] }
}

fn told(value: Option<u64>) -> String {
    value.map_or("nothing".into(), |value| format!("value {value}"))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn operation(kind: Kind, start: u64, end: u64) -> Operation {
        spanning(kind, (start, 1), (end, 1))
    }

    fn spanning(kind: Kind, start: (u64, u64), end: (u64, u64)) -> Operation {
        let side = |side: (u64, u64)| (Time(side.0), Generation(side.1));
        Operation { key: 0, kind, start: side(start), end: side(end) }
    }

    use Kind::{MayWrite, Read, Refused, Wrote};

    #[test]
    fn a_lost_write_is_found() {
        let history = [operation(Wrote(1), 1, 2), operation(Wrote(2), 3, 4), operation(Read(Some(1)), 5, 6)];
        assert!(judge(&history).unwrap_err().what.contains("value 1"));
        assert!(judge(&[operation(Wrote(1), 1, 2), operation(Read(None), 3, 4)]).is_err());
    }

    #[test]
    fn a_reader_never_sees_less_than_another_saw() {
        let both = [operation(Wrote(1), 1, 2), operation(MayWrite(2), 3, 99)];
        let seen = [operation(Read(Some(2)), 5, 6), operation(Read(Some(1)), 7, 8)];
        assert!(judge(&[&both[..], &seen[..]].concat()).is_err());
        assert!(judge(&[&both[..], &seen[..1]].concat()).is_ok());
        assert!(judge(&[&both[..], &seen[1..]].concat()).is_ok());
    }

    #[test]
    fn a_refused_write_is_never_seen() {
        let history = [operation(Refused(1), 1, 2), operation(Read(Some(1)), 3, 4)];
        assert!(judge(&history).unwrap_err().what.contains("refused"));
        assert!(judge(&[operation(Read(Some(9)), 3, 4)]).unwrap_err().what.contains("nobody wrote it"));
    }

    #[test]
    fn a_generation_begins_with_nothing_or_with_what_is_left_but_not_with_both() {
        let written = [operation(Wrote(1), 1, 2)];
        let nothing = spanning(Read(None), (5, 2), (6, 2));
        let left = spanning(Read(Some(1)), (7, 2), (8, 2));
        assert!(judge(&[&written[..], &[nothing]].concat()).is_ok());
        assert!(judge(&[&written[..], &[left]].concat()).is_ok());
        assert!(judge(&[&written[..], &[nothing, left]].concat()).is_err());
    }

    #[test]
    fn a_write_across_generations_belongs_to_either() {
        let write = spanning(Wrote(1), (1, 1), (9, 2));
        let nothing = spanning(Read(None), (20, 2), (21, 2));
        let there = spanning(Read(Some(1)), (22, 2), (23, 2));
        assert!(judge(&[write, nothing]).is_ok());
        assert!(judge(&[write, there]).is_ok());
        assert!(judge(&[write, there, spanning(Read(None), (24, 2), (25, 2))]).is_err());
    }

    /// Tries every order: the definition itself, for small histories.
    fn search(history: &[Operation], done: u32, value: Option<u64>) -> bool {
        let open = |index: usize| done & (1 << index) == 0;
        let must = |index: usize| !matches!(history[index].kind, MayWrite(_) | Refused(_));
        if (0..history.len()).all(|index| !open(index) || !must(index)) {
            return true;
        }
        // Whatever ended before something else began comes first.
        let bound =
            (0..history.len()).filter(|index| open(*index) && must(*index)).map(|index| history[index].end.0).min();
        (0..history.len()).filter(|index| open(*index)).any(|index| {
            let operation = &history[index];
            if bound.is_some_and(|bound| bound < operation.start.0) {
                return false;
            }
            match operation.kind {
                Read(seen) => seen == value && search(history, done | 1 << index, value),
                Wrote(new) | MayWrite(new) => search(history, done | 1 << index, Some(new)),
                Refused(_) => false,
            }
        })
    }

    #[test]
    fn zones_agree_with_the_search_on_random_histories() {
        let (mut good, mut bad) = (0, 0);
        let random = &mut ChaCha8Rng::seed_from_u64(1);
        for _ in 0..20_000 {
            let writes = random.gen_range(1..4);
            let history: Vec<Operation> = (0..random.gen_range(2..8))
                .map(|index| {
                    let start = random.gen_range(1..20);
                    let end = start + random.gen_range(1..10);
                    let kind = match index {
                        _ if index < writes && random.gen_ratio(1, 4) => MayWrite(index),
                        _ if index < writes => Wrote(index),
                        _ => Read(random.gen_ratio(3, 4).then(|| random.gen_range(0..writes))),
                    };
                    operation(kind, start, end)
                })
                .collect();
            let lawful = search(&history, 0, None);
            assert_eq!(judge(&history).is_ok(), lawful, "{history:#?}");
            if lawful { good += 1 } else { bad += 1 }
        }
        assert!(good > 500 && bad > 500, "{good} good, {bad} bad");
    }
}
