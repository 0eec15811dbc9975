//! What a repair costs: a holder that was away for a while receives what it missed, and a large range that lost a holder is
//! copied without making anybody else wait.
//!
//! `KEYVAL_KEYS` and `KEYVAL_MEGABYTES` make the meshes as large as those of docs/proof.md.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyval::types::Slot;

use crate::client::{Client, Reply};
use crate::mesh::{Mesh, Plan, until};
use crate::number_from_environment;

const NODES: usize = 5;

/// Commands that leave before the first reply is read.
const PIPELINE: usize = 500;

/// How long any command may take that has nothing to do with the range under repair.
const STALL: Duration = Duration::from_millis(50);

/// Keys that are asked for at each node while a range is repaired.
const BYSTANDERS: usize = 8;

#[test]
fn who_was_away_receives_what_it_missed() {
    const MISSED: usize = 1_000;
    const AWAY: Duration = Duration::from_secs(10);
    let keys = number_from_environment("KEYVAL_KEYS", 50_000) as usize;
    let mesh = Mesh::of(Plan::of(NODES, 2));
    mesh.until_well(0, NODES, Duration::from_secs(60));
    mesh.until_spread(0, Duration::from_secs(60));
    fill(&mesh, keys, |key| format!("key:{key}"), "v");
    let victim = mesh.others(mesh.commander(&[0, 1, 2, 3, 4]).0).into_iter().find(|node| *node != 0).expect("three");
    let changed: Vec<String> = (0..MISSED).map(|number| format!("key:{}", number * (keys / MISSED))).collect();
    let missed = changed.iter().filter(|key| mesh.holders(0, key).contains(&victim)).count() as u64;
    let before = repaired(&mesh);

    mesh.pause(victim);
    let start = Instant::now();
    let mut client = mesh.client(0);
    for key in &changed {
        // Until the mesh has gone on without it, clients are told to try again.
        until("a write is taken", Duration::from_secs(10), || {
            client.ask(&["SET", key, "changed"]).expect("a reply") == Reply::Simple("OK".into())
        });
    }
    thread::sleep(AWAY.saturating_sub(start.elapsed())); // not a guess: so long it is away
    mesh.resume(victim);
    mesh.until_well(0, NODES, Duration::from_secs(60));

    // Counters are gathered now and then. A write that was on its way when it was paused may have reached it after all.
    let sent = || repaired(&mesh).writes - before.writes;
    until("what was sent is counted", Duration::from_secs(10), || sent() >= missed - missed / 20);
    let after = repaired(&mesh);
    let (writes, streamed) = (after.writes - before.writes, after.entries - before.entries);
    eprintln!(
        "away for {AWAY:?} in a mesh of {keys} keys: {MISSED} writes, {missed} of them to ranges that it held; {writes} writes \
         sent to it, {streamed} entries streamed"
    );
    assert!(writes <= missed + missed / 20, "{writes} were sent, {missed} were missed");
    assert_eq!(streamed, 0, "nothing is streamed for an absence that a backlog covers");
    let verified = mesh.ctl(victim, &["verify"]).expect("an answer");
    assert_eq!(verified["well"], true, "{verified}");
    let mut client = mesh.client(victim);
    for key in &changed {
        assert_eq!(client.ask(&["GET", key]).expect("a reply"), Reply::Bulk("changed".into()), "{key}");
    }
}

#[test]
fn a_range_of_many_values_is_repaired_beside_clients() {
    let megabytes = number_from_environment("KEYVAL_MEGABYTES", 30) as usize;
    let value = "s".repeat(280);
    let mesh = Mesh::of(Plan::of(NODES, 2));
    mesh.until_well(0, NODES, Duration::from_secs(60));
    let values = megabytes * 1_000_000 / 300;
    fill(&mesh, values, |key| format!("{{large}}:{key}"), &value);
    repair_beside_clients(mesh, &format!("{values} values, {megabytes} MB"));
}

#[test]
fn a_range_of_one_huge_value_is_repaired_beside_clients() {
    let mesh = Mesh::of(Plan::of(NODES, 2));
    mesh.until_well(0, NODES, Duration::from_secs(60));
    let value = "h".repeat(60_000_000);
    let mut client = Client::connect(&mesh.nodes[0].client, Duration::from_secs(60)).expect("it listens");
    assert_eq!(client.ask(&["SET", "{large}", &value]).expect("a reply"), Reply::Simple("OK".into()));
    repair_beside_clients(mesh, "one value of 60 MB");
}

/// The second holder of the large range is killed, and all other nodes are asked for keys that it did not hold.
fn repair_beside_clients(mesh: Mesh, what: &str) {
    mesh.until_spread(0, Duration::from_secs(60));
    let (commander, _) = mesh.commander(&[0, 1, 2, 3, 4]);
    let holders = mesh.holders(0, "{large}");
    // Whoever loses its commander waits for another reason.
    let victim = holders.iter().copied().find(|node| *node != commander).expect("one of two");
    let at = mesh.others(victim)[0];
    let large = Slot::of_key(b"large");

    let watched = watch(&mesh, &bystanders(&mesh, at, victim, large), || {
        thread::sleep(Duration::from_secs(1)); // not a guess: how long commands take while all is well is measured, too
        mesh.kill(victim);
        let killed = Instant::now();
        until("the large range has two holders again", Duration::from_secs(120), || {
            let states = mesh.holder_states(at, "{large}");
            states.iter().all(|(node, state)| *node != victim && state == "serving") && states.len() == 2
        });
        killed.elapsed()
    });
    let (whole, longest) = (watched.outcome, watched.longest);
    eprintln!(
        "{what}: whole again {whole:?} after a holder was killed; {} commands to others, the longest took {longest:?} ({:?} of \
         it the machine's own)",
        watched.asked, watched.machine
    );
    assert!(longest.saturating_sub(watched.machine) <= STALL, "{what}: a command took {longest:?}");
}

/// For each living node some keys that it heads and the victim does not hold.
fn bystanders(mesh: &Mesh, at: usize, victim: usize, large: Slot) -> BTreeMap<usize, Vec<String>> {
    let mut keys: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let wanted = (NODES - 1) * BYSTANDERS;
    for key in (0..).map(|number| format!("bystander:{number}")) {
        let holders = mesh.holders(at, &key);
        if holders.contains(&victim) || Slot::of_key(key.as_bytes()) == large {
            continue;
        }
        let share = keys.entry(holders[0]).or_default();
        if share.len() < BYSTANDERS {
            share.push(key);
        }
        if keys.values().map(Vec::len).sum::<usize>() == wanted {
            break;
        }
    }
    keys
}

/// What clients noticed while something was done.
struct Watched<T> {
    outcome: T,
    asked: usize,
    longest: Duration,
    /// How long a thread that had nothing to do but wait for a millisecond was kept waiting, at that time.
    machine: Duration,
}

/// Reads and writes these keys while something is done, at the plain doors of those who head them at first: heads change places
/// when a node is lost.
fn watch<T>(mesh: &Mesh, keys: &BTreeMap<usize, Vec<String>>, act: impl FnOnce() -> T) -> Watched<T> {
    let over = AtomicBool::new(false);
    // When a command, or a thread that wanted to sleep for a millisecond, was held up, and how long.
    let (commands, ruler) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let asked = Mutex::new(0);
    let outcome = thread::scope(|scope| {
        for (node, keys) in keys {
            let door = &mesh.nodes[*node].client;
            let (over, commands, asked) = (&over, &commands, &asked);
            scope.spawn(move || {
                let mut client = Client::connect(door, Duration::from_secs(10)).expect("it listens");
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = &keys[round / 2 % keys.len()];
                    let start = Instant::now();
                    let reply = match round % 2 {
                        0 => client.ask(&["SET", key, &round.to_string()]),
                        _ => client.ask(&["GET", key]),
                    };
                    let reply = reply.expect("a reply");
                    assert!(!matches!(reply, Reply::Error(_)), "{key}: {reply:?}");
                    commands.lock().expect("nobody panics with it").push((start, start.elapsed()));
                    *asked.lock().expect("nobody panics with it") += 1;
                    thread::sleep(Duration::from_millis(1)); // not a guess: the pace itself
                }
            });
        }
        let (over, ruler) = (&over, &ruler);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(Duration::from_millis(1)); // not a guess: it is measured how long that takes
                ruler.lock().expect("nobody panics with it").push((start, start.elapsed()));
            }
        });
        let outcome = act();
        over.store(true, Ordering::Relaxed);
        outcome
    });
    let commands = commands.into_inner().expect("nobody panics with it");
    let (start, longest) = commands.into_iter().max_by_key(|(_, took)| *took).expect("at least one");
    let ruler = ruler.into_inner().expect("nobody panics with it");
    let meanwhile = ruler.iter().filter(|(at, took)| *at < start + longest && *at + *took > start);
    let machine = meanwhile.map(|(_, took)| *took).max().unwrap_or_default();
    Watched { outcome, asked: asked.into_inner().expect("nobody panics with it"), longest, machine }
}

/// Writes so many keys through the first node.
fn fill(mesh: &Mesh, keys: usize, name: impl Fn(usize) -> String, value: &str) {
    let mut client = Client::connect(&mesh.nodes[0].client, Duration::from_secs(30)).expect("it listens");
    for first in (0..keys).step_by(PIPELINE) {
        let some = first..keys.min(first + PIPELINE);
        until("a pipeline of writes is taken", Duration::from_secs(30), || {
            pipeline(&mut client, some.clone().map(&name), value).expect("replies")
        });
    }
}

/// False: not all were taken.
fn pipeline(client: &mut Client, names: impl Iterator<Item = String>, value: &str) -> io::Result<bool> {
    let mut count = 0;
    for name in names {
        client.send(&["SET", &name, value])?;
        count += 1;
    }
    let replies: Vec<Reply> = (0..count).map(|_| client.reply()).collect::<io::Result<_>>()?;
    Ok(replies.iter().all(|reply| *reply == Reply::Simple("OK".into())))
}

/// What the whole mesh has sent to bring holders up to date.
#[derive(Default)]
struct Repaired {
    writes: u64,
    entries: u64,
}

fn repaired(mesh: &Mesh) -> Repaired {
    let mut sum = Repaired::default();
    for node in 0..mesh.nodes.len() {
        let count = |name| mesh.info(node, "replication", name);
        sum.writes += count("chain_writes_repaired");
        sum.entries += count("chain_entries_streamed");
    }
    sum
}
