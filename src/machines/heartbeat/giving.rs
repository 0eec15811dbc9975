//! The leases this node gives: as a member of chains at once, as commander after a quorum has confirmed it.
//!
//! A member's grant is a promise not to lead, kept here by the asker's name and told with every adoption, so that whoever
//! takes over waits it out (G13). The commander's grant says that nobody else commands: it is given only for askings that
//! had come before the confirming round began, or a deposed commander would keep holders alive for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Effect;
use super::facts::Life;
use crate::messages::heartbeat::AskId;
use crate::types::{Incarnation, Instant, NodeId, Timing};

/// More rounds than this are never under way at once.
const ROUNDS: usize = 4;

/// An asking of one life of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub incarnation: Incarnation,
    pub ask: AskId,
}

/// Promises, and askings on their way through a quorum.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Until when this node will not lead what it shares with a head.
    promises: BTreeMap<NodeId, Instant>,
    /// Came after the last round began; the newest of each node.
    waiting: BTreeMap<NodeId, Asked>,
    /// Came before a round began that is under way.
    rounds: BTreeMap<u64, Round>,
    number: u64,
    last_round: Option<Instant>,
    /// Whether somebody waits who should not wait for the next beat.
    hurried: bool,
    /// Who has had a grant in this reign. The first is hurried: its ranges stand still until it comes.
    granted: BTreeSet<Life>,
}

#[derive(Debug)]
struct Round {
    begun: Instant,
    asked: BTreeMap<NodeId, Asked>,
}

impl Giving {
    /// Promises `head` not to lead for the span of a lease from now.
    pub fn promise(&mut self, now: Instant, head: NodeId, timing: &Timing) {
        let until = now + timing.giver(timing.lease());
        let promised = self.promises.entry(head).or_insert(until);
        *promised = until.max(*promised);
    }

    /// All promises that still bind. They bind whatever the dictionary says by now.
    pub fn promises(&mut self, now: Instant) -> BTreeMap<NodeId, Instant> {
        self.promises.retain(|_, until| now < *until);
        self.promises.clone()
    }

    /// Nobody is granted anything by this reign any more, or yet.
    pub fn forget_reign(&mut self) {
        self.waiting.clear();
        self.rounds.clear();
        self.granted.clear();
        self.hurried = false;
    }

    /// An asking came to the commander.
    pub fn on_ask(&mut self, from: NodeId, asked: Asked) {
        self.hurried |= !self.granted.contains(&(from, asked.incarnation));
        self.waiting.insert(from, asked);
    }

    /// Answers this asking, which may have been answered before, as soon as can be: its ranges are new.
    pub fn hurry(&mut self, from: NodeId, asked: Asked) {
        self.hurried = true;
        self.waiting.insert(from, asked);
    }

    /// Begins a round for all who wait.
    pub fn confirm(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.waiting.is_empty() || self.rounds.len() >= ROUNDS {
            return;
        }
        self.number += 1;
        self.last_round = Some(now);
        self.hurried = false;
        self.rounds.insert(self.number, Round { begun: now, asked: std::mem::take(&mut self.waiting) });
        effects.push(Effect::Confirm { ask: self.number });
    }

    /// The askings of a round that was confirmed.
    pub fn on_confirmed(&mut self, number: u64) -> BTreeMap<NodeId, Asked> {
        let asked = self.rounds.remove(&number).map(|round| round.asked).unwrap_or_default();
        self.granted.extend(asked.iter().map(|(node, asked)| (*node, asked.incarnation)));
        asked
    }

    /// A round was not confirmed: its askings wait for the next, unless newer ones do.
    pub fn on_again(&mut self, number: u64) {
        for (node, asked) in self.rounds.remove(&number).map(|round| round.asked).unwrap_or_default() {
            self.waiting.entry(node).or_insert(asked);
        }
    }

    /// Does what is due: begins a hurried round, and gives up rounds that nobody answered.
    pub fn on_timer(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        let lost = |round: &Round| round.begun + patience(timing) <= now;
        let lost: Vec<u64> = self.rounds.iter().filter(|(_, round)| lost(round)).map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.on_again(number));
        if self.hurry_at(timing).is_some_and(|at| at <= now) {
            self.confirm(now, effects);
        }
    }

    /// When something is due.
    pub fn deadline(&self, timing: &Timing) -> Option<Instant> {
        let lost = self.rounds.values().map(|round| round.begun + patience(timing)).min();
        lost.into_iter().chain(self.hurry_at(timing)).min()
    }

    fn hurry_at(&self, timing: &Timing) -> Option<Instant> {
        let wanted = self.hurried && !self.waiting.is_empty() && self.rounds.len() < ROUNDS;
        wanted.then(|| self.last_round.map_or(Instant(0), |last| last + pace(timing)))
    }
}

/// T/160: between two rounds that are hurried. Ranges of sole holders stand still meanwhile.
fn pace(timing: &Timing) -> Duration {
    timing.beat() / 32
}

/// T: a round that takes longer is taken for lost.
fn patience(timing: &Timing) -> Duration {
    timing.failure_timeout
}
