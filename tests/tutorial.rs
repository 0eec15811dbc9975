//! What docs/sim.md shows is what it comes to: every command of it is run, and must print what stands below it.
//!
//! `UPDATE_GOLDENFILES=1` writes what is printed now; read it before you keep it.

use std::path::Path;
use std::process::Command;

#[test]
fn the_tutorial_of_the_simulator_shows_what_happens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sim.md");
    let text = std::fs::read_to_string(&path).expect("docs/sim.md is there");
    let played = play(&text);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, played).expect("it can be written");
        return;
    }
    for (number, (written, played)) in text.lines().zip(played.lines()).enumerate() {
        assert_eq!(written, played, "line {} of docs/sim.md shows what does not happen", number + 1);
    }
    assert_eq!(text.lines().count(), played.lines().count(), "docs/sim.md shows more or less than happens");
}

/// The same text with the output of every command in a `console` block as it is now.
fn play(text: &str) -> String {
    let mut played = String::new();
    let mut in_console = false;
    for line in text.lines() {
        let command = line.strip_prefix("$ ").filter(|_| in_console);
        if line.starts_with("```") {
            in_console = line == "```console";
        } else if in_console && command.is_none() {
            continue;
        }
        played += line;
        played.push('\n');
        if let Some(command) = command {
            played += &output(command);
        }
    }
    played
}

fn output(command: &str) -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_keyval")).parent().expect("a binary is in a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let done =
        Command::new("sh").args(["-c", command]).env("PATH", path).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let done = done.expect("a shell");
    assert!(done.stderr.is_empty(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}
