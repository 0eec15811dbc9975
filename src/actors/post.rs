//! What all postmen have in common: a machine, the clock it is told, its one timer, and the order of its effects.
//!
//! A [`Postman`] is an actor around one machine. It tells the machine one thing at a time, carries out what comes back in the
//! order listed, and sees to it that the machine is told when its deadline has come. It decides nothing.
//!
//! The timer is set again only when the machine wants to be woken *earlier* than it is set for. A deadline that moves away,
//! as those of parked commands do with each batch, costs nothing: the timer fires once in vain and is set anew.
//!
//! Two ways to say something to another actor: [`offer`] respects the bound of its mailbox and may fail, for all that flows;
//! [`deliver`] goes over the bound, for what is bounded by itself (one a change of the dictionary, one a broken link) and
//! must not be lost.

use std::fmt::Debug;
use std::time::Duration;

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, SpawnHandle};

use crate::machines::Machine;
use crate::types::{Instant, Now};

/// Messages that wait in the mailbox of a postman before [`offer`] fails.
pub const MAILBOX: usize = 4096;

/// A machine at its postman's desk.
pub struct Desk<M: Machine> {
    machine: M,
    /// Kept between steps so that a step allocates nothing for them.
    effects: Vec<M::Effect>,
    timer: Option<(Instant, SpawnHandle)>,
}

impl<M: Machine> Desk<M> {
    /// With this machine.
    pub fn new(machine: M) -> Self {
        Self { machine, effects: Vec::new(), timer: None }
    }

    /// The machine, to be looked at.
    pub fn machine(&self) -> &M {
        &self.machine
    }
}

/// An actor around one machine.
pub trait Postman: Actor<Context = Context<Self>> {
    /// What decides.
    type Machine: Machine<Input: Debug, Effect: Debug> + 'static;

    /// What time it is.
    fn now(&self) -> Now;

    /// Where it sits.
    fn desk(&mut self) -> &mut Desk<Self::Machine>;

    /// How this machine is told that its deadline has come.
    fn timer() -> <Self::Machine as Machine>::Input;

    /// Carries out one effect.
    fn perform(&mut self, effect: <Self::Machine as Machine>::Effect, context: &mut Context<Self>);

    /// What is to be done once all effects of a step are carried out.
    fn performed(&mut self, _context: &mut Context<Self>) {}

    /// Tells the machine, and carries out what follows.
    fn tell(&mut self, input: <Self::Machine as Machine>::Input, context: &mut Context<Self>) {
        tracing::trace!(target: "keyval::steps", ?input);
        let now = self.now();
        let mut effects = std::mem::take(&mut self.desk().effects);
        self.desk().machine.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            tracing::trace!(target: "keyval::steps", ?effect);
            self.perform(effect, context);
        }
        self.desk().effects = effects;
        self.performed(context);
        self.wind(context);
    }

    /// Sets the timer to the machine's deadline, unless it already fires before.
    fn wind(&mut self, context: &mut Context<Self>) {
        let desk = self.desk();
        let Some(deadline) = desk.machine.deadline() else { return };
        match desk.timer {
            Some((at, _)) if at <= deadline => return,
            Some((_, handle)) => {
                context.cancel_future(handle);
            }
            None => {}
        }
        let wait = deadline.since(self.now().instant);
        let handle = context.run_later(wait.max(Duration::from_millis(1)), Self::on_timer);
        self.desk().timer = Some((deadline, handle));
    }

    /// The timer has fired.
    fn on_timer(&mut self, context: &mut Context<Self>) {
        let now = self.now().instant;
        let desk = self.desk();
        desk.timer = None;
        match desk.machine.deadline() {
            Some(deadline) if deadline <= now => self.tell(Self::timer(), context),
            // The deadline has moved since.
            _ => self.wind(context),
        }
    }
}

/// Says something that may be lost, or that the caller can hold back: false when the mailbox is full or closed.
pub fn offer<A, M>(to: &Addr<A>, message: M) -> bool
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send + MessageResponse<A, M>,
{
    to.try_send(message).is_ok()
}

/// Says something that must not be lost and of which there is never much, whatever the mailbox's bound.
pub fn deliver<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send + MessageResponse<A, M>,
{
    to.do_send(message);
}
