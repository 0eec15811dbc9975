//! Terms, versions and epochs never fall at a node. Within a life none of them does; and a term that a node has told anybody
//! is one that its next life still knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Checker, Fact};
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::sim::clock::Time;
use crate::types::{Incarnation, NodeId, Term};

/// Terms, versions and epochs never fall at a node.
#[derive(Debug, Default)]
pub struct NeverBack {
    last: BTreeMap<NodeId, (Incarnation, Arc<Published>)>,
    commanded: BTreeMap<NodeId, Term>,
}

impl Checker for NeverBack {
    fn name(&self) -> &'static str {
        "never_back"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Started { node, term, .. } => match self.commanded.get(node) {
                Some(commanded) if term < commanded => {
                    Err(format!("{node:?} starts in term {term}, but commanded in {commanded}"))
                }
                _ => Ok(()),
            },
            Fact::Published { node, life, published } => self.on_published(*node, *life, published),
            _ => Ok(()),
        }
    }
}

impl NeverBack {
    fn on_published(&mut self, node: NodeId, life: Incarnation, new: &Arc<Published>) -> Result<(), String> {
        if new.commanding {
            self.commanded.insert(node, new.term);
        }
        let Some((last_life, old)) = self.last.insert(node, (life, new.clone())) else { return Ok(()) };
        if life < last_life {
            return Err(format!("{node:?} lives its life {life} after its life {last_life}"));
        }
        // A new life begins with what its disk knows, which may be less than was known to be committed.
        if life > last_life {
            return Ok(());
        }
        if new.term < old.term {
            return Err(format!("{node:?} goes back from term {} to {}", old.term, new.term));
        }
        fallen(&old.dictionary, &new.dictionary).map_or(Ok(()), |what| Err(format!("{node:?}: {what}")))
    }
}

fn fallen(old: &Arc<Dictionary>, new: &Arc<Dictionary>) -> Option<String> {
    if Arc::ptr_eq(old, new) {
        return None;
    }
    if new.version < old.version {
        return Some(format!("back from version {} to {}", old.version, new.version));
    }
    if new.version == old.version && new != old {
        return Some(format!("version {} changed in place", new.version));
    }
    new.ranges().zip(&old.chains).find_map(|((range, new), old)| {
        if Arc::ptr_eq(new, old) {
            return None;
        }
        let lower = new.epoch < old.epoch || new.generation < old.generation;
        let equal = new.epoch == old.epoch && new.holders != old.holders;
        (lower || equal).then(|| format!("range {range}: {old:?} was followed by {new:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::same_dictionary::tests::published;
    use super::*;
    use crate::types::{Epoch, Version};

    fn tell(checker: &mut NeverBack, life: u64, published: &Arc<Published>) -> Result<(), String> {
        checker.observe(Time(0), &Fact::Published { node: NodeId(1), life: Incarnation(life), published })
    }

    #[test]
    fn a_term_or_version_that_falls_is_found() {
        let of = |term, version| {
            published(1, |published| {
                published.term = Term(term);
                Arc::make_mut(&mut published.dictionary).version = Version(version);
            })
        };
        for (term, version, lawful) in [(5, 9, true), (6, 10, true), (4, 9, false), (5, 8, false)] {
            let mut checker = NeverBack::default();
            tell(&mut checker, 1, &of(5, 9)).unwrap();
            assert_eq!(tell(&mut checker, 1, &of(term, version)).is_ok(), lawful, "term {term} version {version}");
        }
    }

    #[test]
    fn an_epoch_that_falls_is_found() {
        let of = |version, epoch| {
            published(1, |published| {
                let dictionary = Arc::make_mut(&mut published.dictionary);
                dictionary.version = Version(version);
                Arc::make_mut(&mut dictionary.chains[0]).epoch = Epoch(epoch);
            })
        };
        let mut checker = NeverBack::default();
        tell(&mut checker, 1, &of(2, 7)).unwrap();
        assert!(tell(&mut checker, 1, &of(3, 6)).unwrap_err().contains("range 0"));
    }

    #[test]
    fn a_life_that_forgot_a_term_it_commanded_in_is_found() {
        let mut checker = NeverBack::default();
        let commanding = published(1, |published| {
            published.term = Term(5);
            published.commanding = true;
        });
        tell(&mut checker, 1, &commanding).unwrap();
        let start = |term| Fact::Started { node: NodeId(1), life: Incarnation(2), term: Term(term) };
        assert!(checker.observe(Time(1), &start(5)).is_ok());
        assert!(checker.observe(Time(1), &start(4)).is_err());
    }
}
