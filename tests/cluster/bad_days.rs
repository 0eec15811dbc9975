//! Days on which something is always wrong: one node after the other is killed, paused, cut off, cut off one way, made slow,
//! or loses its connections, while clients write and read. Three copies, and never two nodes down at once.
//!
//! What happens is drawn from `KEYVAL_SEED`, and goes on for `KEYVAL_SECONDS`. Afterwards the history must be that of
//! linearizable registers, nothing acknowledged may be lost, and whatever clients have noticed for more than a second must be
//! found in what the mesh itself tells of the range.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use keyval::cli::chaos::harm::Harm;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::client::Reply;
use crate::mesh::{Mesh, Plan};
use crate::number_from_environment;
use crate::siege::{Gap, Siege};

const NODES: usize = 5;
const KEYS: usize = 24;

/// What clients may notice of one loss without asking why.
const LIMIT: Duration = Duration::from_secs(1);

/// For no longer than this the mesh may be silent about what keeps clients waiting.
const SILENCE: Duration = Duration::from_secs(2);

#[test]
fn a_bad_day_loses_nothing_and_every_gap_has_its_reason() {
    let seed = number_from_environment("KEYVAL_SEED", 1);
    let end = Instant::now() + Duration::from_secs(number_from_environment("KEYVAL_SECONDS", 20));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut mesh = Mesh::of(Plan::of(NODES, 3).with_faults(seed));
    let siege = Siege::lay(&mesh, KEYS);
    let mut told = Told::default();
    let mut harms: Vec<Harm> = Vec::new();
    while Instant::now() < end {
        if harms.is_empty() {
            harms = Harm::ALL.to_vec();
        }
        let harm = harms.swap_remove(random.gen_range(0..harms.len()));
        let victim = random.gen_range(0..NODES);
        let other = (victim + random.gen_range(1..NODES)) % NODES;
        let span = Duration::from_millis(random.gen_range(100..3_000));
        let since = siege.now();
        harm_one(&mut mesh, harm, (victim, other), span, &mut random);
        mesh.until_well(other, NODES, Duration::from_secs(60));
        eprintln!("{since}: node {} {harm:?} for {span:?} (other: {}), well at {}", victim + 1, other + 1, siege.now());
        told.listen(&mesh, &siege, other);
    }
    let account = siege.lift();
    let gaps = account.gaps(Default::default(), LIMIT);
    eprintln!("seed {seed}: {}, {} gaps over {LIMIT:?}", account.counts(), gaps.len());
    for gap in &gaps {
        eprintln!("{gap}: {}", told.why(gap).unwrap_or("nobody tells why"));
    }
    account.check();
    let unexplained = gaps.iter().filter(|gap| told.why(gap).is_none());
    let unexplained: Vec<String> = unexplained.map(|gap| account.tell(gap) + &told.around(gap)).collect();
    assert!(unexplained.is_empty(), "gaps that nobody explains:\n{}", unexplained.join("\n"));
}

fn harm_one(mesh: &mut Mesh, harm: Harm, (victim, other): (usize, usize), span: Duration, random: &mut ChaCha8Rng) {
    let last = || thread::sleep(span); // not a guess: so long it lasts
    match harm {
        Harm::Killed => {
            mesh.kill(victim);
            last();
            mesh.restart(victim);
        }
        Harm::Paused => {
            mesh.pause(victim);
            last();
            mesh.resume(victim);
        }
        _ => {
            let proxy = mesh.proxy.as_ref().expect("this mesh has one");
            harm.begin(proxy, (victim, other), NODES, random);
            last();
            Harm::end(proxy, victim, NODES, random);
        }
    }
}

/// What the mesh tells of the range of each key: what happened to it, and when.
#[derive(Default)]
struct Told {
    events: BTreeMap<String, BTreeSet<(u64, String)>>,
}

impl Told {
    /// Asks a node what it remembers of all keys' ranges.
    fn listen(&mut self, mesh: &Mesh, siege: &Siege, at: usize) {
        let mut client = mesh.client(at);
        for key in (0..KEYS).map(|key| siege.key(key)) {
            let slot = format!("slot:{}", keyval::types::Slot::of_key(key.as_bytes()));
            let Ok(Reply::Bulk(text)) = client.ask(&["MESH", "EXPLAIN", &slot]) else { continue };
            let explanation: Value = serde_json::from_str(&text).expect("JSON");
            let events = explanation["events"].as_array().into_iter().flatten();
            let events =
                events.filter_map(|event| Some((event["wall_ms"].as_u64()?, event["text"].as_str()?.to_owned())));
            self.events.entry(key.to_owned()).or_default().extend(events);
        }
    }

    /// All that was told of the range from a second before its key took no writes to a second after, in milliseconds of the gap.
    fn around(&self, gap: &Gap) -> String {
        let (from, to) = gap.wall_ms;
        let within = |at: u64| (from.saturating_sub(1_000)..=to + 1_000).contains(&at);
        let events = self.events.get(&gap.key).into_iter().flatten().filter(|(at, _)| within(*at));
        events.map(|(at, text)| format!("\n  {:>6} ms  {text}", *at as i64 - from as i64)).collect()
    }

    /// What happened to the range while its key took no writes, if that was told, and something every so often.
    fn why(&self, gap: &Gap) -> Option<&str> {
        let (from, to) = gap.wall_ms;
        let within = self.events.get(&gap.key)?.iter().filter(|(at, _)| (from..=to).contains(at));
        let told: Vec<(u64, &str)> = within.map(|(at, text)| (*at, text.as_str())).collect();
        let times: Vec<u64> = std::iter::once(from).chain(told.iter().map(|(at, _)| *at)).chain([to]).collect();
        let is_told = times.windows(2).all(|pair| pair[1] - pair[0] <= SILENCE.as_millis() as u64);
        told.first().filter(|_| is_told).map(|(_, text)| *text)
    }
}
