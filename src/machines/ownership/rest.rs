//! Nodes that are about to end and will be back, as when a mesh is started anew one node after the other.
//!
//! Whoever says so is taken out of its chains first, where another holder serves: so nobody waits for it when it ends, neither
//! clients nor heads that need its word. Its place is kept for it for `replication.repair_after`. Nothing of this is agreed: a
//! commander that does not know of it does what it does about any node that ends.

use std::collections::BTreeMap;

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
    /// A life of a node is about to end.
    pub fn begin(&mut self, now: Instant, asker: Asker, who: Life) {
        let rest = self.list.entry(who.node).or_insert(Rest { life: who.incarnation, since: now, askers: Vec::new() });
        if rest.life < who.incarnation {
            *rest = Rest { life: who.incarnation, since: now, askers: Vec::new() };
        }
        if rest.life == who.incarnation && !rest.askers.contains(&asker) {
            rest.askers.push(asker);
        }
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
        let span = dictionary.settings.repair_after;
        self.list.retain(|node, rest| {
            let is_same = dictionary.member(*node).is_some_and(|member| member.node.incarnation == rest.life);
            is_same && now.since(rest.since) < span
        });
        let mut answers = Vec::new();
        for (node, rest) in self.list.iter_mut().filter(|(_, rest)| !rest.askers.is_empty()) {
            let (held, alone) = held_by(Life { node: *node, incarnation: rest.life }, dictionary, watch);
            if held == alone {
                let line = match alone {
                    0 => "no range waits for this node".to_owned(),
                    _ => format!("no range waits for this node but {alone}, which nobody else serves"),
                };
                answers.extend(rest.askers.drain(..).map(|asker| (asker, Ok(vec![line.clone()]))));
            }
        }
        answers
    }
}

/// How many ranges list a life, and how many of them nobody else serves.
fn held_by(who: Life, dictionary: &Dictionary, watch: &Watch) -> (usize, usize) {
    if !dictionary.lists(who.node, who.incarnation) {
        return (0, 0);
    }
    let lists = |chain: &&std::sync::Arc<Chain>| chain.holder(who.node, who.incarnation).is_some();
    let is_alone = |chain: &&std::sync::Arc<Chain>| {
        !chain.serving().any(|holder| holder.node != who.node && watch.hears_holder(dictionary, holder))
    };
    let held = dictionary.chains.iter().filter(lists);
    (held.clone().count(), held.filter(is_alone).count())
}
