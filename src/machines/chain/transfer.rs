//! A copy for a joiner: streamed in chunks beside clients' writes, and then a gate, so that it lacks nothing that is
//! acknowledged.
//!
//! Chunks and the writes that happen meanwhile go down one lane in the order in which the source read and applied them (G8).
//! When all is read, the source sends nothing until the joiner has received every part; what was written in between stays
//! in the backlog and follows as an ordinary forward, on the data lane. So the two lanes never overtake each other.
//!
//! Flow is bounded by what the joiner has received: a few parts for each joiner, and so many for a whole store. Where clients
//! write faster than that, their writes wait now and then, at a head by not being numbered, elsewhere by not being
//! acknowledged.

use std::time::Duration;

use bytes::Bytes;

use crate::keyspace::{ENTRY_BYTES, Keyspace, Portion};
use crate::machines::chain::backlog::size;
use crate::machines::chain::large::Large;
use crate::machines::chain::reconcile::in_a_row;
use crate::machines::chain::{Context, Holding, Limits, Transfers};
use crate::machines::store::Effect;
use crate::messages::chain::{ChainMessage, Change, Value, Write};
use crate::messages::ownership::Holder;
use crate::planted::{self, Bug};
use crate::sites::{self, Site};
use crate::types::{Instant, Sequence, Stamp, Timing};

/// After so many chunks of writes alone, new writes wait for a part with keys.
const WRITES_IN_A_ROW: usize = 4;

/// How many times faster a range that lacks a copy is streamed than one that merely moves.
const REPAIR: u64 = 2;

/// A streaming under way, at its source.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Which of this epoch.
    number: u32,
    next_part: u32,
    received: u32,
    /// The last key read.
    after: Option<Bytes>,
    /// The value that is on its way in pieces.
    large: Option<Large>,
    /// All keys were read and sent.
    read: bool,
    /// Bytes of writes sent since the last keys.
    writes: usize,
    /// The last write that went down with it, or was there when it began.
    sent: Stamp,
    /// When the joiner was last heard of it.
    heard: Instant,
}

/// The source's vow to a joiner: acknowledges nothing that the joiner has not. Ends with the epoch only (G16).
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// All that may have been acknowledged before the vow.
    bound: Sequence,
    /// When the commander was last told that the joiner has caught up.
    said: Option<Instant>,
}

impl Gate {
    pub fn said(&self) -> Option<Instant> {
        self.said
    }
}

/// After so long a silence a streaming is taken for lost, though no link was seen to break. Longer than a single large value
/// takes on a slow link: links that break are noticed otherwise, this is for what nobody noticed.
pub(super) fn stall(timing: &Timing) -> Duration {
    timing.seat_timeout() * 6
}

impl Stream {
    /// The next keys, or the next piece of one whose value is larger than a chunk.
    fn next_keys(&mut self, keyspace: &Keyspace, part: u32, limit: usize, transfers: &mut Transfers) -> ChainMessage {
        let streaming = self.number;
        let limit = if sites::fires(Site::SmallChunk) { 1 } else { limit };
        if let Some(large) = self.large.take() {
            self.after = Some(large.key().clone());
            if let Some((piece, left)) = large.next(keyspace, limit) {
                self.large = left;
                transfers.bytes_streamed += piece.data.len() as u64;
                return piece.say(streaming, part);
            }
        }
        let Portion { entries, last } = keyspace.chunk(self.after.as_ref(), limit);
        transfers.entries_streamed += entries.len() as u64;
        if let [(key, value)] = &entries[..]
            && value.data.len() > limit
            && let Some((piece, left)) = Large::new(key.clone(), value.data.clone()).next(keyspace, limit)
        {
            self.large = left;
            transfers.bytes_streamed += piece.data.len() as u64;
            return piece.say(streaming, part);
        }
        transfers.bytes_streamed +=
            entries.iter().map(|(key, value)| (key.len() + value.data.len()) as u64).sum::<u64>();
        self.after = entries.last().map(|(key, _)| key.clone()).or(self.after.take());
        self.read = last;
        ChainMessage::Chunk { streaming, part, entries, complete: last.then_some(self.sent) }
    }
}

impl Holding {
    /// Streams the whole copy anew, unless a streaming is on its way to the joiner that it has not seen fail.
    pub(super) fn begin_stream(&mut self, refused: u32, ctx: &mut Context) {
        let Some(successor) = &self.successor else { return };
        if let Some(stream) = &successor.stream {
            let stalled = ctx.instant() >= stream.heard + stall(&ctx.around.timing);
            if refused < stream.number && !stalled {
                return;
            }
        }
        self.restart_stream(ctx);
    }

    pub(super) fn restart_stream(&mut self, ctx: &mut Context) {
        self.drop_stream(ctx);
        let Some(successor) = &mut self.successor else { return };
        successor.in_step = false;
        // What it acknowledged belongs to the copy that it drops now.
        if !planted::is(Bug::DroppedCopyCounts) {
            (successor.asked, successor.acks, successor.acked) = (None, false, Sequence(0));
        }
        successor.streamings += 1;
        successor.stream = Some(Stream {
            number: successor.streamings,
            next_part: 0,
            received: 0,
            after: None,
            large: None,
            read: false,
            writes: 0,
            sent: self.applied,
            heard: ctx.instant(),
        });
        ctx.around.transfers.streamings += 1;
    }

    pub(super) fn drop_stream(&mut self, ctx: &mut Context) {
        let Some(stream) = self.successor.as_mut().and_then(|successor| successor.stream.take()) else { return };
        ctx.around.parts -= stream.next_part - stream.received;
    }

    /// The writes behind this place are still needed for a joiner that is being streamed.
    pub(super) fn streaming_floor(&self) -> Option<Sequence> {
        let stream = self.successor.as_ref()?.stream.as_ref()?;
        (stream.next_part > 0).then_some(stream.sent.sequence)
    }

    /// Whether clients write faster than a joiner takes it in: then new writes wait until it has the next keys. Without
    /// that, a joiner would never be through.
    pub(super) fn is_pressed(&self, limits: &Limits) -> bool {
        let stream = self.successor.as_ref().and_then(|successor| successor.stream.as_ref());
        stream.is_some_and(|stream| stream.writes >= WRITES_IN_A_ROW * limits.chunk_bytes)
    }

    /// Sends parts as far as the joiner and the store have room.
    pub(super) fn stream(&mut self, ctx: &mut Context) {
        let limits = ctx.around.limits;
        while let Some(stream) = self.successor.as_ref().and_then(|successor| successor.stream.as_ref()) {
            // Before the first part nothing is missed: it holds all that was applied until then.
            let behind = if stream.next_part == 0 { 0 } else { self.backlog.bytes_after(stream.sent.sequence) };
            if behind > limits.streaming_bytes {
                // It does not keep up with the writes; what it lacks cannot be kept for ever.
                self.restart_stream(ctx);
                continue;
            }
            let open = stream.next_part - stream.received;
            if stream.read && open == 0 {
                return self.end_stream(ctx);
            }
            let writes =
                behind > if stream.read { limits.dirty_bytes } else { 0 } && !planted::is(Bug::ChunksMissWrites);
            if open >= limits.parts_a_joiner || stream.read && !writes {
                return;
            }
            if ctx.around.parts >= limits.parts_a_store {
                ctx.around.starved.insert(self.range);
                return;
            }
            if !writes && !self.has_turn(ctx) {
                return;
            }
            self.send_part(writes, ctx);
        }
    }

    /// Whether a part of a copy may be sent now: when it is this range's turn, when clients wait for it, and when its joiner would
    /// take it for lost.
    pub(super) fn has_turn(&self, ctx: &mut Context) -> bool {
        ctx.around.limits.moving.is_none()
            || self.is_pressed(&ctx.around.limits)
            || !self.has_copies(ctx)
            || self.gate.is_some()
            || self.impatient_at(ctx).is_some_and(|at| at <= ctx.instant())
            || ctx.around.budget.may_send(ctx.instant(), self.range, self.lacks(ctx))
    }

    /// When a joiner that has heard nothing for so long gets a part, whoever's turn it is.
    fn impatient_at(&self, ctx: &Context) -> Option<Instant> {
        let stream = self.successor.as_ref()?.stream.as_ref()?;
        (!stream.read && ctx.around.limits.moving.is_some()).then(|| stream.heard + stall(&ctx.around.timing) / 2)
    }

    /// When a streaming that waits for its turn is to be looked at.
    pub(super) fn next_turn(&self, ctx: &Context) -> Option<Instant> {
        self.impatient_at(ctx).filter(|at| *at > ctx.instant())
    }

    fn lacks(&self, ctx: &Context) -> bool {
        self.chain.serving().count() < ctx.around.factor
    }

    /// Bytes a second for this range: copies that are lacking, or will be once those have left who are to, are made faster.
    fn pace(&self, ctx: &Context) -> Option<u64> {
        let moving = ctx.around.limits.moving?;
        let leaves = |holder: &Holder| ctx.around.leavers.contains(&holder.node);
        Some(if self.lacks(ctx) || self.chain.serving().any(leaves) { moving.saturating_mul(REPAIR) } else { moving })
    }

    /// What was sent in this range's turn is paid for by waiting for the next.
    pub(super) fn pay(&self, bytes: usize, ctx: &mut Context) {
        if let Some(a_second) = self.pace(ctx) {
            ctx.around.budget.spend(ctx.now.instant, bytes, a_second);
        }
    }

    fn send_part(&mut self, writes: bool, ctx: &mut Context) {
        let limit = ctx.around.limits.chunk_bytes;
        let applied = self.applied;
        let Some(successor) = &mut self.successor else { return };
        let Some(stream) = &mut successor.stream else { return };
        let (streaming, part) = (stream.number, stream.next_part);
        stream.next_part += 1;
        ctx.around.parts += 1;
        let mut spent = 0;
        let message = if writes {
            let writes = if planted::is(Bug::RecipesToJoiner) {
                self.backlog.recipes_after(stream.sent.sequence, Sequence(0), limit)
            } else {
                self.backlog.batch_after(stream.sent.sequence, limit)
            };
            stream.sent = writes.last().map_or(stream.sent, |write| write.stamp);
            stream.writes += writes.iter().map(size).sum::<usize>();
            ChainMessage::Streamed { streaming, part, writes }
        } else {
            // Read now, so it holds all that was applied until now; what was applied before has been sent.
            stream.sent = applied;
            stream.writes = 0;
            let before = ctx.around.transfers;
            let keys = stream.next_keys(&self.keyspace, part, limit, &mut ctx.around.transfers);
            let after = ctx.around.transfers;
            let count = (after.entries_streamed - before.entries_streamed) as usize;
            spent = (after.bytes_streamed - before.bytes_streamed) as usize + count * ENTRY_BYTES;
            keys
        };
        let to = successor.node;
        self.send(to, message, ctx);
        if spent > 0 {
            self.pay(spent, ctx);
        }
    }

    /// The joiner has received all that was sent on the bulk lane: from here on, forwards on the data lane (G8).
    fn end_stream(&mut self, ctx: &mut Context) {
        let bind_at = self.applied.sequence;
        let Some(successor) = &mut self.successor else { return };
        let Some(stream) = successor.stream.take() else { return };
        successor.in_step = true;
        successor.in_turns = None;
        successor.sent = stream.sent;
        successor.bind_at = bind_at;
        if stream.sent == self.applied {
            let to = successor.node;
            self.send(to, ChainMessage::Forward { previous: stream.sent, writes: Vec::new() }, ctx);
        }
    }

    /// From a joiner: parts up to this one have arrived.
    pub(super) fn on_received(&mut self, streaming: u32, part: u32, ctx: &mut Context) {
        let Some(successor) = &mut self.successor else { return };
        successor.seen = successor.seen.max(streaming.min(successor.streamings));
        let Some(stream) = &mut successor.stream else { return };
        if stream.number != streaming || part >= stream.next_part || part < stream.received {
            return;
        }
        ctx.around.parts -= part + 1 - stream.received;
        stream.received = part + 1;
        stream.heard = ctx.instant();
    }

    /// From the source: these keys.
    pub(super) fn on_chunk(
        &mut self,
        streaming: u32,
        part: u32,
        entries: Vec<(Bytes, Value)>,
        complete: Option<Stamp>,
        ctx: &mut Context,
    ) {
        // Who serves never takes a write back, so it takes no copy either (G5).
        if self.serves() || !self.is_next_part(streaming, part, ctx) {
            return;
        }
        self.forget_pieces();
        for (key, value) in entries {
            self.keyspace.apply(&Change::Put(key, value));
        }
        if let Some(stamp) = complete {
            self.applied = stamp;
            self.backlog.begin_after(stamp);
            // Which of these are clean, the next acknowledgement tells.
            self.dirty.note_all(stamp.sequence);
            self.whole = true;
        }
        self.took_part(complete.is_some(), ctx);
    }

    /// From the source: writes that happened while it streams.
    pub(super) fn on_streamed(&mut self, streaming: u32, part: u32, writes: Vec<Write>, ctx: &mut Context) {
        if self.serves() || part == 0 || !self.is_next_part(streaming, part, ctx) {
            return;
        }
        if !self.whole {
            writes.iter().for_each(|write| self.change(&write.changes, ctx));
        } else if in_a_row(self.applied, &writes) {
            writes.into_iter().for_each(|write| self.record(write, ctx));
        }
        self.took_part(false, ctx);
    }

    /// Whether a part is the one expected. The first of a newer streaming begins it, and drops what was there (G6).
    pub(super) fn is_next_part(&mut self, streaming: u32, part: u32, ctx: &mut Context) -> bool {
        let Some(predecessor) = &mut self.predecessor else { return false };
        if streaming > predecessor.streaming && part == 0 {
            predecessor.begin_streaming(streaming);
            self.drop_half_copy(ctx);
            return true;
        }
        streaming == predecessor.streaming && predecessor.next_part == Some(part)
    }

    pub(super) fn took_part(&mut self, complete: bool, ctx: &mut Context) {
        let now = ctx.instant();
        let Some(predecessor) = &mut self.predecessor else { return };
        let Some((streaming, part)) = predecessor.take_part(complete, now) else { return };
        let to = predecessor.node;
        self.send(to, ChainMessage::Received { streaming, part }, ctx);
    }

    /// Binds the source to its joiner once little is missing (G15), and then says, each beat, that it has caught up (G17).
    pub(super) fn bind(&mut self, ctx: &mut Context) {
        let Some(joiner) = self.successor.as_ref().filter(|successor| !successor.serves && self.serves()) else {
            return;
        };
        if self.gate.is_none() && joiner.in_step && joiner.acks && joiner.acked >= joiner.bind_at {
            // Bound first, said later: what was acknowledged before is at most what was applied before.
            self.gate = Some(Gate { bound: self.applied.sequence, said: None });
        }
        let Some(gate) = &mut self.gate else { return };
        let due = gate.said.is_none_or(|said| ctx.instant() >= said + ctx.around.timing.beat());
        if due && joiner.acked >= gate.bound {
            gate.said = Some(ctx.instant());
            let holder = self.chain.holders.last().expect("the joiner is listed");
            ctx.effects.push(Effect::CaughtUp {
                range: self.range,
                epoch: self.chain.epoch,
                joiner: holder.node,
                incarnation: holder.incarnation,
            });
        }
    }
}
