//! Who may answer: the leases of the other members, the commander's to a sole holder, and the quiet time.
//!
//! Leases are looked at lazily: a set of them stands in the store, and what it means for a range is worked out when it is
//! asked for, at most once for each set and each epoch.

use crate::machines::chain::{Around, Context, Holding, Parking};
use crate::machines::heartbeat::Lease;
use crate::machines::store::Effect;
use crate::messages::chain::ChainMessage;
use crate::messages::ownership::HolderState;
use crate::planted::{self, Bug};
use crate::types::{Instant, Version};

/// Until when the leases held allow an answer; worked out for one set of leases and one adopted version.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Right {
    round: Option<u64>,
    until: Instant,
}

impl Holding {
    /// G11: whether this node may answer at this instant: first of its chain, Serving, not released, past its quiet time,
    /// with a lease of every giver. To be asked after the value was read.
    pub(super) fn answers(&mut self, ctx: &Context) -> bool {
        if self.right.round != Some(ctx.around.round) {
            let until = self.lease_until(ctx.around);
            self.right = Right { round: Some(ctx.around.round), until };
        }
        let now = looked_at(ctx);
        self.heads() && !self.is_released() && now >= self.quiet_until && now < self.right.until
    }

    /// The same, worked out anew.
    pub fn would_answer(&self, now: Instant, around: &Around) -> bool {
        self.heads() && !self.is_released() && now >= self.quiet_until && now < self.lease_until(around)
    }

    /// Whether commands may be carried out now, though they cannot be answered yet: in the quiet time of a head with
    /// Serving members behind it, so that writes are on their way when it ends. A sole holder gains nothing by it.
    pub(super) fn works_ahead(&self, ctx: &Context) -> bool {
        self.heads() && ctx.instant() < self.quiet_until && self.chain.serving().count() > 1
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(self.parking, Parking::Released { .. }) && !planted::is(Bug::ReleasedAnswers)
    }

    /// The end of the shortest lease of all that are needed.
    fn lease_until(&self, around: &Around) -> Instant {
        // G24: past this instant this node has surely not heard a commander for so long that it may be given up.
        let mut until = around.leases.silent_after.unwrap_or(Instant(u64::MAX));
        // G12: all other members are givers, Loading and Leaving ones too.
        let gives = |state| state == HolderState::Serving || !planted::is(Bug::LoadingGivesNone);
        for holder in self.chain.holders.iter().filter(|holder| holder.node != around.me && gives(holder.state)) {
            let given = around.leases.members.get(&holder.node).into_iter().flatten();
            // G1: a lease of another life of the giver counts for nothing.
            let given = given.filter(|lease| lease.giver == holder.incarnation);
            until = until.min(self.newest(given, around.version));
        }
        // A head without Serving peers needs the commander's too: nobody else would stop it when it is cut off.
        let alone = self.chain.serving().all(|holder| holder.node == around.me);
        if alone && planted::is(Bug::SoleUnleased) {
            until = Instant(u64::MAX);
        } else if alone {
            until = until.min(self.newest(around.leases.commander.iter(), around.version));
        }
        until
    }

    /// The latest end of those leases that count: given when the chain was as it is now, and known here as it was there.
    fn newest<'a>(&self, leases: impl Iterator<Item = &'a Lease>, adopted: Version) -> Instant {
        leases
            .filter(|lease| self.chain.changed <= lease.version && lease.version <= adopted)
            .map(|lease| lease.until)
            .max()
            .unwrap_or_default()
    }

    /// The commander asks for this range to be handed over.
    pub fn park(&mut self) {
        // G20: only a later epoch ends it; so it does not matter how often it is asked.
        if self.heads() && self.parking == Parking::No {
            self.parking = Parking::Parked { said: None };
        }
    }

    /// Nothing is dirty and no answer waits: a parked head may say so.
    pub(super) fn is_at_rest(&self) -> bool {
        self.clean == self.applied.sequence && self.queue.waiting() == 0
    }

    /// G20: says that nothing more is numbered and all is clean, each beat until the epoch changes. Answers that can still
    /// be given are given first.
    pub(super) fn say_parked(&mut self, ctx: &mut Context) {
        let now = ctx.instant();
        let last = match self.parking {
            Parking::No => return,
            Parking::Parked { said } => said,
            Parking::Released { said } => Some(said),
        };
        let due = last.is_none_or(|last| now >= last + ctx.around.timing.beat());
        if !due || !self.is_at_rest() {
            return;
        }
        // G21: past its quiet time nobody before this head answers; when it stops too, the next need not wait.
        let releases = self.is_released() || now >= self.quiet_until && self.chain.serving().count() > 1;
        self.parking = if releases { Parking::Released { said: now } } else { Parking::Parked { said: Some(now) } };
        if releases {
            let others: Vec<_> = self.chain.serving().map(|h| h.node).filter(|node| *node != ctx.around.me).collect();
            others.into_iter().for_each(|node| self.send(node, ChainMessage::Released, ctx));
        }
        ctx.effects.push(Effect::Parked { range: self.range, epoch: self.chain.epoch });
    }
}

/// The instant at which leases are looked at: that of this step, which comes after the value was read (G11).
fn looked_at(ctx: &Context) -> Instant {
    #[cfg(feature = "planted")]
    if planted::is(Bug::LeaseSeenBefore) {
        return ctx.around.step_before;
    }
    ctx.instant()
}
