//! The exchange keeps one link for each peer of the roster and lane, and none for others.
//!
//! Links of the control lane live on the control thread, those of the data and the bulk lane on the workers', so that no
//! beacon waits behind data.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};
use tokio::sync::Notify;

use crate::actors::link::{Address, Link};
use crate::actors::node::Node;
use crate::actors::outbox::{Bounds, Outbox, Standing};
use crate::actors::switchboard::Lanes;
use crate::machines::election::Published;
use crate::messages::peer::Lane;
use crate::types::NodeId;

/// The roster may have changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Roster(pub Arc<Published>);

/// The actor that keeps the links.
pub struct Exchange {
    node: Arc<Node>,
    /// Where each linked peer listens; without an address its links end.
    peers: BTreeMap<NodeId, Arc<Address>>,
}

impl Exchange {
    /// With no link yet.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, peers: BTreeMap::new() }
    }

    fn link(&mut self, peer: NodeId, index: u16, address: &str) {
        tracing::debug!(%peer, at = address, "linking");
        let known = Arc::new(Address::new(address.to_string()));
        let lanes = Lanes {
            control: outbox(Lane::Control, Standing::Down),
            data: outbox(Lane::Data, Standing::Down),
            bulk: outbox(Lane::Bulk, Standing::Down),
        };
        let hurry = Arc::new(Notify::new());
        for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
            let link = Link {
                node: self.node.clone(),
                peer,
                lane,
                address: known.clone(),
                outbox: lanes.of(lane).clone(),
                hurry: hurry.clone(),
            };
            match lane {
                Lane::Control => drop(link.start()),
                Lane::Data | Lane::Bulk => {
                    let threads = &self.node.crew().threads;
                    drop(threads[usize::from(index) % threads.len()].start(|_| link));
                }
            }
        }
        self.node.switchboard.link(peer, lanes, hurry);
        self.peers.insert(peer, known);
    }
}

/// An outbox with the bounds of its lane.
pub fn outbox(lane: Lane, standing: Standing) -> Arc<Outbox> {
    let bounds = match lane {
        Lane::Control => Bounds { frames: 4096, bytes: 32 << 20 },
        Lane::Data => Bounds { frames: 16_384, bytes: 64 << 20 },
        Lane::Bulk => Bounds { frames: 1024, bytes: 64 << 20 },
    };
    Arc::new(Outbox::new(bounds, standing))
}

impl Actor for Exchange {
    type Context = Context<Self>;

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("the exchange actor stopped");
    }
}

impl Handler<Roster> for Exchange {
    type Result = ();

    fn handle(&mut self, Roster(published): Roster, _context: &mut Context<Self>) {
        let roster = &published.dictionary.roster;
        let gone: Vec<NodeId> = self.peers.keys().filter(|peer| !roster.contains_key(peer)).copied().collect();
        for peer in gone {
            self.node.switchboard.unlink(peer);
            if let Some(address) = self.peers.remove(&peer) {
                address.set(None);
            }
        }
        let me = self.node.me.id;
        for (peer, member) in roster.iter().filter(|(peer, _)| **peer != me) {
            let address = &member.node.addresses.peer;
            match self.peers.get(peer) {
                Some(known) => known.set(Some(address)),
                None => self.link(*peer, member.index, address),
            }
        }
    }
}
