//! Numbering, forwarding, and what is clean.

use bytes::Bytes;

use crate::commands::{self, Route, Work};
use crate::machines::chain::backlog::size;
use crate::machines::chain::queue::{Asked, Fate};
use crate::machines::chain::{Context, Holding, Parking};
use crate::messages::chain::{ChainMessage, Change, Recipe, Write};
use crate::planted::{self, Bug};
use crate::sites::{self, Site};
use crate::types::{Instant, Sequence, Stamp};

impl Holding {
    /// Carries a command out, and answers it, or keeps its answer until it may be given. Hands it back if it has to wait
    /// as a whole: nothing of it has happened then.
    pub(super) fn carry_out(&mut self, asked: Asked, ctx: &mut Context) -> Result<(), Asked> {
        let mut answers = self.answers(ctx);
        if !self.carries_out(ctx) {
            return Err(asked);
        }
        self.advance(ctx);
        if asked.request.write && self.writes_wait(ctx) {
            return Err(asked);
        }
        let room = self.queue.has_room(ctx) || answers && !self.waits_for_successor();
        // G9: a command that finds a key expired has its deletion among its changes, even a read. One that looks at all keys
        // is answered as after the deletions that are due.
        if self.expires_now(ctx) && !commands::resolve(&asked.request.words).is_ok_and(by_key) {
            self.expire(ctx);
        }
        let executed = commands::execute(&self.keyspace, ctx.now, &asked.request.words);
        let (needed, fate) = if executed.changes.is_empty() {
            let dirty = self.clean < self.applied.sequence
                && self.looks_at_dirty(&asked.request.words)
                && !planted::is(Bug::DirtyRead);
            if (dirty || !answers) && !room {
                return Err(asked);
            }
            (if dirty { self.applied.sequence } else { Sequence(0) }, Fate::Read)
        } else {
            if !room || !self.numbers(ctx) {
                return Err(asked);
            }
            let recipe = self.recipe(&asked.request.words, &executed.changes, ctx);
            self.number(executed.changes, recipe, ctx);
            let fate = if asked.request.write { Fate::Numbered } else { Fate::Read };
            (self.applied.sequence, fate)
        };
        // G11: leases are looked at after the value was read.
        answers = answers && self.answers(ctx);
        if answers && needed <= self.clean {
            asked.answer(executed.reply, ctx);
        } else {
            // Answers leave in order, so one that is not to wait for its own sake waits for what was before it.
            self.queue.wait(asked, executed.reply, self.applied.sequence, fate, ctx);
        }
        Ok(())
    }

    /// Whether this node can do anything for clients now.
    pub(super) fn carries_out(&mut self, ctx: &Context) -> bool {
        self.answers(ctx) || self.works_ahead(ctx)
    }

    /// Whether clients' writes have to wait, whatever they write. Expiry goes on while they are paused.
    pub(super) fn writes_wait(&mut self, ctx: &Context) -> bool {
        ctx.around.paused || !self.has_copies(ctx) || !self.numbers(ctx)
    }

    /// Whether as many members serve as the mesh wants before it says yes to a write.
    pub(super) fn has_copies(&self, ctx: &Context) -> bool {
        self.chain.serving().count() >= ctx.around.min_copies
    }

    /// Whether this head numbers writes now.
    fn numbers(&mut self, ctx: &Context) -> bool {
        // G20: parked, it numbers nothing until a later epoch, whatever the time.
        (self.parking == Parking::No || planted::is(Bug::ParkedNumbers))
            && (self.answers(ctx) || self.works_ahead(ctx))
            && self.backlog.bytes_after(self.clean) < ctx.around.limits.dirty_bytes
            && !self.is_pressed(&ctx.around.limits)
    }

    /// The head gives the next number of its epoch.
    fn number(&mut self, changes: Vec<Change>, recipe: Option<Recipe>, ctx: &mut Context) {
        assert!(self.heads() && self.parking == Parking::No, "{}: numbers no writes: {}", self.range, self.words());
        let stamp = Stamp { epoch: self.chain.epoch, sequence: self.applied.sequence.next() };
        self.record(Write { stamp, changes, recipe }, ctx);
        self.advance(ctx);
    }

    /// Applies a write that follows the last one applied.
    pub(super) fn record(&mut self, write: Write, ctx: &mut Context) {
        let follows = write.stamp.sequence == self.applied.sequence.next() && write.stamp.epoch >= self.applied.epoch;
        assert!(follows, "{}: {} does not follow: {}", self.range, write.stamp, self.words());
        self.change(&write.changes, ctx);
        self.applied = write.stamp;
        // Where nobody else has or had a copy, nobody can ask for recent writes, and none is dirty for longer than this.
        if self.chain.holders.len() == 1 && self.chain.former.is_empty() && self.clean.next() == write.stamp.sequence {
            self.backlog.begin_after(write.stamp);
            self.dirty.note_all(write.stamp.sequence);
        } else if self.serves() {
            self.dirty.note(&write);
            self.backlog.push(write);
        } else {
            // A joiner learns what is clean when it has become Serving; until then all is dirty.
            self.dirty.clear();
            self.dirty.note_all(write.stamp.sequence);
            self.backlog.push(write);
        }
    }

    /// Makes changes to the keyspace alone.
    pub(super) fn change(&mut self, changes: &[Change], ctx: &mut Context) {
        for change in changes {
            match change {
                Change::Clear => self.empty_keyspace(ctx),
                _ => self.keyspace.apply(change),
            }
        }
    }

    /// To the successor that is in step: what it has not been sent yet.
    pub(super) fn forward(&mut self, ctx: &mut Context) {
        while let Some(successor) = self.successor.as_ref().filter(|successor| successor.in_step) {
            if successor.sent >= self.applied {
                return;
            }
            let behind = self.backlog.bytes_after(successor.sent.sequence);
            let much = self.gate.is_none() && behind > ctx.around.limits.chunk_bytes;
            let in_turns = successor.in_turns.filter(|_| much);
            if let Some(gone) = in_turns {
                let limits = &ctx.around.limits;
                // Where clients write as fast as turns come, that would go on for ever: what is left after a whole copy goes at
                // once, or a streaming begins, for which they wait now and then.
                let most = self.keyspace.bytes().max(limits.dirty_bytes).min(limits.streaming_bytes);
                if behind > most || gone > most && behind > limits.dirty_bytes {
                    self.restart_stream(ctx);
                    return self.stream(ctx);
                }
                if gone <= most && !self.has_turn(ctx) {
                    return;
                }
            }
            let applied = self.applied.sequence;
            let Some(successor) = &mut self.successor else { return };
            let limit = if sites::fires(Site::OneAtATime) { 1 } else { ctx.around.limits.chunk_bytes };
            let writes = if successor.serves {
                self.backlog.recipes_after(successor.sent.sequence, successor.values_until, limit)
            } else {
                self.backlog.batch_after(successor.sent.sequence, limit)
            };
            ctx.around.transfers.recipes_sent += writes.iter().filter(|write| write.recipe.is_some()).count() as u64;
            let last = writes.last().expect("what was applied after what was sent is kept").stamp;
            let previous = std::mem::replace(&mut successor.sent, last);
            let to = successor.node;
            let bytes = in_turns.map(|gone| (gone, writes.iter().map(size).sum::<usize>()));
            successor.in_turns = bytes.map(|(gone, bytes)| gone + bytes);
            if bytes.is_some() {
                // Little is missing only once it has all that is there now.
                successor.bind_at = applied;
            }
            self.send(to, ChainMessage::Forward { previous, writes }, ctx);
            if let Some((_, bytes)) = bytes {
                self.pay(bytes, ctx);
            }
        }
    }

    /// Raises clean, by these rules alone (G10). Becoming head makes nothing clean.
    pub(super) fn advance(&mut self, ctx: &mut Context) {
        if !self.serves() || self.clean == self.applied.sequence {
            return;
        }
        // The last Serving member: all it has is clean when it says so, upstream or to a client.
        if !self.waits_for_successor() && !self.may_say_so(ctx) {
            return;
        }
        let clean = self.held_behind();
        if clean > self.clean {
            self.dirty.settle(self.backlog.after(self.clean), clean);
            self.clean = clean;
        }
    }

    /// Whether what is clean depends on the member behind: it serves, or (G15) is the joiner this one is bound to.
    pub(super) fn waits_for_successor(&self) -> bool {
        let bound = self.gate.is_some() && !planted::is(Bug::GateUnbound);
        self.successor.as_ref().is_some_and(|successor| successor.serves || bound) && !planted::is(Bug::EarlyAck)
    }

    /// What all from here to the end of the chain have, as far as they have said so in this epoch.
    fn held_behind(&self) -> Sequence {
        match &self.successor {
            Some(successor) if self.waits_for_successor() => successor.acked,
            _ => self.applied.sequence,
        }
    }

    fn may_say_so(&mut self, ctx: &Context) -> bool {
        match &self.predecessor {
            Some(predecessor) => predecessor.in_step && !self.is_pressed(&ctx.around.limits),
            None => self.answers(ctx),
        }
    }

    /// Tells the predecessor what all from here on have, when that is news or was asked for.
    pub(super) fn acknowledge(&mut self, ctx: &mut Context) {
        let (sequence, pressed) = (self.held_behind(), self.is_pressed(&ctx.around.limits));
        let Some(predecessor) = &mut self.predecessor else { return };
        // G7: nobody acknowledges before stamps were compared in this epoch.
        if !predecessor.in_step || pressed || sequence <= predecessor.acknowledged && !predecessor.asks {
            return;
        }
        predecessor.asks = false;
        predecessor.acknowledged = predecessor.acknowledged.max(sequence);
        let (to, sequence) = (predecessor.node, predecessor.acknowledged);
        assert!(sequence <= self.applied.sequence, "{}: acknowledges {sequence}: {}", self.range, self.words());
        self.send(to, ChainMessage::Ack { sequence }, ctx);
    }

    /// From the successor: it and all behind it have this.
    pub(super) fn on_ack(&mut self, sequence: Sequence, ctx: &mut Context) {
        let Some(successor) = &mut self.successor else { return };
        // Nobody behind has what this member has not: such a word is not heard.
        if sequence > self.applied.sequence {
            return;
        }
        // While it is being streamed it has nothing: this is of the copy that it drops when the first part comes.
        if successor.stream.is_some() && !planted::is(Bug::DroppedCopyCounts) {
            return;
        }
        if !successor.in_step {
            // It acknowledges in this epoch, so it found that it has what it was asked about (G7), and nothing behind that.
            let Some(asked) = successor.asked.take() else { return };
            if !self.backlog.knows(asked) {
                return self.ask_successor(ctx);
            }
            successor.in_step = true;
            successor.sent = asked;
            successor.bind_at = self.applied.sequence;
        }
        successor.acks = true;
        successor.acked = successor.acked.max(sequence);
    }

    /// Lets go of what nobody can ask for any more.
    pub(super) fn trim(&mut self, ctx: &mut Context) {
        // Nobody asks a joiner for anything, and it does not know what is clean.
        let clean = if self.serves() { self.clean } else { self.applied.sequence };
        let floor = self.streaming_floor().map_or(clean, |sent| sent.min(clean));
        let in_step = self.successor.as_ref().filter(|successor| successor.in_step);
        let floor = in_step.map_or(floor, |successor| floor.min(successor.sent.sequence));
        let limits = &ctx.around.limits;
        self.backlog.trim(floor, limits.backlog_bytes, limits.backlog_writes);
    }

    /// Deletes keys whose time has come, as the head's writes, a few a step (G9).
    pub(super) fn expire(&mut self, ctx: &mut Context) {
        if planted::is(Bug::ExpiryEverywhere) {
            let over = self.keyspace.expired(ctx.now.wall_ms, ctx.around.limits.keys_a_step);
            over.into_iter().for_each(|key| self.keyspace.apply(&Change::Delete(key)));
        }
        if !self.expires_now(ctx) || !self.heads() || !self.numbers(ctx) {
            return;
        }
        let over = self.keyspace.expired(ctx.now.wall_ms, ctx.around.limits.keys_a_step);
        self.number(over.into_iter().map(Change::Delete).collect(), None, ctx);
    }

    fn expires_now(&self, ctx: &Context) -> bool {
        self.keyspace.next_expiry().is_some_and(|end| end <= ctx.now.wall_ms)
    }

    /// When the next key has to be deleted.
    pub(super) fn next_expiry(&self, ctx: &Context) -> Option<Instant> {
        let end = self.keyspace.next_expiry().filter(|_| self.heads())?;
        let left = std::time::Duration::from_millis(end.saturating_sub(ctx.now.wall_ms));
        // Overdue, and not done in this step: more than one step's worth, or there is no right to number now.
        let left = if left.is_zero() { self.pause_between_expiries(ctx) } else { left };
        Some(ctx.instant() + left)
    }

    fn pause_between_expiries(&self, ctx: &Context) -> std::time::Duration {
        if self.would_answer(ctx.instant(), ctx.around) && self.parking == Parking::No {
            std::time::Duration::from_millis(1)
        } else {
            ctx.around.timing.beat()
        }
    }

    /// Whether a command looks at a key that is dirty.
    fn looks_at_dirty(&self, words: &[Bytes]) -> bool {
        match commands::resolve(words) {
            Ok(spec) if by_key(spec) => commands::keys(spec, words).any(|key| self.dirty.has(key, self.clean)),
            _ => true,
        }
    }
}

/// Whether a command looks at nothing but the keys among its words.
fn by_key(spec: &commands::Spec) -> bool {
    matches!(spec.work, Work::Data(Route::Keys, _))
}
