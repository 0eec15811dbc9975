//! What clients do to objects, keys with which more is done than setting and reading, and which key an object has.
//!
//! What an object answers is judged by a search (`checker::objects`), which is quick while its history is short and few
//! outcomes are unknown. So an object is given a new key every so often: a new *era* begins.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::values;
use crate::messages::client::Reply;
use crate::sim::checker::{Asked, Call, Came};

/// How many objects there are at most: few, so that clients meet.
pub(super) const OBJECTS: u32 = 4;

/// After so many operations an object has a new key.
const OPERATIONS: u32 = 40;

/// After so many operations of unknown outcome too.
const UNKNOWN: u32 = 3;

/// Each era of all objects, as clients tell it to each other.
#[derive(Debug, Default)]
pub struct Eras(BTreeMap<u32, Era>);

#[derive(Debug, Default)]
struct Era {
    number: u32,
    asked: u32,
    unknown: u32,
    /// What somebody saw there last.
    seen: Option<Bytes>,
}

impl Eras {
    /// Something is asked of an object: which key it has.
    pub(super) fn ask(&mut self, object: u32) -> (u32, u32) {
        let era = self.0.entry(object).or_default();
        if era.asked >= OPERATIONS || era.unknown >= UNKNOWN {
            *era = Era { number: era.number + 1, ..Era::default() };
        }
        era.asked += 1;
        (object, era.number)
    }

    /// Something came of it.
    pub(super) fn hear(&mut self, call: &Call) {
        let Some(era) = self.0.get_mut(&call.key.0).filter(|era| era.number == call.key.1) else { return };
        era.unknown += u32::from(call.came == Came::Unknown);
        let Came::Answer(reply) = &call.came else { return };
        match (&call.asked, reply) {
            (Asked::Get, Reply::Bulk(value)) => era.seen = Some(value.clone()),
            (Asked::Set(new) | Asked::SetIfNone(new) | Asked::Swap { new, .. }, Reply::Simple(_)) => {
                era.seen = Some(new.clone());
            }
            (Asked::SetOnce(new), Reply::Integer(1)) | (Asked::Exchange(new), _) => era.seen = Some(new.clone()),
            (Asked::Count, Reply::Integer(number)) => era.seen = Some(Bytes::from(number.to_string())),
            (Asked::Take | Asked::Delete, _) => era.seen = None,
            _ => {}
        }
    }

    fn seen(&self, object: u32) -> Option<Bytes> {
        self.0.get(&object).and_then(|era| era.seen.clone())
    }
}

/// The name of an object.
pub(super) fn name((object, era): (u32, u32)) -> String {
    format!("object:{object}:{era}")
}

/// Some change of an object, by this number and what is put behind it.
pub(super) fn change(object: u32, (number, long): (u64, bool), eras: &Eras, random: &mut ChaCha8Rng) -> Asked {
    let new = values::text(number, long);
    match random.gen_range(0..15) {
        0 | 1 => Asked::Set(new),
        2 => Asked::SetIfNone(new),
        3 => Asked::SetOnce(new),
        // What one saw another may have changed: of two who saw the same one is right.
        4..=6 => match eras.seen(object) {
            Some(old) => Asked::Swap { old, new },
            None => Asked::SetOnce(new),
        },
        7 => Asked::Exchange(new),
        8 => Asked::Count,
        9 => Asked::Take,
        10 => Asked::Delete,
        _ => Asked::Append(Bytes::from(format!("+{number}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::clock::Time;
    use crate::types::Generation;

    #[test]
    fn an_object_has_a_new_key_before_too_much_is_possible() {
        let mut eras = Eras::default();
        let keys: Vec<(u32, u32)> = (0..OPERATIONS + 1).map(|_| eras.ask(3)).collect();
        assert_eq!((keys[0], keys[OPERATIONS as usize - 1], keys[OPERATIONS as usize]), ((3, 0), (3, 0), (3, 1)));
        let side = (Time(0), Generation(0));
        let unknown = |key| Call { key, asked: Asked::Delete, came: Came::Unknown, start: side, end: side };
        // Those of a former key count for nothing.
        [(3, 0), (3, 0), (3, 1), (3, 1)].into_iter().for_each(|key| eras.hear(&unknown(key)));
        assert_eq!(eras.ask(3), (3, 1));
        eras.hear(&unknown((3, 1)));
        assert_eq!(eras.ask(3), (3, 2));
    }
}
