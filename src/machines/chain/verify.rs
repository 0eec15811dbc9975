//! What the members of a chain hold, so that somebody can compare it while clients go on.
//!
//! Copies that change can only be compared at one stamp. So the head, asked for an interval of its keyspace, looks at its own
//! copy and sends a mark down the chain, on the lane of the forwards and right behind them: each member hears it having
//! applied just what the head had, looks at its own copy at that instant, tells the asker, and passes the mark on. An interval is
//! small enough for one step of a worker; how many are asked for at once, and what is asked again because a link broke or
//! the epoch changed, is the asker's affair (`ownership`).
//!
//! The idea is the marker of Chandy and Lamport (1985), down one channel.

use crate::machines::chain::{Context, Holding};
use crate::machines::store::Effect;
use crate::messages::chain::{ChainMessage, Contents, Counted};
use crate::types::{Epoch, NodeId};

impl Holding {
    /// Somebody asks the head for what its chain holds from a place on. Who is no head in that epoch says nothing: the asker
    /// has to hear of the chain first.
    pub fn count(&mut self, asker: NodeId, id: u64, epoch: Epoch, from: u64, ctx: &mut Context) {
        if self.heads() && self.chain.epoch == epoch {
            let (keys, bytes) = ctx.around.limits.counted_a_step;
            let (contents, to) = self.keyspace.some_contents(from, keys, bytes);
            self.tell_contents(asker, id, (from, to), contents, ctx);
        }
    }

    /// From the predecessor: what do you hold there?
    pub(super) fn on_mark(&mut self, asker: NodeId, id: u64, interval: (u64, Option<u64>), ctx: &mut Context) {
        // A joiner's copy is not compared, whatever it has by now.
        if self.serves() {
            let contents = self.keyspace.contents(interval.0, interval.1);
            self.tell_contents(asker, id, interval, contents, ctx);
        }
    }

    fn tell_contents(
        &mut self,
        asker: NodeId,
        id: u64,
        (from, to): (u64, Option<u64>),
        contents: Contents,
        ctx: &mut Context,
    ) {
        let (range, epoch, applied) = (self.range, self.chain.epoch, self.applied);
        ctx.effects.push(Effect::Counted { asker, id, counted: Counted { range, epoch, applied, to, contents } });
        self.forward(ctx);
        // One that has not been sent all of it yet would look at another stamp. The asker asks again.
        let successor = self.successor.as_ref().filter(|successor| successor.serves && successor.in_step);
        if let Some(successor) = successor.filter(|successor| successor.sent == applied) {
            self.send(successor.node, ChainMessage::Mark { asker, id, from, to }, ctx);
        }
    }
}
