//! Harm that tests do to actors (`ring`): the kinds of trouble that no machine sees, since they befall the actor around it.

use std::time::Duration;

use actix::{ActorContext, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use actix_rt::time::sleep;

use crate::actors::door::Door;
use crate::actors::election::Election;
use crate::actors::exchange::Exchange;
use crate::actors::gateway::Gateway;
use crate::actors::heartbeat::Heartbeat;
use crate::actors::node::Node;
use crate::actors::ownership::Ownership;
use crate::actors::store::Store;

/// What a planted panic says.
pub const PLANTED: &str = "planted by a test";

/// What befalls an actor.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum Harm {
    /// It panics.
    Panic,
    /// It stops.
    Stop,
    /// It does nothing for so long; what it is told waits in its mailbox.
    Stall(Duration),
}

/// Kinds of actors that can be harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Votes and the log.
    Election,
    /// Beacons and leases.
    Heartbeat,
    /// The commander's plans.
    Ownership,
    /// Keeps the links.
    Exchange,
    /// Holds the ranges of a worker.
    Store,
    /// Where commands go.
    Door,
    /// Accepts clients.
    Gateway,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Election, Self::Heartbeat, Self::Ownership, Self::Exchange, Self::Store, Self::Door, Self::Gateway];

    /// Harms one of a node: of those that each worker has, the first.
    pub fn befall(self, node: &Node, harm: Harm) {
        self.of(node).into_iter().for_each(|actor| actor.do_send(harm));
    }

    /// Whether its mailbox takes nothing more from one who has just sent something: each sender may go over the bound once.
    pub fn is_full(self, node: &Node) -> bool {
        let is_refused = |actor: &Recipient<Harm>| actor.try_send(Harm::Stall(Duration::ZERO)).is_err();
        self.of(node).is_some_and(|actor| is_refused(&actor) || is_refused(&actor))
    }

    fn of(self, node: &Node) -> Option<Recipient<Harm>> {
        let crew = node.crew();
        Some(match self {
            Self::Election => node.election()?.clone().recipient(),
            Self::Heartbeat => crew.heartbeat.clone().recipient(),
            Self::Ownership => crew.ownership.clone().recipient(),
            Self::Exchange => crew.exchange.clone().recipient(),
            Self::Store => crew.stores[0].clone().recipient(),
            Self::Door => crew.doors[0].clone().recipient(),
            Self::Gateway => node.gateways()[0].clone().recipient(),
        })
    }
}

macro_rules! can_be_harmed {
    ($($actor:ty),*) => {$(
        impl Handler<Harm> for $actor {
            type Result = ();

            fn handle(&mut self, harm: Harm, context: &mut Context<Self>) {
                match harm {
                    Harm::Panic => panic!("{PLANTED}"),
                    Harm::Stop => context.stop(),
                    // Not a guess: the span itself is what counts.
                    Harm::Stall(span) => context.wait(sleep(span).into_actor(self)),
                }
            }
        }
    )*};
}

can_be_harmed!(Door, Election, Exchange, Gateway, Heartbeat, Ownership, Store);
