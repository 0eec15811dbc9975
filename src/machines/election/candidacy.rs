//! Standing for election: when, against whom, and what this node makes of the outcome.
//!
//! A node stands when it has heard no commander for its timeout (`timer`). It asks without a new term at first (pre-vote):
//! who still hears a commander refuses, so that a bad link deposes nobody. The library's clock is turned here, in
//! thousandths of T, since the library never learns how long T is.

use super::timer::{self, TICKS};
use super::{Effect, Election};
use crate::messages::election::{ElectionMessage, MessageKind};
use crate::messages::events::EventKind;
use crate::messages::ownership::Role;
use crate::types::{Instant, NodeId};

/// After so many candidates whose logs lack what it has, a witness passes its log on itself.
const OUTDATED: u32 = 3;

/// After so many T without a commander it does so though nobody stands: who could may know it for no voter, for its log is old.
const ABANDONED: u64 = 20;

impl Election {
    /// Turns the library's clock to `now`.
    pub(super) fn pass_time(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let timing = self.timing();
        let passed = now.since(self.clock);
        let overslept = self.due.is_some_and(|due| now.since(due) > timing.failure_timeout / 2);
        if self.desk.is_deaf() {
            self.clock = now;
            return;
        }
        if self.leads() {
            self.clock = now;
            if overslept && passed >= timing.failure_timeout && !self.is_sole_voter() {
                // Others have elected by now. Whoever listens to this node from here on would listen to a ghost.
                let slept = format!("this process slept for {} ms while it commanded", passed.as_millis());
                self.abdicate(slept, effects);
            }
            return;
        }
        let ticks = timer::ticks(passed, &timing);
        self.clock = self.clock + timer::span(ticks, &timing);
        let mut elapsed = self.node.raft.election_elapsed as u64 + ticks;
        if overslept {
            // What others said meanwhile is still to be read: listen for a beat.
            elapsed = elapsed.min(self.limit().saturating_sub(TICKS / 5));
        }
        self.node.raft.election_elapsed = elapsed as usize;
    }

    /// Asks the voters, without a new term at first: who still hears a commander refuses.
    pub(super) fn stand(&mut self, effects: &mut Vec<Effect>) {
        if self.leads() || self.desk.is_deaf() || !self.may_rule() && !self.is_abandoned() {
            return;
        }
        if !self.desk.is_settled() {
            // It could not vote for itself before the disk has caught up: then, unless somebody else rules.
            self.node.raft.election_elapsed = self.node.raft.election_elapsed.max(self.limit() as usize);
            return;
        }
        if let Some(lost) = self.leader() {
            let text = format!("{} has not been heard for too long; standing for election", self.name(lost));
            self.note(EventKind::CommanderLost, Some(lost), text, effects);
        }
        self.patience.stand(self.roster_size());
        self.prefer();
        self.node.raft.election_elapsed = 0;
        if let Err(error) = self.node.campaign() {
            tracing::debug!(%error, "the library refused to stand");
        }
    }

    /// After how many ticks without a commander this node stands. Where nobody else can rule there is nothing to wait for.
    pub(super) fn limit(&self) -> u64 {
        match self.may_rule() {
            true if self.is_sole_voter() => 0,
            true => self.patience.limit(),
            false => ABANDONED * TICKS,
        }
    }

    fn is_abandoned(&self) -> bool {
        self.node.raft.promotable() && self.node.raft.election_elapsed as u64 >= ABANDONED * TICKS
    }

    /// Says how well connected this node is, before it judges a candidate: the library refuses its vote to one with an
    /// equal log that hears fewer. Then this node should stand itself, soon, or nobody would. Answers whether
    /// this was one who stands.
    pub(super) fn insist(&mut self, from: NodeId, message: &ElectionMessage) -> bool {
        if !matches!(message.kind, MessageKind::RequestVote | MessageKind::RequestPreVote) {
            return false;
        }
        if !message.context.is_empty() {
            // Named by the commander: no preference stands against that.
            self.node.raft.set_priority(0);
            return true;
        }
        self.prefer();
        self.stand_by_first_word(from, message);
        let raft = &self.node.raft;
        let leaderless = raft.leader_id == raft::INVALID_ID || raft.election_elapsed as u64 >= TICKS;
        if leaderless && self.config.role == Role::Witness && self.lacks_what_is_here(message) {
            self.outdated += 1;
        }
        let raft = &self.node.raft;
        let refuses = raft.priority > message.priority && message.index <= raft.raft_log.last_index();
        if leaderless && refuses && !self.leads() && self.may_rule() {
            let wait = self.patience.hasten();
            let soon = self.limit().saturating_sub(wait) as usize;
            self.node.raft.election_elapsed = self.node.raft.election_elapsed.max(soon);
        }
        true
    }

    /// What this node found when a candidate asked it first counts when it asks for the vote itself: since the commander was
    /// lost all speak to all, so each hears more by the moment, and would refuse the very one that it has encouraged.
    /// Where it insists on less by now, that counts.
    fn stand_by_first_word(&mut self, from: NodeId, message: &ElectionMessage) {
        let found = self.node.raft.priority;
        if message.kind == MessageKind::RequestPreVote {
            self.first_words.insert(from, (message.term, found));
        } else if let Some((_, first)) = self.first_words.get(&from).filter(|(term, _)| *term == message.term) {
            self.node.raft.set_priority(found.min(*first));
        }
    }

    /// Whether a candidate's log is older than this one's. A witness that has to refuse every candidate for that may be the
    /// only one left with what was committed, and nobody could ever be elected: so it stands in, only to bring the others
    /// up to its log, and hands over at once.
    fn lacks_what_is_here(&self, candidate: &ElectionMessage) -> bool {
        let log = &self.node.raft.raft_log;
        (candidate.log_term, candidate.index) < (log.last_term(), log.last_index())
    }

    /// Whether this is a witness that only passes its log on.
    pub(super) fn stands_in(&self) -> bool {
        self.config.role == Role::Witness
    }

    /// What this node says when it stands itself: how many it hears now, whatever it last found of others.
    pub(super) fn prefer(&mut self) {
        let preference = if self.may_rule() { self.patience.preference(self.followed) } else { 0 };
        self.node.raft.set_priority(preference);
    }

    /// Whether this node could be elected: a voter, and a witness only where nobody else could be.
    pub(super) fn may_rule(&self) -> bool {
        (self.config.role != Role::Witness || self.outdated >= OUTDATED) && self.node.raft.promotable()
    }

    /// Looks at what the last words have made of this node: whom it follows, whether it leads.
    pub(super) fn look_around(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.leads() && self.reign.as_ref().is_none_or(|reign| reign.term != self.node.raft.term) {
            self.end_reign(effects);
            self.begin_reign(now);
        } else if !self.leads() && self.reign.is_some() {
            self.end_reign(effects);
        }
        match self.leader() {
            Some(leader) => {
                self.unled_since = None;
                if self.node.raft.election_elapsed < TICKS as usize {
                    self.outdated = 0;
                }
                self.patience.calm(self.roster_size());
                if self.followed != Some(leader) || self.led_term != self.node.raft.term {
                    self.followed = Some(leader);
                    self.led_term = self.node.raft.term;
                    self.first_words.clear();
                    let text = format!("{} commands in term {}", self.name(leader), self.node.raft.term);
                    self.note(EventKind::CommanderElected, Some(leader), text, effects);
                }
            }
            None => {
                self.unled_since.get_or_insert(now);
            }
        }
    }
}
