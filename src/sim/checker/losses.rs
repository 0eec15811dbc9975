//! A range is begun anew only when every life that served it is over (G22): while one of them lives, cut off, paused or
//! merely unheard, nothing acknowledged may be lost.
//!
//! Where holders are given up by time (G24) a silent one may live on; that it answers nothing then is `one_answerer`'s rule.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Fact};
use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Cause, Chain};
use crate::sim::clock::Time;
use crate::types::{Incarnation, NodeId, RangeId};

/// A range is begun anew only when every life that served it is over.
#[derive(Debug, Default)]
pub struct Losses {
    alive: BTreeSet<(NodeId, Incarnation)>,
    last: BTreeMap<RangeId, Chain>,
}

impl Checker for Losses {
    fn name(&self) -> &'static str {
        "losses"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Started { node, life, .. } => drop(self.alive.insert((*node, *life))),
            Fact::Ended { node, life } => drop(self.alive.remove(&(*node, *life))),
            Fact::Agreed { range, dictionary, .. } => return self.on_agreed(*range, dictionary),
            _ => {}
        }
        Ok(())
    }
}

impl Losses {
    fn on_agreed(&mut self, range: RangeId, dictionary: &Dictionary) -> Result<(), String> {
        let chain = dictionary.chain(range);
        let Some(old) = self.last.insert(range, Chain::clone(chain)) else { return Ok(()) };
        if chain.generation <= old.generation || dictionary.settings.give_up_after().is_some() {
            return Ok(());
        }
        let Cause::BegunAnew { lost, .. } = &chain.cause else { return Ok(()) };
        // Epochs may have passed in between, so the cause says who served last.
        let mut served = old.holders.iter().filter(|holder| lost.contains(&holder.node));
        match served.find(|holder| self.alive.contains(&(holder.node, holder.incarnation))) {
            Some(alive) => Err(format!(
                "range {range} was begun anew while {:?} lives in its life {}: {old:?} was followed by {chain:?}",
                alive.node, alive.incarnation
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::same_dictionary::tests::dictionary;
    use super::*;
    use crate::messages::ownership::GiveUp;
    use crate::types::Term;

    #[test]
    fn a_range_begun_anew_beside_a_living_holder_is_found() {
        let play = |ends: bool, give_up| {
            let mut checker = Losses::default();
            let (node, life, range) = (NodeId(1), Incarnation(1), RangeId(0));
            let mut agreed = dictionary(2);
            agreed.settings.give_up = give_up;
            checker.observe(Time(0), &Fact::Started { node, life, term: Term(1) }).unwrap();
            checker.observe(Time(1), &Fact::Agreed { range, dictionary: &agreed, copies: &[] }).unwrap();
            if ends {
                checker.observe(Time(2), &Fact::Ended { node, life }).unwrap();
            }
            let chain = Arc::make_mut(&mut agreed.chains[0]);
            chain.generation = chain.generation.next();
            chain.cause = Cause::BegunAnew { from: None, lost: vec![node] };
            checker.observe(Time(3), &Fact::Agreed { range, dictionary: &agreed, copies: &[] })
        };
        assert_eq!(play(true, GiveUp::Never), Ok(()));
        assert!(play(false, GiveUp::Never).unwrap_err().contains("begun anew while"));
        assert_eq!(play(false, GiveUp::After(std::time::Duration::from_secs(9))), Ok(()));
    }
}
