//! At most one node commands in a term.

use std::collections::BTreeMap;

use super::{Checker, Fact};
use crate::sim::clock::Time;
use crate::types::{NodeId, Term};

/// At most one node commands in a term.
#[derive(Debug, Default)]
pub struct OneCommander {
    commanders: BTreeMap<Term, NodeId>,
}

impl Checker for OneCommander {
    fn name(&self) -> &'static str {
        "one_commander"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Published { node, published, .. } = fact else { return Ok(()) };
        let believed = if published.commanding { Some(*node) } else { published.commander };
        let Some(commander) = believed else { return Ok(()) };
        match *self.commanders.entry(published.term).or_insert(commander) {
            known if known == commander => Ok(()),
            known => Err(format!("{known:?} and {commander:?} both command in term {}", published.term)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::same_dictionary::tests::published;
    use super::*;

    #[test]
    fn two_commanders_of_one_term_are_found() {
        let mut checker = OneCommander::default();
        let mut say = |node, term, commanding| {
            let published = published(1, |published| {
                published.term = Term(term);
                published.commanding = commanding;
            });
            let fact = Fact::Published { node: NodeId(node), life: Default::default(), published: &published };
            checker.observe(Time(0), &fact)
        };
        assert!(say(1, 4, true).is_ok());
        assert!(say(2, 4, false).is_ok());
        assert!(say(2, 5, true).is_ok());
        assert!(say(2, 4, true).is_err());
    }
}
