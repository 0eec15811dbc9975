//! What a commander owes its reign: beats, a majority that hears it, seats, snapshots, and a way to hand over.
//!
//! It looks at all this once a beat (T/5). One that has not heard a majority for T steps down by itself, so that it does
//! not go on believing in a reign that others have ended; one whose disk takes longer than T for a write hands over, for
//! it can neither repair nor promote.

use std::collections::BTreeMap;

use raft::{ProgressState, SnapshotStatus};

use super::rounds::Rounds;
use super::seats::{self, Seat, Step, View};
use super::{Effect, Election, Proposed, convert};
use crate::messages::election::SeatsChange;
use crate::messages::events::EventKind;
use crate::messages::ownership::{Command, Franchise, Role, Standing};
use crate::planted::{self, Bug};
use crate::types::{Instant, NodeId, Term, Timing};
use crate::wire::codec;

/// A node that lacks no more records than this has caught up.
const NEAR: u64 = 16;

/// What this node keeps while it leads in one term.
pub(super) struct Reign {
    pub term: u64,
    /// When each node answered last, in this term.
    pub heard: BTreeMap<NodeId, Instant>,
    /// Snapshots on their way: a lost one is never missed by the library.
    pub snapshots: BTreeMap<NodeId, Instant>,
    pub rounds: Rounds,
    /// Proposals by their place in the log: whoever stands there in this term is ours.
    pub proposals: BTreeMap<u64, u64>,
    /// Something was applied: the plan of seats may have another step.
    pub look_again: bool,
    /// Removals from the roster that wait until the node has no vote any more.
    removals: Vec<Removal>,
    /// Nodes that are off the roster: where the log says so, and since when we know.
    farewells: BTreeMap<NodeId, (u64, Instant)>,
    handing_over: Option<(NodeId, Instant)>,
    next_beat: Instant,
    /// When all were last spoken to.
    spoke: Instant,
    why_over: Option<String>,
}

struct Removal {
    request: u64,
    node: NodeId,
    command: Command,
}

impl Reign {
    pub(super) fn deadline(&self, timing: &Timing) -> Instant {
        self.rounds.deadline(timing).map_or(self.next_beat, |rounds| rounds.min(self.next_beat))
    }

    fn hears(&self, node: NodeId, now: Instant, timing: &Timing) -> bool {
        self.heard.get(&node).is_some_and(|heard| now.since(*heard) <= timing.failure_timeout)
    }
}

impl Election {
    pub(super) fn begin_reign(&mut self, now: Instant) {
        self.reign = Some(Reign {
            term: self.node.raft.term,
            heard: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            rounds: Rounds::after(self.last_round),
            proposals: BTreeMap::new(),
            look_again: true,
            removals: Vec::new(),
            farewells: BTreeMap::new(),
            handing_over: None,
            next_beat: now + self.timing().beat(),
            // Whoever is elected says so at once, by the library.
            spoke: now,
            why_over: None,
        });
        self.know_all_seats(now);
    }

    /// Answers all that was asked of this reign: what was proposed may yet be committed by the next.
    pub(super) fn end_reign(&mut self, effects: &mut Vec<Effect>) {
        let Some(reign) = self.reign.take() else { return };
        self.last_round = reign.rounds.number();
        let said = |request, outcome| Effect::Proposed { request, outcome };
        effects.extend(reign.proposals.into_values().map(|request| said(request, Proposed::Unknown)));
        effects.extend(reign.removals.into_iter().map(|removal| said(removal.request, Proposed::NotCommander)));
        reign.rounds.fail(effects);
        let why = reign.why_over.unwrap_or_else(|| match reign.handing_over {
            Some((to, _)) => format!("handed over to {}", self.name(to)),
            None => "another election has begun".into(),
        });
        let text = format!("this node commands no more (term {}): {why}", reign.term);
        self.note(EventKind::CommanderLost, Some(self.me()), text, effects);
    }

    /// Steps down within the term.
    pub(super) fn abdicate(&mut self, why: String, effects: &mut Vec<Effect>) {
        if let Some(reign) = &mut self.reign {
            reign.why_over = Some(why);
        }
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.end_reign(effects);
    }

    pub(super) fn act_as_commander(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let timing = self.timing();
        let Some(reign) = &mut self.reign else { return };
        reign.rounds.expire(now, &timing, effects);
        if now >= reign.next_beat {
            reign.next_beat = now + timing.beat();
            self.on_beat(now, &timing, effects);
        }
        let Some(reign) = &mut self.reign else { return };
        if std::mem::take(&mut reign.look_again) {
            self.release_removals(effects);
            self.step_seats(now, &timing, effects);
        }
        self.begin_round(now, &timing);
    }

    fn begin_round(&mut self, now: Instant, timing: &Timing) {
        let seats = self.mirror().seats();
        let alone = seats.voters.len() == 1 && seats.outgoing.is_empty();
        let nodes = seats.voters.len() + seats.learners.len();
        let Some(reign) = &mut self.reign else { return };
        if let Some(name) = reign.rounds.begin(now, timing, nodes) {
            // The library speaks to all for it, unless it is its own majority.
            if !alone {
                reign.spoke = now;
            }
            self.node.read_index(name);
        }
    }

    fn on_beat(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        self.know_all_seats(now);
        if !self.hears_majority(now, timing) {
            return self.abdicate("no majority has been heard for a failure_timeout".into(), effects);
        }
        self.note_silence(now, timing);
        self.on_slow_disk(now, timing, effects);
        self.pass_on(now, timing, effects);
        self.end_hand_over(now, effects);
        let Some(reign) = &mut self.reign else { return };
        reign.look_again = true;
        if now.since(reign.spoke) >= timing.beat() / 2 {
            reign.spoke = now;
            self.node.ping();
        }
    }

    /// A node that has just got a seat has not been silent yet.
    fn know_all_seats(&mut self, now: Instant) {
        let seats = self.node.store().seats();
        let seated: Vec<NodeId> = [&seats.voters, &seats.outgoing, &seats.learners, &seats.learners_next]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let Some(reign) = &mut self.reign else { return };
        reign.heard.retain(|node, _| seated.contains(node));
        for node in seated {
            reign.heard.entry(node).or_insert(now);
        }
    }

    fn hears_majority(&self, now: Instant, timing: &Timing) -> bool {
        let Some(reign) = &self.reign else { return false };
        let of = |voters: &[NodeId]| {
            let heard = voters.iter().filter(|node| **node == self.me() || reign.hears(**node, now, timing)).count();
            voters.is_empty() || heard >= seats::majority(voters.len())
        };
        let seats = self.mirror().seats();
        of(&seats.voters) && of(&seats.outgoing) || planted::is(Bug::ConfirmedAlone)
    }

    /// Tells the library who is silent, and which snapshots must be taken for lost.
    fn note_silence(&mut self, now: Instant, timing: &Timing) {
        let Some(reign) = &mut self.reign else { return };
        let me = self.config.me;
        for node in reign.heard.keys().copied().filter(|node| *node != me) {
            if let Some(progress) = self.node.raft.mut_prs().get_mut(node.0) {
                progress.recent_active = reign.hears(node, now, timing);
            }
        }
        let waiting = |node: &NodeId| {
            self.node.raft.prs().get(node.0).is_some_and(|progress| progress.state == ProgressState::Snapshot)
        };
        reign.snapshots.retain(|node, _| waiting(node));
        let lost = |sent: &Instant| now.since(*sent) >= timing.failure_timeout * 4;
        let lost: Vec<NodeId> = reign.snapshots.iter().filter(|(_, sent)| lost(sent)).map(|(node, _)| *node).collect();
        for node in lost {
            reign.snapshots.remove(&node);
            self.node.report_snapshot(node.0, SnapshotStatus::Failure);
        }
    }

    /// A witness that had to stand in hands over as soon as somebody has its log.
    fn pass_on(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        let busy = self.reign.as_ref().is_none_or(|reign| reign.handing_over.is_some());
        if busy || !self.stands_in() {
            return;
        }
        if let Ok(to) = self.successor(now, timing, None) {
            let text =
                format!("a witness stood in, for nobody else had the newest log; handing over to {}", self.name(to));
            self.note(EventKind::Noticed, Some(self.me()), text, effects);
            self.hand_over(now, to);
        }
    }

    fn on_slow_disk(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        let busy = self.reign.as_ref().is_none_or(|reign| reign.handing_over.is_some());
        if busy || !self.desk.is_slow(now, timing) {
            return;
        }
        if let Ok(to) = self.successor(now, timing, None) {
            let text =
                format!("the disk has not finished a write for a failure_timeout; handing over to {}", self.name(to));
            self.note(EventKind::Noticed, Some(self.me()), text, effects);
            self.hand_over(now, to);
        }
    }

    pub(super) fn on_step_down(&mut self, now: Instant, to: Option<NodeId>, effects: &mut Vec<Effect>) {
        let outcome =
            if self.leads() { self.successor(now, &self.timing(), to) } else { Err("it does not command".into()) };
        match outcome {
            Ok(to) => self.hand_over(now, to),
            Err(why) => self.note(EventKind::Noticed, Some(self.me()), format!("cannot hand over: {why}"), effects),
        }
    }

    /// Who could rule next: this one if asked for, else the voter that has most of the log.
    fn successor(&self, now: Instant, timing: &Timing, wanted: Option<NodeId>) -> Result<NodeId, String> {
        let Some(reign) = &self.reign else { return Err("it does not command".into()) };
        let fault = |node: NodeId| {
            let seat = self.look_at(node, reign, now, timing);
            let votes = self.mirror().seats().voters.contains(&node);
            let faults = [
                (node == self.me(), "is this node"),
                (!votes, "does not vote"),
                (seat.witness, "is a witness and never stands"),
                (!reign.hears(node, now, timing), "has not been heard lately"),
                (!seat.caught_up, "lacks a part of the log"),
            ];
            faults.into_iter().find(|(is_so, _)| *is_so).map(|(_, what)| what)
        };
        if let Some(node) = wanted {
            return fault(node).map_or(Ok(node), |what| Err(format!("{} {what}", self.name(node))));
        }
        let voters = self.mirror().seats().voters.iter().copied();
        let fit = voters.filter(|node| fault(*node).is_none());
        let rank = |node: &NodeId| {
            let seat = self.look_at(*node, reign, now, timing);
            (
                seat.live,
                self.node.raft.prs().get(node.0).map_or(0, |progress| progress.matched),
                std::cmp::Reverse(*node),
            )
        };
        fit.max_by_key(rank).ok_or_else(|| "no other voter is heard, has caught up and may stand".into())
    }

    fn hand_over(&mut self, now: Instant, to: NodeId) {
        let until = now + self.timing().failure_timeout;
        if let Some(reign) = &mut self.reign {
            reign.handing_over = Some((to, until));
            self.node.transfer_leader(to.0);
        }
    }

    fn end_hand_over(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(reign) = &mut self.reign else { return };
        if let Some((to, _)) = reign.handing_over.filter(|(_, until)| now >= *until) {
            reign.handing_over = None;
            self.node.raft.abort_leader_transfer();
            let text = format!("{} did not take over in time; this node goes on", self.name(to));
            self.note(EventKind::Noticed, Some(to), text, effects);
        }
    }

    /// One node, as the plan of seats sees it.
    fn look_at(&self, node: NodeId, reign: &Reign, now: Instant, timing: &Timing) -> Seat {
        let member = self.dictionary().and_then(|dictionary| dictionary.roster.get(&node));
        let franchise = member.map(|member| member.franchise).unwrap_or_default();
        let leaving = franchise == Franchise::Learns || reign.removals.iter().any(|removal| removal.node == node);
        let parting = member.is_some_and(|member| member.drains);
        let suspect = member.is_none_or(|member| member.standing == Standing::Suspect);
        let me = node == self.me();
        let hears = me || reign.hears(node, now, timing);
        let silent_for = reign.heard.get(&node).map(|heard| now.since(*heard)).unwrap_or_default();
        let progress = self.node.raft.prs().get(node.0);
        let last = self.node.raft.raft_log.last_index();
        Seat {
            rostered: member.is_some(),
            leaving,
            parting,
            heard: hears,
            live: hears && !leaving && !parting && (me || !suspect),
            dead: !me && silent_for >= timing.seat_timeout(),
            caught_up: me || progress.is_some_and(|progress| progress.matched > 0 && progress.matched + NEAR >= last),
            wanted: franchise == Franchise::Votes,
            witness: member.is_some_and(|member| member.node.role == Role::Witness),
            told: reign.farewells.get(&node).is_some_and(|(place, since)| {
                let knows = progress.is_none_or(|progress| progress.committed_index >= *place);
                knows || !hears || now.since(*since) >= timing.failure_timeout * 4
            }),
        }
    }

    /// Makes the next change of seats, if one is due and none is under way.
    fn step_seats(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        if !self.commands() || self.node.raft.has_pending_conf() || self.node.raft.lead_transferee.is_some() {
            return;
        }
        self.say_farewells(now);
        let (Some(reign), Some(dictionary)) = (&self.reign, self.dictionary()) else { return };
        let seats = self.mirror().seats();
        let everybody = dictionary.roster.keys().chain(&seats.voters).chain(&seats.learners);
        let nodes = everybody.map(|node| (*node, self.look_at(*node, reign, now, timing))).collect();
        let max_voters = dictionary.settings.voters.max(1).into();
        match seats::plan(&View { me: self.me(), seats, max_voters, nodes: &nodes }) {
            None => {}
            Some(Step::Change(change)) => self.propose_seats(&change),
            Some(Step::HandOver) => {
                if let Ok(to) = self.successor(now, timing, None) {
                    let text = format!("this node is not to vote any more; handing over to {}", self.name(to));
                    self.note(EventKind::Noticed, Some(self.me()), text, effects);
                    self.hand_over(now, to);
                }
            }
        }
    }

    pub(super) fn propose_seats(&mut self, change: &SeatsChange) {
        let proposed = self.node.propose_conf_change(convert::change_bytes(change), convert::change_in(change));
        if let Err(error) = proposed {
            tracing::debug!(%error, "a change of seats has to wait");
        }
    }

    /// Remembers who is off the roster, until they know it themselves.
    fn say_farewells(&mut self, now: Instant) {
        let Some(dictionary) = self.node.store().dictionary().cloned() else { return };
        let (seats, place) = (self.node.store().seats().clone(), self.node.store().applied().index);
        let Some(reign) = &mut self.reign else { return };
        let off = |node: &&NodeId| !dictionary.roster.contains_key(node);
        for node in seats.voters.iter().chain(&seats.learners).filter(off) {
            reign.farewells.entry(*node).or_insert((place, now));
        }
        reign.farewells.retain(|node, _| off(&node));
    }

    pub(super) fn on_confirm(&mut self, ask: u64, effects: &mut Vec<Effect>) {
        let commands = self.commands() && self.desk.term_is_stable();
        match self.reign.as_mut().filter(|_| commands) {
            Some(_) if planted::is(Bug::ConfirmedAlone) => self.confirm_alone(ask, effects),
            Some(reign) => reign.rounds.ask(ask),
            None => effects.push(Effect::Again { ask }),
        }
    }

    fn confirm_alone(&self, ask: u64, effects: &mut Vec<Effect>) {
        effects.push(Effect::Confirmed { ask, term: Term(self.node.raft.term), version: self.version() });
    }

    pub(super) fn on_propose(&mut self, now: Instant, request: u64, command: Command, effects: &mut Vec<Effect>) {
        if !self.commands() || !self.desk.term_is_stable() {
            return effects.push(Effect::Proposed { request, outcome: Proposed::NotCommander });
        }
        match self.seat_in_the_way(&command) {
            None => self.propose(request, &command, effects),
            Some(node) if node == self.me() => {
                // Another must rule before this node can be removed; it will plan the removal itself.
                self.on_step_down(now, None, effects);
                effects.push(Effect::Proposed { request, outcome: Proposed::NotCommander });
            }
            Some(node) => {
                if let Some(reign) = &mut self.reign {
                    // One that waits already was given up by whoever asked.
                    reign.removals.retain(|removal| removal.node != node);
                    reign.removals.push(Removal { request, node, command });
                    reign.look_again = true;
                }
            }
        }
    }

    fn propose(&mut self, request: u64, command: &Command, effects: &mut Vec<Effect>) {
        match self.node.propose(Vec::new(), codec::encode(command)) {
            Ok(()) => {
                let place = self.node.raft.raft_log.last_index();
                if let Some(reign) = &mut self.reign {
                    reign.proposals.insert(place, request);
                }
            }
            Err(_) => effects.push(Effect::Proposed { request, outcome: Proposed::NotCommander }),
        }
    }

    /// The voter that a command would take off the roster. It gives up its seat first: two voters of which one has ended
    /// could not even agree that it has.
    fn seat_in_the_way(&self, command: &Command) -> Option<NodeId> {
        let Command::Remove { node, .. } = command else { return None };
        let votes = self.mirror().seats().votes(*node);
        let has_effect = || {
            let mut tried = self.dictionary().map(|dictionary| (**dictionary).clone())?;
            let before = tried.version;
            tried.apply(command);
            Some(tried.version > before)
        };
        (votes && has_effect() == Some(true)).then_some(*node)
    }

    fn release_removals(&mut self, effects: &mut Vec<Effect>) {
        let seats = self.node.store().seats().clone();
        let Some(reign) = &mut self.reign else { return };
        let (waiting, free): (Vec<Removal>, Vec<Removal>) =
            std::mem::take(&mut reign.removals).into_iter().partition(|removal| seats.votes(removal.node));
        reign.removals = waiting;
        for removal in free {
            self.propose(removal.request, &removal.command, effects);
        }
    }
}
