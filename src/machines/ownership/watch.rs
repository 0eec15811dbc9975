//! Who is heard, as this commander knows it since its election: the heartbeat machine's verdicts, kept by node and life.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Holder, Member, Role, Standing};
use crate::types::{Incarnation, Instant, NodeId, Timing};

use super::evidence::Life;

/// For how many failure_timeouts two nodes that did not reach each other are not put into one chain again. Each trial stops
/// the ranges it is made with for about two.
const APART_FOR: u32 = 120;

/// The verdicts of one reign.
#[derive(Debug)]
pub(super) struct Watch {
    me: Life,
    /// When this commander first saw each node on the roster: its absence is not counted from before that.
    listed: BTreeMap<NodeId, Instant>,
    sights: BTreeMap<NodeId, Sight>,
    /// The newest life of each node that has been silent so long that it has ended by itself (G24). Never taken back.
    expired: BTreeMap<NodeId, Incarnation>,
    /// Pairs of heard nodes of which one missed the other, lower id first.
    apart: BTreeMap<(NodeId, NodeId), Apart>,
}

/// That one heard node missed another. Once is no proof: whoever was paused missed everybody when it woke.
#[derive(Debug)]
struct Apart {
    first: Instant,
    last: Instant,
    proven: bool,
    /// When it was last said of nodes that had been heard for long.
    lasting: Option<Instant>,
}

/// What is held against a node.
#[derive(Clone, Debug)]
pub(super) struct Missed {
    /// What was missed and probed, in words.
    pub evidence: String,
    /// Its process has ended, as far as can be seen: it will not come back as it was.
    pub gone: bool,
}

/// The latest verdict about one node.
#[derive(Debug)]
struct Sight {
    incarnation: Incarnation,
    since: Instant,
    /// None while it is heard.
    missed: Option<Missed>,
}

impl Watch {
    pub fn new(me: Life) -> Self {
        Self { me, listed: BTreeMap::new(), sights: BTreeMap::new(), expired: BTreeMap::new(), apart: BTreeMap::new() }
    }

    /// Looks who is on the roster.
    pub fn on_roster(&mut self, now: Instant, dictionary: &Dictionary) {
        self.listed.retain(|node, _| dictionary.roster.contains_key(node));
        for node in dictionary.roster.keys() {
            self.listed.entry(*node).or_insert(now);
        }
    }

    pub fn on_alive(&mut self, now: Instant, node: NodeId, incarnation: Incarnation) {
        self.judge(now, node, incarnation, None);
    }

    pub fn on_suspect(&mut self, now: Instant, node: NodeId, incarnation: Incarnation, missed: Missed) {
        self.judge(now, node, incarnation, Some(missed));
    }

    pub fn on_expired(&mut self, now: Instant, node: NodeId, incarnation: Incarnation, silent_for: Duration) {
        let evidence = format!("silent for {:.3}s", silent_for.as_secs_f64());
        if self.suspicion(node, incarnation).is_none() {
            self.judge(now, node, incarnation, Some(Missed { evidence, gone: true }));
        }
        let expired = self.expired.entry(node).or_insert(incarnation);
        *expired = incarnation.max(*expired);
    }

    /// Of two heard nodes one missed the other. Said for half a failure_timeout it is believed.
    pub fn on_apart(&mut self, now: Instant, one: NodeId, other: NodeId, lasting: bool, timing: &Timing) {
        let pair = (one.min(other), one.max(other));
        let begun = Apart { first: now, last: now, proven: false, lasting: None };
        let apart = self.apart.entry(pair).or_insert(begun);
        // It is said each failure_timeout.
        if now.since(apart.last) > timing.failure_timeout * 2 {
            *apart = Apart { first: now, last: now, proven: false, lasting: apart.lasting };
        }
        apart.last = now;
        apart.proven |= now.since(apart.first) >= timing.failure_timeout / 2;
        if apart.proven && lasting {
            apart.lasting = Some(now);
        }
    }

    /// An operator knows that nodes reach each other again.
    pub fn forget_apart(&mut self) {
        self.apart.clear();
    }

    /// Whether two nodes do not reach each other.
    pub fn are_apart(&self, now: Instant, one: NodeId, other: NodeId, timing: &Timing) -> bool {
        let fresh = |apart: &Apart| apart.proven && now.since(apart.last) < timing.failure_timeout * 3;
        self.apart.get(&(one.min(other), one.max(other))).is_some_and(fresh)
    }

    /// Whether two nodes did not reach each other when that was last seen.
    pub fn were_apart(&self, now: Instant, one: NodeId, other: NodeId, timing: &Timing) -> bool {
        let span = timing.failure_timeout * APART_FOR;
        let lately = |apart: &Apart| apart.lasting.is_some_and(|at| now.since(at) < span);
        self.are_apart(now, one, other, timing) || self.apart.get(&(one.min(other), one.max(other))).is_some_and(lately)
    }

    /// A verdict about an older life than the one last seen tells nothing any more.
    fn judge(&mut self, now: Instant, node: NodeId, incarnation: Incarnation, missed: Option<Missed>) {
        let known = self.sights.get(&node);
        if known.is_some_and(|sight| incarnation < sight.incarnation) {
            return;
        }
        let same = known.filter(|sight| sight.incarnation == incarnation);
        // Since when it is silent counts, not when that was said again.
        let since = same.filter(|s| s.missed.is_some() && missed.is_some()).map_or(now, |sight| sight.since);
        self.sights.insert(node, Sight { incarnation, since, missed });
    }

    /// Since when a life is suspected by this commander, and on what evidence. Where a later life of the node was seen and is
    /// missed now, as one that died before it was admitted, the earlier one is missed all the more.
    pub fn suspicion(&self, node: NodeId, incarnation: Incarnation) -> Option<(Instant, &str)> {
        let sight = self.sights.get(&node).filter(|sight| sight.incarnation >= incarnation)?;
        sight.missed.as_ref().map(|missed| (sight.since, &*missed.evidence))
    }

    /// Whether a node that is not heard may soon come back as it was, with all it had: it is merely silent, paused or cut
    /// off, and not for long. Where it has no verdict yet, its absence counts from when this commander first looked.
    pub fn may_return(&self, now: Instant, dictionary: &Dictionary, node: NodeId) -> bool {
        let Some(member) = dictionary.member(node) else { return false };
        let life = member.node.incarnation;
        if member.is_over() || self.hears(dictionary, node, life) {
            return false;
        }
        let ended = |sight: &Sight| sight.incarnation > life || sight.missed.as_ref().is_some_and(|it| it.gone);
        let gone = self.sights.get(&node).filter(|sight| sight.incarnation >= life).is_some_and(ended);
        !gone && self.absent_for(now, member) < dictionary.settings.repair_after
    }

    /// Whether this commander has heard this life, and still does.
    pub fn has_heard(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let me = Life { node, incarnation } == self.me;
        me || self.sight(node, incarnation).is_some_and(|sight| sight.missed.is_none())
    }

    /// Whether this life may be counted on: not suspected by this commander, nor, before it has a verdict of its own, by
    /// the one before.
    pub fn hears(&self, dictionary: &Dictionary, node: NodeId, incarnation: Incarnation) -> bool {
        if dictionary.is_dead(node, incarnation) || self.suspicion(node, incarnation).is_some() {
            return false;
        }
        let standing = dictionary.member(node).map(|member| member.standing);
        self.has_heard(node, incarnation) || standing != Some(Standing::Suspect)
    }

    pub fn hears_holder(&self, dictionary: &Dictionary, holder: &Holder) -> bool {
        self.hears(dictionary, holder.node, holder.incarnation)
    }

    /// Whether a node can be given ranges: a drone that is heard. What this commander hears itself counts before the roster
    /// says so: ranges would else be moved away from a node in the moment it is back.
    pub fn can_be_given(&self, dictionary: &Dictionary, member: &Member) -> bool {
        let node = &member.node;
        let stands = match member.standing {
            Standing::Up | Standing::Draining => true,
            Standing::Joining | Standing::Suspect => self.has_heard(node.id, node.incarnation),
        };
        node.role == Role::Drone && stands && self.hears(dictionary, node.id, node.incarnation)
    }

    /// Whether a life has been silent so long that it is given up (G24), whatever was seen of later ones.
    pub fn has_expired(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.expired.get(&node).is_some_and(|expired| *expired >= incarnation)
    }

    /// How a member should stand by what is seen of its present life; none where nothing is.
    pub fn standing(&self, member: &Member) -> Option<(Standing, &str)> {
        let node = &member.node;
        if let Some((_, evidence)) = self.suspicion(node.id, node.incarnation) {
            return Some((Standing::Suspect, evidence));
        }
        let heard = if member.drains { (Standing::Draining, "it is to leave") } else { (Standing::Up, "heard") };
        self.has_heard(node.id, node.incarnation).then_some(heard)
    }

    /// For how long nothing was heard of a member, whatever life it lives; counted from this commander's election, or from
    /// when the member came on the roster.
    pub fn absent_for(&self, now: Instant, member: &Member) -> Duration {
        let heard = member.node.id == self.me.node;
        let sight = self.sights.get(&member.node.id);
        match sight {
            _ if heard => Duration::ZERO,
            Some(sight) if sight.missed.is_none() => Duration::ZERO,
            Some(sight) => now.since(sight.since),
            None => self.listed.get(&member.node.id).map_or(Duration::ZERO, |listed| now.since(*listed)),
        }
    }

    /// Who has left the roster is forgotten.
    pub fn forget_strangers(&mut self, dictionary: &Dictionary) {
        self.sights.retain(|node, _| dictionary.roster.contains_key(node));
        self.expired.retain(|node, _| dictionary.roster.contains_key(node));
        let known = |node: &NodeId| dictionary.roster.contains_key(node);
        self.apart.retain(|(one, other), _| known(one) && known(other));
    }

    fn sight(&self, node: NodeId, incarnation: Incarnation) -> Option<&Sight> {
        self.sights.get(&node).filter(|sight| sight.incarnation == incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ownership::{Addresses, Candidate, MeshSettings};
    use crate::types::MeshId;

    #[test]
    fn a_later_life_that_is_missed_is_missed_in_its_earlier_lives_too() {
        let (node, listed, later) = (NodeId(1), Incarnation(1), Incarnation(4));
        let candidate = Candidate {
            id: node,
            incarnation: listed,
            name: "n1".into(),
            addresses: Addresses::default(),
            zone: String::new(),
            weight: 100,
            role: Role::Drone,
        };
        let mut dictionary = Dictionary::found(MeshId(1), MeshSettings::default(), candidate);
        dictionary.roster.get_mut(&node).expect("it founded the mesh").standing = Standing::Up;
        let mut watch = Watch::new(Life { node: NodeId(9), incarnation: Incarnation(1) });
        // It was quick to start again, and is about to be admitted: nothing is known to be wrong.
        watch.on_alive(Instant(1), node, later);
        assert!(watch.hears(&dictionary, node, listed));
        // It died before that. Nobody will ever hear the life on the roster again.
        watch.on_suspect(Instant(2), node, later, Missed { evidence: "no beacon".into(), gone: false });
        assert!(!watch.hears(&dictionary, node, listed));
        assert_eq!(watch.suspicion(node, listed), Some((Instant(2), "no beacon")));
        assert_eq!(watch.standing(&dictionary.roster[&node]), Some((Standing::Suspect, "no beacon")));
        // A word about an earlier life than the one on the roster is no word about that one.
        assert_eq!(watch.suspicion(node, Incarnation(5)), None);
        // The one on the roster is given up, and not the one that was seen after it, which may be back.
        watch.on_expired(Instant(3), node, listed, Duration::from_secs(2));
        assert!(watch.has_expired(node, listed) && !watch.has_expired(node, later));
        watch.on_alive(Instant(4), node, later);
        assert!(watch.has_expired(node, listed), "never taken back");
    }
}
