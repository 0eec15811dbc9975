//! Chain replication: how a write travels from the head of a range to its tail and comes back clean.
//!
//! The head stamps a write (epoch, sequence), applies it and forwards it; each member applies what follows its own last
//! stamp and passes it on; the tail acknowledges, and the acknowledgement travels back. What all Serving members hold is
//! *clean*; only that is answered, and only under leases that are looked at last. Who belongs to a chain, and in which
//! order, the commander decides; a member learns it from the dictionary alone and fences all it says with the epoch.
//!
//! After van Renesse and Schneider (OSDI 2004) and PacificA (Microsoft, 2008); the leases between members, the gate before
//! a joiner and the comparison of stamps are our own. The rules are the guards G1 to G25 of docs/protocol.md, each with
//! the run it prevents; a comment here names the guard where its branch stands.
//!
//! `adopt` turns a member from one epoch to the next, `write` numbers and forwards and says what is clean, `reconcile`
//! compares stamps and sends what is missing, `transfer` streams a copy to a joiner and binds the source to it, `large` cuts
//! values that are larger than a chunk into pieces, `lease` says who may answer, `queue` holds commands and answers that
//! have to wait, `budget` says how fast copies move that nobody waits for, `garbage` frees what was given up, `backlog` remembers
//! recent writes, `recipe` sends a command in place of the values it made, `verify` tells what members hold at one stamp.
//!
//! A command is carried out at once and in order, and its answer waits until it may be given. This is right for reads
//! too: a value read at the head holds all that was ever acknowledged in this chain or before, for nothing is acknowledged
//! without this member; so the answer is true of the instant of reading, if it is still the head when it answers.
//!
//! Not here: who belongs to a chain (`ownership`), how leases are asked for and given (`heartbeat`), what a command does
//! (`commands`), which worker owns which range (`store`).

mod adopt;
mod backlog;
mod budget;
mod garbage;
mod large;
mod lease;
mod queue;
mod recipe;
mod reconcile;
mod transfer;
mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::keyspace::Keyspace;
use crate::machines::heartbeat::Leases;
use crate::machines::store::Effect;
use crate::messages::chain::{ChainFrame, ChainMessage, Change};
use crate::messages::client::Outcome;
use crate::messages::ownership::{Cause, Chain, Holder, HolderState, ReplicationMode};
use crate::planted::{self, Bug};
use crate::types::{Epoch, Generation, Incarnation, Instant, NodeId, Now, RangeId, Sequence, Stamp, Timing, Version};

pub use adopt::place_in;
use backlog::{Backlog, Dirty};
pub(super) use budget::Budget;
pub(super) use garbage::Garbage;
use large::Piece;
use lease::Right;
pub(super) use queue::Asked;
use queue::Queue;
use reconcile::{Predecessor, Successor};
use transfer::Gate;

/// Bounds on what a store keeps for ranges whose commands or copies have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of recent writes kept a range, for members that come back.
    pub backlog_bytes: usize,
    /// Recent writes kept a range.
    pub backlog_writes: usize,
    /// Bytes of writes above clean, beyond which a head numbers no more for now.
    pub dirty_bytes: usize,
    /// Bytes of writes kept for a joiner that is being streamed; beyond, it is streamed anew.
    pub streaming_bytes: usize,
    /// Bytes of a chunk, and of the writes in a forward. A single value may be larger.
    pub chunk_bytes: usize,
    /// Parts on their way to one joiner.
    pub parts_a_joiner: u32,
    /// Parts on their way to all joiners of a store.
    pub parts_a_store: u32,
    /// Bytes a second that are streamed of ranges that lack no copy; of others more. None: no bound.
    pub moving: Option<u64>,
    /// Commands, and answers, that wait in a range: a range that stands still does not stop its neighbours.
    pub waiting_a_range: usize,
    /// Commands and answers that wait in a store.
    pub waiting: usize,
    /// Bytes of the commands among them.
    pub waiting_bytes: usize,
    /// Keys of a range that are deleted in one step because their time has come.
    pub keys_a_step: usize,
    /// Keys and writes of dropped copies that are freed at a time.
    pub freed_a_step: usize,
    /// Keys of a copy, and their bytes, that are digested in one step for who compares copies.
    pub counted_a_step: (usize, usize),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backlog_bytes: 8 << 20,
            backlog_writes: 10_000,
            dirty_bytes: 8 << 20,
            streaming_bytes: 64 << 20,
            chunk_bytes: 64 << 10,
            parts_a_joiner: 4,
            parts_a_store: 64,
            moving: Some(8 << 20),
            waiting_a_range: 8_192,
            waiting: 65_536,
            waiting_bytes: 64 << 20,
            keys_a_step: 256,
            freed_a_step: 512,
            counted_a_step: (1_024, 256 << 10),
        }
    }
}

/// Counters of what was sent to other members, for tests and metrics. They only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Keys sent in chunks.
    pub entries_streamed: u64,
    /// Bytes of keys and values among them.
    pub bytes_streamed: u64,
    /// Writes sent from the backlog to members that had missed them.
    pub writes_repaired: u64,
    /// Streamings begun.
    pub streamings: u64,
    /// Writes sent as commands in place of the values they made.
    pub recipes_sent: u64,
    /// Commands that were heard and would have made something else here: their values were asked for.
    pub recipes_refused: u64,
}

/// What is the same for all ranges of a store, as one step sees it.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub me: NodeId,
    pub incarnation: Incarnation,
    /// How long a command is held before it is refused as not applied.
    pub park: Duration,
    pub limits: Limits,
    pub timing: Timing,
    pub min_copies: usize,
    /// How many holders each range should have.
    pub factor: usize,
    /// Nodes that are to leave.
    pub leavers: BTreeSet<NodeId>,
    pub mode: ReplicationMode,
    /// Clients' writes are paused in the whole mesh.
    pub paused: bool,
    /// The dictionary version adopted.
    pub version: Version,
    pub leases: Arc<Leases>,
    /// Rises whenever what was known of leases may not hold any more.
    pub round: u64,
    /// Parts on their way to joiners.
    pub parts: u32,
    /// Ranges that have parts to send when there is room again.
    pub starved: BTreeSet<RangeId>,
    pub budget: Budget,
    /// Commands and answers that wait, and the bytes of the commands.
    pub waiting: (usize, usize),
    pub transfers: Transfers,
    /// Copies to be freed.
    pub garbage: Garbage,
    /// When the step before this one was.
    #[cfg(feature = "planted")]
    pub step_before: Instant,
}

/// One step: the instant, what is around, and what comes of it.
pub(super) struct Context<'a> {
    pub now: Now,
    pub around: &'a mut Around,
    pub effects: &'a mut Vec<Effect>,
    /// How many commands the batch in hand has still to be answered, this one included.
    pub expected: usize,
}

impl Context<'_> {
    /// What became of a command. Neighbours in a batch that are ready together leave together.
    fn answer(&mut self, ticket: u64, place: u32, outcome: Outcome) {
        if let Some(Effect::Outcomes { ticket: last, from, outcomes }) = self.effects.last_mut()
            && *last == ticket
            && *from as usize + outcomes.len() == place as usize
        {
            outcomes.push(outcome);
            return;
        }
        let mut outcomes = Vec::with_capacity(self.expected.max(1));
        outcomes.push(outcome);
        self.effects.push(Effect::Outcomes { ticket, from: place, outcomes });
    }

    fn instant(&self) -> Instant {
        self.now.instant
    }
}

/// Whether a head answers and numbers (G20, G21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parking {
    No,
    /// It numbers no more in this epoch; since when it has said so, if it has.
    Parked {
        said: Option<Instant>,
    },
    /// It answers no more in this epoch either.
    Released {
        said: Instant,
    },
}

/// What this node holds of one range, and what it is in its chain.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    range: RangeId,
    /// The newest chain adopted.
    chain: Arc<Chain>,
    /// What this incarnation is in it, and at which place. None for a former member (G1).
    role: Option<(usize, HolderState)>,
    keyspace: Keyspace,
    /// Whether the keyspace is all that was written up to `applied`. Not so while it is being streamed.
    whole: bool,
    applied: Stamp,
    /// Every write up to here is held by all Serving members, and by a gated joiner.
    clean: Sequence,
    backlog: Backlog,
    dirty: Dirty,
    /// Before this instant this node does not lead the range (G13, G14).
    quiet_until: Instant,
    predecessor: Option<Predecessor>,
    successor: Option<Successor>,
    gate: Option<Gate>,
    parking: Parking,
    /// The head of this epoch has said that it never answers in it again (G21).
    head_released: bool,
    /// The head of the epoch before, which may yet say that it has released the range to this one: epoch and life.
    awaited: Option<(Epoch, NodeId, Incarnation)>,
    right: Right,
    queue: Queue,
    /// When the store looks at this range again: where it wants to be looked at, or before.
    pub alarm: Option<Instant>,
}

/// What can be seen of a range from outside, for checkers, `explain` and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspect {
    /// The newest epoch adopted.
    pub epoch: Epoch,
    /// The generation of the copy.
    pub generation: Generation,
    /// What this incarnation is in the chain; none for a former member that keeps its copy.
    pub state: Option<HolderState>,
    /// Whether it is the first of the chain and serves.
    pub heads: bool,
    /// The last write applied.
    pub applied: Stamp,
    /// Every write up to here is held by all who serve.
    pub clean: Sequence,
    /// How many keys there are.
    pub len: usize,
    /// Digest of all keys and values.
    pub digest: u64,
    /// Whether the copy is complete, rather than half streamed.
    pub whole: bool,
    /// Whether it could answer at this instant.
    pub answers: bool,
    /// Before this instant it does not lead the range.
    pub quiet_until: Instant,
    /// Whether it numbers no more in this epoch.
    pub parked: bool,
    /// Whether it has released the range to the next head.
    pub released: bool,
    /// Whether it is bound to a joiner.
    pub gate: bool,
    /// Commands held, not numbered.
    pub held: usize,
    /// Answers that wait until they may be given.
    pub waiting: usize,
}

/// How far a copy of a range has come, for checkers that look often: what of [`Inspect`] costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The newest epoch adopted.
    pub epoch: Epoch,
    /// The generation of the copy.
    pub generation: Generation,
    /// The last write applied.
    pub applied: Stamp,
    /// Every write up to here is held by all who serve.
    pub clean: Sequence,
    /// Bytes of the recent writes that are kept.
    pub backlog: usize,
}

impl Holding {
    /// What a node holds of a range that it knows nothing of yet.
    pub fn new(range: RangeId) -> Self {
        let nobody = Chain {
            epoch: Epoch(0),
            generation: Generation(0),
            changed: Version(0),
            holders: Vec::new(),
            former: Vec::new(),
            revived: None,
            cause: Cause::Founded,
        };
        Self {
            range,
            chain: Arc::new(nobody),
            role: None,
            keyspace: Keyspace::new(),
            whole: false,
            applied: Stamp::default(),
            clean: Sequence(0),
            backlog: Backlog::default(),
            dirty: Dirty::default(),
            quiet_until: Instant(0),
            predecessor: None,
            successor: None,
            gate: None,
            parking: Parking::No,
            head_released: false,
            awaited: None,
            right: Right::default(),
            queue: Queue::default(),
            alarm: None,
        }
    }

    /// The newest chain adopted.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Which range.
    pub fn range(&self) -> RangeId {
        self.range
    }

    /// What is held, key by key.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Whether this incarnation is the first of the chain and serves.
    pub fn heads(&self) -> bool {
        matches!(self.role, Some((0, state)) if state.serves())
    }

    /// Whether this incarnation has every acknowledged write. Leaving counts as Serving in every guard (G19).
    pub fn serves(&self) -> bool {
        self.role.is_some_and(|(_, state)| state.serves() || planted::is(Bug::LoadingServes))
    }

    /// Changes the copy alone: no write, of which others would hear.
    pub fn tamper(&mut self, change: &Change) {
        self.keyspace.apply(change);
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keyspace.len()
    }

    /// About how much memory the range takes.
    pub fn bytes(&self) -> usize {
        self.keyspace.bytes() + self.backlog.bytes()
    }

    /// A digest of all keys and values.
    pub fn digest(&self) -> u64 {
        self.keyspace.digest()
    }

    /// Whether a command or an answer waits here.
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether leases, or the end of the quiet time, would change anything here: somebody waits, or all that keeps writes
    /// from being clean is that this head may not say so yet. Nobody else would ever tell it, and what is dirty is kept.
    pub fn waits_for_right(&self) -> bool {
        self.has_waiting() || self.clean < self.applied.sequence && self.heads() && !self.waits_for_successor()
    }

    /// How far the copy has come.
    pub fn progress(&self) -> Progress {
        Progress {
            epoch: self.chain.epoch,
            generation: self.chain.generation,
            applied: self.applied,
            clean: self.clean,
            backlog: self.backlog.bytes_after(self.backlog.base().sequence),
        }
    }

    /// What can be seen from outside.
    pub fn inspect(&self, now: Now, around: &Around) -> Inspect {
        Inspect {
            epoch: self.chain.epoch,
            generation: self.chain.generation,
            state: self.role.map(|(_, state)| state),
            heads: self.heads(),
            applied: self.applied,
            clean: self.clean,
            len: self.keyspace.len(),
            digest: self.keyspace.digest(),
            whole: self.whole,
            answers: self.would_answer(now.instant, around),
            quiet_until: self.quiet_until,
            parked: self.parking != Parking::No,
            released: self.is_released(),
            gate: self.gate.is_some(),
            held: self.queue.held(),
            waiting: self.queue.waiting(),
        }
    }

    /// A command for this range. It is answered now, or waits its turn. Says whether the range has to be settled after it.
    pub fn submit(&mut self, asked: Asked, ctx: &mut Context) -> bool {
        if !self.heads() {
            asked.refuse_not_head(self.chain.epoch, ctx);
            return false;
        }
        let before = self.applied;
        let back = if self.queue.holds_back(&asked) { Err(asked) } else { self.carry_out(asked, ctx) };
        if let Err(asked) = back {
            self.queue.hold(asked, ctx);
        }
        self.applied != before || self.has_waiting()
    }

    /// Another node says something about this range.
    pub fn hear(&mut self, from: NodeId, incarnation: Incarnation, frame: ChainFrame, ctx: &mut Context) {
        // G3: a higher epoch is not believed before the dictionary says it. G4: a lower one is of a chain that has gone.
        // Either way the next Hello, in the epoch of both, makes good what is missed here.
        if planted::is(Bug::OldEpoch) && frame.epoch < self.chain.epoch {
            return self.hear_old(frame.message, ctx);
        }
        if frame.epoch != self.chain.epoch {
            if let ChainMessage::Released = frame.message {
                self.on_late_release(frame.epoch, from, incarnation, ctx);
            }
            return;
        }
        // G1: this incarnation is no member, or no longer.
        let Some((place, _)) = self.role else { return };
        // G4: the sender is listed with another incarnation, or not at all.
        let Some(sender) = self.chain.holders.iter().position(|h| h.node == from && h.incarnation == incarnation)
        else {
            return;
        };
        if let ChainMessage::Released = frame.message {
            self.head_released |= sender == 0;
            return;
        }
        // G4: only neighbours speak to each other.
        if sender + 1 == place {
            self.hear_predecessor(frame.message, ctx);
        } else if sender == place + 1 {
            self.hear_successor(frame.message, ctx);
        }
    }

    /// What no member should hear: planted.
    fn hear_old(&mut self, message: ChainMessage, ctx: &mut Context) {
        match message {
            ChainMessage::Hello { .. } | ChainMessage::Ack { .. } | ChainMessage::Received { .. } => {
                self.hear_successor(message, ctx);
            }
            _ => self.hear_predecessor(message, ctx),
        }
    }

    fn hear_predecessor(&mut self, message: ChainMessage, ctx: &mut Context) {
        match message {
            ChainMessage::Forward { previous, writes } => self.on_forward(previous, writes, ctx),
            ChainMessage::Chunk { streaming, part, entries, complete } => {
                self.on_chunk(streaming, part, entries, complete, ctx);
            }
            ChainMessage::Piece { streaming, part, key, offset, data, last, expires_ms } => {
                self.on_piece(streaming, part, Piece { key, offset, data, end: last.then_some(expires_ms) }, ctx);
            }
            ChainMessage::Streamed { streaming, part, writes } => self.on_streamed(streaming, part, writes, ctx),
            ChainMessage::Mark { asker, id, from, to } => self.on_mark(asker, id, (from, to), ctx),
            // These are said to a predecessor only.
            ChainMessage::Hello { .. } | ChainMessage::Ack { .. } | ChainMessage::Received { .. } => {}
            ChainMessage::Released => {}
        }
    }

    fn hear_successor(&mut self, message: ChainMessage, ctx: &mut Context) {
        match message {
            ChainMessage::Hello { applied, refused } => self.on_hello(applied, refused, ctx),
            ChainMessage::Ack { sequence } => self.on_ack(sequence, ctx),
            ChainMessage::Received { streaming, part } => self.on_received(streaming, part, ctx),
            // These are said to a successor only.
            ChainMessage::Forward { .. } | ChainMessage::Chunk { .. } | ChainMessage::Streamed { .. } => {}
            ChainMessage::Piece { .. } | ChainMessage::Mark { .. } | ChainMessage::Released => {}
        }
    }

    /// Does all that has become possible, and sends in one go what came together in this step. Says when the range wants to
    /// be looked at again, if nothing else happens.
    pub fn settle(&mut self, ctx: &mut Context) -> Option<Instant> {
        self.stream(ctx);
        self.bind(ctx);
        self.advance(ctx);
        self.acknowledge(ctx);
        self.release(ctx);
        self.expire(ctx);
        self.resume(ctx);
        self.forward(ctx);
        // What has waited for too long may be all that keeps a parked head from being at rest.
        self.queue.give_up(ctx);
        self.say_parked(ctx);
        self.repeat_hello(ctx);
        self.trim(ctx);
        self.check();
        self.next_alarm(ctx)
    }

    fn next_alarm(&self, ctx: &Context) -> Option<Instant> {
        let now = ctx.instant();
        let beat = ctx.around.timing.beat();
        let quiet = (self.waits_for_right() && now < self.quiet_until).then_some(self.quiet_until);
        let hello = self.predecessor.as_ref().and_then(|predecessor| predecessor.next_hello(&ctx.around.timing));
        let caught_up = self.gate.as_ref().and_then(Gate::said).map(|said| said + beat);
        let parked = match self.parking {
            Parking::Parked { said: Some(said) } | Parking::Released { said } => Some(said + beat),
            Parking::No | Parking::Parked { said: None } => None,
        };
        // A read in the quiet time keeps a parked head from saying it again; what ends the wait brings the next look.
        let parked = parked.filter(|_| self.is_at_rest());
        let turn = self.next_turn(ctx);
        [self.queue.next_deadline(ctx.around), quiet, hello, caught_up, parked, turn, self.next_expiry(ctx)]
            .into_iter()
            .flatten()
            .min()
    }

    /// What must be true after each step; a false belief ends the process rather than the data.
    fn check(&self) {
        assert!(self.clean <= self.applied.sequence, "{}: clean is ahead of applied: {}", self.range, self.words());
        assert!(!self.serves() || self.whole, "{}: serves without a whole copy: {}", self.range, self.words());
        assert!(
            !self.whole || self.backlog.last() == self.applied,
            "{}: backlog has a gap: {}",
            self.range,
            self.words()
        );
        assert!(
            self.gate.is_none() || self.serves() && self.successor.as_ref().is_some_and(|successor| !successor.serves),
            "{}: a gate without a joiner behind it: {}",
            self.range,
            self.words()
        );
    }

    /// This range in words, for the message of a broken belief.
    fn words(&self) -> String {
        format!(
            "epoch {}, generation {}, {:?} of {:?}, applied {}, clean {}, backlog from {}",
            self.chain.epoch,
            self.chain.generation,
            self.role,
            self.chain.holders,
            self.applied,
            self.clean,
            self.backlog.base()
        )
    }

    fn send(&self, to: NodeId, message: ChainMessage, ctx: &mut Context) {
        let frame = ChainFrame { range: self.range, epoch: self.chain.epoch, message };
        ctx.effects.push(Effect::Send { to, frame });
    }

    /// The member before or behind a place.
    fn neighbour(&self, place: Option<usize>) -> Option<&Holder> {
        self.chain.holders.get(place?)
    }

    /// Gives the copy up.
    fn drop_copy(&mut self, ctx: &mut Context) {
        self.empty_keyspace(ctx);
        // G7: what was acknowledged of it says nothing about the next, even in the same epoch.
        self.predecessor.iter_mut().for_each(|predecessor| predecessor.acknowledged = Sequence(0));
        self.whole = false;
        self.applied = Stamp::default();
        self.clean = Sequence(0);
        ctx.around.garbage.add_backlog(std::mem::take(&mut self.backlog));
        self.backlog.begin_after(self.applied);
        self.dirty.clear();
    }

    /// Gives up what was streamed so far (G6, G18).
    fn drop_half_copy(&mut self, ctx: &mut Context) {
        if self.whole || !planted::is(Bug::HalfCopyKept) {
            self.drop_copy(ctx);
        }
    }

    /// Forgets all keys. What they held is freed a little at a time.
    fn empty_keyspace(&mut self, ctx: &mut Context) {
        ctx.around.garbage.add_keyspace(std::mem::take(&mut self.keyspace));
    }

    /// Gives everything up: the node is no member, and nobody wants its copy any more.
    pub fn free(mut self, ctx: &mut Context) {
        assert!(self.role.is_none() && self.queue.is_empty(), "{}: freed while in use: {}", self.range, self.words());
        self.empty_keyspace(ctx);
        ctx.around.garbage.add_backlog(self.backlog);
    }
}
