//! Comparing stamps: what a member has, what it missed, and who has what nobody should have.
//!
//! A member says `Hello` to its predecessor with the stamp of its last write. The predecessor finds that stamp in its own
//! recent history and sends what follows, or, to a joiner it does not find, a whole copy. The other way round a
//! predecessor asks with an empty `Forward` whether its own last stamp is the successor's: so neither has to know which of
//! the two adopted the epoch first, or whose end of a link broke.

use crate::machines::chain::large::Assembling;
use crate::machines::chain::transfer::{Stream, stall};
use crate::machines::chain::{Context, Holding};
use crate::messages::chain::{ChainMessage, Write};
use crate::messages::ownership::Holder;
use crate::planted::{self, Bug};
use crate::sites::{self, Site};
use crate::types::{Instant, NodeId, Sequence, Stamp, Timing};

/// The member before this one, in this epoch.
#[derive(Clone, Debug)]
pub(super) struct Predecessor {
    pub node: NodeId,
    /// Whether stamps were compared in this epoch, and since the link last broke.
    pub in_step: bool,
    /// When this member last said Hello, while it waits for the answer.
    hello: Option<Instant>,
    /// What was acknowledged to it in this epoch.
    pub acknowledged: Sequence,
    /// It wants to be told again.
    pub asks: bool,
    /// The streaming that is under way or was the last; zero for none.
    pub streaming: u32,
    /// The next part of it that is expected; none when it came to nothing.
    pub next_part: Option<u32>,
    /// Since when, while the copy is half streamed, nothing of it has come.
    half: Option<Instant>,
    /// A large value that is coming in pieces.
    pub assembling: Option<Assembling>,
}

/// The member behind this one, in this epoch.
#[derive(Clone, Debug)]
pub(super) struct Successor {
    pub node: NodeId,
    pub serves: bool,
    /// Whether it is known what it has: then writes are forwarded as they come (G7).
    pub in_step: bool,
    /// The stamp it was asked about, while it is not in step.
    pub asked: Option<Stamp>,
    /// From which stamp on it was last sent what it missed, and when.
    repaired: Option<(Stamp, Instant)>,
    /// To a joiner to which nobody is bound, what it missed is sent in the range's turns: how many bytes have gone so.
    pub in_turns: Option<usize>,
    /// The last write sent to it.
    pub sent: Stamp,
    /// Up to here it is sent values, though it serves: it has missed them, or could not follow a recipe.
    pub values_until: Sequence,
    /// Whether it has acknowledged anything in this epoch: then its copy is whole.
    pub acks: bool,
    /// What it has acknowledged in this epoch.
    pub acked: Sequence,
    /// Once a joiner has acknowledged this much, little is missing and the source binds itself to it.
    pub bind_at: Sequence,
    pub stream: Option<Stream>,
    /// Streamings begun in this epoch.
    pub streamings: u32,
    /// The newest of them of which it has surely seen the first part, which drops the copy that it had.
    pub seen: u32,
}

impl Predecessor {
    pub fn new(holder: &Holder) -> Self {
        Self {
            node: holder.node,
            in_step: false,
            hello: None,
            acknowledged: Sequence(0),
            asks: false,
            streaming: 0,
            next_part: None,
            half: None,
            assembling: None,
        }
    }

    /// When Hello has to be said again.
    pub fn next_hello(&self, timing: &Timing) -> Option<Instant> {
        match self.half {
            Some(heard) => Some(heard + stall(timing)),
            None => self.hello.filter(|_| !self.in_step).map(|said| said + timing.beat()),
        }
    }

    pub fn begin_streaming(&mut self, streaming: u32) {
        self.streaming = streaming;
        self.next_part = Some(0);
        self.assembling = None;
        self.in_step = false;
    }

    /// Takes note of the part that was expected, and says which it was.
    pub fn take_part(&mut self, complete: bool, now: Instant) -> Option<(u32, u32)> {
        let part = self.next_part?;
        self.next_part = Some(part + 1);
        let half = !complete && (part == 0 || self.half.is_some());
        self.half = half.then_some(now);
        // Complete, it waits for the first forward, or asks for it.
        self.hello = complete.then_some(now).or(self.hello);
        Some((self.streaming, part))
    }

    /// What was streamed so far is worth nothing. Says whether there was such a thing.
    fn refuse_streaming(&mut self) -> bool {
        self.next_part = None;
        self.assembling = None;
        self.half.take().is_some()
    }
}

impl Successor {
    pub fn new(holder: &Holder) -> Self {
        Self {
            node: holder.node,
            serves: holder.state.serves(),
            in_step: false,
            asked: None,
            repaired: None,
            in_turns: None,
            sent: Stamp::default(),
            values_until: Sequence(0),
            acks: false,
            acked: Sequence(0),
            bind_at: Sequence(0),
            stream: None,
            streamings: 0,
            seen: 0,
        }
    }

    /// Whether it may yet drop what it has, for a streaming whose first part is on its way to it.
    fn may_drop(&self) -> bool {
        self.seen < self.streamings
    }
}

impl Holding {
    /// To the predecessor: this is what I have. Said on each new link and epoch.
    pub(super) fn say_hello(&mut self, ctx: &mut Context) {
        let Some(predecessor) = &mut self.predecessor else { return };
        predecessor.in_step = false;
        predecessor.hello = Some(ctx.instant());
        let (to, refused) = (predecessor.node, predecessor.streaming);
        self.send(to, ChainMessage::Hello { applied: self.applied, refused }, ctx);
    }

    /// Says Hello again while it is not answered.
    pub(super) fn repeat_hello(&mut self, ctx: &mut Context) {
        let Some(predecessor) = &mut self.predecessor else { return };
        if predecessor.next_hello(&ctx.around.timing).is_none_or(|next| ctx.instant() < next) {
            return;
        }
        if predecessor.refuse_streaming() {
            self.drop_half_copy(ctx);
        }
        self.say_hello(ctx);
    }

    /// To the successor: is this the last you applied?
    pub(super) fn ask_successor(&mut self, ctx: &mut Context) {
        let Some(successor) = self.successor.as_mut().filter(|_| self.whole) else { return };
        if successor.may_drop() {
            return self.restart_stream(ctx);
        }
        successor.in_step = false;
        successor.asked = Some(self.applied);
        let to = successor.node;
        self.send(to, ChainMessage::Forward { previous: self.applied, writes: Vec::new() }, ctx);
    }

    /// From the successor: this is the last write it applied.
    pub(super) fn on_hello(&mut self, applied: Stamp, refused: u32, ctx: &mut Context) {
        let Some(successor) = &mut self.successor else { return };
        successor.seen = successor.seen.max(refused.min(successor.streamings));
        // G7: what it had when it said so it drops, once the first part of a newer streaming comes.
        if successor.may_drop() {
            return self.begin_stream(refused, ctx);
        }
        let Some(successor) = &self.successor else { return };
        // A joiner to which nobody is bound yet may be given a whole copy whatever it has.
        let anew = !successor.serves && self.gate.is_none() && sites::fires(Site::StreamAnew);
        if self.backlog.knows(applied) && !anew && !self.is_better_streamed(applied, ctx) {
            // A second Hello that crossed the answer to the first. If that answer was lost, it is said again in a beat.
            let again = |(from, then)| from == applied && ctx.instant() < then + ctx.around.timing.beat();
            if !successor.in_step || !successor.repaired.is_some_and(again) {
                self.repair(applied, ctx);
            }
            return;
        }
        // G5, G6: nobody who serves has what its predecessor lacks, or lacks what is clean. This belief is broken.
        assert!(
            !successor.serves,
            "range {}: node {} serves with {applied}, which its predecessor {} does not have: {}",
            self.range,
            successor.node,
            ctx.around.me,
            self.words()
        );
        self.begin_stream(refused, ctx);
    }

    /// Whether a joiner that lacks more than a batch of writes is given a whole copy all the same: it has none, or the keys are
    /// less than all that was written since it was left with what it has.
    fn is_better_streamed(&self, applied: Stamp, ctx: &Context) -> bool {
        let Some(successor) = self.successor.as_ref().filter(|it| !it.serves && self.gate.is_none()) else {
            return false;
        };
        let missed = self.backlog.bytes_after(applied.sequence);
        let has_none = applied == Stamp::default();
        let is_old = successor.streamings == 0 && missed > self.keyspace.bytes();
        missed > ctx.around.limits.chunk_bytes && (has_none || is_old)
    }

    /// Sends what a member missed after `from`.
    fn repair(&mut self, from: Stamp, ctx: &mut Context) {
        self.drop_stream(ctx);
        let bind_at = self.applied.sequence;
        let missed = bind_at.0 - from.sequence.0;
        let Some(successor) = &mut self.successor else { return };
        successor.in_step = true;
        successor.sent = from;
        successor.repaired = Some((from, ctx.instant()));
        successor.in_turns = (!successor.serves && self.gate.is_none()).then_some(0);
        successor.bind_at = bind_at;
        successor.values_until = bind_at;
        let to = successor.node;
        ctx.around.transfers.writes_repaired += missed;
        // Who has to wait for its turn knows at once that it is in step.
        if missed == 0 || self.backlog.bytes_after(from.sequence) > ctx.around.limits.chunk_bytes {
            self.send(to, ChainMessage::Forward { previous: from, writes: Vec::new() }, ctx);
        }
        self.forward(ctx);
    }

    /// From the predecessor: apply these after `previous`.
    pub(super) fn on_forward(&mut self, previous: Stamp, writes: Vec<Write>, ctx: &mut Context) {
        let Some(predecessor) = &mut self.predecessor else { return };
        // G6: epoch and sequence both. A copy that is half streamed has no last write yet.
        let same = match () {
            () if planted::is(Bug::GapApplied) => true,
            () if planted::is(Bug::StampBySequence) => previous.sequence == self.applied.sequence,
            () => previous == self.applied,
        };
        let matches = predecessor.half.is_none() && same && in_a_row(previous, &writes);
        if !matches {
            // A question is answered at once; a gap only if no Hello is on its way.
            if predecessor.half.is_none() && (writes.is_empty() || predecessor.in_step) {
                self.say_hello(ctx);
            }
            return;
        }
        predecessor.in_step = true;
        predecessor.hello = None;
        predecessor.asks = true;
        self.whole = true;
        for write in writes {
            let refused = write.recipe.is_some() && sites::fires(Site::RecipeRefused);
            let Some(write) = self.follow(write, ctx).filter(|_| !refused) else {
                ctx.around.transfers.recipes_refused += 1;
                return self.say_hello(ctx);
            };
            self.record(write, ctx);
        }
        if sites::fires(Site::HelloAgain) {
            self.say_hello(ctx);
        }
    }

    /// The link to a node is new: what was said before may be lost.
    pub fn link_up(&mut self, node: NodeId, ctx: &mut Context) {
        self.link_down(node, ctx);
        if self.predecessor.as_ref().is_some_and(|predecessor| predecessor.node == node) {
            self.say_hello(ctx);
        }
        if self.successor.as_ref().is_some_and(|successor| successor.node == node) {
            self.ask_successor(ctx);
        }
    }

    /// The link to a node broke. The gate stays as it is (G16).
    pub fn link_down(&mut self, node: NodeId, ctx: &mut Context) {
        if self.successor.as_ref().is_some_and(|successor| successor.node == node) {
            self.gate = self.gate.take().filter(|_| !planted::is(Bug::GateBreaks));
            self.drop_stream(ctx);
            self.successor.iter_mut().for_each(|successor| successor.in_step = false);
        }
        let Some(predecessor) = self.predecessor.as_mut().filter(|predecessor| predecessor.node == node) else {
            return;
        };
        predecessor.in_step = false;
        predecessor.hello = Some(ctx.instant());
        // G6: a copy that is half streamed is worth nothing.
        if predecessor.refuse_streaming() {
            self.drop_half_copy(ctx);
        }
    }

    /// Whether this node is a neighbour in the chain.
    pub fn is_neighbour(&self, node: NodeId) -> bool {
        self.predecessor.as_ref().is_some_and(|predecessor| predecessor.node == node)
            || self.successor.as_ref().is_some_and(|successor| successor.node == node)
    }
}

/// Whether writes follow each other without a gap.
pub(super) fn in_a_row(previous: Stamp, writes: &[Write]) -> bool {
    let mut last = previous;
    writes.iter().all(|write| {
        let follows = write.stamp.sequence == last.sequence.next() && write.stamp.epoch >= last.epoch;
        last = write.stamp;
        follows
    })
}
