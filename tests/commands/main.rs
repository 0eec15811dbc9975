//! Every command, as a client hears it: scripts of commands with the replies they should get.
//!
//! The replies under `like_redis` were recorded from Redis 7.0 (with UPDATE_GOLDENFILES=1 they are again), and ours must be the
//! same. What Redis does not have, or we mean to do otherwise, stands under `ours`. Where a redis-server is installed the record
//! is compared with it, and so are random commands.

mod redis;
mod speaker;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use keyval::commands::{TABLE, resolve};
use keyval::messages::client::Reply;

use redis::Redis;
use speaker::{Script, Speaker, shown};
use world::World;

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

fn play(speaker: impl Speaker, path: &Path) -> (String, BTreeSet<Vec<Bytes>>) {
    let input = fs::read_to_string(path).expect("a readable script");
    let mut script = Script::new(speaker);
    let output =
        goldenscript::generate(&mut script, &input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (output, script.said)
}

fn is_recording() -> bool {
    std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1")
}

/// Compares line by line, so that a difference is found at a glance.
fn assert_same(path: &Path, recorded: &str, played: &str) {
    for (number, (recorded, played)) in recorded.lines().zip(played.lines()).enumerate() {
        assert_eq!(played, recorded, "{}:{}", path.display(), number + 1);
    }
    assert_eq!(played, recorded, "{}", path.display());
}

#[test]
fn replies_are_those_that_were_recorded() {
    for path in scripts("like_redis") {
        if is_recording() {
            let redis = Redis::start().expect("recording needs a redis-server");
            fs::write(&path, play(redis, &path).0).expect("a writable script");
        }
        let (played, _) = play(World::new(), &path);
        assert_same(&path, &fs::read_to_string(&path).expect("a readable script"), &played);
    }
    for path in scripts("ours") {
        let (played, _) = play(World::new(), &path);
        if is_recording() {
            fs::write(&path, &played).expect("a writable script");
        }
        assert_same(&path, &fs::read_to_string(&path).expect("a readable script"), &played);
    }
}

#[test]
fn the_record_is_true() {
    if is_recording() {
        return eprintln!("skipped: it is being written");
    }
    let Some(_) = Redis::start() else { return eprintln!("skipped: no redis-server is installed") };
    for path in scripts("like_redis") {
        let redis = Redis::start().expect("it started before");
        assert_same(&path, &fs::read_to_string(&path).expect("a readable script"), &play(redis, &path).0);
    }
}

#[test]
fn every_command_is_covered() {
    let paths = scripts("like_redis").into_iter().chain(scripts("ours"));
    let said: BTreeSet<Vec<Bytes>> = paths.flat_map(|path| play(World::new(), &path).1).collect();
    let covered: BTreeSet<&str> = said.iter().filter_map(|words| resolve(words).ok()).map(|spec| spec.name).collect();
    let all = TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
    let has_meaning = |spec: &&keyval::commands::Spec| !matches!(spec.work, keyval::commands::Work::Subcommands);
    let missing: Vec<&str> =
        all.filter(has_meaning).map(|spec| spec.name).filter(|name| !covered.contains(name)).collect();
    assert!(missing.is_empty(), "no script says {missing:?}");
}

/// What stands in the table is what Redis says of its commands of the same name; else clients would route wrongly.
#[test]
fn the_table_agrees_with_redis() {
    let Some(mut redis) = Redis::start() else { return eprintln!("skipped: no redis-server is installed") };
    let mut world = World::new();
    let told = |speaker: &mut dyn Speaker, name: &str| {
        let reply = speaker.call(&[Bytes::from("COMMAND"), Bytes::from("INFO"), Bytes::from(name.to_owned())]);
        let Reply::Array(mut infos) = reply else { panic!("{name}: {reply:?}") };
        infos.remove(0)
    };
    redis.call(&[Bytes::from("HELLO"), Bytes::from("3")]);
    world.call(&[Bytes::from("HELLO"), Bytes::from("3")]);
    let all = TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
    let mut compared = 0;
    for spec in all {
        let theirs = told(&mut redis, spec.name);
        if theirs != Reply::Null {
            assert_eq!(essence(told(&mut world, spec.name)), essence(theirs), "{}", spec.name);
            compared += 1;
        }
    }
    assert!(compared > 60, "only {compared} commands were compared");
}

/// A command's description without its subcommands and notes, its sets in one order.
fn essence(info: Reply) -> String {
    let Reply::Array(mut elements) = info else { panic!("{info:?}") };
    elements.truncate(9);
    if let Some(Reply::Set(specs)) = elements.last_mut() {
        for spec in specs {
            let Reply::Map(fields) = spec else { panic!("{spec:?}") };
            fields.retain(|(name, _)| *name != Reply::text("notes"));
        }
    }
    shown(&Reply::Array(elements))
}

#[test]
fn random_commands_get_the_same_replies() {
    let Some(mut redis) = Redis::start() else { return eprintln!("skipped: no redis-server is installed") };
    let mut world = World::new();
    world.set_clock();
    let mut chance = redis::Chance::new(20_260_731);
    for number in 0..20_000 {
        let words = chance.command();
        let (ours, theirs) = (world.call(&words), redis.call(&words));
        match (&ours, &theirs) {
            // Ends that were counted from now on; the test takes less than a minute.
            (Reply::Integer(ours), Reply::Integer(theirs)) if ours.abs_diff(*theirs) < 60_000 && *ours > 1 << 30 => {}
            _ => assert_eq!(shown(&ours), shown(&theirs), "command {number}: {words:?}"),
        }
    }
}
