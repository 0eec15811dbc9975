//! One reign: what this node does while it commands.
//!
//! [`Reign::review`] looks at the roster and at each range, and does the next thing for each. It runs after changes and
//! observations (many that come together are looked at once), and each beat for what must be said again. Proposals go down two lanes, one about nodes and one
//! about chains, with one under way in each: the next is derived from what the last one made, so that nothing is proposed
//! twice and a proposal of unknown outcome is simply looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::machines::dictionary::Dictionary;
use crate::machines::election::{Proposed, Published};
use crate::machines::placement::Drone;
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{Applied, Cause, Command, OwnershipMessage, SetChain};
use crate::types::{Epoch, Instant, NodeId, RangeId, Term, Version};

use super::Effect;
use super::evidence::{Evidence, Life};
use super::pace::Pace;
use super::plan::Target;
use super::rest::Resting;
use super::roster::{Asker, Desk};
use super::steps::{Need, Urgency, View, Why};
use super::watch::Watch;
use super::wishes::Want;

/// The most changes in one command: some tens of kilobytes of log, and few enough that the next command comes soon.
const BATCH: usize = 256;

/// The most ranges that load at a time in the whole mesh, so that the commander's log is not filled by moves alone.
const LOADING_ALL: usize = 256;

/// The most heads that are parked at a time: their clients wait.
const PARKED: usize = 64;

/// What a node knows and does as commander of one term.
#[derive(Debug)]
pub(super) struct Reign {
    pub me: NodeId,
    pub term: Term,
    pub watch: Watch,
    pub evidence: Evidence,
    pub desk: Desk,
    pub resting: Resting,
    nodes: Lane,
    chains: Lane,
    pub(super) target: Target,
    pace: Pace,
    /// Steps that nobody waits for are taken together, from here on.
    next_round: Instant,
    next_beat: Instant,
    last_review: Instant,
    /// Something happened that has not been looked at; it is looked at then.
    review_at: Option<Instant>,
    /// Nothing was left to do, and nothing has happened since.
    settled: bool,
    /// What is waited for, and for how many ranges, as last told.
    waiting: BTreeMap<Why, usize>,
    moving: Moving,
}

/// Which ranges do not lie as they should, as last told.
#[derive(Debug, Default)]
struct Moving {
    left: BTreeSet<RangeId>,
    /// How many have come to, since there were none.
    done: u32,
}

impl Moving {
    /// `left`: what is in hand; `stuck`: what waits for somebody to come back, or for people.
    fn tell(&mut self, left: BTreeSet<RangeId>, stuck: &BTreeSet<RangeId>, effects: &mut Vec<Effect>) {
        if left == self.left {
            return;
        }
        self.done += self.left.difference(&left).filter(|range| !stuck.contains(range)).count() as u32;
        self.left = left;
        effects.push(Effect::Moves { done: self.done, left: self.left.len() as u32 });
        if self.left.is_empty() {
            self.done = 0;
        }
    }
}

/// Proposals of one kind: one under way at a time.
#[derive(Debug, Default)]
struct Lane {
    under_way: Option<(u64, Instant)>,
    /// What the last one made must be adopted before the next is derived.
    wait_for: Version,
    not_before: Instant,
}

/// What all ranges need, gathered.
#[derive(Default)]
struct Needs {
    changes: Vec<(Urgency, SetChain)>,
    joins: Vec<Join>,
    vouch: BTreeMap<NodeId, Vec<(RangeId, Epoch)>>,
    /// Range, epoch, head, and who is to lead.
    park: Vec<(RangeId, Epoch, NodeId, NodeId)>,
    waiting: BTreeMap<Why, usize>,
    /// Ranges for which something is done, or waited for that ends by itself.
    moving: BTreeSet<RangeId>,
    /// Ranges that wait for somebody to come back, or for people.
    stuck: BTreeSet<RangeId>,
}

/// A node is to join a range.
struct Join {
    /// Copies are lacking, or will be once those have left who are to.
    lacks: bool,
    /// How many serve it.
    copies: usize,
    change: SetChain,
}

impl Reign {
    pub fn new(me: Life, term: Term, pace: Pace, now: Instant) -> Self {
        Self {
            me: me.node,
            term,
            watch: Watch::new(me),
            evidence: Evidence::default(),
            desk: Desk::default(),
            resting: Resting::default(),
            nodes: Lane::default(),
            chains: Lane::default(),
            target: Target::default(),
            pace,
            next_round: now,
            next_beat: now,
            last_review: Instant(0),
            review_at: Some(now),
            settled: false,
            waiting: BTreeMap::new(),
            moving: Moving::default(),
        }
    }

    /// Something happened: everything is looked at, at once or, if that was done just now, `pace` later.
    pub fn stir(&mut self, now: Instant, pace: Duration) {
        self.settled = false;
        let at = now.max(self.last_review + pace);
        self.review_at = Some(self.review_at.map_or(at, |known| known.min(at)));
    }

    /// When there is something to do, whatever else happens.
    pub fn deadline(&self) -> Instant {
        self.review_at.map_or(self.next_beat, |at| at.min(self.next_beat))
    }

    /// What became of a proposal of this node.
    pub fn on_proposed(&mut self, now: Instant, request: u64, outcome: &Proposed, pause: Duration) {
        for lane in [&mut self.nodes, &mut self.chains] {
            if lane.under_way.is_some_and(|(number, _)| number == request) {
                lane.end(now, outcome, pause);
            }
        }
    }

    /// Does the next thing for the roster and for each range, if it is time to.
    pub fn review(&mut self, now: Instant, published: &Published, numbers: &mut u64, effects: &mut Vec<Effect>) {
        let dictionary = &*published.dictionary;
        let timing = &dictionary.settings.timing;
        let beat = timing.beat();
        if now < self.deadline() {
            return;
        }
        if self.review_at.is_some_and(|at| at <= now) {
            self.review_at = None;
            self.last_review = now;
        }
        if now >= self.next_beat {
            self.next_beat = now + beat;
        }
        for lane in [&mut self.nodes, &mut self.chains] {
            lane.give_up_late(now, timing.seat_timeout(), beat);
        }
        self.watch.on_roster(now, dictionary);
        let is_idle = self.nodes.under_way.is_none() && dictionary.version >= self.nodes.wait_for;
        self.desk.answer(now, dictionary, &self.watch, is_idle, effects);
        for (asker, result) in self.resting.settle(now, dictionary, &self.watch) {
            self.desk.reply(asker, result);
        }
        self.review_roster(now, dictionary, numbers, effects);
        if self.settled {
            return;
        }
        self.watch.forget_strangers(dictionary);
        self.evidence.forget(now, dictionary, timing.sole_lease());
        self.plan(now, dictionary);
        self.review_ranges(now, dictionary, numbers, effects);
    }

    fn review_roster(&mut self, now: Instant, dictionary: &Dictionary, numbers: &mut u64, effects: &mut Vec<Effect>) {
        if !self.nodes.is_free(now, dictionary.version) {
            return;
        }
        if let Some(command) = self.desk.next(now, dictionary, &self.watch) {
            self.nodes.propose(now, numbers, command, effects);
        }
    }

    /// An operator wants something of a node.
    pub fn want(&mut self, asker: Asker, node: NodeId, want: Want, published: &Published) {
        self.desk.want(asker, (node, want), published, &self.watch);
    }

    fn review_ranges(&mut self, now: Instant, dictionary: &Dictionary, numbers: &mut u64, effects: &mut Vec<Effect>) {
        let mut needs = self.gather(now, dictionary);
        self.moving.tell(std::mem::take(&mut needs.moving), &needs.stuck, effects);
        self.settled = needs.is_empty() && self.chains.under_way.is_none() && self.resting.is_empty();
        self.tell_waiting(dictionary, &needs, effects);
        let beat = dictionary.settings.timing.beat();
        self.ask_to_vouch(now, &needs, beat, numbers, effects);
        let is_free = self.chains.is_free(now, dictionary.version);
        // A head that parks while something is under way would wait for that, too.
        let is_round = is_free && now >= self.next_round;
        let mut goes_on = self.order_to_park(now, &needs, is_round, beat, effects);
        // One command lets all heads go that were told together, and nothing that can wait delays it.
        let parked_by = self.evidence.parked_by(now, dictionary, beat / 32);
        let proposes =
            is_free && (is_round && parked_by.is_none() || needs.is_pressing(dictionary, parked_by.is_none()));
        let again = [self.next_round, self.chains.not_before].into_iter().filter(|at| now < *at);
        if let Some(at) = parked_by.into_iter().chain(again).min().filter(|_| !needs.is_empty()) {
            self.review_at = Some(self.review_at.map_or(at, |known| known.min(at)));
        }
        if proposes {
            let changes = self.choose(now, dictionary, needs);
            if !changes.is_empty() {
                self.chains.propose(now, numbers, Command::SetChains(changes), effects);
                goes_on = true;
            }
        }
        if is_round && goes_on {
            self.next_round = now + beat / 2;
        }
    }

    fn gather(&mut self, now: Instant, dictionary: &Dictionary) -> Needs {
        let able: Vec<Drone> =
            self.target.able().iter().filter(|drone| !self.resting.contains(drone.node)).cloned().collect();
        let (watch, evidence, target) = (&self.watch, &self.evidence, &self.target.plan);
        let view = View { now, dictionary, watch, evidence, target, able: &able };
        let mut needs = Needs::default();
        let mut called_off = Vec::new();
        for (range, chain) in dictionary.ranges() {
            let need = view.need(range);
            if need.is_in_hand() {
                needs.moving.insert(range);
            } else if need != Need::Nothing {
                needs.stuck.insert(range);
            }
            match need {
                Need::Nothing => {}
                Need::Wait(why) => *needs.waiting.entry(why).or_default() += 1,
                Need::Change(urgency, change) => needs.changes.push((urgency, change)),
                Need::Join(change) => needs.joins.push(Join {
                    lacks: dictionary.lacks_copies(chain),
                    copies: chain.serving().count(),
                    change,
                }),
                Need::Vouch(by) => {
                    by.iter().for_each(|h| needs.vouch.entry(h.node).or_default().push((range, chain.epoch)));
                }
                Need::Park(head, to) => needs.park.push((range, chain.epoch, head.node, to)),
                Need::CallOff(change) => {
                    called_off.push(range);
                    needs.changes.push((Urgency::Lost, change));
                }
            }
        }
        called_off.into_iter().for_each(|range| self.evidence.note_balked(now, range));
        needs
    }

    /// What goes into the next command: the most urgent, then joins, the most endangered ranges first, as far as there is
    /// room among what loads.
    fn choose(&mut self, now: Instant, dictionary: &Dictionary, needs: Needs) -> Vec<SetChain> {
        let Needs { mut changes, mut joins, .. } = needs;
        changes.sort_by_key(|(urgency, change)| (*urgency, change.range));
        let mut chosen: Vec<SetChain> = changes.into_iter().map(|(_, change)| change).take(BATCH).collect();
        joins.sort_by_key(|join| (!join.lacks, join.copies, join.change.range));
        let mut loading: BTreeMap<NodeId, usize> = BTreeMap::new();
        dictionary.roster.keys().for_each(|node| {
            loading.insert(*node, dictionary.tally(*node).loading);
        });
        let mut all: usize = loading.values().sum();
        for Join { lacks, change, .. } in joins {
            let joiner = change.holders.last().expect("somebody joins").node;
            let its = loading.entry(joiner).or_default();
            if chosen.len() >= BATCH || all >= LOADING_ALL {
                break;
            }
            let is_short = dictionary.is_short(dictionary.chain(change.range));
            if *its < self.pace.at_a_time(is_short) && (is_short || self.pace.may_begin(now, lacks)) {
                *its += 1;
                all += 1;
                chosen.push(change);
            }
        }
        chosen
    }

    /// G19. Each member is asked at once for all ranges in question, and again each beat.
    fn ask_to_vouch(
        &mut self,
        now: Instant,
        needs: &Needs,
        beat: Duration,
        numbers: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        for (node, ranges) in &needs.vouch {
            let ranges = self.evidence.due(now, *node, ranges, beat);
            if ranges.is_empty() {
                continue;
            }
            *numbers += 1;
            let id = *numbers;
            self.evidence.ask(now, id, *node, &ranges);
            effects.push(if *node == self.me {
                Effect::Vouch { id, ranges }
            } else {
                Effect::Send { to: *node, message: OwnershipMessage::Vouch { id, ranges } }
            });
        }
    }

    /// G20. The order is repeated each beat until the head has parked, or is let go. Whether any was given: new ones are
    /// given in a round, to many heads together.
    fn order_to_park(
        &mut self,
        now: Instant,
        needs: &Needs,
        is_round: bool,
        beat: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut given = false;
        for (range, epoch, head, to) in needs.park.iter().copied() {
            let told = self.evidence.next_head(range, epoch).is_some();
            if !told && (!is_round || self.evidence.parking_count() >= PARKED) {
                continue;
            }
            if !self.evidence.order_park(now, range, epoch, to, beat) {
                continue;
            }
            effects.push(if head == self.me {
                Effect::Park { range, epoch }
            } else {
                Effect::Send { to: head, message: OwnershipMessage::Park { range, epoch } }
            });
            given = true;
        }
        given
    }

    /// Says once that ranges wait for something that may not come.
    fn tell_waiting(&mut self, dictionary: &Dictionary, needs: &Needs, effects: &mut Vec<Effect>) {
        for (why, ranges) in &needs.waiting {
            if self.waiting.contains_key(why) {
                continue;
            }
            if let Some(text) = words(dictionary, *why) {
                let node = match why {
                    Why::Silent(node) | Why::Absent(node) | Why::Copy(node) | Why::Apart(node, _) => Some(*node),
                    Why::Loading | Why::Busy | Why::Operator | Why::Drones => None,
                };
                effects.push(Effect::Note(Event {
                    kind: EventKind::Noticed,
                    term: self.term,
                    version: dictionary.version,
                    node,
                    ranges: Vec::new(),
                    text: if *ranges == 1 {
                        format!("1 range waits: {text}")
                    } else {
                        format!("{ranges} ranges wait: {text}")
                    },
                }));
            }
        }
        self.waiting.clone_from(&needs.waiting);
    }

    /// What the commander is doing and waiting for, a line each.
    pub fn doing(&self, dictionary: &Dictionary) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for (why, ranges) in &self.waiting {
            let text = words(dictionary, *why).unwrap_or_else(|| match why {
                Why::Busy => "the head was too busy to hand over, and is asked again soon".into(),
                _ => "a joiner is receiving its copy".into(),
            });
            lines.push(format!("{ranges} ranges: {text}"));
        }
        let parked = self.evidence.parking_count();
        if parked > 0 {
            lines.push(format!("{parked} ranges: the head is handing over"));
        }
        lines.extend(self.desk.doing(dictionary));
        lines
    }
}

impl Needs {
    /// Whether somebody waits for one of these changes: for a copy, for a member that is lost, or for a head that has parked,
    /// with all others that were told to. Other steps are gathered for half a beat, for each version costs every node a write to
    /// its disk and a look at all ranges.
    fn is_pressing(&self, dictionary: &Dictionary, all_parked: bool) -> bool {
        let lacks = |change: &SetChain| dictionary.is_short(dictionary.chain(change.range));
        let hands_over = |change: &SetChain| matches!(change.cause, Cause::HandedOver { .. });
        let presses = |(urgency, change): &(Urgency, SetChain)| {
            *urgency < Urgency::Progress || all_parked && hands_over(change) || lacks(change)
        };
        self.changes.iter().any(presses) || self.joins.iter().any(|join| lacks(&join.change))
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.joins.is_empty()
            && self.vouch.is_empty()
            && self.park.is_empty()
            && self.waiting.is_empty()
    }
}

impl Lane {
    fn is_free(&self, now: Instant, adopted: Version) -> bool {
        self.under_way.is_none() && adopted >= self.wait_for && now >= self.not_before
    }

    fn propose(&mut self, now: Instant, numbers: &mut u64, command: Command, effects: &mut Vec<Effect>) {
        *numbers += 1;
        self.under_way = Some((*numbers, now));
        effects.push(Effect::Propose { request: *numbers, command });
    }

    /// Whatever was not to be, or is unknown, is derived anew after a pause, so that nothing spins.
    fn end(&mut self, now: Instant, outcome: &Proposed, pause: Duration) {
        self.under_way = None;
        match outcome {
            Proposed::Applied(Applied::Changed(version)) => self.wait_for = *version,
            Proposed::Applied(Applied::Nothing(_)) | Proposed::Unknown | Proposed::NotCommander => {
                self.not_before = now + pause;
            }
        }
    }

    fn give_up_late(&mut self, now: Instant, patience: Duration, pause: Duration) {
        if self.under_way.is_some_and(|(_, since)| now.since(since) >= patience) {
            self.end(now, &Proposed::Unknown, pause);
        }
    }
}

/// What is waited for, in words; none for what ends by itself.
fn words(dictionary: &Dictionary, why: Why) -> Option<String> {
    Some(match why {
        Why::Loading | Why::Busy => return None,
        Why::Apart(one, other) => format!(
            "{} and {} do not reach each other; look at the network between them",
            dictionary.name_of(one),
            dictionary.name_of(other)
        ),
        Why::Silent(node) => match dictionary.settings.give_up_after() {
            Some(span) => {
                let span = dictionary.settings.timing.giver(span);
                format!("{} alone has them and is silent; it is given up after {span:?}", dictionary.name_of(node))
            }
            None => format!(
                "{} is the last that has them and is silent; if its process has ended, start it again or drop it",
                dictionary.name_of(node)
            ),
        },
        Why::Absent(node) => format!(
            "{} is silent and may soon be back with all but what it misses; after {:?} another drone receives a copy",
            dictionary.name_of(node),
            dictionary.settings.repair_after
        ),
        Why::Copy(node) => format!(
            "all holders are lost, and {} may have the newest copy; start it again or drop it",
            dictionary.name_of(node)
        ),
        Why::Operator => "all holders are lost, and replication.on_total_loss is wait".into(),
        Why::Drones => "all holders are lost, and no drone is up to take them".into(),
    })
}
