//! Conventions as tests: who may name whom, how a file opens, and words to avoid.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers of src, lowest first, and what each may name of ours. ARCHITECTURE.md, "Who may know whom", says why.
const LAYERS: &[(&str, &[&str])] = &[
    ("planted", &[]),
    ("sites", &[]),
    ("types", &["planted"]),
    ("messages", &["types"]),
    ("keyspace", &["types", "messages"]),
    ("wire", &["types", "messages"]),
    ("resp", &["types", "messages"]),
    ("machines", &["planted", "sites", "types", "messages", "keyspace", "commands", "resp", "wire"]),
    ("commands", &["types", "messages", "keyspace", "resp", "wire", "machines"]),
    ("io", &["types", "messages", "wire"]),
    ("settings", &["types", "messages"]),
    ("sim", &["sites", "types", "messages", "keyspace", "commands", "resp", "wire", "machines"]),
    ("actors", &["types", "messages", "keyspace", "commands", "resp", "wire", "machines", "io", "settings"]),
    (
        "ring",
        &["types", "messages", "keyspace", "commands", "resp", "wire", "machines", "io", "settings", "sim", "actors"],
    ),
    (
        "cli",
        &[
            "planted", "types", "messages", "keyspace", "commands", "resp", "wire", "machines", "io", "settings",
            "sim", "actors",
        ],
    ),
];

/// Folders that know no clock, no socket, no thread and no order that differs from run to run.
const PURE: &[&str] = &["machines", "keyspace", "commands", "resp", "wire", "sim"];

/// Crates that pure folders and plain data never name.
const IMPURE_CRATES: &[&str] = &["actix", "actix_rt", "tokio", "redb", "rustix", "socket2", "std::net", "std::fs"];

/// Words of other systems; DESIGN's own stand in ARCHITECTURE.md, "Words". Prescribed replies keep them, so only comments count.
const AVOID: &[&str] = &["master", "slave", "shard", "bucket", "write-ahead"];

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn layer(path: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(source).expect("a path below src").iter().next().expect("a name");
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn layers_name_only_those_below() {
    let mut complaints = Vec::new();
    for path in sources("src") {
        let layer = layer(&path);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else { continue };
        let text = fs::read_to_string(&path).expect("a readable file");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for after in line.split("crate::").skip(1) {
                let named: String =
                    after.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
                let ours = LAYERS.iter().any(|(name, _)| *name == named);
                if ours && named != layer && !allowed.contains(&named.as_str()) {
                    complaints.push(format!("{}:{}: {layer} must not know {named}", path.display(), number + 1));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn pure_folders_say_so_and_name_nothing_impure() {
    let mut complaints = Vec::new();
    for folder in PURE {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder).join("mod.rs");
        let text = fs::read_to_string(&root).expect("every pure folder has a mod.rs");
        if !text.contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types)]") {
            complaints.push(format!("{}: a pure folder denies the lints of clippy.toml", root.display()));
        }
    }
    for path in sources("src") {
        let layer = layer(&path);
        if !PURE.contains(&layer.as_str()) && layer != "types" && layer != "messages" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable file");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for impure in IMPURE_CRATES {
                if line.contains(&format!("{impure}::")) {
                    complaints.push(format!("{}:{}: {layer} must not know {impure}", path.display(), number + 1));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn every_file_opens_with_its_story() {
    let mut complaints = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")) {
        let text = fs::read_to_string(&path).expect("a readable file");
        if !text.starts_with("//! ") || text.starts_with("//! (") {
            complaints.push(format!("{}: opens without a story", path.display()));
        }
    }
    complain(&complaints);
}

#[test]
fn comments_use_our_own_words() {
    let mut complaints = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")).filter(|path| !path.ends_with("tidy.rs")) {
        let text = fs::read_to_string(&path).expect("a readable file");
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            // What stands in backticks or quotes is somebody else's word, quoted.
            let own: String = comment
                .split(['`', '"'])
                .step_by(2)
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase()
                .replace("webmaster", "");
            for word in AVOID {
                if own.split(|letter: char| !letter.is_alphanumeric() && letter != '-').any(|found| found == *word) {
                    complaints.push(format!("{}:{}: not our word: {word}", path.display(), number + 1));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn nothing_sleeps_for_a_guess() {
    let mut complaints = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")).filter(|path| !path.ends_with("tidy.rs")) {
        let text = fs::read_to_string(&path).expect("a readable file");
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // A pause between two looks or two tries is no guess; it says so beside itself.
            let says = |line: &str| line.contains("// between looks") || line.to_lowercase().contains("not a guess");
            let explained = says(line) || number > 0 && says(lines[number - 1]);
            if (code.contains("sleep(") || code.contains("thread::sleep")) && !explained {
                complaints.push(format!("{}:{}: sleeps for a guess", path.display(), number + 1));
            }
        }
    }
    complain(&complaints);
}

#[test]
fn nothing_is_left_for_later_without_a_reason() {
    let mut complaints = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")).filter(|path| !path.ends_with("tidy.rs")) {
        let text = fs::read_to_string(&path).expect("a readable file");
        for (number, line) in text.lines().enumerate() {
            for marker in ["TODO", "FIXME", "XXX", "todo!", "unimplemented!"] {
                if line.contains(marker) {
                    complaints.push(format!("{}:{}: {marker}", path.display(), number + 1));
                }
            }
        }
    }
    complain(&complaints);
}
