//! Nodes that are about to end and will be back, as when a mesh is started anew one node after the other.
//!
//! Whoever says so is taken out of its chains first, where another holder serves: so nobody waits for it when it ends, neither
//! clients nor heads that need its word. Its place is kept for it for a few seconds. Nothing of this is agreed: a
//! commander that does not know of it does what it does about any node that ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::Chain;
use crate::types::{Incarnation, Instant, NodeId};

use super::evidence::Life;
use super::roster::{Asker, Reply};
use super::watch::Watch;

/// Who rests.
#[derive(Debug, Default)]
pub(super) struct Resting {
    list: BTreeMap<NodeId, Rest>,
}

#[derive(Debug)]
struct Rest {
    life: Incarnation,
    since: Instant,
    askers: Vec<Asker>,
}

impl Resting {
    /// A life of a node is about to end. Where clients' writes need all copies it is not done without before it has ended:
    /// then another receives a copy at once.
    pub fn begin(&mut self, now: Instant, asker: Asker, who: Life, dictionary: &Dictionary) -> Option<Reply> {
        let Life { node, incarnation: life } = who;
        if dictionary.settings.min_copies >= dictionary.settings.factor.max(2) {
            return Some((asker, Ok(vec!["writes need all copies: others take over when it has ended".into()])));
        }
        if dictionary.member(node).is_none_or(|member| member.node.incarnation != life) {
            return Some((asker, Ok(vec!["no range waits for this node".into()])));
        }
        let rest = self.list.entry(node).or_insert(Rest { life, since: now, askers: Vec::new() });
        if rest.life < life {
            *rest = Rest { life, since: now, askers: Vec::new() };
        }
        if !rest.askers.contains(&asker) {
            rest.askers.push(asker);
        }
        None
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Who rests.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.list.keys().copied().collect()
    }

    /// Whether a node rests: it is given nothing, and keeps its place.
    pub fn contains(&self, node: NodeId) -> bool {
        self.list.contains_key(&node)
    }

    /// Forgets those that are back, or have been away for too long, and answers those that nobody waits for any more.
    pub fn settle(&mut self, now: Instant, dictionary: &Dictionary, watch: &Watch) -> Vec<Reply> {
        // Starting anew takes a second or two; whoever is away for longer is missed.
        let span = dictionary.settings.repair_after.min(dictionary.settings.timing.seat_timeout());
        let is_over = |node: &NodeId, rest: &mut Rest| {
            let is_same = dictionary.member(*node).is_some_and(|member| member.node.incarnation == rest.life);
            !is_same || now.since(rest.since) >= span
        };
        let over: Vec<Asker> = self.list.extract_if(.., is_over).flat_map(|(_, rest)| rest.askers).collect();
        let line = "it is not waited for any longer";
        let mut answers: Vec<Reply> = over.into_iter().map(|asker| (asker, Ok(vec![line.to_owned()]))).collect();
        let resting: Vec<NodeId> = self.nodes();
        for (node, rest) in self.list.iter_mut().filter(|(_, rest)| !rest.askers.is_empty()) {
            let (held, alone) = held_by(Life { node: *node, incarnation: rest.life }, dictionary, watch, &resting);
            if held == alone {
                let line = match alone {
                    0 => "no range waits for this node".to_owned(),
                    _ => format!("no range waits for this node but {alone}, which nobody else holds"),
                };
                answers.extend(rest.askers.drain(..).map(|asker| (asker, Ok(vec![line.clone()]))));
            }
        }
        answers
    }
}

/// How many ranges list a life, and how many of them nobody else holds, or is about to, who stays.
fn held_by(who: Life, dictionary: &Dictionary, watch: &Watch, resting: &[NodeId]) -> (usize, usize) {
    if !dictionary.lists(who.node, who.incarnation) {
        return (0, 0);
    }
    let lists = |chain: &&Arc<Chain>| chain.holder(who.node, who.incarnation).is_some();
    let is_alone = |chain: &&Arc<Chain>| {
        !chain.holders.iter().any(|holder| !resting.contains(&holder.node) && watch.hears_holder(dictionary, holder))
    };
    let held = dictionary.chains.iter().filter(lists);
    (held.clone().count(), held.filter(is_alone).count())
}
