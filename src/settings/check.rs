//! What must fit together: bounds, and the inequalities on which leases rest (docs/protocol.md, "Times").

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::text::Text;
use super::{Settings, SettingsError, address, keys};
use crate::messages::ownership::{GiveUp, Role};
use crate::types::SLOTS;

/// More threads than this in one process help nobody.
pub(super) const MOST_WORKERS: usize = 256;

/// A beat is T/5, and machines are told the time every 10 ms: a shorter T would find nodes late that are not.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const LONGEST_PARK: Duration = Duration::from_secs(60);

/// Clocks of one kind differ by some parts in a million even when all is well.
const LEAST_DRIFT_PPM: u32 = 1_000;

const LONGEST_NAME: usize = 64;

type Verdict = Result<(), SettingsError>;

/// Looks at every rule; `said` are the keys that some source has set.
pub(super) fn check(settings: &Settings, said: &[&str]) -> Verdict {
    check_times(settings)?;
    check_node(settings, said)?;
    check_mesh(settings)?;
    check_clients(settings)?;
    check_doors(settings)
}

fn check_times(settings: &Settings) -> Verdict {
    let timeout = settings.times.failure_timeout;
    require(settings, (SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout), &["failure_timeout"], || {
        "must be from 100ms to 60s: a beacon goes out each fifth of it, and three of them must fit into it even when one is \
         late"
            .into()
    })?;
    let timing = settings.timing();
    let drift = ["failure_timeout", "clock_drift"];
    require(settings, timing.drift_ppm >= LEAST_DRIFT_PPM, &["clock_drift"], || {
        "must be at least 0.1%: no two clocks run at the same pace".into()
    })?;
    // A holder that misses two beacons must still have its lease when the third comes.
    let member = timing.holder(timing.lease());
    require(settings, member >= timing.beat() * 3, &drift, || {
        format!(
            "a lease of {} would end before it can be renewed after two lost beacons; make clock_drift smaller",
            member.show()
        )
    })?;
    // A sole holder's lease must outlast the loss of the commander: the longest election by the slowest clock, a beat in
    // which it was not renewed, and one until it is asked for again.
    let sole = timing.holder(timing.sole_lease());
    let election = timing.giver(timeout * 3 / 2) + timing.beat() * 3;
    require(settings, sole >= election, &drift, || {
        format!(
            "a sole holder's lease of {} would end during an election, which takes up to {}; make clock_drift smaller",
            sole.show(),
            election.show()
        )
    })?;
    require(settings, settings.times.node_expiry >= timing.seat_timeout(), &["node_expiry", "failure_timeout"], || {
        format!(
            "a node may leave the roster only after its seat was given away: at least {}",
            timing.seat_timeout().show()
        )
    })
}

fn check_node(settings: &Settings, said: &[&str]) -> Verdict {
    let node = &settings.node;
    let witness = node.role == Role::Witness;
    require(
        settings,
        !(witness && said.contains(&"node.weight") && node.weight > 0),
        &["node.role", "node.weight"],
        || "a witness holds no data, so it has no weight; leave node.weight out".into(),
    )?;
    require(settings, witness || (1..=10_000).contains(&node.weight), &["node.weight"], || {
        "must be from 1 to 10000; 100 is usual".into()
    })?;
    require(
        settings,
        node.workers.is_none_or(|workers| (1..=MOST_WORKERS).contains(&workers)),
        &["node.workers"],
        || format!("must be from 1 to {MOST_WORKERS}, or \"auto\""),
    )?;
    for (key, name) in [("node.name", &node.name), ("node.zone", &node.zone)] {
        require(settings, name.is_empty() || is_name(name), &[key], || {
            format!("must be letters, digits, and any of . _ - between them, {LONGEST_NAME} at most")
        })?;
    }
    require(settings, node.grace <= Duration::from_secs(3600), &["node.grace"], || "must be at most 1h".into())
}

fn check_mesh(settings: &Settings) -> Verdict {
    let ranges = settings.mesh.ranges;
    require(settings, ranges.is_power_of_two() && (16..=SLOTS).contains(&ranges), &["mesh.ranges"], || {
        format!("must be a power of two from 16 to {SLOTS}")
    })?;
    let replication = &settings.replication;
    require(settings, (1..=9).contains(&replication.factor), &["replication.factor"], || "must be from 1 to 9".into())?;
    let copies = ["replication.min_copies", "replication.factor"];
    require(settings, (1..=replication.factor).contains(&replication.min_copies), &copies, || {
        "a write cannot wait for more copies than there are, nor for none".into()
    })?;
    if let GiveUp::After(span) = replication.give_up {
        let least = settings.timing().sole_lease();
        require(settings, span >= least, &["replication.give_up", "failure_timeout"], || {
            format!("nobody may be given up while a lease can still run: at least {}", least.show())
        })?;
        require(settings, span < settings.times.node_expiry, &["replication.give_up", "node_expiry"], || {
            "a node leaves the roster only after it has been given up".into()
        })?;
    }
    require(settings, (1..=15).contains(&settings.election.voters), &["election.voters"], || {
        "must be from 1 to 15: each vote more makes each decision slower, and five bear the loss of two".into()
    })
}

fn check_clients(settings: &Settings) -> Verdict {
    let client = &settings.client;
    require(settings, client.park <= LONGEST_PARK, &["client.park"], || "must be at most 60s".into())?;
    require(settings, client.max_clients > 0, &["client.max_clients"], || "must be at least 1".into())?;
    require(settings, client.query_limit >= 64 << 10, &["client.query_limit"], || "must be at least 64KiB".into())?;
    require(settings, client.output_limit >= 1 << 20, &["client.output_limit"], || "must be at least 1MiB".into())
}

fn check_doors(settings: &Settings) -> Verdict {
    let doors: [(&str, &str, SocketAddr, &str); 4] = [
        ("client.listen", "client.announce", settings.client.listen, &settings.client.announce),
        ("cluster.listen", "cluster.announce", settings.cluster.listen, &settings.cluster.announce),
        ("console.listen", "console.announce", settings.console.listen, &settings.console.announce),
        ("peer.listen", "peer.announce", settings.peer.listen, &settings.peer.announce),
    ];
    let mut taken: BTreeMap<u16, Vec<(&str, SocketAddr)>> = BTreeMap::new();
    for (listen_key, announce_key, listen, announce) in doors {
        require(settings, listen.port() != 0, &[listen_key], || {
            "a port is needed: others must know it beforehand".into()
        })?;
        require(settings, announce.is_empty() || address::is_concrete(announce), &[announce_key], || {
            "must be one address that others can reach: host or host:port, and not 0.0.0.0".into()
        })?;
        let others = taken.entry(listen.port()).or_default();
        let clash = others.iter().find(|(_, other)| {
            other.ip() == listen.ip() || other.ip().is_unspecified() || listen.ip().is_unspecified()
        });
        if let Some((other, _)) = clash {
            return require(settings, false, &[other, listen_key], || "two doors cannot listen at one port".into());
        }
        others.push((listen_key, listen));
    }
    Ok(())
}

/// Whether this can be a node's name: it is printed in tables, in lines of events and in `CLIENT` lists.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-');
    !name.is_empty() && name.chars().count() <= LONGEST_NAME && name.chars().all(fits)
}

fn require(settings: &Settings, holds: bool, names: &[&str], why: impl FnOnce() -> String) -> Verdict {
    if holds {
        return Ok(());
    }
    let shown = |name: &&str| {
        let key = keys().iter().find(|key| key.name == *name).expect("a key of the table");
        format!("{name} = {:?}", (key.show)(settings))
    };
    Err(SettingsError::Inconsistent { keys: names.iter().map(shown).collect::<Vec<_>>().join(", "), why: why() })
}
