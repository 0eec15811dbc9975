//! Seeds, and stories in which one thing happens.

use std::time::Duration;

use super::place::Over;
use super::world::{Plan, WELL_WITHIN, World, play};
use crate::actors::harm::{Harm, Victim};
use crate::actors::supervisor::Ending;
use crate::messages::peer::PROTOCOL;
use crate::settings::OnTerm;
use crate::sim::network::Host;

/// How long a seed does harm.
const HARM: Duration = Duration::from_secs(30);

/// What a run comes to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    digest: [u8; 32],
    events: u64,
    answered: u64,
    unanswered: u64,
    endings: Vec<(Host, Over)>,
}

fn run(seed: u64) -> Result<Run, String> {
    play(seed, Plan::draw, async |world: &mut World| {
        world.until("the mesh is whole", WELL_WITHIN, World::is_whole).await?;
        world.employ();
        world.harm(HARM).await?;
        world.recover().await?;
        let (digest, events) = world.network.digest();
        let (answered, unanswered) = world.book.operations();
        Ok(Run { digest, events, answered, unanswered, endings: std::mem::take(&mut world.endings) })
    })
}

/// Plays one seed, or the one that is asked for.
fn seeds(seeds: std::ops::Range<u64>) {
    let asked = std::env::var("KEYVAL_SEED").ok().map(|seed| seed.parse::<u64>().expect("KEYVAL_SEED is a number"));
    let seeds = asked.map_or(seeds, |seed| seed..seed + 1);
    for seed in seeds {
        match run(seed) {
            Ok(run) if asked.is_some() => eprintln!("seed {seed}: {run:?}"),
            Ok(run) => assert!(run.answered > 1_000, "seed {seed}: only {} operations were answered", run.answered),
            Err(why) => panic!(
                "seed {seed}: {why}\nagain: KEYVAL_SEED={seed} cargo test --lib ring::tests::seeds_1_to_12 -- --nocapture"
            ),
        }
    }
}

#[test]
fn seeds_1_to_12() {
    seeds(1..13);
}

#[test]
fn seeds_13_to_24() {
    seeds(13..25);
}

#[test]
fn one_seed_is_one_run() {
    let first = run(1).expect("a good run");
    assert_eq!(first, run(1).expect("a good run"));
    assert_ne!(first.digest, run(2).expect("a good run").digest);
}

/// A mesh of the usual kind that is whole, with clients at work; then a story.
fn story(plan: Plan, tell: impl AsyncFnOnce(&mut World) -> Result<(), String>) {
    let told = play(
        7,
        |_| plan,
        async |world: &mut World| {
            world.until("the mesh is whole", WELL_WITHIN, World::is_whole).await?;
            world.employ();
            world.pass(Duration::from_secs(1)).await?;
            tell(world).await?;
            world.recover().await
        },
    );
    told.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn an_actor_that_stops_ends_its_node_and_no_other() {
    story(Plan::USUAL, async |world| {
        for (index, victim) in Victim::ALL.into_iter().enumerate().map(|(count, victim)| (count % 3, victim)) {
            world.harmed[index] = true;
            victim.befall(&world.places[index].node().expect("it lives"), Harm::Stop);
            world.until("its node has ended", WELL_WITHIN, |world| !world.endings.is_empty()).await?;
            let (host, over) = world.endings.pop().expect("just seen");
            assert_eq!(host, Host(index), "{victim:?}");
            assert!(matches!(over, Over::Ended(_, Ending::ByError)), "{victim:?}: {over:?}");
            world.until("the mesh is whole again", WELL_WITHIN, World::is_whole).await?;
        }
        assert_eq!(world.endings, []);
        Ok(())
    });
}

#[test]
fn a_panic_of_an_actor_ends_its_node_at_once_and_no_other() {
    story(Plan::USUAL, async |world| {
        for (index, victim) in Victim::ALL.into_iter().enumerate().map(|(count, victim)| (count % 3, victim)) {
            victim.befall(&world.places[index].node().expect("it lives"), Harm::Panic);
            world.pass(Duration::from_millis(25)).await?;
            let (host, over) = world.endings.pop().expect("it has ended");
            assert_eq!(host, Host(index), "{victim:?}");
            assert!(matches!(over, Over::Panicked(_)), "{victim:?}: {over:?}");
            world.until("the mesh is whole again", WELL_WITHIN, World::is_whole).await?;
        }
        assert_eq!(world.endings, []);
        Ok(())
    });
}

#[test]
fn nodes_that_are_told_to_end_hand_over_and_end_in_order() {
    for on_term in [OnTerm::Restart, OnTerm::Leave] {
        story(Plan { on_term, places: 4, ..Plan::USUAL }, async |world| {
            for index in 0..4 {
                world.places[index].tell_to_end();
                world.until("it has ended", WELL_WITHIN, |world| !world.endings.is_empty()).await?;
                let (host, over) = world.endings.pop().expect("just seen");
                assert_eq!(host, Host(index));
                let wanted = if on_term == OnTerm::Leave { Ending::Left } else { Ending::InOrder };
                assert!(matches!(over, Over::Ended(_, ending) if ending == wanted), "{on_term:?}: {over:?}");
                world.until("the mesh is whole again", WELL_WITHIN, World::is_whole).await?;
            }
            Ok(())
        });
    }
}

/// A node ends in order, and another build takes its place.
async fn replace(world: &mut World, index: usize, versions: (u16, u16)) -> Result<(), String> {
    world.places[index].versions = versions;
    world.places[index].tell_to_end();
    world.until("it has ended", WELL_WITHIN, |world| !world.endings.is_empty()).await?;
    world.endings.clear();
    Ok(())
}

#[test]
fn builds_are_replaced_one_after_the_other_while_two_versions_of_the_protocol_are_spoken() {
    story(Plan { places: 4, ..Plan::USUAL }, async |world| {
        // All speak one alone; then each learns the next as well; then each forgets the old.
        let (old, new) = (PROTOCOL.1, PROTOCOL.1 + 1);
        for versions in [(old, new), (new, new)] {
            for index in 0..4 {
                replace(world, index, versions).await?;
                world.until("the mesh is whole again", WELL_WITHIN, World::is_whole).await?;
            }
        }
        // One that goes back to the old has nobody to speak with, and harms nobody.
        replace(world, 3, (old, old)).await?;
        world.pass(Duration::from_secs(10)).await?;
        assert!(!world.is_whole(), "nobody speaks with it");
        assert_eq!(world.endings, []);
        replace(world, 3, (new, new + 1)).await?;
        world.until("the mesh is whole again", WELL_WITHIN, World::is_whole).await
    });
}

#[test]
fn full_mailboxes_lose_nothing() {
    story(Plan { mailbox: 2, clients: 24, ..Plan::USUAL }, async |world| {
        for (count, victim) in Victim::ALL.into_iter().enumerate() {
            let node = world.places[count % 3].node().expect("it lives");
            victim.befall(&node, Harm::Stall(Duration::from_millis(1500)));
            world.pass(Duration::from_secs(1)).await?;
            // Peers' beacons and forwards come all the time; what others hear is said less often.
            let is_busy = matches!(victim, Victim::Heartbeat | Victim::Store);
            assert!(!is_busy || victim.is_full(&node), "{victim:?}");
            world.pass(Duration::from_secs(2)).await?;
        }
        Ok(())
    });
}

#[test]
fn what_is_deleted_behind_the_clients_backs_is_found() {
    for (kind, rule) in [("key", "registers"), ("counter", "counters")] {
        let judged = play(
            7,
            |_| Plan { clients: 12, ..Plan::USUAL },
            async |world: &mut World| {
                world.until("the mesh is whole", WELL_WITHIN, World::is_whole).await?;
                world.employ();
                world.pass(Duration::from_secs(3)).await?;
                for number in 0..12 {
                    world.ask(0, &["DEL".into(), format!("{kind}:{number}")]).await;
                }
                world.pass(Duration::from_secs(3)).await?;
                world.book.judge()
            },
        );
        assert!(judged.is_err_and(|why| why.contains(rule)), "{kind}");
    }
}
