//! What was acknowledged is held by every Serving member: whatever a head answers, all who serve the range by the newest
//! agreed chain, and live in the life that it lists, have every write up to what the head knows to be clean.
//!
//! Looked at with each answer, with each new chain (who is promoted must have it all), and when nothing happens any more. A
//! range that was begun anew starts over: what was lost then is the business of `losses`.

use std::collections::BTreeMap;

use super::{Checker, Copied, Fact};
use crate::messages::ownership::Chain;
use crate::sim::clock::Time;
use crate::types::{Generation, RangeId, Sequence};

/// Every acknowledged write is on every Serving member.
#[derive(Debug, Default)]
pub struct Acknowledged {
    clean: BTreeMap<RangeId, (Generation, Sequence)>,
}

impl Checker for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Answered { node, range, newest, copies, .. } => {
                let mine = copies.iter().find(|copy| copy.node == *node).and_then(|copy| copy.progress);
                let known = self.clean.entry(*range).or_default();
                if let Some(mine) = mine {
                    *known = (*known).max((mine.generation, mine.clean));
                }
                self.look(*range, newest, copies)
            }
            Fact::Agreed { range, dictionary, copies } => self.look(*range, dictionary.chain(*range), copies),
            Fact::Quiet(views) => {
                let newest = views.iter().filter_map(|view| view.published.as_ref());
                let Some(newest) = newest.max_by_key(|it| it.dictionary.version) else { return Ok(()) };
                newest.dictionary.ranges().try_for_each(|(range, chain)| {
                    let copies: Vec<Copied> = views.iter().map(|view| view.copy_of(range)).collect();
                    self.look(range, chain, &copies)
                })
            }
            _ => Ok(()),
        }
    }
}

impl Acknowledged {
    fn look(&self, range: RangeId, chain: &Chain, copies: &[Copied]) -> Result<(), String> {
        let Some((generation, clean)) = self.clean.get(&range).copied() else { return Ok(()) };
        if generation != chain.generation || clean == Sequence(0) {
            return Ok(());
        }
        for holder in chain.serving() {
            // Who has ended has nothing, and is found out by the mesh in its own time.
            let lives = |copy: &&Copied| copy.node == holder.node && copy.life == holder.incarnation;
            let Some(copy) = copies.iter().find(lives) else { continue };
            let has = copy.progress.filter(|progress| progress.generation == generation);
            if has.is_none_or(|progress| progress.applied.sequence < clean) {
                let has = has.map_or("no copy".into(), |progress| format!("it up to {}", progress.applied));
                return Err(format!(
                    "range {range} was answered with all up to {clean}, but {:?}, who serves it, has {has}: {chain:?}",
                    holder.node
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::same_dictionary::tests::dictionary;
    use super::*;
    use crate::machines::store::Progress;
    use crate::messages::ownership::{Holder, HolderState};
    use crate::types::{Epoch, Incarnation, NodeId, Stamp};

    fn copy(node: u64, applied: u64, clean: u64) -> Copied {
        let progress = Progress {
            epoch: Epoch(1),
            generation: Generation(1),
            applied: Stamp { epoch: Epoch(1), sequence: Sequence(applied) },
            clean: Sequence(clean),
            backlog: 0,
        };
        Copied { node: NodeId(node), life: Incarnation(1), progress: Some(progress), digest: None }
    }

    /// Two who serve range 0, and one who is loading it.
    fn chain() -> Chain {
        let mut chain = Chain::clone(dictionary(3).chain(RangeId(0)));
        chain.generation = Generation(1);
        for (node, state) in [(2, HolderState::Serving), (3, HolderState::Loading)] {
            chain.holders.push(Holder { node: NodeId(node), incarnation: Incarnation(1), state });
        }
        chain
    }

    fn answered(checker: &mut Acknowledged, copies: &[Copied]) -> Result<(), String> {
        let newest = chain();
        let (node, life, others) = (NodeId(1), Incarnation(1), vec![]);
        let fact = Fact::Answered { node, life, range: RangeId(0), chain: &newest, newest: &newest, copies, others };
        checker.observe(Time(0), &fact)
    }

    #[test]
    fn a_serving_member_that_lacks_an_acknowledged_write_is_found() {
        let mut checker = Acknowledged::default();
        assert_eq!(answered(&mut checker, &[copy(1, 9, 7), copy(2, 7, 5), copy(3, 1, 0)]), Ok(()));
        let lacks = answered(&mut checker, &[copy(1, 9, 8), copy(2, 7, 7)]).unwrap_err();
        assert!(lacks.contains("all up to 8") && lacks.contains("n2, who serves it"), "{lacks}");
        // It lives and has no copy at all.
        let none = Copied { progress: None, ..copy(2, 0, 0) };
        assert!(answered(&mut checker, &[copy(1, 9, 8), none]).unwrap_err().contains("no copy"));
        // Its listed life has ended: the mesh has to notice, not this rule.
        let other = Copied { life: Incarnation(2), ..copy(2, 0, 0) };
        assert_eq!(answered(&mut checker, &[copy(1, 9, 8), other]), Ok(()));
    }

    #[test]
    fn one_who_is_promoted_without_all_is_found() {
        let mut checker = Acknowledged::default();
        answered(&mut checker, &[copy(1, 9, 9), copy(2, 9, 9)]).unwrap();
        let mut agreed = dictionary(3);
        let mut promoted = chain();
        promoted.holders[2].state = HolderState::Serving;
        agreed.chains[0] = Arc::new(promoted);
        let tell = |checker: &mut Acknowledged, third| {
            let copies = [copy(1, 9, 9), copy(2, 9, 9), copy(3, third, 0)];
            checker.observe(Time(1), &Fact::Agreed { range: RangeId(0), dictionary: &agreed, copies: &copies })
        };
        assert_eq!(tell(&mut checker, 9), Ok(()));
        assert!(tell(&mut checker, 8).is_err());
        // Begun anew, it starts over.
        Arc::make_mut(&mut agreed.chains[0]).generation = Generation(2);
        let copies = [copy(3, 0, 0)];
        let fact = Fact::Agreed { range: RangeId(0), dictionary: &agreed, copies: &copies };
        assert_eq!(checker.observe(Time(2), &fact), Ok(()));
    }
}
