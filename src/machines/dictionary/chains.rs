//! Which chain may follow which: each change is one lawful step from the chain it was computed from, or has no effect.
//!
//! The steps are those of CHAIN.md: a node joins as Loading behind the tail (G18), is promoted, is dropped while others
//! keep their order (G5) and one that is not known dead still serves (G19), the head hands over (G20), a hand-over is
//! called off, or, when every serving life is known to be over (G22), the range is begun anew (G23). What only the
//! commander can know (has the joiner caught up, has the head parked, has a survivor vouched) is `ownership`'s to heed.

use std::collections::BTreeMap;

use crate::machines::dictionary::Dictionary;
use crate::machines::dictionary::settings::MAX_FACTOR;
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{Cause, Chain, Former, Holder, HolderState, Role, SetChain};
use crate::planted::{self, Bug};
use crate::types::{NodeId, RangeId, Version};

/// How many former members of a range are remembered. More copies than this are never needed to find the newest.
pub const MAX_FORMER: usize = 8;

/// The most members a chain may have: all wanted, and some on their way in and out.
const MAX_HOLDERS: usize = MAX_FACTOR as usize + 3;

/// A lawful step from one chain to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A node joins as Loading.
    Join(Holder),
    /// The Loading member serves from now on.
    Promote,
    /// A member is a member no more.
    Drop(Holder),
    /// Another member leads.
    HandOver,
    /// The same members in the same order; at most some are marked Leaving, or no longer.
    Renew,
    /// All who served are dead: one holder begins a new generation.
    Anew,
}

impl Dictionary {
    pub(super) fn set_chains(&mut self, changes: &[SetChain]) -> Result<Vec<Event>, String> {
        let version = self.version.next();
        let mut done = Vec::new();
        let mut refusal = None;
        for change in changes {
            match self.step_of(change) {
                Ok(step) => {
                    let chain = self.follow(change, step, version);
                    self.put_chain(change.range, chain);
                    done.push((change.range, &change.cause));
                }
                Err(reason) => refusal = refusal.or(Some(format!("range {}: {reason}", change.range))),
            }
        }
        if done.is_empty() {
            return Err(refusal.unwrap_or_else(|| "no chain was named".into()));
        }
        Ok(self.tell(&done))
    }

    /// Which lawful step a change is, if any.
    fn step_of(&self, change: &SetChain) -> Result<Step, String> {
        let chain = self.chains.get(change.range.0 as usize).ok_or("there is no such range")?;
        // G2: what was computed from another epoch has no effect.
        if chain.epoch != change.expected {
            return Err(format!("computed from epoch {}, but it is {} now", change.expected, chain.epoch));
        }
        well_formed(&change.holders)?;
        if change.anew {
            return self.anew(chain, change);
        }
        let old = &chain.holders;
        let new = &change.holders;
        let (kept, came): (Vec<Holder>, Vec<Holder>) = new.iter().partition(|holder| is_in(old, holder));
        let left: Vec<Holder> = old.iter().filter(|holder| !is_in(new, holder)).copied().collect();
        match (came.as_slice(), left.as_slice()) {
            ([joiner], []) => self.join(old, &kept, *joiner),
            ([], [lost]) => self.drop(&kept, old, *lost),
            ([], []) => self.reorder(old, new),
            _ => Err("that is more than one step".into()),
        }
    }

    fn join(&self, old: &[Holder], kept: &[Holder], joiner: Holder) -> Result<Step, String> {
        let node = joiner.node;
        if !same_roles(old, kept) {
            return Err("who joins changes nothing else".into());
        }
        if joiner.state != HolderState::Loading {
            return Err(format!("node {node} has nothing of the range, so it joins as Loading"));
        }
        if old.iter().any(|holder| !holder.state.serves()) {
            return Err("another node is loading the range".into());
        }
        self.can_hold(&joiner)?;
        Ok(Step::Join(joiner))
    }

    fn drop(&self, kept: &[Holder], old: &[Holder], lost: Holder) -> Result<Step, String> {
        let before: Vec<Holder> = old.iter().filter(|holder| **holder != lost).copied().collect();
        if !same_roles(&before, kept) {
            return Err("those who stay keep their order and their states".into());
        }
        let survivor = kept.iter().any(|h| h.state.serves() && !self.is_dead(h.node, h.incarnation));
        if !survivor {
            return Err(format!("without node {} nobody alive would serve the range", lost.node));
        }
        Ok(Step::Drop(lost))
    }

    /// The same members: a promotion, a hand-over, or only other marks.
    fn reorder(&self, old: &[Holder], new: &[Holder]) -> Result<Step, String> {
        if same_roles(old, new) {
            return Ok(Step::Renew);
        }
        if same_order(old, new) {
            // Both are well formed, so only the last can differ in whether it serves.
            return match (old.last(), new.last()) {
                (Some(was), Some(is)) if !was.state.serves() && is.state.serves() => {
                    if self.is_dead(is.node, is.incarnation) {
                        return Err(format!("node {} has ended in this life", is.node));
                    }
                    Ok(Step::Promote)
                }
                _ => Err("who serves does not go back to loading".into()),
            };
        }
        let head = new[0];
        let rest: Vec<Holder> = old.iter().filter(|holder| holder.node != head.node).copied().collect();
        if !is_serving_in(old, &head) || !same_roles(&rest, &new[1..]) {
            return Err("a hand-over moves one serving member to the front and changes nothing else".into());
        }
        if self.is_dead(head.node, head.incarnation) {
            return Err(format!("node {} has ended in this life", head.node));
        }
        Ok(Step::HandOver)
    }

    fn anew(&self, chain: &Chain, change: &SetChain) -> Result<Step, String> {
        let alive = chain.serving().find(|h| !self.is_dead(h.node, h.incarnation));
        if let Some(alive) = alive.filter(|_| !planted::is(Bug::SilentDeath)) {
            return Err(format!("node {} is not known to have ended, and silence is no death", alive.node));
        }
        let [holder] = change.holders.as_slice() else { return Err("a range is begun anew by one holder".into()) };
        if holder.state != HolderState::Serving {
            return Err("who begins a range anew serves it".into());
        }
        self.can_hold(holder)?;
        let Cause::BegunAnew { from, .. } = &change.cause else {
            return Err("a range begun anew says so in its cause".into());
        };
        let newest = self.newest_copy(chain).map(|former| former.node);
        if *from != newest {
            return Err(match newest {
                Some(node) => format!("node {node} may still have the newest copy"),
                None => "no copy of it is left".into(),
            });
        }
        if from.is_some_and(|node| node != holder.node) {
            return Err("the newest copy is another node's".into());
        }
        Ok(Step::Anew)
    }

    /// The newest copy of a former member that is not known to be dead (G22). Whoever has it must begin the range anew; if
    /// it is out of reach, it is waited for.
    pub fn newest_copy(&self, chain: &Chain) -> Option<Former> {
        chain.former.iter().find(|former| !self.is_dead(former.node, former.incarnation)).copied()
    }

    /// Whether a node may become a holder, in this life.
    fn can_hold(&self, holder: &Holder) -> Result<(), String> {
        let node = holder.node;
        let member = self.roster.get(&node).ok_or_else(|| format!("node {node} is not on the roster"))?;
        if member.node.role != Role::Drone {
            return Err(format!("node {node} is a {:?}, and only drones hold data", member.node.role));
        }
        if member.node.incarnation != holder.incarnation || member.is_over() {
            return Err(format!("node {node} does not live in incarnation {}", holder.incarnation));
        }
        Ok(())
    }

    /// The chain after a lawful step.
    fn follow(&self, change: &SetChain, step: Step, changed: Version) -> Chain {
        let old = self.chain(change.range);
        let mut former = old.former.clone();
        match step {
            Step::Join(joiner) => former.retain(|copy| copy.node != joiner.node),
            Step::Drop(lost) if lost.state.serves() => {
                former.retain(|copy| copy.node != lost.node);
                former.insert(0, Former { node: lost.node, incarnation: lost.incarnation, until: old.epoch });
                former.truncate(MAX_FORMER);
            }
            Step::Anew => former.clear(),
            Step::Drop(_) | Step::Promote | Step::HandOver | Step::Renew => {}
        }
        if change.holders.iter().filter(|h| h.state.serves()).count() >= self.settings.factor as usize {
            former.clear();
        }
        former.retain(|copy| !self.is_dead(copy.node, copy.incarnation));
        let (generation, revived) = match (&change.cause, step) {
            (Cause::BegunAnew { from, .. }, Step::Anew) => (old.generation.next(), *from),
            _ => (old.generation, old.revived),
        };
        let mut holders = change.holders.clone();
        if planted::is(Bug::OrderChanged) && matches!(step, Step::Drop(_)) {
            let serving = holders.iter().filter(|holder| holder.state.serves()).count();
            holders[..serving].rotate_right(1);
        }
        Chain { epoch: old.epoch.next(), generation, changed, holders, former, revived, cause: change.cause.clone() }
    }

    /// One event for each cause, naming its ranges.
    fn tell(&self, done: &[(RangeId, &Cause)]) -> Vec<Event> {
        let mut told: BTreeMap<String, (EventKind, Option<NodeId>, Vec<RangeId>)> = BTreeMap::new();
        for (range, cause) in done {
            let kind = match cause {
                Cause::BegunAnew { .. } => EventKind::RangesLost,
                _ => EventKind::ChainsChanged,
            };
            let entry = told.entry(self.words(cause)).or_insert((kind, concerned(cause), Vec::new()));
            entry.2.push(*range);
        }
        let event = |(text, (kind, node, ranges)): (String, (EventKind, Option<NodeId>, Vec<RangeId>))| {
            let text = match ranges.len() {
                1 => format!("1 range: {text}"),
                many => format!("{many} ranges: {text}"),
            };
            self.event(kind, node, ranges, text)
        };
        told.into_iter().map(event).collect()
    }

    /// A cause in words, with the roster's names.
    pub fn words(&self, cause: &Cause) -> String {
        let name = |node: &NodeId| self.name_of(*node);
        match cause {
            Cause::Founded => "the mesh was founded".into(),
            Cause::Placement => "placed, so that each drone has its share".into(),
            Cause::Lost { node, evidence } => format!("{} was lost: {evidence}", name(node)),
            Cause::Restarted(node) => format!("{} started anew and holds nothing", name(node)),
            Cause::Expired(node) => format!("{} was silent so long that it was given up", name(node)),
            Cause::Dropped(node) => format!("{} was dropped by the operator", name(node)),
            Cause::Drained(node) => format!("{} has given away all it held", name(node)),
            Cause::CaughtUp(node) => format!("{} has all and serves now", name(node)),
            Cause::HandedOver { from, to } => format!("{} handed over to {}", name(from), name(to)),
            Cause::CalledOff => "a hand-over was called off".into(),
            Cause::Left(node) => format!("{} has left, others hold it", name(node)),
            Cause::BegunAnew { from, lost } => {
                let lost: Vec<String> = lost.iter().map(name).collect();
                let lost = lost.join(", ");
                match from {
                    Some(node) => {
                        format!("all holders were lost ({lost}); begun anew from the copy that {} kept", name(node))
                    }
                    None => format!("all holders were lost ({lost}); begun anew, empty"),
                }
            }
        }
    }
}

/// The one node that a cause is about.
fn concerned(cause: &Cause) -> Option<NodeId> {
    match cause {
        Cause::Lost { node, .. }
        | Cause::Restarted(node)
        | Cause::Expired(node)
        | Cause::Dropped(node)
        | Cause::Drained(node)
        | Cause::CaughtUp(node)
        | Cause::Left(node) => Some(*node),
        Cause::HandedOver { to, .. } => Some(*to),
        Cause::BegunAnew { lost, .. } => lost.first().copied(),
        Cause::Founded | Cause::Placement | Cause::CalledOff => None,
    }
}

/// What is true of every chain: somebody serves, no node twice, at most one is loading and stands last (G18).
pub(super) fn well_formed(holders: &[Holder]) -> Result<(), String> {
    let Some(before_last) = holders.len().checked_sub(1) else { return Err("a chain has a member".into()) };
    if holders.len() > MAX_HOLDERS {
        return Err(format!("a chain has at most {MAX_HOLDERS} members"));
    }
    if !holders[0].state.serves() {
        return Err("the first of a chain serves".into());
    }
    if holders[..before_last].iter().any(|holder| !holder.state.serves()) {
        return Err("at most one member is loading, behind the others".into());
    }
    let twice = holders.iter().enumerate().any(|(place, h)| holders[..place].iter().any(|o| o.node == h.node));
    if twice { Err("a node is named twice".into()) } else { Ok(()) }
}

fn is_in(holders: &[Holder], one: &Holder) -> bool {
    holders.iter().any(|holder| holder.node == one.node && holder.incarnation == one.incarnation)
}

fn is_serving_in(holders: &[Holder], one: &Holder) -> bool {
    holders.iter().any(|h| h.node == one.node && h.incarnation == one.incarnation && h.state.serves())
}

fn same_order(one: &[Holder], other: &[Holder]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.node == b.node && a.incarnation == b.incarnation)
}

/// The same members in the same order, serving and loading alike. Leaving is Serving in every guard (G19), so the mark
/// may come and go with any step.
fn same_roles(one: &[Holder], other: &[Holder]) -> bool {
    same_order(one, other) && one.iter().zip(other).all(|(a, b)| a.state.serves() == b.state.serves())
}
