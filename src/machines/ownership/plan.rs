//! Who should hold what: the plan of a reign, made by placement from where ranges lie.

use std::sync::Arc;

use crate::machines::dictionary::Dictionary;
use crate::machines::placement::{self, Drone, PlacementInput, Present};
use crate::messages::ownership::{Chain, Former, Holder, HolderState, Member};
use crate::types::{Instant, NodeId, RangeId, Version};

use super::drain::{may_leave, moves};
use super::reign::Reign;

/// The plan, and what it was made from.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// Who may hold ranges, how many holders each has, and who rests.
    of: Option<(Vec<Drone>, u8, Vec<NodeId>)>,
    version: Version,
    /// Who held each range then.
    from: Vec<Vec<NodeId>>,
    pub plan: Vec<Vec<NodeId>>,
}

impl Target {
    /// Who may hold ranges, as of the plan.
    pub fn able(&self) -> &[Drone] {
        self.of.as_ref().map_or(&[], |(able, ..)| able)
    }

    /// Takes note of where ranges have come to: who has left one was there before, but is a stranger if it comes back.
    fn follow(&mut self, dictionary: &Dictionary) {
        if self.version == dictionary.version {
            return;
        }
        self.version = dictionary.version;
        for ((_, chain), from) in dictionary.ranges().zip(&mut self.from) {
            from.retain(|node| chain.holders.iter().any(|holder| holder.node == *node));
        }
    }

    /// Whether nobody holds a range who neither held it when this was planned nor is to hold it.
    fn is_approached(&self, dictionary: &Dictionary) -> bool {
        let is_expected =
            |range: usize, node: &NodeId| self.from[range].contains(node) || self.plan[range].contains(node);
        dictionary.chains.len() == self.from.len()
            && dictionary
                .ranges()
                .all(|(range, chain)| chain.holders.iter().all(|holder| is_expected(range.0.into(), &holder.node)))
    }
}

impl Reign {
    /// Who should hold what. The plan is kept as long as the same drones are there and all goes its way: what was foretold of a
    /// drain is what is done, and to plan takes long enough for a head that has parked to wait for it. Else it is planned anew
    /// from where things lie.
    pub(super) fn plan(&mut self, now: Instant, dictionary: &Dictionary) {
        let of = (self.able(now, dictionary, None), dictionary.settings.factor, self.resting.nodes());
        let is_same = self.target.of.as_ref() == Some(&of);
        if is_same && (self.target.version == dictionary.version || self.target.is_approached(dictionary)) {
            self.target.follow(dictionary);
            return;
        }
        let plan = self.targets(dictionary, &of.0);
        let holders = |(_, chain): (RangeId, &Arc<Chain>)| chain.holders.iter().map(|holder| holder.node).collect();
        let from = dictionary.ranges().map(holders).collect();
        self.target = Target { of: Some(of), version: dictionary.version, from, plan };
    }

    /// Who may hold ranges: who is heard, and who may soon be back and keeps its place. Not who is to leave, be it `leaver` or
    /// by the roster, unless nobody else is there.
    fn able(&self, now: Instant, dictionary: &Dictionary, leaver: Option<NodeId>) -> Vec<Drone> {
        let is_there = |member: &&Member| {
            self.watch.can_be_given(dictionary, member)
                || self.watch.may_return(now, dictionary, member.node.id)
                || self.resting.contains(member.node.id)
        };
        let leaves = |member: &&Member| member.drains || leaver == Some(member.node.id);
        let (leaving, staying): (Vec<&Member>, Vec<&Member>) = dictionary.drones().filter(is_there).partition(leaves);
        let able = if staying.is_empty() { leaving } else { staying };
        let drone = |it: &Member| Drone { node: it.node.id, weight: it.weight(), zone: it.zone().to_owned() };
        able.into_iter().map(drone).collect()
    }

    /// Who of these should hold each range, head first.
    fn targets(&self, dictionary: &Dictionary, drones: &[Drone]) -> Vec<Vec<NodeId>> {
        let present = |(range, chain): (RangeId, &Arc<Chain>)| {
            let mut present = present(dictionary, chain);
            // Who keeps its place, or is back and has not joined again, counts as there, or the plan would fill it.
            let keeps = |copy: &&Former| {
                !dictionary.is_dead(copy.node, copy.incarnation) && drones.iter().any(|drone| drone.node == copy.node)
            };
            let missing = usize::from(dictionary.settings.factor).saturating_sub(present.holders.len());
            present.holders.extend(chain.former.iter().filter(keeps).map(|copy| copy.node).take(missing));
            // A hand-over under way counts as done, or the next plan might choose other ranges for the same end.
            if let Some(next) = self.evidence.next_head(range, chain.epoch) {
                present.holders.sort_by_key(|node| *node != next);
            }
            present
        };
        let present = dictionary.ranges().map(present).collect();
        let factor = usize::from(dictionary.settings.factor);
        let mut plan = placement::plan(&PlacementInput { drones: drones.to_vec(), factor, present });
        // Who rests keeps its place, and holds nothing meanwhile.
        plan.iter_mut().for_each(|wanted| wanted.retain(|node| !self.resting.contains(*node)));
        plan
    }

    /// What would be done if this node were drained, or is yet to be done, for people.
    pub fn preview(
        &self,
        now: Instant,
        dictionary: &Dictionary,
        leaver: Option<NodeId>,
    ) -> Result<Vec<String>, String> {
        let Some(leaver) = leaver else { return Ok(moves(dictionary, &self.target.plan)) };
        let member = dictionary.member(leaver).ok_or_else(|| format!("no node {leaver} is on the roster"))?;
        may_leave(member, dictionary, &self.watch)?;
        Ok(moves(dictionary, &self.targets(dictionary, &self.able(now, dictionary, Some(leaver)))))
    }
}

/// Where a range lies, for placement. Who is Leaving is on its way out, unless nobody better is left.
fn present(dictionary: &Dictionary, chain: &Chain) -> Present {
    let alive = chain.holders.iter().filter(|holder| !dictionary.is_dead(holder.node, holder.incarnation));
    let (leaving, staying): (Vec<&Holder>, Vec<&Holder>) =
        alive.partition(|holder| holder.state == HolderState::Leaving);
    let former = chain.former.iter().filter(|copy| !dictionary.is_dead(copy.node, copy.incarnation));
    let traces = leaving.iter().map(|holder| holder.node).chain(former.map(|copy| copy.node));
    Present { holders: staying.iter().map(|holder| holder.node).collect(), traces: traces.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::ownership::tests::world::World;

    #[test]
    fn who_has_left_a_range_and_is_back_is_not_what_was_planned() {
        let holders = |dictionary: &Dictionary| -> Vec<Vec<NodeId>> {
            let nodes = |(_, chain): (RangeId, &Arc<Chain>)| chain.holders.iter().map(|it| it.node).collect();
            dictionary.ranges().map(nodes).collect()
        };
        let mut world = World::grown(4, 2);
        let before = Arc::clone(&world.dictionary);
        world.kill(2);
        world.settle();
        let after = Arc::clone(&world.dictionary);
        let mut target = Target { of: None, version: before.version, from: holders(&before), plan: holders(&after) };
        assert!(target.is_approached(&before) && target.is_approached(&after));
        target.follow(&after);
        assert!(target.is_approached(&after) && !target.is_approached(&before));
    }
}
