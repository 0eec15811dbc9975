//! Who answers for a range: at any true instant at most one node can, and it is a head that serves, in the incarnation that
//! its own epoch lists. A Loading member is never read.

use std::collections::BTreeMap;

use super::{Checker, Fact, View};
use crate::messages::ownership::HolderState;
use crate::sim::clock::Time;
use crate::types::{NodeId, RangeId};

/// At any true instant at most one node can answer for a range.
#[derive(Debug, Default)]
pub struct OneAnswerer;

impl Checker for OneAnswerer {
    fn name(&self) -> &'static str {
        "one_answerer"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Answered { node, range, others, .. } if !others.is_empty() => {
                Err(format!("{node:?} answered for range {range} while {others:?} could"))
            }
            Fact::Sample(views) | Fact::Quiet(views) => alone(views),
            _ => Ok(()),
        }
    }
}

fn alone(views: &[View]) -> Result<(), String> {
    let mut answerers: BTreeMap<RangeId, NodeId> = BTreeMap::new();
    for view in views {
        for range in &view.answers {
            if let Some(other) = answerers.insert(*range, view.node) {
                return Err(format!("{other:?} and {:?} can both answer for range {range}", view.node));
            }
        }
    }
    Ok(())
}

/// Who answers is the head, serves, and is listed in this incarnation, by its own epoch.
#[derive(Debug, Default)]
pub struct LawfulAnswers;

impl Checker for LawfulAnswers {
    fn name(&self) -> &'static str {
        "lawful_answers"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Answered { node, life, range, chain, .. } = fact else { return Ok(()) };
        match chain.holder(*node, *life) {
            Some(holder) if holder.state == HolderState::Loading => {
                Err(format!("{node:?} answered for range {range} while Loading"))
            }
            Some(_) if chain.head().is_some_and(|head| head.node == *node) => Ok(()),
            Some(_) => Err(format!("{node:?} answered for range {range}, whose head is another: {chain:?}")),
            None => Err(format!("{node:?} answered for range {range} and is not listed in its life {life}: {chain:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::same_dictionary::tests::dictionary;
    use super::*;
    use crate::machines::dictionary::Dictionary;
    use crate::types::Incarnation;

    fn view(node: u64, answers: &[u16]) -> View {
        View {
            node: NodeId(node),
            life: Incarnation(1),
            published: None,
            answers: answers.iter().copied().map(RangeId).collect(),
            queues: vec![],
            copies: Default::default(),
        }
    }

    #[test]
    fn two_who_can_answer_are_found() {
        let sample = |views: &[View]| OneAnswerer.observe(Time(0), &Fact::Sample(views));
        assert!(sample(&[view(1, &[1, 2]), view(2, &[3])]).is_ok());
        assert!(sample(&[view(1, &[1, 2]), view(2, &[2, 3])]).unwrap_err().contains("range 2"));
    }

    #[test]
    fn unlawful_answers_are_found() {
        let answered = |node, life, dictionary: &Dictionary| {
            let (node, life) = (NodeId(node), Incarnation(life));
            let (range, others, newest) = (RangeId(0), vec![], dictionary.chain(RangeId(0)));
            let fact = Fact::Answered { node, life, range, chain: newest, newest, copies: &[], others };
            LawfulAnswers.observe(Time(0), &fact)
        };
        let mut known = dictionary(2);
        assert!(answered(1, 1, &known).is_ok());
        assert!(answered(1, 2, &known).unwrap_err().contains("not listed"));
        assert!(answered(2, 1, &known).unwrap_err().contains("not listed"));
        std::sync::Arc::make_mut(&mut known.chains[0]).holders[0].state = HolderState::Loading;
        assert!(answered(1, 1, &known).unwrap_err().contains("Loading"));
    }
}
