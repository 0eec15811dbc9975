//! Operators' orders given at this node: brought to the commander, whoever that is, and its answers back.
//!
//! An order is sent until it is answered or its time is over, so a change of commander does not lose it. Each can be done
//! twice without harm, but for those that must come once: the commander's desk knows the latest of them again, and whoever has stepped
//! down has done so, so the next commander is not asked to.

use std::time::Duration;

use crate::messages::ownership::{Order, OwnershipMessage};
use crate::types::{Instant, NodeId, Term};

use super::Effect;

/// For how long an order is tried.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many orders are on their way at once.
const MOST: usize = 64;

/// Orders that have not been answered.
#[derive(Debug, Default)]
pub(super) struct Errands {
    list: Vec<Errand>,
}

#[derive(Debug)]
struct Errand {
    /// The operator's name for it.
    id: u64,
    /// Its name between nodes.
    number: u64,
    order: Order,
    since: Instant,
    sent: Option<(NodeId, Term, Instant)>,
    /// When it was last looked at.
    ran: Option<Instant>,
}

/// An order that is to be carried out by this very node, which commands.
pub(super) struct Own {
    pub number: u64,
    pub order: Order,
}

impl Errands {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// When something is to be done about them: soon, while there are any.
    pub fn next(&self, pause: Duration) -> Instant {
        let last = |errand: &Errand| errand.ran.map_or(errand.since, |ran| ran + pause);
        self.list.iter().map(last).min().unwrap_or_default()
    }

    /// An operator gives an order here.
    pub fn begin(&mut self, now: Instant, id: u64, number: u64, order: Order, effects: &mut Vec<Effect>) {
        if self.list.len() >= MOST {
            let result = Err(format!("{MOST} orders are on their way already; try again"));
            return effects.push(Effect::Ordered { id, result });
        }
        self.list.push(Errand { id, number, order, since: now, sent: None, ran: None });
    }

    /// The answer to one of them.
    pub fn finish(&mut self, number: u64, result: Result<Vec<String>, String>, effects: &mut Vec<Effect>) {
        if let Some(place) = self.list.iter().position(|errand| errand.number == number) {
            effects.push(Effect::Ordered { id: self.list.remove(place).id, result });
        }
    }

    /// Sends what is due to the commander, and ends what has waited too long. Returns what this node must do itself.
    pub fn run(
        &mut self,
        now: Instant,
        me: NodeId,
        ruler: Option<(NodeId, Term)>,
        pause: Duration,
        effects: &mut Vec<Effect>,
    ) -> Vec<Own> {
        self.end_passed(ruler, effects);
        self.end_late(now, effects);
        self.list.iter_mut().for_each(|errand| errand.ran = Some(now));
        let mut own = Vec::new();
        let Some((commander, term)) = ruler else { return own };
        for errand in &mut self.list {
            let due = errand.sent.is_none_or(|(to, of, at)| (to, of) != (commander, term) || now.since(at) >= pause);
            if !due {
                continue;
            }
            errand.sent = Some((commander, term, now));
            let (number, order) = (errand.number, errand.order.clone());
            if commander == me {
                own.push(Own { number, order });
            } else {
                effects.push(Effect::Send { to: commander, message: OwnershipMessage::Order { id: number, order } });
            }
        }
        own
    }

    /// Whoever was told to step down does not command any more: that was what was wished for.
    fn end_passed(&mut self, ruler: Option<(NodeId, Term)>, effects: &mut Vec<Effect>) {
        let Some((commander, term)) = ruler else { return };
        let passed = |errand: &Errand| {
            let before = errand.sent.is_some_and(|(to, of, _)| of < term && to != commander);
            matches!(errand.order, Order::StepDown { .. }) && before
        };
        for errand in self.list.extract_if(.., |errand| passed(errand)) {
            let line = format!("node {commander} commands now, in term {term}");
            effects.push(Effect::Ordered { id: errand.id, result: Ok(vec![line]) });
        }
    }

    fn end_late(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for errand in self.list.extract_if(.., |errand| now.since(errand.since) >= PATIENCE) {
            let reason = match errand.sent {
                None => format!("no commander is known to this node since {PATIENCE:?}; nothing was done"),
                Some((to, ..)) => format!(
                    "commander {to} has not answered for {PATIENCE:?}; the order may still be carried out, and giving it again does no harm"
                ),
            };
            effects.push(Effect::Ordered { id: errand.id, result: Err(reason) });
        }
    }
}
