//! What a cluster-aware client knows: which cluster door heads which slot, learnt from CLUSTER SLOTS and from MOVED.
//!
//! One map for all connections of a client. Whoever was disappointed by it asks for a newer one, at a door other than the one
//! that disappointed; who comes meanwhile waits for the same answer.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::client::{Client, Reply};

/// The map of one client.
pub struct Route {
    doors: Vec<String>,
    patience: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    edition: u64,
    heads: BTreeMap<u16, String>,
    /// Which door is asked next.
    turn: usize,
}

impl Route {
    /// Knows the cluster doors of a mesh, and waits for a reply so long.
    pub fn new(doors: Vec<String>, patience: Duration) -> Self {
        Self { doors, patience, known: Mutex::default() }
    }

    /// The door of a slot, and of which edition of the map that is.
    pub fn door(&self, slot: u16) -> (u64, Option<String>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.edition, known.heads.get(&slot).cloned())
    }

    /// A door has named another for a slot.
    pub fn moved(&self, slot: u16, to: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.heads.insert(slot, to.to_owned());
    }

    /// Edition `seen` was wrong: one answer of a door, unless somebody has fetched a newer one meanwhile.
    pub fn refresh(&self, seen: u64, not_at: Option<&str>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.edition != seen {
            return;
        }
        // Once around: at the worst all but one are silent, and each costs the patience of a reply.
        for _ in 0..self.doors.len() {
            known.turn = (known.turn + 1) % self.doors.len();
            let door = &self.doors[known.turn];
            if Some(door.as_str()) == not_at {
                continue;
            }
            if let Ok(heads) = ask_for_heads(door, self.patience) {
                known.heads = heads;
                known.edition += 1;
                return;
            }
        }
    }
}

/// What CLUSTER SLOTS says at a door: the cluster door of each slot's head.
fn ask_for_heads(door: &str, patience: Duration) -> io::Result<BTreeMap<u16, String>> {
    let mut heads = BTreeMap::new();
    let reply = Client::connect(door, patience)?.ask(&["CLUSTER", "SLOTS"])?;
    let Reply::Array(runs) = reply else { return Err(io::Error::other("CLUSTER SLOTS answers an array")) };
    for run in runs {
        let Reply::Array(run) = run else { continue };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(head), ..] = run.as_slice() else { continue };
        let (Some(host), Some(port)) = (head[0].text(), head[1].text()) else { continue };
        let address = format!("{host}:{port}");
        heads.extend((*first as u16..=*last as u16).map(|slot| (slot, address.clone())));
    }
    Ok(heads)
}
