//! What can be seen of the world from outside: who runs, what each knows, who can answer for what.

use std::collections::BTreeMap;

use super::World;
use crate::machines::dictionary::Dictionary;
use crate::sim::checker::{Copied, Fact, View};
use crate::sim::network::{FRAMES, Host};
use crate::sim::node::Node;
use crate::types::{NodeId, RangeId, Term};

/// Who commands, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where.
    pub host: Host,
    /// Who.
    pub node: NodeId,
    /// In which term.
    pub term: Term,
}

impl World {
    /// The running node that commands, in the highest term in which one does.
    pub fn commander(&self) -> Option<Standing> {
        self.hosts()
            .filter_map(|host| {
                let node = self.places[host.0].node.as_ref().filter(|_| self.places[host.0].runs())?;
                let published = node.published.as_ref().filter(|published| published.commanding)?;
                Some(Standing { host, node: node.me().0, term: published.term })
            })
            .max_by_key(|standing| standing.term)
    }

    /// What a node knows to be agreed.
    pub fn dictionary(&self, host: Host) -> Option<&Dictionary> {
        let node = self.places[host.0].node.as_ref()?;
        node.published.as_ref().map(|published| &*published.dictionary)
    }

    /// The newest dictionary that anybody knows.
    pub fn newest_dictionary(&self) -> Option<&Dictionary> {
        self.newest.as_ref().map(|newest| &*newest.dictionary)
    }

    /// Whoever can answer for a range at this instant; a paused process can, once it runs on before its lease has ended.
    pub fn answerers(&self, range: RangeId) -> Vec<NodeId> {
        let can = |host: Host| {
            let node = self.places[host.0].node.as_ref()?;
            node.store_of(range).answers(range, self.read(host)).then_some(node.me().0)
        };
        self.hosts().filter_map(can).collect()
    }

    /// Whether each range has somebody who can answer and runs.
    pub fn is_served(&self) -> bool {
        self.newest_dictionary().is_some_and(|newest| self.served() == newest.chains.len())
    }

    /// How many ranges have somebody who can answer and runs.
    pub fn served(&self) -> usize {
        let ranges = self.newest_dictionary().map_or(0, |newest| newest.chains.len());
        ranges - self.unserved().len()
    }

    /// The ranges for which nobody who runs can answer.
    pub fn unserved(&self) -> Vec<RangeId> {
        let ranges = self.newest_dictionary().map_or(0, |newest| newest.chains.len() as u16);
        let answers = |host: Host, range: RangeId| {
            let place = &self.places[host.0];
            let node = place.node.as_ref().filter(|_| place.runs());
            node.is_some_and(|node| node.store_of(range).answers(range, self.read(host)))
        };
        (0..ranges).map(RangeId).filter(|range| !self.hosts().any(|host| answers(host, *range))).collect()
    }

    /// How many nodes should vote, of so many drones and witnesses.
    pub fn seats_for(&self, drones: usize, witnesses: usize) -> usize {
        seats_for(drones, witnesses, usize::from(self.settings.voters))
    }

    /// All processes at this instant.
    pub fn views(&self) -> Vec<View> {
        self.hosts().filter_map(|host| self.view(host)).collect()
    }

    fn view(&self, host: Host) -> Option<View> {
        let place = &self.places[host.0];
        let node: &Node = place.node.as_ref()?;
        let now = self.read(host);
        let ranges = node.published.as_ref().map_or(0, |it| it.dictionary.chains.len() as u16);
        let answers = (0..ranges).map(RangeId).filter(|range| node.store_of(*range).answers(*range, now)).collect();
        let mut queues = node.queues();
        queues.push(("writes waiting for the disk", place.disk.waiting(), FRAMES));
        let (id, life) = node.me();
        Some(View { node: id, life, published: node.published.clone(), answers, queues, copies: BTreeMap::new() })
    }

    /// What every living process has of a range.
    pub fn copies(&self, range: RangeId) -> Vec<Copied> {
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        let copied = |node: &Node| {
            let (id, life) = node.me();
            Copied { node: id, life, progress: node.store_of(range).progress(range), digest: None }
        };
        nodes.map(copied).collect()
    }

    /// All processes at this instant, with what each has of every range, key by key: dear, so for quiet moments.
    pub fn whole_views(&self) -> Vec<View> {
        let mut views = self.views();
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        for (view, node) in views.iter_mut().zip(nodes) {
            for store in node.stores() {
                let held =
                    store.ranges().filter_map(|range| Some((range, store.progress(range)?, store.digest(range)?)));
                view.copies.extend(held.map(|(range, progress, digest)| (range, (progress, digest))));
            }
        }
        views
    }

    /// Shows the world to the checkers as one in which nothing has happened for a while.
    pub fn look_quietly(&mut self) {
        let views = self.whole_views();
        self.checkers.observe(self.queue.now(), &Fact::Quiet(&views));
    }
}

/// How many of these should vote: an odd number, or both of two, and never so many witnesses that a majority could be theirs
/// alone, since none of them stands.
fn seats_for(drones: usize, witnesses: usize, at_most: usize) -> usize {
    let may_vote = |count: &usize| *count <= 2 || !count.is_multiple_of(2);
    let can_rule = |count: &usize| count.saturating_sub(drones) < count / 2 + 1;
    (1..=at_most.min(drones + witnesses)).rev().filter(may_vote).find(can_rule).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_number_votes_and_witnesses_are_never_a_majority() {
        let seats = |drones, witnesses| seats_for(drones, witnesses, 5);
        assert_eq!([1, 2, 3, 4, 5, 9].map(|drones| seats(drones, 0)), [1, 2, 3, 3, 5, 5]);
        assert_eq!([seats(1, 1), seats(2, 1), seats(3, 1), seats(4, 1)], [2, 3, 3, 5]);
        assert_eq!([seats(1, 2), seats(2, 3), seats(3, 2), seats(3, 3)], [2, 3, 5, 5]);
        assert_eq!(seats(0, 3), 0, "nobody could stand");
    }
}
