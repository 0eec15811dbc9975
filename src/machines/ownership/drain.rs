//! Nodes that are to leave: whether they may, how far they are, and which moves that means.
//!
//! That a node is to leave is agreed (`Command::Drain`), so it outlives commanders, and the node's own starts. It is given
//! nothing from then on, so placement gives what it holds to others, and the usual steps take it out of its chains: who
//! takes its place serves first. It gives up its vote at once, the command too. Once no chain lists it, it is soon off the roster.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Cause, Command, Member, Role};
use crate::types::{Instant, NodeId};

use super::roster::is_waited_for;
use super::watch::Watch;

/// Whether a node may leave: others are there to take what it holds.
pub(super) fn may_leave(member: &Member, dictionary: &Dictionary, watch: &Watch) -> Result<(), String> {
    if member.node.role == Role::Witness {
        return Ok(());
    }
    let takes =
        |other: &&Member| other.node.id != member.node.id && !other.drains && watch.can_be_given(dictionary, other);
    let others = dictionary.drones().filter(takes).count();
    let least = usize::from(dictionary.settings.min_copies).max(1);
    if others >= least {
        return Ok(());
    }
    Err(format!(
        "{} cannot leave: what it holds must go to others, {least} at least, and {others} are up and stay; start another node first",
        member.node.name
    ))
}

/// For how many failure_timeouts a node that holds nothing any more stays on the roster: clients that know an older map are told
/// by it where to ask, and it sees them off.
const LINGERING: u32 = 2;

/// Since when nodes that are to leave hold nothing.
#[derive(Debug, Default)]
pub(super) struct Drained {
    since: BTreeMap<NodeId, Instant>,
}

impl Drained {
    pub fn note(&mut self, now: Instant, dictionary: &Dictionary) {
        let is_done = |node: &NodeId| dictionary.member(*node).is_some_and(|member| is_drained(member, dictionary));
        self.since.retain(|node, _| is_done(node));
        for node in dictionary.roster.keys().filter(|node| is_done(node)) {
            self.since.entry(*node).or_insert(now);
        }
    }

    /// A node that has lingered long enough leaves.
    pub fn next(&self, now: Instant, dictionary: &Dictionary) -> Option<Command> {
        let span = dictionary.settings.timing.failure_timeout * LINGERING;
        let is_due = |(_, since): &(&NodeId, &Instant)| now.since(**since) >= span;
        let (node, _) = self.since.iter().filter(|_| dictionary.roster.len() > 1).find(is_due)?;
        Some(Command::Remove { node: *node, cause: Cause::Drained(*node) })
    }
}

/// Whether a node that is to leave has given away all it held, and nobody waits for it.
pub(super) fn is_drained(member: &Member, dictionary: &Dictionary) -> bool {
    member.drains && !is_waited_for(dictionary, member.node.id, member.node.incarnation)
}

/// How far a node is that was told to leave, or to stay.
pub(super) fn words(dictionary: &Dictionary, node: NodeId) -> String {
    let Some(member) = dictionary.member(node) else { return format!("node {node} is off the roster") };
    let name = &member.node.name;
    let tally = dictionary.tally(node);
    match (member.drains, tally.held + tally.loading) {
        (false, _) => format!("{name} stays"),
        (true, 0) => format!("{name} drains: it holds nothing any more, and leaves"),
        (true, left) => format!("{name} drains: {left} ranges are left, {} of them headed by it", tally.headed),
    }
}

/// From what is to what should be: a line for each run of ranges that changes alike, and one about all.
pub(super) fn moves(dictionary: &Dictionary, target: &[Vec<NodeId>]) -> Vec<String> {
    let names = |nodes: &[NodeId]| nodes.iter().map(|node| dictionary.name_of(*node)).collect::<Vec<_>>().join(", ");
    let (mut copies, mut heads, mut changed) = (0, 0, 0);
    let mut runs: Vec<(u16, u16, Vec<NodeId>, &Vec<NodeId>)> = Vec::new();
    for ((range, chain), wanted) in dictionary.ranges().zip(target) {
        let holders: Vec<NodeId> = chain.holders.iter().map(|holder| holder.node).collect();
        let is_so = holders.first() == wanted.first() && holders.len() == wanted.len();
        let missing = wanted.iter().filter(|node| !holders.contains(node)).count();
        if is_so && missing == 0 {
            continue;
        }
        changed += 1;
        copies += missing;
        heads += usize::from(holders.first() != wanted.first());
        match runs.last_mut() {
            Some((_, last, from, to)) if *last + 1 == range.0 && *from == holders && *to == wanted => *last = range.0,
            _ => runs.push((range.0, range.0, holders, wanted)),
        }
    }
    if changed == 0 {
        return vec!["nothing would move".into()];
    }
    let mut lines = vec![format!("{changed} ranges: {copies} copies are made, {heads} heads change")];
    lines.extend(runs.into_iter().map(|(first, last, from, to)| {
        let mut line = format!("range {first}");
        if last > first {
            let _ = write!(line, "-{last}");
        }
        let _ = write!(line, ": {} -> {}", names(&from), names(to));
        line
    }));
    lines
}
