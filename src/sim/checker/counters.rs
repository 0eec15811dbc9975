//! The answers of INCR are one order: no two are the same, and what was answered before another was asked is less.

use std::collections::BTreeMap;

use super::{Checker, Fact};
use crate::sim::clock::Time;
use crate::types::Generation;

/// What INCR answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Of which counter.
    pub key: u32,
    /// The answer.
    pub number: u64,
    /// When it was asked, and in which generation of the range.
    pub start: (Time, Generation),
    /// When the answer was there, and in which generation of the range.
    pub end: (Time, Generation),
}

/// Two answers that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Clash {
    /// In words.
    pub what: String,
    /// Which.
    pub pair: [Counted; 2],
}

/// The answers of INCR are one order.
#[derive(Debug, Default)]
pub struct Counters {
    histories: BTreeMap<(u32, Generation), Vec<Counted>>,
}

impl Checker for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            // One during which the range was begun anew tells nothing for certain.
            Fact::Counted(counted) if counted.start.1 == counted.end.1 => {
                self.histories.entry((counted.key, counted.start.1)).or_default().push(**counted);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.histories.iter_mut().try_for_each(|((key, generation), history)| {
            judge(history).map_err(|why| format!("counter {key}, generation {generation}: {why}"))
        })
    }
}

/// Checks the answers of one counter, and leaves them in the order of their numbers.
///
/// # Errors
/// When two of them cannot both be true.
pub fn judge(history: &mut [Counted]) -> Result<(), Clash> {
    history.sort_by_key(|counted| counted.number);
    if let Some(pair) = history.windows(2).find(|pair| pair[0].number == pair[1].number) {
        let what = format!("{} was answered at {} and at {}", pair[0].number, pair[0].end.0, pair[1].end.0);
        return Err(Clash { what, pair: [pair[0], pair[1]] });
    }
    // In the order of numbers nobody may have begun after somebody with a higher number was through.
    let mut latest: Option<Counted> = None;
    for counted in history {
        if let Some(lower) = latest.filter(|latest| counted.end.0 < latest.start.0) {
            let what =
                format!("{} was answered at {}, before {} was asked", counted.number, counted.end.0, lower.number);
            return Err(Clash { what, pair: [*counted, lower] });
        }
        latest = latest.filter(|latest| latest.start.0 >= counted.start.0).or(Some(*counted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(number: u64, start: u64, end: u64) -> Counted {
        Counted { key: 1, number, start: (Time(start), Generation(0)), end: (Time(end), Generation(0)) }
    }

    #[test]
    fn a_number_twice_and_one_that_goes_back_are_found() {
        assert!(judge(&mut [counted(1, 0, 2), counted(3, 1, 5), counted(2, 1, 9)]).is_ok());
        assert!(judge(&mut [counted(1, 0, 2), counted(1, 3, 5)]).unwrap_err().what.contains("answered at"));
        assert!(judge(&mut [counted(2, 0, 2), counted(1, 3, 5)]).unwrap_err().what.contains("before 1 was asked"));
    }
}
