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
            check(history).map_err(|why| format!("counter {key}, generation {generation}: {why}"))
        })
    }
}

fn check(history: &mut [Counted]) -> Result<(), String> {
    history.sort_by_key(|counted| counted.number);
    if let Some(pair) = history.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(format!("{} was answered at {} and at {}", pair[0].number, pair[0].end.0, pair[1].end.0));
    }
    // In the order of numbers nobody may have begun after somebody with a higher number was through.
    let mut latest = Time(0);
    for counted in history {
        if counted.end.0 < latest {
            return Err(format!("{} was answered at {}, after a lower one was asked", counted.number, counted.end.0));
        }
        latest = latest.max(counted.start.0);
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
        assert!(check(&mut [counted(1, 0, 2), counted(3, 1, 5), counted(2, 1, 9)]).is_ok());
        assert!(check(&mut [counted(1, 0, 2), counted(1, 3, 5)]).unwrap_err().contains("answered at"));
        assert!(check(&mut [counted(2, 0, 2), counted(1, 3, 5)]).unwrap_err().contains("after a lower"));
    }
}
