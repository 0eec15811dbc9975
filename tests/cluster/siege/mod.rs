//! The clients of `keyval chaos`, laid around a mesh of a story, which fails where they find something to say against it; and
//! as many writes as a mesh takes (`flood`).

mod flood;

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyval::cli::chaos::route::{Manners, Route};
use keyval::cli::chaos::siege::Load;
use keyval::cli::chaos::verdict::Verdict;
use keyval::cli::chaos::{account, siege};
use keyval::sim::clock::Time;

use crate::mesh::{Mesh, until};
pub use account::Gap;
pub use flood::{Flood, missing};

/// How long a writer waits for a reply.
const PATIENCE: Duration = Duration::from_millis(300);

/// Between two operations of one writer or reader, so that the mesh is asked all the time and yet has time to heal itself on
/// a small machine.
const PACE: Duration = Duration::from_millis(5);

/// How many readers there are; each goes around its share of the keys.
const READERS: usize = 4;

/// How many there were in this process.
static SIEGES: AtomicUsize = AtomicUsize::new(0);

/// The way to the keys of a mesh.
fn route(mesh: &Mesh) -> Route {
    let doors = mesh.nodes.iter().map(|node| node.cluster.clone()).collect();
    Route::new(doors, Manners { password: None, patience: PATIENCE })
}

/// A mesh under siege.
pub struct Siege(siege::Siege);

impl Siege {
    /// Begins, with one writer for each of so many keys, and waits until a write of each has been acknowledged.
    pub fn lay(mesh: &Mesh, keys: usize) -> Self {
        // Keys of its own for each: what an earlier one wrote would be nobody's.
        let prefix = format!("siege:{}", SIEGES.fetch_add(1, Ordering::Relaxed));
        let ttl = Duration::from_secs(3600);
        let load = Load { prefix, registers: keys, readers: READERS.min(keys), counters: 0, pace: PACE, ttl };
        let siege = Self(siege::Siege::lay(route(mesh), &load));
        siege.until_written_after(Time(0));
        siege
    }

    /// Waits until a write of each key has been acknowledged after an instant.
    pub fn until_written_after(&self, at: Time) {
        until("every key takes writes", Duration::from_secs(60), || self.unwritten_after(at).is_empty());
    }

    /// Ends, and gives account of all.
    pub fn lift(self) -> Account {
        Account(self.0.lift())
    }
}

impl Deref for Siege {
    type Target = siege::Siege;

    fn deref(&self) -> &siege::Siege {
        &self.0
    }
}

/// The history of a siege.
pub struct Account(account::Account);

impl Account {
    /// The longest time in which no write of one key was acknowledged, of those that had not ended before `after`.
    pub fn longest_gap(&self, after: Time) -> Gap {
        self.0.longest_gap(after).expect("every key is written more than once")
    }

    /// Panics unless nothing speaks against the mesh.
    pub fn check(&self) {
        let findings = Verdict::of(&self.0).findings;
        let told = findings.iter().map(|finding| {
            let excerpt: Vec<String> = finding.excerpt.iter().map(|deed| format!("\n  {deed}")).collect();
            format!("{}: {}: {}{}", finding.rule.named(), finding.key, finding.what, excerpt.concat())
        });
        let told: Vec<String> = told.collect();
        assert!(told.is_empty(), "{} findings:\n{}", told.len(), told.join("\n"));
    }
}

impl Deref for Account {
    type Target = account::Account;

    fn deref(&self) -> &account::Account {
        &self.0
    }
}
