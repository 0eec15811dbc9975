//! Drones that come and go while clients work: they take their shares and give them away by themselves, and clients notice
//! neither errors nor, much, the time it takes.
//!
//! A few thousand keys unless told otherwise; what the README promises is measured with a release build and
//! `KEYVAL_KEYS=1000000 KEYVAL_RATE=20000`.

mod drain;
mod load;

use std::time::{Duration, Instant};

use load::{Load, Plan, Window};
use serde_json::Value;

use crate::mesh::{self, Mesh, until, until_every};
use crate::number_from_environment;

/// How long clients are watched while nothing moves, and at least while something does.
const CALM: Duration = Duration::from_secs(3);

/// How long any one change may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Between two looks at the shares. Each look is a process of its own: on two cores, many of them would be what clients wait for.
const LOOK: Duration = Duration::from_millis(500);

/// One story: a mesh, its clients, and how they fare while nothing moves.
struct Story {
    mesh: Mesh,
    load: Load,
    calm: Window,
}

impl Story {
    fn begin(plan: mesh::Plan) -> Self {
        let keys = number_from_environment("KEYVAL_KEYS", 20_000) as u32;
        let rate = number_from_environment("KEYVAL_RATE", 1_000) as u32;
        let mesh = Mesh::of(plan);
        let doors: Vec<String> = mesh.nodes.iter().map(|node| node.cluster.clone()).collect();
        let load = Load::fill(&doors, Plan { keys, rate, value_bytes: 100, clients: 2 });
        load.begin();
        std::thread::sleep(CALM); // not a guess: the first of it is not measured
        load.forget();
        std::thread::sleep(CALM); // not a guess: what is measured
        let calm = load.window();
        eprintln!("{keys} keys, {rate} writes/s and as many reads; nothing moves: {calm}");
        Self { mesh, load, calm }
    }

    /// Clients meanwhile: no error, and p99 within twice what it was before. Where a process was killed, what it had not
    /// answered is lost to its clients, and the time in which it was missed is not part of the moving.
    fn while_it(&self, what: &str, killed: bool, act: impl FnOnce(&Self)) {
        self.load.forget();
        let start = Instant::now();
        act(self);
        let took = start.elapsed();
        std::thread::sleep(CALM.saturating_sub(took)); // not a guess: as long as the calm at least
        let window = self.load.window();
        let wrong = self.load.take_wrong();
        eprintln!("{what}: {took:?}; {window}: {} times the p99 before", ratio(&window, &self.calm));
        assert!(killed || wrong.is_empty(), "{what}: {} errors: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        let strange: Vec<&String> = wrong.iter().filter(|line| !line.contains(": lost: ")).collect();
        assert!(strange.is_empty(), "{what}: {strange:#?}");
    }

    /// Bytes that the first three nodes hold together: keys, and recent writes.
    fn bytes(&self) -> u64 {
        (0..3).map(|node| self.mesh.info(node, "memory", "used_memory")).sum()
    }

    /// Waits until they have less than before others took their shares, whatever clients have written meanwhile.
    fn until_freed(&self, before: u64) {
        until("what has moved away is freed", Duration::from_secs(10), || self.bytes() < before);
    }

    /// Waits until all ranges lie as they should, among so many nodes.
    fn until_even(&self, nodes: usize) {
        until_every(LOOK, &format!("{nodes} nodes have their shares"), PATIENCE, || is_even(&self.mesh, 0, nodes));
    }
}

/// Whether so many nodes hold and head their shares of all ranges, with two copies, as one of them says.
fn is_even(mesh: &Mesh, at: usize, nodes: usize) -> bool {
    let Some(roster) = mesh.ctl(at, &["nodes"]) else { return false };
    let roster: Vec<&Value> = roster["nodes"].as_array().into_iter().flatten().collect();
    let has_share = |what: &str, all: f64| {
        let share = all / nodes as f64;
        roster.iter().all(|node| node[what].as_f64().is_some_and(|has| (has - share).abs() <= (share / 20.0).max(1.0)))
    };
    let loads = roster.iter().any(|node| node["loading"].as_u64() != Some(0));
    roster.len() == nodes && !loads && has_share("heads", 1024.0) && has_share("holds", 2048.0)
}

fn ratio(window: &Window, calm: &Window) -> f64 {
    (window.p99.as_secs_f64() / calm.p99.as_secs_f64() * 100.0).round() / 100.0
}

#[test]
fn drones_come_and_go_while_clients_work() {
    let plan = mesh::Plan::of(3, 2)
        .with("KEYVAL__NODE_EXPIRY", "8s")
        .with("KEYVAL__NODE__ON_TERM", "leave")
        .with("KEYVAL__NODE__GRACE", "120s");
    let mut story = Story::begin(plan);
    let before = story.bytes();
    story.mesh.add(1);
    story.while_it("a fourth node joins", false, |story| story.until_even(4));
    story.until_freed(before);
    story.mesh.add(3);
    story.while_it("a fifth node joins", false, |story| story.until_even(5));
    story.until_freed(before);
    story.while_it("nothing moves among five", false, |_| ());
    story.while_it("the fourth is drained", false, |story| {
        let name = &story.mesh.nodes[3].name;
        let preview = story.mesh.ctl(2, &["drain", name, "--dry-run"]).expect("an answer");
        assert!(preview["lines"][0].as_str().is_some_and(|line| line.contains("copies are made")), "{preview}");
        let drained = story.mesh.ctl(2, &["drain", name]).expect("an answer");
        assert!(drained["error"].is_null(), "{drained}");
        story.until_even(4);
    });
    assert_eq!(story.mesh.ended(3), Some(0), "its process ends in order");
    story.while_it("the fifth leaves by SIGTERM", false, |story| {
        story.mesh.terminate(4);
        story.until_even(3);
    });
    assert_eq!(story.mesh.ended(4), Some(0), "its process ends in order");
    // The commander is not the one that is killed: elections have stories of their own.
    let victim = (1..3).find(|node| Some(*node) != story.mesh.commander_seen_by(0).map(|it| it.0)).expect("another");
    story.mesh.kill(victim);
    until("its ranges are served by others", Duration::from_secs(10), || {
        story.mesh.ctl(0, &["status"]).is_some_and(|status| status["ranges"]["served"] == 1024)
    });
    std::thread::sleep(Duration::from_secs(1)); // not a guess: what was asked of the killed one is answered or lost by then
    story.load.take_wrong();
    story.while_it("the third was killed, and expires", true, |story| story.until_even(2));
    let moved = story.load.moved();
    let wrong = story.load.end();
    assert!(wrong.is_empty(), "{wrong:#?}");
    eprintln!("{moved} times a door named another");
}

#[test]
fn six_drones_come_and_leave_together_and_then_the_commander_is_killed() {
    let plan = mesh::Plan::of(3, 2).with("KEYVAL__NODE__ON_TERM", "leave").with("KEYVAL__NODE__GRACE", "27s");
    let mut story = Story::begin(plan);
    let open: Vec<usize> = (0..3).map(|node| story.mesh.open_files(node)).collect();
    (0..6).for_each(|at| _ = story.mesh.add(at % 3));
    story.while_it("six nodes join", false, |story| story.until_even(9));
    story.while_it("they leave by SIGTERM, all at once", false, |story| {
        (3..9).for_each(|node| story.mesh.terminate(node));
        story.until_even(3);
    });
    until("their processes have ended", Duration::from_secs(10), || (3..9).all(|node| story.mesh.is_gone(node)));
    (3..9).for_each(|node| assert_eq!(story.mesh.ended(node), Some(0), "it ends in order"));
    until("links to those who left are closed", Duration::from_secs(10), || {
        (0..3).all(|node| story.mesh.open_files(node) <= open[node] + 2)
    });
    let (commander, term) = story.mesh.commander(&[0, 1, 2]);
    let killed = Instant::now();
    story.mesh.kill(commander);
    let others = story.mesh.others(commander);
    let others: Vec<usize> = others.into_iter().filter(|node| *node < 3).collect();
    until("another commands", Duration::from_secs(10), || {
        others.iter().all(|node| story.mesh.commander_seen_by(*node).is_some_and(|(_, now)| now > term))
    });
    let took = killed.elapsed();
    eprintln!("another commands {took:?} after the commander was killed");
    assert!(took <= Duration::from_secs(1), "{took:?}");
    until("its ranges are served by others", Duration::from_secs(10), || {
        story.mesh.ctl(others[0], &["status"]).is_some_and(|status| status["ranges"]["served"] == 1024)
    });
    let wrong = story.load.end();
    let strange: Vec<&String> = wrong.iter().filter(|line| !line.contains(": lost: ")).collect();
    assert!(strange.is_empty(), "{strange:#?}");
}

/// The longest that any operation may wait while a node is started anew.
const LONGEST: Duration = Duration::from_millis(500);

#[test]
fn nodes_are_started_anew_one_after_the_other_and_nobody_notices() {
    let mut story = Story::begin(mesh::Plan::of(5, 2));
    for node in 0..5 {
        story.load.forget();
        let other = (node + 1) % 5;
        story.mesh.terminate(node);
        until("its process has ended", Duration::from_secs(10), || {
            assert_enough_serve(&story.mesh, other);
            story.mesh.is_gone(node)
        });
        story.mesh.restart(node);
        until("it is back, and every range has its copies", PATIENCE, || {
            assert_enough_serve(&story.mesh, other);
            story.mesh.may_go_on(other)
        });
        let (window, wrong) = (story.load.window(), story.load.take_wrong());
        eprintln!("node {} was started anew: {window}", node + 1);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(window.longest <= LONGEST, "{window}");
    }
    let wrong = story.load.end();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// No range has fewer holders that serve than one less than there should be.
fn assert_enough_serve(mesh: &Mesh, at: usize) {
    let Some(map) = mesh.ctl(at, &["map"]) else { return };
    for run in map["runs"].as_array().into_iter().flatten() {
        let serves = |holder: &&Value| holder["state"] != "loading";
        let serving = run["holders"].as_array().map_or(0, |holders| holders.iter().filter(serves).count());
        assert!(serving >= 1, "{run}");
    }
}
