//! `keyval chaos` itself: it finds nothing against a mesh that is as it should be, and it does notice when somebody changes a
//! key behind its back.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::client::Reply;
use crate::mesh::{Mesh, Plan, binary, until};

/// Starts it with these words.
fn chaos(words: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.arg("chaos").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("chaos starts")
}

/// Its code and what it printed, on the standard output and as errors.
fn end(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().expect("chaos ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn outcome(words: &[&str]) -> Value {
    let (code, printed, errors) = end(chaos(&[words, &["--json"]].concat()));
    eprintln!("chaos {}: {printed}", words.join(" "));
    assert_eq!(code, Some(0), "{printed}\n{errors}");
    let outcome: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&outcome["good"], &outcome["linearizable"]), (&true.into(), &true.into()));
    assert_eq!((&outcome["lost"], &outcome["findings"]), (&0.into(), &Value::Array(Vec::new())));
    assert_eq!(outcome["left"], Value::Array(Vec::new()), "all keys are deleted");
    outcome
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_mesh_of_its_own_bears_all_faults() {
    // Others measure times.
    let _alone = Mesh::alone();
    let outcome = outcome(&["--for", "10s", "--seed", "3"]);
    let counts = &outcome["outcomes"];
    let (written, counted, read) = (&counts["acknowledged"], &counts["counted"], &counts["reads"]);
    assert!(number(written) > 500 && number(counted) > 100 && number(read) > 100, "{counts}");
    let faults = outcome["faults"].as_array().expect("a list");
    assert!(!faults.is_empty(), "ten seconds suffice for one");
    for fault in faults {
        assert!(fault["gap_s"].as_f64() > Some(0.0) && fault["well_after_s"].as_f64() >= fault["lasted_s"].as_f64());
    }
    let kinds = outcome["by_fault"].as_object().expect("by kind").values();
    assert_eq!(kinds.map(|sum| number(&sum["times"])).sum::<u64>(), faults.len() as u64);
}

#[test]
fn a_mesh_of_somebody_is_harmed_and_made_whole() {
    let mesh = Mesh::of(Plan::of(3, 2));
    let dir = mesh.folder().join("mesh");
    let dir = dir.to_str().expect("a path that is text");
    let before = pids(&mesh);
    let outcome = outcome(&["--for", "6s", "--dir", dir, "--seed", "1"]);
    let faults = outcome["faults"].as_array().expect("a list");
    let killed = faults.iter().filter(|fault| fault["fault"] == "kill").count();
    assert!(killed >= 1 && faults.len() > killed, "both kinds within the first two: {faults:?}");
    // Whoever was killed runs again, in the care of `keyval local`, and is listed so.
    let after = pids(&mesh);
    assert_ne!(before, after);
    assert!(after.iter().all(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()), "{after:?}");
    mesh.until_well(0, 3, Duration::from_secs(60));
    assert_eq!(mesh.ask(0, &["DBSIZE"]).expect("a reply"), Reply::Integer(0), "nothing is left behind");

    let (code, _, errors) = end(chaos(&["--dir", dir, "--faults", "cut"]));
    assert_eq!(code, Some(2));
    assert!(errors.contains("--faults cut") && errors.contains("proxy"), "{errors}");
}

fn pids(mesh: &Mesh) -> Vec<u64> {
    let text = std::fs::read_to_string(mesh.folder().join("mesh/nodes.json")).expect("nodes.json");
    let nodes: Value = serde_json::from_str(&text).expect("JSON");
    nodes.as_array().expect("a list").iter().map(|node| number(&node["pid"])).collect()
}

#[test]
fn whoever_changes_a_key_is_noticed() {
    let mesh = Mesh::of(Plan::of(3, 2));
    let mut child = chaos(&["--at", &mesh.nodes[0].client, "--for", "4s"]);
    let mut output = BufReader::new(child.stdout.take().expect("it is read"));
    let mut first = String::new();
    output.read_line(&mut first).expect("a line");
    // "...; 9 clients, keys chaos:12ab34cd:*, seed 7"
    let prefix =
        first.split("keys ").nth(1).and_then(|rest| rest.split(":*").next()).expect("what its keys begin with");
    let register = format!("{prefix}:r0");
    let mut client = mesh.client(1);
    let mut printed = String::new();
    // Whether a reader looks before the next write is chance, so it is deleted again as soon as it is there.
    for _ in 0..40 {
        until("the register is written", Duration::from_secs(10), || {
            client.ask(&["DEL", &register]).expect("a reply") == Reply::Integer(1)
        });
    }
    output.read_to_string(&mut printed).expect("text");
    let code = child.wait().expect("chaos ends").code();
    eprintln!("{first}{printed}");
    assert_eq!(code, Some(1));
    assert!(printed.contains("verdict: VIOLATED: 0 lost, 0 uncertain, NOT linearizable"), "{printed}");
    let told = printed.split("not linearizable: ").nth(1).expect("a finding");
    assert!(told.starts_with(&register), "{told}");
    let excerpt: Vec<&str> = told.lines().skip(1).take_while(|line| line.starts_with("  ")).collect();
    assert!((2..=4).contains(&excerpt.len()), "{excerpt:?}");
    assert!(excerpt.iter().any(|line| line.ends_with("GET          answered nothing")), "{excerpt:?}");
    assert!(excerpt.iter().any(|line| line.ends_with("acknowledged")), "{excerpt:?}");
}
