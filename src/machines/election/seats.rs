//! Who should count: the commander's plan, one change at a time.
//!
//! Every node of the roster receives the log, as a learner at least; up to `election.voters` of them vote. A learner
//! votes once it has caught up and is heard; a voter that is silent for long, or on its way out, gives its seat to such a
//! learner in one joint change, so that no majority in between is weaker than the one before. After "Raft" (Ongaro,
//! section 4) and its joint consensus, as the library has it.
//!
//! **Odd numbers.** A fourth voter makes majorities larger and survives nothing that three do not; so seats are added in
//! pairs, from odd to odd, and an even number is filled up as soon as somebody is ready. Two nodes both vote: then the
//! dictionary survives on either, and there is no third to wait for. Nobody loses a seat only to make a number odd.
//!
//! **Witnesses** never stand, so a majority of theirs alone is worth nothing: they are fewer than the drones among voters, as
//! far as there are drones to vote, and one too many gives its seat to a drone that is ready.
//!
//! **Dead voters without heirs** stay, unless the mesh is safer without them: of four voters with one dead all three
//! others must agree, of three without it two of three. Below three this is never done: a majority of the last three
//! is what is left of what was promised.
//!
//! The plan is a pure function of what is seen, so that the next commander goes on where this one stopped.

use std::collections::BTreeMap;

use crate::messages::election::{Seats, SeatsChange};
use crate::types::NodeId;

/// How one node looks to the commander.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seat {
    /// It is on the roster.
    pub rostered: bool,
    /// It is about to leave, or is not to vote: it gives up its seat.
    pub leaving: bool,
    /// It is to leave, but still gives away what it holds: it gives its seat to another.
    pub parting: bool,
    /// An operator wants it to vote.
    pub wanted: bool,
    /// It was heard lately.
    pub heard: bool,
    /// It could be trusted with a seat: heard lately, and neither suspect nor leaving.
    pub live: bool,
    /// It has been silent for so long that its seat goes to another.
    pub dead: bool,
    /// It has all of the log but a few records.
    pub caught_up: bool,
    /// It never stands.
    pub witness: bool,
    /// It is off the roster and knows it, or cannot be told.
    pub told: bool,
}

/// What the commander should do about seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Propose this change.
    Change(SeatsChange),
    /// It is itself to leave: somebody else must rule first.
    HandOver,
}

/// What is seen. `nodes` has everybody on the roster and everybody who has a seat, this node included.
pub(super) struct View<'a> {
    pub me: NodeId,
    pub seats: &'a Seats,
    pub max_voters: usize,
    pub nodes: &'a BTreeMap<NodeId, Seat>,
}

/// The next step, if any is due.
pub(super) fn plan(view: &View<'_>) -> Option<Step> {
    if !view.seats.outgoing.is_empty() {
        return Some(Step::Change(SeatsChange::default()));
    }
    if view.must_hand_over() && view.successor().is_some() {
        return Some(Step::HandOver);
    }
    let change = view
        .take_seat_of_leaver()
        .or_else(|| view.forget())
        .or_else(|| view.teach())
        .or_else(|| view.seat_wanted())
        .or_else(|| view.replace_dead())
        .or_else(|| view.relieve())
        .or_else(|| view.promote())
        .or_else(|| view.demote())
        .or_else(|| view.shrink());
    change.map(Step::Change)
}

impl View<'_> {
    fn seat(&self, node: NodeId) -> Seat {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    fn must_go(&self, node: NodeId) -> bool {
        let seat = self.seat(node);
        !seat.rostered || seat.leaving
    }

    /// Whether this node is not to command any more, if another can.
    fn must_hand_over(&self) -> bool {
        self.must_go(self.me) || self.seat(self.me).parting
    }

    fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.seats.voters.iter().copied()
    }

    /// Another voter that could rule.
    fn successor(&self) -> Option<NodeId> {
        self.voters().find(|node| {
            let seat = self.seat(*node);
            *node != self.me && seat.live && seat.caught_up && !seat.witness
        })
    }

    /// Learners that could vote now, those that could also rule first.
    fn heirs(&self) -> Vec<NodeId> {
        let ready = |node: &NodeId| {
            let seat = self.seat(*node);
            seat.rostered && seat.live && seat.caught_up
        };
        let mut heirs: Vec<NodeId> = self.seats.learners.iter().copied().filter(ready).collect();
        heirs.sort_by_key(|node| (!self.seat(*node).wanted, self.seat(*node).witness, *node));
        heirs
    }

    /// Whether every majority of these has one that can rule. Who is dead may come back with its log, so it counts.
    fn can_always_rule(&self, voters: &[NodeId]) -> bool {
        voters.iter().filter(|node| self.seat(**node).witness).count() < majority(voters.len())
    }

    /// The voters after a change.
    fn after(&self, change: &SeatsChange) -> Vec<NodeId> {
        let stays = |node: &NodeId| !change.learners.contains(node) && !change.gone.contains(node);
        self.voters().filter(stays).chain(change.voters.iter().copied()).collect()
    }

    /// A voter that leaves, or has left the roster, gives its seat to an heir, or gives it up.
    fn take_seat_of_leaver(&self) -> Option<SeatsChange> {
        let heir: Vec<NodeId> = self.heirs().into_iter().take(1).collect();
        let goes = |node: &NodeId| *node != self.me && (self.must_go(*node) || self.seat(*node).parting);
        if let Some(change) = self.voters().filter(goes).find_map(|leaver| self.take_seat_of(leaver, heir.clone())) {
            return Some(change);
        }
        // The commander itself leaves, and nobody could rule instead: an heir must vote first.
        let alone = self.must_hand_over() && self.successor().is_none() && !heir.is_empty();
        alone.then(|| SeatsChange { voters: heir, why: "the commander is to leave".into(), ..Default::default() })
    }

    fn take_seat_of(&self, leaver: NodeId, heir: Vec<NodeId>) -> Option<SeatsChange> {
        // One that still gives away what it holds votes on while nobody is there to vote instead.
        if !self.must_go(leaver) && heir.is_empty() {
            return None;
        }
        let mut change = SeatsChange { voters: heir, why: format!("{leaver} leaves"), ..Default::default() };
        // One that is still on the roster, or has not been told, goes on hearing the log.
        if self.seat(leaver).rostered || !self.seat(leaver).told {
            change.learners.push(leaver);
        } else {
            change.gone.push(leaver);
        }
        // It goes on voting where the others could decide nothing without it. That it is silent is no reason to: then nothing can be
        // decided now, and what is proposed may be agreed once it is back, and another is not.
        self.can_decide(&self.after(&change)).then_some(change)
    }

    /// Whether those of these voters who are heard are a majority.
    fn can_decide(&self, voters: &[NodeId]) -> bool {
        voters.iter().filter(|node| **node == self.me || self.seat(**node).heard).count() >= majority(voters.len())
    }

    /// A learner that is off the roster, and knows it, is sent nothing more.
    fn forget(&self) -> Option<SeatsChange> {
        let gone =
            self.seats.learners.iter().copied().find(|node| !self.seat(*node).rostered && self.seat(*node).told)?;
        Some(SeatsChange { gone: vec![gone], why: format!("{gone} is off the roster"), ..Default::default() })
    }

    /// A node of the roster without a seat learns.
    fn teach(&self) -> Option<SeatsChange> {
        let seated = |node: &NodeId| self.seats.voters.contains(node) || self.seats.learners.contains(node);
        let new = self.nodes.iter().find(|(node, seat)| seat.rostered && !seated(node)).map(|(node, _)| *node)?;
        Some(SeatsChange { learners: vec![new], why: format!("{new} is on the roster"), ..Default::default() })
    }

    /// Whom an operator wants to vote does, if need be instead of another.
    fn seat_wanted(&self) -> Option<SeatsChange> {
        let heir = self.heirs().into_iter().find(|heir| self.seat(*heir).wanted)?;
        let mut change =
            SeatsChange { voters: vec![heir], why: format!("an operator wants {heir} to vote"), ..Default::default() };
        if self.seats.voters.len() >= self.max_voters {
            let others = self.voters().filter(|node| *node != self.me && !self.seat(*node).wanted);
            let rank = |node: &NodeId| (self.seat(*node).dead, self.seat(*node).witness, *node);
            change.learners.push(others.max_by_key(rank)?);
        }
        self.can_always_rule(&self.after(&change)).then_some(change)
    }

    fn replace_dead(&self) -> Option<SeatsChange> {
        let dead = self.voters().find(|node| *node != self.me && self.seat(*node).dead)?;
        let heir = self.heirs().into_iter().next()?;
        let why = format!("{dead} has been silent for long; {heir} votes instead");
        let change = SeatsChange { voters: vec![heir], learners: vec![dead], why, ..Default::default() };
        self.can_always_rule(&self.after(&change)).then_some(change)
    }

    /// Of too many witnesses one gives its seat to a drone.
    fn relieve(&self) -> Option<SeatsChange> {
        if self.can_always_rule(&self.seats.voters) {
            return None;
        }
        let witness = self.voters().find(|node| *node != self.me && self.seat(*node).witness)?;
        let heir = self.heirs().into_iter().find(|heir| !self.seat(*heir).witness)?;
        let why = format!("{witness} never stands; {heir} votes instead");
        Some(SeatsChange { voters: vec![heir], learners: vec![witness], why, ..Default::default() })
    }

    fn promote(&self) -> Option<SeatsChange> {
        let (count, heirs) = (self.seats.voters.len(), self.heirs());
        let room = self.max_voters.saturating_sub(count);
        let on_roster = self.nodes.values().filter(|seat| seat.rostered).count();
        let expected = self.nodes.values().filter(|seat| seat.rostered && seat.live).count();
        let wanted = match count % 2 {
            0 => 1,
            _ if heirs.len() >= 2 && room >= 2 => 2,
            // Two nodes both vote, and so do the only two that are heard.
            _ if count == 1 && (on_roster == 2 || expected == 2) => 1,
            _ => 0,
        };
        let promoted: Vec<NodeId> = heirs.into_iter().take(wanted.min(room)).collect();
        let change = SeatsChange { voters: promoted, why: "caught up".into(), ..Default::default() };
        (!change.voters.is_empty() && self.can_always_rule(&self.after(&change))).then_some(change)
    }

    /// More vote than should: the setting was lowered.
    fn demote(&self) -> Option<SeatsChange> {
        let surplus = self.seats.voters.len().saturating_sub(self.max_voters.max(1));
        let mut last: Vec<NodeId> = self.voters().filter(|node| *node != self.me).collect();
        last.sort_by_key(|node| {
            let seat = self.seat(*node);
            (seat.wanted, !seat.dead, !seat.witness, std::cmp::Reverse(*node))
        });
        last.truncate(surplus);
        let why = format!("{} nodes vote at most", self.max_voters);
        (!last.is_empty()).then(|| SeatsChange { learners: last, why, ..Default::default() })
    }

    /// Dead voters give up their seats when the others can lose more nodes without them than with them.
    fn shrink(&self) -> Option<SeatsChange> {
        let is_alive = |node: &NodeId| *node == self.me || !self.seat(*node).dead;
        let (mut alive, dead): (Vec<NodeId>, Vec<NodeId>) = self.voters().partition(is_alive);
        // The commander keeps its seat, then those that could rule.
        alive.sort_by_key(|node| (*node != self.me, self.seat(*node).witness, *node));
        let left = if alive.len() % 2 == 1 { alive.len() } else { alive.len().saturating_sub(1) };
        let now = (alive.len() + 1).saturating_sub(majority(self.seats.voters.len()));
        if dead.is_empty() || left < 3 || (left - majority(left)) < now {
            return None;
        }
        let why = format!("{} voters have been silent for long; {left} vote without them", dead.len());
        let learners = dead.into_iter().chain(alive.split_off(left)).collect();
        let change = SeatsChange { learners, why, ..Default::default() };
        self.can_always_rule(&self.after(&change)).then_some(change)
    }
}

/// How many of so many must agree.
pub(super) fn majority(of: usize) -> usize {
    of / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(nodes: &[u64]) -> Vec<NodeId> {
        nodes.iter().map(|node| NodeId(*node)).collect()
    }

    /// A mesh as node 1 sees it, by who votes, who learns, and a letter for each node on the roster: `l`ive and caught up,
    /// `b`ehind, `s`ilent for a while, `d`ead, `w`itness (live), `g`oing, `q`uiet and going, `p`arting, `v`oting by an operator's
    /// wish (live, caught up).
    fn next(voters: &[u64], learners: &[u64], nodes: &str, max_voters: usize) -> Option<Step> {
        let seats = Seats { voters: ids(voters), learners: ids(learners), ..Seats::default() };
        let seat = |letter| Seat {
            rostered: letter != 'x',
            leaving: matches!(letter, 'g' | 'q'),
            parting: letter == 'p',
            wanted: letter == 'v',
            heard: matches!(letter, 'l' | 'b' | 'w' | 'v' | 'g' | 'p'),
            live: matches!(letter, 'l' | 'b' | 'w' | 'v'),
            dead: letter == 'd',
            caught_up: matches!(letter, 'l' | 'w' | 'g' | 'v' | 'p'),
            witness: letter == 'w',
            told: letter == 'x',
        };
        let nodes = nodes.chars().enumerate().map(|(place, letter)| (NodeId(place as u64 + 1), seat(letter))).collect();
        plan(&View { me: NodeId(1), seats: &seats, max_voters, nodes: &nodes })
    }

    fn change(voters: &[u64], learners: &[u64], gone: &[u64]) -> Option<(Vec<NodeId>, Vec<NodeId>, Vec<NodeId>)> {
        Some((ids(voters), ids(learners), ids(gone)))
    }

    fn changed(step: Option<Step>) -> Option<(Vec<NodeId>, Vec<NodeId>, Vec<NodeId>)> {
        match step? {
            Step::Change(change) => Some((change.voters, change.learners, change.gone)),
            Step::HandOver => panic!("hands over"),
        }
    }

    #[test]
    fn who_is_new_learns_first() {
        assert_eq!(changed(next(&[1], &[], "lb", 5)), change(&[], &[2], &[]));
        assert_eq!(next(&[1], &[2], "lb", 5), None, "not before it has caught up");
    }

    #[test]
    fn seats_are_added_in_pairs() {
        assert_eq!(changed(next(&[1], &[2], "ll", 5)), change(&[2], &[], &[]), "two nodes both vote");
        assert_eq!(changed(next(&[1, 2], &[3], "lll", 5)), change(&[3], &[], &[]));
        assert_eq!(changed(next(&[1], &[2, 3], "lll", 5)), change(&[2, 3], &[], &[]));
        assert_eq!(next(&[1], &[2, 3], "llb", 5), None, "the third is on its way");
        assert_eq!(changed(next(&[1], &[2, 3], "lls", 5)), change(&[2], &[], &[]), "the only two that are heard");
        assert_eq!(next(&[1, 2, 3], &[4], "llll", 5), None);
        assert_eq!(changed(next(&[1, 2, 3], &[4, 5], "lllll", 5)), change(&[4, 5], &[], &[]));
        assert_eq!(next(&[1, 2, 3], &[4, 5], "lllll", 3), None);
        assert_eq!(next(&[1, 2, 3], &[4, 5], "lllll", 4), None);
        assert_eq!(
            changed(next(&[1, 2], &[3, 4], "llwl", 3)),
            change(&[4], &[], &[]),
            "one that can rule before a witness"
        );
    }

    #[test]
    fn the_dead_are_replaced_and_else_stay_unless_that_is_worse() {
        assert_eq!(changed(next(&[1, 2, 3], &[4], "ldll", 5)), change(&[4], &[2], &[]));
        assert_eq!(next(&[1, 2, 3], &[4], "lslb", 5), None);
        assert_eq!(next(&[1, 2, 3], &[4], "ldlb", 5), None, "the heir is not ready");
        assert_eq!(next(&[1, 2, 3], &[], "ldl", 5), None, "never below three");
        assert_eq!(
            next(&[1, 2, 3, 4, 5], &[], "ldlll", 5),
            None,
            "five with one dead survive one more, as three would"
        );
        assert_eq!(changed(next(&[1, 2, 3, 4, 5], &[], "lddll", 5)), change(&[], &[2, 3], &[]));
        assert_eq!(changed(next(&[1, 2, 3, 4], &[], "ldll", 5)), change(&[], &[2], &[]));
    }

    #[test]
    fn witnesses_are_fewer_than_drones_among_voters() {
        assert_eq!(changed(next(&[1], &[2, 3], "llw", 5)), change(&[2, 3], &[], &[]));
        assert_eq!(changed(next(&[1], &[2], "lw", 5)), change(&[2], &[], &[]), "both must agree to anything");
        assert_eq!(next(&[1, 2], &[3], "lww", 5), None);
        assert_eq!(next(&[1], &[2, 3], "lww", 5), None);
        assert_eq!(next(&[1, 2, 3], &[4, 5], "llwww", 5), None);
        assert_eq!(next(&[1, 2, 3], &[4], "ldww", 5), None, "the dead one may come back, and rule");
        assert_eq!(next(&[1, 2, 3, 4, 5], &[], "lddww", 5), None);
        // So many sit only where others have left. A drone that is ready takes the seat of one.
        assert_eq!(next(&[1, 2, 3], &[4], "lwwb", 3), None);
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lwwl", 3)), change(&[4], &[2], &[]));
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lgww", 3)), change(&[4], &[2], &[]));
    }

    /// Whatever is seen: no majority becomes harder to reach among those that live, the commander keeps its seat, and
    /// somebody votes.
    #[test]
    fn no_plan_weakens_the_living() {
        let letters = ['l', 'b', 's', 'd', 'w', 'g', 'x'];
        for code in 0..7usize.pow(5) {
            let nodes: String =
                std::iter::once('l').chain((0..5).map(|at| letters[code / 7usize.pow(at) % 7])).collect();
            for voters in [&[1u64][..], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4, 5]] {
                let learners: Vec<u64> = (1..=6).filter(|node| !voters.contains(node)).collect();
                let Some(Step::Change(step)) = next(voters, &learners, &nodes, 5) else { continue };
                let mut after: Vec<NodeId> = ids(voters);
                after.retain(|node| !step.learners.contains(node) && !step.gone.contains(node));
                after.extend(&step.voters);
                let living = |voters: &[NodeId]| {
                    voters
                        .iter()
                        .filter(|node| matches!(nodes.as_bytes()[node.0 as usize - 1], b'l' | b'b' | b'w'))
                        .count()
                };
                let spare = |voters: &[NodeId]| living(voters) as i64 - majority(voters.len()) as i64;
                let context = format!("{nodes} {voters:?} {step:?}");
                assert!(after.contains(&NodeId(1)), "{context}");
                // A leaver takes its vote along; else the living are never worse off.
                let leaves = nodes.chars().any(|letter| matches!(letter, 'g' | 'x'));
                assert!(leaves || spare(&after) >= spare(&ids(voters)).min(0), "{context}");
                assert!(
                    leaves || voters.len() < 2 || spare(&after) >= spare(&ids(voters)) - i64::from(voters.len() == 2),
                    "{context}"
                );
            }
        }
    }

    #[test]
    fn who_leaves_gives_up_its_seat_and_a_commander_hands_over() {
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lgll", 5)), change(&[4], &[2], &[]));
        assert_eq!(changed(next(&[1, 2, 3], &[], "lgl", 5)), change(&[], &[2], &[]));
        assert_eq!(next(&[1, 2, 3], &[], "lgd", 5), None, "the two that are left could decide nothing");
        assert_eq!(next(&[1, 2, 3], &[], "lqd", 5), None, "it may be back before the other");
        assert_eq!(changed(next(&[1, 2, 3], &[], "lql", 5)), change(&[], &[2], &[]));
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lgdl", 5)), change(&[4], &[2], &[]));
        assert_eq!(next(&[1, 2, 3], &[], "lgs", 5), None);
        // One that stays where it is does not keep the next from going.
        assert_eq!(changed(next(&[1, 2, 3], &[], "lgx", 5)), change(&[], &[], &[3]));
    }

    #[test]
    fn who_still_gives_away_what_it_holds_votes_until_another_can() {
        assert_eq!(next(&[1, 2, 3], &[], "lpl", 5), None);
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lpll", 5)), change(&[4], &[2], &[]));
        assert_eq!(next(&[1, 2, 3], &[], "pll", 5), Some(Step::HandOver));
        assert_eq!(next(&[1, 2, 3], &[], "ppp", 5), None, "all are to leave, and none can");
        assert_eq!(next(&[1, 2], &[], "lp", 5), None);
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lxll", 5)), change(&[4], &[], &[2]));
        assert_eq!(changed(next(&[1, 3], &[2], "lxl", 5)), change(&[], &[], &[2]));
        assert_eq!(next(&[1, 2, 3], &[], "gll", 5), Some(Step::HandOver));
        assert_eq!(changed(next(&[1], &[2], "gl", 5)), change(&[2], &[], &[]), "an heir first");
        assert_eq!(next(&[1, 2], &[], "gw", 5), None, "a witness never rules");
    }

    #[test]
    fn an_operators_wish_comes_before_numbers() {
        assert_eq!(
            changed(next(&[1, 2, 3], &[4], "lllv", 5)),
            change(&[4], &[], &[]),
            "four vote, if that is wished for"
        );
        assert_eq!(changed(next(&[1, 2, 3], &[4], "lllv", 3)), change(&[4], &[3], &[]));
        assert_eq!(changed(next(&[1, 2, 3], &[4], "ldlv", 3)), change(&[4], &[2], &[]));
        assert_eq!(changed(next(&[1, 2, 3], &[4], "llvv", 3)), change(&[4], &[2], &[]));
        assert_eq!(next(&[1, 2, 3], &[4], "lvvv", 3), None, "nobody has to go");
        assert_eq!(next(&[1, 2, 3, 4], &[], "lllv", 3).map(|step| changed(Some(step))), Some(change(&[], &[3], &[])));
    }

    #[test]
    fn a_change_under_way_is_completed_first() {
        let seats = Seats { voters: ids(&[1, 2]), outgoing: ids(&[1, 3]), ..Seats::default() };
        let view = View { me: NodeId(1), seats: &seats, max_voters: 5, nodes: &BTreeMap::new() };
        assert_eq!(plan(&view), Some(Step::Change(SeatsChange::default())));
    }
}
