//! What must hold for whatever bytes come from outside (fuzz/oracles.rs): for all that ever broke it, a file each in
//! tests/regress, and for some at random.

#[path = "../fuzz/oracles.rs"]
mod oracles;

use std::path::Path;

use proptest::prelude::*;

/// Plays the files of one folder, and so many inputs at random.
fn play(oracle: fn(&[u8]), folder: &str, cases: u32, longest: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regress").join(folder);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for file in files {
        eprintln!("{}", file.path().display());
        oracle(&std::fs::read(file.path()).expect("it can be read"));
    }
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(data in prop::collection::vec(any::<u8>(), 0..longest))| oracle(&data));
}

#[test]
fn commands_of_clients() {
    play(oracles::resp_commands, "resp_commands", 2_000, 200);
}

#[test]
fn replies_to_clients() {
    play(oracles::resp_replies, "resp_replies", 2_000, 100);
}

#[test]
fn frames_of_peers() {
    play(oracles::peer_frames, "peer_frames", 2_000, 200);
}

#[test]
fn commands_and_a_plain_map() {
    play(oracles::commands_model, "commands_model", 500, 600);
}

#[test]
fn damaged_journals() {
    play(oracles::journal, "journal", 50, 20);
}

#[test]
fn small_worlds() {
    play(oracles::worlds, "worlds", 10, 10);
}
