//! Holding the map of the slots while the head of some has just been lost.
//!
//! A killed process closes its connections at once, and its clients ask the survivors for the map within milliseconds, before
//! any beacon is missed. Told the old map, they go back to the lost head, and give up. So a node whose own link to a head has just
//! broken answers that question when the link is back, when the dictionary has settled who heads its ranges, or after a
//! moment, whichever comes first. It decides nothing, it only waits. (Measured for several clients: CLIENTS.md, 3.3.)

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_rt::time::timeout;

use crate::actors::node::Node;
use crate::types::{Instant, NodeId};

/// The longest that a map is held: clients give up on it after a second.
const LONGEST: Duration = Duration::from_millis(900);

/// How many are held at a time; others are answered at once.
const MOST: usize = 4096;

/// Peers that have just been lost.
#[derive(Debug, Default)]
pub struct Lost {
    since: Mutex<BTreeMap<NodeId, Instant>>,
    held: AtomicUsize,
}

impl Lost {
    /// The data link to a peer has broken.
    pub fn broke(&self, peer: NodeId, now: Instant) {
        self.lock().entry(peer).or_insert(now);
    }

    /// It is there again.
    pub fn is_back(&self, peer: NodeId) {
        self.lock().remove(&peer);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when the map is held because of one of them.
    fn until(&self, node: &Node) -> Option<Instant> {
        let longest = LONGEST.min(node.settings.client.park);
        let since = self.lock().clone();
        let published = node.adopted().filter(|_| !since.is_empty())?;
        let heads = |peer: NodeId| {
            published.dictionary.ranges().any(|(_, chain)| chain.head().is_some_and(|head| head.node == peer))
        };
        let now = node.now().instant;
        let recent = since.into_iter().filter(|(peer, at)| now < *at + longest && heads(*peer));
        recent.map(|(_, at)| at + longest).max()
    }
}

/// A map that is held.
pub struct Hold {
    node: Arc<Node>,
}

impl Hold {
    /// If it should be.
    pub fn of(node: &Arc<Node>) -> Option<Self> {
        node.lost.until(node)?;
        let held = node.lost.held.fetch_add(1, Ordering::Relaxed);
        let hold = Self { node: node.clone() };
        (held < MOST).then_some(hold)
    }

    /// Waits as long as it should be.
    pub async fn over(self, node: &Node) {
        loop {
            let changed = node.changed();
            let Some(until) = node.lost.until(node) else { return };
            let step = until.since(node.now().instant).min(Duration::from_millis(50));
            let _ = timeout(step, changed).await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.node.lost.held.fetch_sub(1, Ordering::Relaxed);
    }
}
