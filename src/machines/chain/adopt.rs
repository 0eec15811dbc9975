//! From one epoch to the next: what a member keeps, what it forgets, what it owes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::machines::chain::lease::Right;
use crate::machines::chain::reconcile::{Predecessor, Successor};
use crate::machines::chain::{Context, Holding, Parking};
use crate::messages::ownership::{Chain, HolderState};
use crate::planted::{self, Bug};
use crate::types::{Epoch, Incarnation, Instant, NodeId, Sequence};

/// Where a node stands in a chain in this life; with another incarnation it is no member (G1).
pub fn place_in(chain: &Chain, node: NodeId, incarnation: Incarnation) -> Option<usize> {
    let same = |life| life == incarnation || planted::is(Bug::OtherLife);
    chain.holders.iter().position(|holder| holder.node == node && same(holder.incarnation))
}

/// What this member was in the epoch adopted before.
struct Before {
    chain: Arc<Chain>,
    role: Option<(usize, HolderState)>,
    headed: bool,
    /// The head of that epoch had released the range (G21).
    released: bool,
}

impl Holding {
    /// Takes a newer chain as agreed. Epochs may be skipped, never taken back (G3). Says whether the copy is still wanted.
    pub fn adopt(&mut self, chain: &Arc<Chain>, promises: &BTreeMap<NodeId, Instant>, ctx: &mut Context) -> bool {
        if chain.epoch <= self.chain.epoch {
            return true;
        }
        let before = Before {
            chain: std::mem::replace(&mut self.chain, Arc::clone(chain)),
            role: self.role,
            headed: self.heads(),
            released: self.head_released,
        };
        let (me, incarnation) = (ctx.around.me, ctx.around.incarnation);
        self.role = place_in(chain, me, incarnation).map(|place| (place, chain.holders[place].state));
        self.begin_generation(&before, ctx);
        self.fall_quiet(&before, promises, ctx);
        self.forget_epoch();
        self.take_place(ctx);
        if planted::is(Bug::HeadIsClean) && self.heads() {
            self.clean = self.applied.sequence;
        }
        self.keep_promises_to_clients(&before, ctx);
        let former = chain.former.iter().any(|former| former.node == me && former.incarnation == incarnation);
        self.role.is_some() || former && self.whole
    }

    /// G23: in a higher generation everything older is worth nothing, but to the one whose copy it began with.
    fn begin_generation(&mut self, before: &Before, ctx: &mut Context) {
        assert!(self.chain.generation >= before.chain.generation, "{}: {}", self.range, self.words());
        if self.chain.generation == before.chain.generation || planted::is(Bug::OldCopyKept) && self.whole {
            return;
        }
        let revived = self.chain.revived == Some(ctx.around.me) && self.serves() && self.whole;
        if revived {
            // Nobody else has it yet: what is clean must be found out anew.
            self.clean = Sequence(0);
            self.dirty.clear();
            self.dirty.note_all(self.applied.sequence);
        } else {
            self.drop_copy(ctx);
            self.whole = self.serves();
        }
    }

    /// G13, G14, G21: until when this node does not lead.
    fn fall_quiet(&mut self, before: &Before, promises: &BTreeMap<NodeId, Instant>, ctx: &Context) {
        let follows = before.chain.epoch.next() == self.chain.epoch;
        let same_generation = before.chain.generation == self.chain.generation;
        // G13: what was promised to the head of the epoch adopted before is waited out.
        if let Some((place, _)) = before.role
            && place > 0
            && !planted::is(Bug::PromiseForgotten)
            && let Some(until) = promises.get(&before.chain.holders[0].node)
        {
            self.quiet_until = self.quiet_until.max(*until);
        }
        // G14: who becomes Serving makes the same promise. Epochs that were skipped may have been without us: the worst
        // is assumed, for comparing the two ends alone would miss it.
        let served = before.role.is_some_and(|(_, state)| state.serves());
        let owes = self.serves() && !(served && follows && same_generation);
        if owes && !planted::is(Bug::PromotedFreely) {
            let lease = ctx.around.timing.lease();
            self.quiet_until = self.quiet_until.max(ctx.instant() + ctx.around.timing.giver(lease));
        }
        // G21: the head before never answers again, and whoever it had promised anything has ended too.
        self.awaited = None;
        if self.heads() && served && follows && same_generation {
            let head = before.chain.holders[0];
            self.awaited = Some((before.chain.epoch, head.node, head.incarnation));
            if before.released {
                self.begin_at_once(ctx);
            }
        }
    }

    /// The head before has released the range.
    fn begin_at_once(&mut self, ctx: &Context) {
        self.quiet_until = ctx.instant();
        self.awaited = None;
    }

    /// The word of the head before that it has released: the dictionary may be here first, for they come by different ways.
    pub(super) fn on_late_release(&mut self, epoch: Epoch, node: NodeId, incarnation: Incarnation, ctx: &Context) {
        if self.awaited == Some((epoch, node, incarnation)) {
            self.begin_at_once(ctx);
        }
    }

    /// What counts for one epoch only: acknowledgements, steps, gate (G16), parking (G20), and all that was known of leases.
    fn forget_epoch(&mut self) {
        self.gate = None;
        self.parking = Parking::No;
        self.head_released = false;
        self.right = Right::default();
    }

    fn take_place(&mut self, ctx: &mut Context) {
        self.drop_stream(ctx);
        let place = self.role.map(|(place, _)| place);
        self.predecessor = self.neighbour(place.and_then(|place| place.checked_sub(1))).map(Predecessor::new);
        self.successor = self.neighbour(place.map(|place| place + 1)).map(Successor::new);
        // G18: what was only half streamed is dropped, whoever the source is now.
        if !self.whole {
            assert!(!self.serves(), "{}: made to serve without a whole copy: {}", self.range, self.words());
            self.drop_half_copy(ctx);
        }
        self.say_hello(ctx);
        self.ask_successor(ctx);
    }

    /// Who is no head any more, or not of this copy, lets its clients go: to the next head with what was not numbered;
    /// what was numbered may be revived from any copy, so nobody knows what becomes of it (G25).
    fn keep_promises_to_clients(&mut self, before: &Before, ctx: &mut Context) {
        if !before.headed {
            return;
        }
        if !self.heads() {
            self.queue.dismiss_all(self.chain.epoch, ctx);
        } else if before.chain.generation != self.chain.generation {
            self.queue.dismiss_waiting(self.chain.epoch, ctx);
        }
    }
}
