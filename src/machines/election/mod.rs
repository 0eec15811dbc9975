//! Who commands, and what is agreed: the consensus machine of a node.
//!
//! A majority of voters elects one commander a term and agrees on one log; every node applies the log to its dictionary
//! and publishes what came out, whole. The consensus is Raft (Ongaro and Ousterhout, 2014), by the library `raft`, with
//! pre-vote, check-quorum, joint changes of voters, and ReadIndex. Around it stand our own decisions: when a node stands
//! (`timer`, `candidacy`), who should count (`seats`), what a commander owes its reign (`reign`), how many share a quorum round
//! (`rounds`), what is believed of a peer (`check`).
//!
//! **Stable first.** A write goes out as [`Effect::Persist`], and whatever depends on it is held (`carry`) until
//! [`Input::Persisted`] says that it is on disk: votes and acknowledgements always, and a new commander's own words until
//! its term is. Terms are published when they are stable, so they never fall, whatever crashes.
//!
//! **Time.** The library's clock is turned here, from `now` alone. A process that was asleep for long believes nothing of
//! its own clock: a commander steps down, unless it is the only voter, and a follower listens for a beat before it stands.
//!
//! The library's types stay inside (`convert`), its storage is a mirror in memory (`storage`), its log goes to ours
//! (`quiet`). It panics when a belief is false, and that is meant to end the process.
//!
//! Not here: what the commands do (`dictionary`), which commands are proposed (`ownership`), who is heard (`heartbeat`).

mod candidacy;
mod carry;
mod check;
mod convert;
mod quiet;
mod reign;
mod rounds;
mod seats;
mod storage;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use raft::{RawNode, ReadOnlyOption, StateRole};

use crate::machines::Machine;
use crate::machines::dictionary::Dictionary;
use crate::messages::election::{ElectionMessage, HardState, MessageKind, Recovered, Save, Seats, Snapshot};
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{Applied, Command, Role};
use crate::types::{Instant, NodeId, Now, Term, Timing, Version};
use crate::wire::codec;

use carry::Desk;
use check::{Fault, Known};
use reign::Reign;
use storage::Mirror;
use timer::{Patience, TICKS};

/// What this node knows to be agreed. Published whole at each change; the data plane reads it and never asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The dictionary as applied here.
    pub dictionary: Arc<Dictionary>,
    /// The newest term this node knows.
    pub term: Term,
    /// Who rules in it, as far as known.
    pub commander: Option<NodeId>,
    /// Whether this node does, and has committed in its own term: only then may it act as commander.
    pub commanding: bool,
    /// Who counts, as applied here.
    pub seats: Seats,
}

/// What the election machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// Another roster member says something.
    Peer {
        /// Who.
        from: NodeId,
        /// What.
        message: ElectionMessage,
    },
    /// The write of this number, and all before it, are stable.
    Persisted(u64),
    /// The disk refused a write.
    DiskFailed(String),
    /// Put this into the log. Answered by `Effect::Proposed`.
    Propose {
        /// The asker's name for it; unique within this incarnation.
        request: u64,
        /// What.
        command: Command,
    },
    /// Confirm with a quorum round begun now that this node commands. Answered by `Confirmed` or `Again`.
    Confirm {
        /// The asker's name for it.
        ask: u64,
    },
    /// Hand the command to another voter: the best one, or this one.
    StepDown {
        /// To whom.
        to: Option<NodeId>,
    },
    /// The roster members that are heard now, this node included (from the heartbeat machine).
    Hears(BTreeSet<NodeId>),
    /// For stories: this node's election timeout is over now.
    TimeOut,
}

/// What the election machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this stable, then say `Persisted`.
    Persist(Save),
    /// Say this to a roster member; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: ElectionMessage,
    },
    /// This is agreed now.
    Publish(Arc<Published>),
    /// What became of a proposal.
    Proposed {
        /// Which.
        request: u64,
        /// What.
        outcome: Proposed,
    },
    /// A quorum confirmed it, in a round begun after the asking: it commands in this term, and this is the applied version.
    Confirmed {
        /// Which asking.
        ask: u64,
        /// The term.
        term: Term,
        /// The dictionary version applied here, which holds all that was committed when the round began.
        version: Version,
    },
    /// It could not be confirmed: ask again later.
    Again {
        /// Which asking.
        ask: u64,
    },
    /// Something to remember for people.
    Note(Event),
    /// This process must end now, and why: a false belief, or a disk that fails.
    End(String),
    /// This node is off the roster: its process must end.
    Removed(String),
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It is committed and applied.
    Applied(Applied),
    /// The command was lost, or may yet be committed: unknown (never "failed").
    Unknown,
    /// Surely not proposed: this node does not command, is handing over, or has too much on its way already.
    NotCommander,
}

/// What an election machine is made from, besides what its journal held.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// What it does. A witness never stands.
    pub role: Role,
    /// The times, until a dictionary is known: then the dictionary's hold.
    pub timing: Timing,
    /// How many nodes vote at most, until a dictionary is known.
    pub voters: u8,
    /// Where its randomness starts.
    pub seed: u64,
}

/// The first write of a founder: its dictionary as a snapshot, in which it alone counts. To be stable before
/// [`Election::new`] is given what the journal then holds.
pub fn founding(dictionary: &Dictionary) -> Save {
    let seats = Seats { voters: dictionary.roster.keys().copied().collect(), ..Seats::default() };
    Save {
        number: 0,
        hard: Some(HardState { term: Term(1), vote: None, commit: 1 }),
        snapshot: Some(Snapshot { index: 1, term: Term(1), seats, data: codec::encode(dictionary) }),
        entries: Vec::new(),
    }
}

/// The consensus machine of one node.
pub struct Election {
    config: Config,
    node: RawNode<Mirror>,
    desk: Desk,
    patience: Patience,
    /// What this node does while it leads.
    reign: Option<Reign>,
    /// Rounds have been named up to this.
    last_round: u64,
    /// Up to here the library's clock has been turned.
    clock: Instant,
    /// When this machine asked to be told the time again, last.
    due: Option<Instant>,
    /// Whom this node followed last.
    followed: Option<NodeId>,
    /// The last term in which this node had a commander.
    led_term: u64,
    /// Since when it has followed nobody.
    unled_since: Option<Instant>,
    /// How many candidates this witness has refused since it last followed somebody, for their logs lack what its own has.
    outdated: u32,
    /// Who has asked without a new term since this node last followed somebody: in which term it would rule, and how many nodes
    /// this one heard then.
    first_words: BTreeMap<NodeId, (Term, i64)>,
    published: Option<Arc<Published>>,
    /// Why this process ends; nothing leaves this machine any more.
    ended: Option<String>,
    /// Whether it ends because it is off the roster, which is no error where it wanted to be.
    removed: bool,
    /// Whether the end has been said.
    end_said: bool,
}

impl Machine for Election {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let now = now.instant;
        if self.ended.is_none() {
            self.pass_time(now, effects);
            self.hear(now, input, effects);
        }
        if self.ended.is_none() {
            // What was heard is carried out before anything follows from it.
            self.settle(now, effects);
            self.act(now, effects);
            self.settle(now, effects);
            self.publish(effects);
            self.leave_if_removed(now);
        }
        self.due = self.next_deadline();
        if let Some(reason) = self.ended.as_ref().filter(|_| !self.end_said) {
            effects.push(if self.removed { Effect::Removed(reason.clone()) } else { Effect::End(reason.clone()) });
            self.end_said = true;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

impl Election {
    /// A node with what its journal held. A node that is new to the mesh has nothing, and learns in silence.
    ///
    /// # Panics
    /// When `config.me` is the id of nobody.
    pub fn new(config: Config, recovered: Recovered, now: Now) -> Self {
        let (mirror, ended) = match Mirror::new(recovered) {
            Ok(mirror) => (mirror, None),
            Err(reason) => {
                let nothing = Mirror::new(Recovered::default()).expect("nothing contradicts itself");
                (nothing, Some(format!("the journal of this node: {reason}")))
            }
        };
        let library = raft::Config {
            id: config.me.0,
            election_tick: TICKS as usize,
            heartbeat_tick: TICKS as usize / 5,
            // Never: the timer is ours.
            min_election_tick: 1_000_000,
            max_election_tick: 1_000_001,
            applied: mirror.applied().index,
            max_size_per_msg: 256 << 10,
            max_uncommitted_size: 8 << 20,
            max_inflight_msgs: 64,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            ..raft::Config::default()
        };
        let (term, commit) = mirror.initial();
        let node = RawNode::new(&library, mirror, &quiet::logger()).expect("a sound configuration");
        Self {
            desk: Desk::new(term, commit),
            patience: Patience::new(config.seed),
            config,
            node,
            reign: None,
            last_round: 0,
            clock: now.instant,
            due: Some(now.instant),
            followed: None,
            led_term: 0,
            unled_since: Some(now.instant),
            outdated: 0,
            first_words: BTreeMap::new(),
            published: None,
            ended,
            removed: false,
            end_said: false,
        }
    }

    /// What is published now, if anything is known yet.
    pub fn published(&self) -> Option<&Arc<Published>> {
        self.published.as_ref()
    }

    fn me(&self) -> NodeId {
        self.config.me
    }

    fn mirror(&self) -> &Mirror {
        self.node.store()
    }

    fn dictionary(&self) -> Option<&Arc<Dictionary>> {
        self.mirror().dictionary()
    }

    fn timing(&self) -> Timing {
        self.dictionary().map_or(self.config.timing, |dictionary| dictionary.settings.timing)
    }

    fn roster_size(&self) -> usize {
        self.dictionary().map_or(1, |dictionary| dictionary.roster.len())
    }

    fn version(&self) -> Version {
        self.dictionary().map_or(Version(0), |dictionary| dictionary.version)
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn leader(&self) -> Option<NodeId> {
        convert::node(self.node.raft.leader_id)
    }

    /// Whether this node leads and has applied a record of its own term, and so all that was committed before.
    fn commands(&self) -> bool {
        self.leads() && self.mirror().applied().term == self.node.raft.term
    }

    fn is_sole_voter(&self) -> bool {
        let seats = self.mirror().seats();
        seats.voters == [self.me()] && seats.outgoing.is_empty()
    }

    fn name(&self, node: NodeId) -> String {
        self.dictionary().map_or_else(|| node.to_string(), |dictionary| dictionary.name_of(node))
    }

    fn note(&self, kind: EventKind, node: Option<NodeId>, text: String, effects: &mut Vec<Effect>) {
        let event =
            Event { kind, term: Term(self.node.raft.term), version: self.version(), node, ranges: Vec::new(), text };
        effects.push(Effect::Note(event));
    }

    fn end(&mut self, reason: String) {
        if self.ended.is_none() {
            self.ended = Some(reason);
        }
    }

    fn hear(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Timer => {}
            Input::Peer { from, message } => self.on_peer(now, from, message),
            Input::Persisted(number) => self.on_persisted(now, number, effects),
            Input::DiskFailed(reason) => self.end(format!(
                "the journal refused a write, and nothing that depends on it has left this node: {reason}. See to the disk under the \
                 data directory, then start again"
            )),
            Input::Propose { request, command } => self.on_propose(now, request, command, effects),
            Input::Confirm { ask } => self.on_confirm(ask, effects),
            Input::StepDown { to } => self.on_step_down(now, to, effects),
            Input::Hears(nodes) => self.patience.set_hears(nodes),
            Input::TimeOut => self.stand(effects),
        }
    }

    fn on_peer(&mut self, now: Instant, from: NodeId, message: ElectionMessage) {
        if self.desk.is_deaf() || self.is_refused(from, &message) {
            return;
        }
        match self.check(from, &message) {
            Ok(()) => {}
            Err(Fault::Fatal(reason)) => return self.end(reason),
            Err(Fault::Refused(why)) => {
                tracing::debug!(?from, kind = ?message.kind, why, "refused a message");
                return;
            }
        }
        let answers = matches!(message.kind, MessageKind::AppendResponse | MessageKind::HeartbeatResponse);
        let of_this_term = message.term.0 == self.node.raft.term;
        let judged = self.insist(from, &message);
        let message = convert::message_in(from, self.me(), message);
        if let Err(error) = self.node.raft.step(message) {
            tracing::debug!(?from, %error, "the library refused a message");
        }
        if judged {
            self.prefer();
        }
        if let Some(reign) = self.reign.as_mut().filter(|_| answers && of_this_term) {
            reign.heard.insert(from, now);
        }
    }

    /// What is not for this node to hear, whoever says it.
    fn is_refused(&self, from: NodeId, message: &ElectionMessage) -> bool {
        match message.kind {
            // Nobody names it.
            MessageKind::TimeoutNow => self.config.role == Role::Witness,
            // One that was removed may not know it yet, and must disturb nobody.
            MessageKind::RequestVote | MessageKind::RequestPreVote => {
                self.dictionary().is_some_and(|dictionary| dictionary.gone.contains_key(&from))
            }
            _ => false,
        }
    }

    fn check(&self, from: NodeId, message: &ElectionMessage) -> Result<(), Fault> {
        let log = &self.node.raft.raft_log;
        let term_at = |index| self.mirror().term_at(index);
        let known = Known {
            me: self.me(),
            term: self.node.raft.term,
            commander: self.node.raft.leader_id,
            leads: self.leads(),
            committed: log.committed,
            last: log.last_index(),
            term_at: &term_at,
        };
        check::check(from, message, &known)
    }

    /// Does what is due.
    fn act(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.desk.is_deaf() {
            return;
        }
        if self.leads() {
            return self.act_as_commander(now, effects);
        }
        if self.node.raft.promotable() && self.node.raft.election_elapsed as u64 >= self.limit() {
            self.stand(effects);
        }
    }

    /// Says what is agreed, if that has changed. A term is said when it is stable; until then nobody rules.
    fn publish(&mut self, effects: &mut Vec<Effect>) {
        let Some((dictionary, seats)) = self.agreed() else { return };
        let stable = self.desk.term_is_stable();
        let term = Term(self.desk.stable_term);
        let commander = self.leader().filter(|_| stable);
        let commanding = self.commands() && stable && !self.stands_in();
        let same = self.published.as_ref().is_some_and(|last| {
            Arc::ptr_eq(&last.dictionary, dictionary)
                && (last.term, last.commander, last.commanding) == (term, commander, commanding)
                && last.seats == *seats
        });
        if !same {
            let (dictionary, seats) = (Arc::clone(dictionary), seats.clone());
            let published = Arc::new(Published { dictionary, term, commander, commanding, seats });
            self.published = Some(Arc::clone(&published));
            effects.push(Effect::Publish(published));
        }
        self.answer(effects);
    }

    /// What is agreed and may be said. While a received snapshot is on its way to the disk, what was agreed before it still
    /// holds.
    fn agreed(&self) -> Option<(&Arc<Dictionary>, &Seats)> {
        if self.desk.is_deaf() {
            return self.published.as_ref().map(|published| (&published.dictionary, &published.seats));
        }
        Some((self.dictionary()?, self.mirror().seats()))
    }

    /// A node that has applied its own removal ends, unless the mesh still needs it: as its commander, until another
    /// rules; as a voter, until nobody asks any more.
    fn leave_if_removed(&mut self, now: Instant) {
        let me = self.me();
        if !self.is_gone() || self.leads() {
            return;
        }
        let silent = self.unled_since.is_some_and(|since| now.since(since) >= self.timing().failure_timeout * 2);
        if !self.mirror().seats().votes(me) || silent {
            self.removed = true;
            self.end(
                "this node was removed from the roster: it serves nothing more. Start it with an empty data directory to join \
                 as a new one"
                    .into(),
            );
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        if self.desk.is_deaf() {
            return None;
        }
        let timing = self.timing();
        let own = match &self.reign {
            Some(reign) if self.leads() => Some(reign.deadline(&timing)),
            // What the disk has not finished ends in a step of its own.
            _ => (self.node.raft.promotable() && self.desk.is_settled()).then(|| {
                let left = self.limit().saturating_sub(self.node.raft.election_elapsed as u64);
                self.clock + timer::span(left, &timing)
            }),
        };
        let removal = self.unled_since.filter(|_| self.is_gone()).map(|since| since + timing.failure_timeout * 2);
        [own, self.desk.deadline(), removal].into_iter().flatten().min()
    }

    fn is_gone(&self) -> bool {
        self.dictionary().is_some_and(|dictionary| dictionary.gone.contains_key(&self.me()))
    }
}
