//! What a cluster-aware client knows: which cluster door heads which slot, learnt from CLUSTER SLOTS and from MOVED.
//!
//! One map for all connections of a client. Whoever was disappointed by it asks for a newer one, at a door other than the one
//! that disappointed; who comes meanwhile waits for the same answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cli::client::{Client, ClientError};
use crate::messages::client::Reply;
use crate::types::SLOTS;

/// How a client gets to a door.
#[derive(Clone, Debug)]
pub struct Manners {
    /// The clients' password, if one is set.
    pub password: Option<String>,
    /// How long it waits for a connection, and for a reply.
    pub patience: Duration,
}

impl Manners {
    /// A connection to a door.
    ///
    /// # Errors
    /// When nobody can be reached there, or the password is refused.
    pub fn connect(&self, door: &str) -> Result<Client, ClientError> {
        Client::connect(door, self.password.as_deref(), self.patience)
    }
}

/// The map of one client.
pub struct Route {
    /// How its clients get to doors.
    pub manners: Manners,
    doors: Vec<String>,
    /// Takes every key, where there is no map.
    plain: Option<String>,
    known: Mutex<Known>,
    /// Which door was asked last for a map. Whoever fetches one holds this, and not what is known meanwhile.
    fetching: Mutex<usize>,
}

#[derive(Default)]
struct Known {
    edition: u64,
    heads: Heads,
}

/// The door of each slot; empty while there is no map.
type Heads = Vec<Option<Arc<str>>>;

impl Route {
    /// Knows the cluster doors of a mesh.
    pub fn new(doors: Vec<String>, manners: Manners) -> Self {
        Self { manners, doors, plain: None, known: Mutex::default(), fetching: Mutex::default() }
    }

    /// Knows one plain door alone, which takes every key.
    pub fn plain(door: String, manners: Manners) -> Self {
        Self { plain: Some(door), ..Self::new(Vec::new(), manners) }
    }

    /// The door of a slot, and of which edition of the map that is.
    pub fn door(&self, slot: u16) -> (u64, Option<String>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let door = known.heads.get(usize::from(slot)).and_then(Option::as_deref);
        (known.edition, door.or(self.plain.as_deref()).map(str::to_owned))
    }

    /// A door has named another for a slot.
    pub fn moved(&self, slot: u16, to: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = known.heads.get_mut(usize::from(slot)) {
            *head = Some(to.into());
        }
    }

    /// Edition `seen` was wrong: one answer of a door, unless somebody has fetched a newer one meanwhile.
    pub fn refresh(&self, seen: u64, not_at: Option<&str>) {
        let mut turn = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if self.door(0).0 != seen {
            return;
        }
        // Once around: at the worst all but one are silent, and each costs the patience of a reply.
        for _ in 0..self.doors.len() {
            *turn = (*turn + 1) % self.doors.len();
            let door = &self.doors[*turn];
            if Some(door.as_str()) == not_at {
                continue;
            }
            if let Ok(heads) = ask_for_heads(door, &self.manners) {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                *known = Known { edition: seen + 1, heads };
                return;
            }
        }
    }
}

/// What CLUSTER SLOTS says at a door: the cluster door of each slot's head.
fn ask_for_heads(door: &str, manners: &Manners) -> Result<Heads, ClientError> {
    let mut heads = vec![None; usize::from(SLOTS)];
    let Reply::Array(runs) = manners.connect(door)?.call(&["CLUSTER", "SLOTS"])? else { return Ok(heads) };
    for run in runs {
        let Reply::Array(run) = run else { continue };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(head), ..] = run.as_slice() else { continue };
        let [Reply::Bulk(host), Reply::Integer(port), ..] = head.as_slice() else { continue };
        let address: Arc<str> = format!("{}:{port}", String::from_utf8_lossy(host)).into();
        let slots = *first as usize..=*last as usize;
        heads.get_mut(slots).into_iter().flatten().for_each(|head| *head = Some(Arc::clone(&address)));
    }
    Ok(heads)
}
