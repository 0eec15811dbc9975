//! A range that is begun anew with nothing begins with nothing (G23): whoever kept a copy of an older generation has dropped
//! it, or somebody would read what is agreed to be lost.

use std::collections::BTreeMap;

use super::{Checker, Copied, Fact};
use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::Chain;
use crate::sim::clock::Time;
use crate::types::{Epoch, Generation, RangeId, Stamp};

/// In a generation that was begun with nothing no copy ends with a write of an older one.
#[derive(Debug, Default)]
pub struct Anew {
    last: BTreeMap<RangeId, (Generation, Epoch)>,
    /// Of ranges that were begun with nothing: the generation, and the last epoch before it.
    begun: BTreeMap<RangeId, (Generation, Epoch)>,
}

impl Checker for Anew {
    fn name(&self) -> &'static str {
        "anew"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Agreed { range, dictionary, .. } => self.on_agreed(*range, dictionary),
            Fact::Answered { range, copies, .. } => {
                return copies.iter().try_for_each(|copied| self.is_lawful(*range, copied));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Anew {
    fn on_agreed(&mut self, range: RangeId, dictionary: &Dictionary) {
        let Chain { generation, epoch, revived, .. } = &**dictionary.chain(range);
        let Some((known, before)) = self.last.insert(range, (*generation, *epoch)) else { return };
        if *generation == known.next() && revived.is_none() {
            self.begun.insert(range, (*generation, before));
        } else if *generation > known {
            // What was begun in between nobody has seen.
            self.begun.remove(&range);
        }
    }

    fn is_lawful(&self, range: RangeId, copied: &Copied) -> Result<(), String> {
        let (Some(copy), Some((generation, before))) = (copied.progress, self.begun.get(&range)) else { return Ok(()) };
        if copy.generation != *generation || copy.applied == Stamp::default() || copy.applied.epoch > *before {
            return Ok(());
        }
        Err(format!(
            "range {range}: generation {generation} was begun with nothing after epoch {before}, but {:?} in its life {} has a \
             copy of it that ends with write {}",
            copied.node, copied.life, copy.applied
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::same_dictionary::tests::dictionary;
    use super::*;
    use crate::machines::chain::Progress;
    use crate::types::{Incarnation, NodeId, Sequence};

    #[test]
    fn a_copy_of_before_is_found_and_that_of_the_one_it_was_begun_with_is_lawful() {
        let play = |revived: Option<NodeId>, applied: (u64, u64)| {
            let (mut checker, mut agreed, range) = (Anew::default(), dictionary(2), RangeId(0));
            let see = |checker: &mut Anew, agreed: &Dictionary| {
                checker.observe(Time(1), &Fact::Agreed { range, dictionary: agreed, copies: &[] }).unwrap();
            };
            see(&mut checker, &agreed);
            let old = agreed.chain(range).epoch;
            let chain = Arc::make_mut(&mut agreed.chains[0]);
            (chain.generation, chain.epoch, chain.revived) = (chain.generation.next(), old.next(), revived);
            see(&mut checker, &agreed);
            let applied = Stamp { epoch: Epoch(old.0 + applied.0), sequence: Sequence(applied.1) };
            let chain = agreed.chain(range);
            let progress =
                Progress { epoch: chain.epoch, generation: chain.generation, applied, clean: Sequence(0), backlog: 0 };
            let (node, life) = (NodeId(1), Incarnation(1));
            let copies = [Copied { node, life, progress: Some(progress), digest: None }];
            let fact = Fact::Answered { node, life, range, chain, newest: chain, copies: &copies, others: vec![] };
            checker.observe(Time(2), &fact)
        };
        assert!(play(None, (0, 7)).unwrap_err().contains("begun with nothing"));
        assert_eq!(play(None, (1, 7)), Ok(()));
        assert_eq!(play(Some(NodeId(1)), (0, 7)), Ok(()));
    }
}
