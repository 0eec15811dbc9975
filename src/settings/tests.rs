//! Each source overrules the one before it; each mistake has its message.

use std::io::Write;

use super::*;

const DEFAULTS: &str = include_str!("../../config/default.toml");

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn load(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let file = file(text);
    Settings::load(&Sources {
        file: Some(file.path().to_owned()),
        environment: Some(pairs(environment)),
        flags: pairs(flags),
    })
}

fn with(flags: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load(&Sources { environment: Some(Vec::new()), flags: pairs(flags), ..Sources::default() })
}

/// The one line an operator sees; it must name the keys.
fn complaint(flags: &[(&str, &str)]) -> String {
    let line = with(flags).expect_err("refused").to_string();
    for (key, _) in flags {
        assert!(line.contains(key), "{line:?} does not name {key}");
    }
    assert!(!line.contains('\n'), "{line:?}");
    line
}

#[test]
fn the_file_of_defaults_is_the_defaults() {
    assert_eq!(load(DEFAULTS, &[], &[]), Ok(Settings::default()));
    assert_eq!(load("", &[], &[]), Ok(Settings::default()));
}

#[test]
fn the_file_of_defaults_mentions_every_key_and_explains_it() {
    let parsed = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)).build().unwrap();
    let mut found = Vec::new();
    flatten(String::new(), parsed.cache, &mut found);
    for key in keys() {
        assert!(found.iter().any(|(name, _)| name == key.name), "{} is not in config/default.toml", key.name);
        let marked = match key.scope {
            Scope::Node => continue,
            Scope::Mesh => "(mesh)",
            Scope::Founding => "(founding)",
        };
        let last = key.name.rsplit('.').next().unwrap();
        let place = DEFAULTS.find(&format!("\n{last} =")).unwrap();
        let paragraph = DEFAULTS[..place].rsplit("\n\n").next().unwrap();
        assert!(paragraph.contains(marked), "{} belongs to the mesh; its explanation does not say so", key.name);
    }
    assert_eq!(found.len(), keys().len());
}

#[test]
fn what_is_shown_can_be_read_again() {
    let settings = Settings::default();
    for key in keys() {
        let mut again = Settings::default();
        (key.read)(&mut again, &(key.show)(&settings)).unwrap_or_else(|why| panic!("{}: {why}", key.name));
        assert_eq!(again, settings, "{}", key.name);
    }
}

#[test]
fn later_sources_overrule_earlier_ones() {
    let text = "[node]\nname = 'file'\nzone = 'file'\nweight = 7\n";
    let environment = [("KEYVAL__NODE__ZONE", "env"), ("KEYVAL__NODE__NAME", "env"), ("OTHER__NODE__NAME", "x")];
    let settings = load(text, &environment, &[("node.name", "flag")]).unwrap();
    assert_eq!((settings.node.name.as_str(), settings.node.zone.as_str()), ("flag", "env"));
    assert_eq!(settings.node.weight, 7);
}

#[test]
fn keys_before_all_sections_have_names_in_the_environment_too() {
    let settings = load("", &[("KEYVAL__FAILURE_TIMEOUT", "1s"), ("KEYVAL__CLOCK_DRIFT", "0.01")], &[]).unwrap();
    assert_eq!(settings.timing(), Timing { failure_timeout: Duration::from_secs(1), drift_ppm: 10_000 });
}

#[test]
fn lists_are_lists_in_files_and_separated_by_commas_elsewhere() {
    let wanted = vec!["a:1".to_owned(), "b:16234".to_owned()];
    assert_eq!(load("[mesh]\njoin = ['a:1', 'b']", &[], &[]).unwrap().mesh.join, wanted);
    assert_eq!(load("", &[("KEYVAL__MESH__JOIN", "a:1, b")], &[]).unwrap().mesh.join, wanted);
    assert_eq!(
        load("[mesh]\njoin = ['c']", &[("KEYVAL__MESH__JOIN", "")], &[]).unwrap().mesh.join,
        Vec::<String>::new()
    );
}

#[test]
fn values_are_written_as_people_write_them() {
    let settings = with(&[
        ("client.park", "1.5 s"),
        ("client.idle_timeout", "5min"),
        ("client.output_limit", "64MiB"),
        ("peer.listen", ":7"),
        ("node.workers", "3"),
        ("mesh.found", "yes"),
        ("replication.give_up", "2m"),
    ])
    .unwrap();
    assert_eq!(settings.client.park, Duration::from_millis(1500));
    assert_eq!(settings.client.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(settings.client.output_limit, 64 << 20);
    assert_eq!(settings.peer.listen, on_all(7));
    assert_eq!(settings.workers(), 3);
    assert!(settings.mesh.found);
    assert_eq!(settings.replication.give_up, GiveUp::After(Duration::from_secs(120)));
}

#[test]
fn an_unknown_key_is_named_with_its_origin() {
    let line = load("[node]\nnme = 'x'", &[], &[]).unwrap_err().to_string();
    assert!(line.starts_with("node.nme (") && line.contains(".toml") && line.contains("is node.name meant?"), "{line}");
    let line = load("", &[("KEYVAL__PEER__LISTEN__PORT", "1")], &[]).unwrap_err().to_string();
    assert!(line.starts_with("peer.listen.port (the environment): "), "{line}");
    assert!(complaint(&[("nonsense", "1")]).contains("(flags)"));
    assert!(complaint(&[("node", "1")]).contains("no such key"));
}

#[test]
fn a_bad_value_is_named_with_what_is_wanted() {
    for (key, value, wanted) in [
        ("failure_timeout", "500", "with its unit"),
        ("client.listen", "here", "an address is wanted"),
        ("node.role", "king", "drone, witness"),
        ("node.weight", "-1", "a whole number"),
        ("mesh.found", "perhaps", "true or false"),
        ("mesh.join", "a:b", "host:port"),
        ("clock_drift", "much", "5%"),
        ("replication.give_up", "soon", "\"never\""),
        ("client.query_limit", "1 heap", "number of bytes"),
        ("log.format", "rhyme", "text, plain"),
    ] {
        let line = complaint(&[(key, value)]);
        assert!(line.contains(wanted), "{line}");
    }
    let line = load("[node]\nname = ['a', 'b']", &[], &[]).unwrap_err().to_string();
    assert!(line.contains("not a list"), "{line}");
}

#[test]
fn inconsistent_sets_are_refused_by_name() {
    for (flags, why) in [
        (&[("failure_timeout", "99ms")][..], "100ms"),
        (&[("clock_drift", "45%")], "lost beacons"),
        (&[("clock_drift", "38%")], "election"),
        (&[("clock_drift", "0")], "no two clocks"),
        (&[("node_expiry", "4s")], "seat"),
        (&[("replication.min_copies", "3"), ("replication.factor", "2")], "more copies"),
        (&[("replication.give_up", "1s")], "lease"),
        (&[("replication.factor", "0")], "1 to 9"),
        (&[("mesh.ranges", "1000")], "power of two"),
        (&[("mesh.ranges", "8")], "power of two"),
        (&[("client.listen", ":7234")], "one port"),
        (&[("peer.listen", "127.0.0.1:8234")], "one port"),
        (&[("peer.listen", ":0")], "a port is needed"),
        (&[("peer.announce", "0.0.0.0")], "others can reach"),
        (&[("node.role", "witness"), ("node.weight", "100")], "holds no data"),
        (&[("node.weight", "0")], "1 to 10000"),
        (&[("node.name", "two words")], "letters"),
        (&[("election.voters", "0")], "1 to 15"),
        (&[("node.workers", "0")], "auto"),
    ] {
        let line = complaint(flags);
        assert!(line.contains(why), "{line}");
    }
    // Doors at different addresses of a host may share a port.
    with(&[("client.listen", "127.0.0.1:7"), ("cluster.listen", "127.0.0.2:7")]).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_gives_away_nothing() {
    let missing = Sources { file: Some("/nowhere/keyval.toml".into()), ..Sources::default() };
    assert!(Settings::load(&missing).unwrap_err().to_string().starts_with("/nowhere/keyval.toml: "));
    let line = load("[client]\npassword = \"hunter2", &[], &[]).unwrap_err().to_string();
    assert!(line.contains("line 2") && !line.contains("hunter2") && !line.contains('\n'), "{line}");
}

#[test]
fn secrets_are_never_printed() {
    let settings = with(&[("client.password", "hunter2"), ("mesh.secret", "hunter3")]).unwrap();
    let printed = format!("{settings:?} {:?}", settings.entries());
    assert!(!printed.contains("hunter"), "{printed}");
    assert_eq!(settings.mesh.secret.bytes(), b"hunter3");
}

#[test]
fn a_witness_weighs_nothing() {
    let settings = with(&[("node.role", "witness"), ("node.name", "w")]).unwrap();
    let candidate = settings.candidate(NodeId(1), Incarnation(2));
    assert_eq!((candidate.weight, candidate.role, candidate.name.as_str()), (0, Role::Witness, "w"));
}

#[test]
fn silence_ends_the_wait_for_a_sole_holder_only() {
    let settings = Settings::default().mesh_settings();
    assert_eq!((settings.factor, settings.give_up_after()), (2, None));
    let alone = with(&[("replication.factor", "1")]).unwrap();
    assert_eq!(alone.mesh_settings().give_up_after(), Some(alone.timing().sole_lease()));
}
