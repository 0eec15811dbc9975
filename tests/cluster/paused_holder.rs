//! One holder is paused under a flood of writes, the node that heads its ranges is killed meanwhile, and the paused one goes on
//! as if nothing had happened: nothing that was acknowledged may be missing.

use std::thread;
use std::time::Duration;

use crate::mesh::{Mesh, Plan};
use crate::rounds;
use crate::siege::{Flood, missing};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(2);

#[test]
fn two_copies_that_both_must_have_a_write_lose_none_in_a_short_pause() {
    play(Plan::of(3, 2).with("KEYVAL__REPLICATION__MIN_COPIES", "2"), SHORT)
}

#[test]
fn two_copies_that_both_must_have_a_write_lose_none_in_a_long_pause() {
    play(Plan::of(3, 2).with("KEYVAL__REPLICATION__MIN_COPIES", "2"), LONG)
}

#[test]
fn three_copies_lose_none_in_a_short_pause() {
    play(Plan::of(3, 3), SHORT)
}

#[test]
fn three_copies_lose_none_in_a_long_pause() {
    play(Plan::of(3, 3), LONG)
}

fn play(plan: Plan, pause: Duration) {
    let what = format!("{} copies, a pause of {pause:?}", plan.copies);
    let mut mesh = Mesh::of(plan);
    let rounds = rounds(1);
    for round in 0..rounds {
        mesh.until_well(0, 3, Duration::from_secs(120));
        mesh.until_spread(0, Duration::from_secs(60));
        let (commander, _) = mesh.commander(&[0, 1, 2]);
        // Each of the three is paused in turn, and each heads ranges that the other two hold.
        let paused = (commander + 1 + round) % 3;
        let killed = (paused + 1) % 3;
        let left = (paused + 2) % 3;

        let flood = Flood::begin(&mesh);
        flood.until_more(5_000);
        mesh.pause(paused);
        thread::sleep(pause / 2); // not a guess: the pause itself
        mesh.kill(killed);
        thread::sleep(pause / 2); // not a guess: the pause itself
        mesh.resume(paused);
        flood.until_more(5_000);
        let acknowledged = flood.end();

        // A range that only the killed one served waits for it, since silence is no death; then the newest copy that is left
        // goes on.
        mesh.restart(killed);
        mesh.until_well(left, 3, Duration::from_secs(120));
        let lost = missing(&mesh, left, &acknowledged);
        eprintln!("{what}, round {round}: {} writes acknowledged, {} lost", acknowledged.len(), lost.len());
        assert!(lost.is_empty(), "{what}: {} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
        // What the next round writes are the same keys.
        mesh.ask(left, &["FLUSHALL"]).expect("a reply");
    }
}
