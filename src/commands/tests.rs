//! What a session does with a command before and after the heads have carried it out. What each command does is told in
//! tests/commands.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::connection::{Needs, needs, run};
use super::view::{ConnectionState, Door, Identity, View};
use super::*;
use crate::keyspace::Keyspace;
use crate::machines::dictionary::{Dictionary, Gone};
use crate::machines::election::Published;
use crate::messages::chain::{Change, Value};
use crate::messages::client::{Reply, Request};
use crate::messages::election::Seats;
use crate::messages::ownership::{
    Addresses, Candidate, Chain, Holder, HolderState, MeshSettings, OnTotalLoss, Role, Standing,
};
use crate::resp::Protocol;
use crate::types::{Incarnation, MeshId, NodeId, Now, RangeId, Slot, Term, Version};

const RANGES: usize = 64;

fn words(text: &str) -> Vec<Bytes> {
    text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn planned(text: &str, reach: Reach<'_>) -> Result<Plan, Reply> {
    let words = words(text);
    plan(resolve(&words)?, words, RANGES, reach)
}

fn many(text: &str) -> (Vec<Request>, Merge) {
    match planned(text, Reach::Mesh) {
        Ok(Plan::Many(requests, merge)) => (requests, merge),
        other => panic!("{text}: {other:?}"),
    }
}

fn range_of(key: &str) -> RangeId {
    RangeId::of_key(key.as_bytes(), RANGES)
}

#[test]
fn names_are_found_in_any_case_and_no_others() {
    for spec in TABLE {
        assert!(std::ptr::eq(lookup(spec.name.as_bytes()).expect(spec.name), *spec));
        assert!(std::ptr::eq(lookup(spec.name.to_ascii_uppercase().as_bytes()).expect(spec.name), *spec));
    }
    for name in ["", "g", "gett", "get ", "GET\0", "client|id", "\u{47}\u{45}\u{54}\u{1}"] {
        assert!(lookup(name.as_bytes()).is_none(), "{name:?}");
    }
}

#[test]
fn the_table_is_consistent() {
    let names: BTreeSet<&str> = TABLE.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), TABLE.len(), "a name stands twice");
    for spec in TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands)) {
        assert_eq!(spec.name, spec.name.to_ascii_lowercase());
        assert!(!spec.summary.is_empty() && spec.summary.is_ascii(), "{}", spec.name);
        assert_eq!(spec.keys == KeyPlaces::NONE, spec.key_flags.is_empty(), "{}", spec.name);
        let needs_keys = matches!(spec.work, Work::Data(Route::Keys | Route::Split(_), _));
        assert_eq!(spec.keys != KeyPlaces::NONE, needs_keys, "{}", spec.name);
        let is_data = matches!(spec.work, Work::Data(..));
        assert!(is_data || !spec.writes(), "{} writes, so a head must do it", spec.name);
        for sub in spec.subcommands {
            assert!(sub.name.starts_with(&format!("{}|", spec.name)), "{}", sub.name);
        }
    }
}

#[test]
fn one_key_goes_to_its_range() {
    let request = Request { range: range_of("a"), words: words("GET a"), write: false, session: 0 };
    assert_eq!(planned("GET a", Reach::Mesh), Ok(Plan::One(request.clone())));
    assert_eq!(planned("GET a", Reach::Node(&[])), Ok(Plan::One(request)));
    let Ok(Plan::One(request)) = planned("set a 1", Reach::Mesh) else { panic!("one range") };
    assert!(request.write);
    assert_eq!(planned("PING", Reach::Mesh), Ok(Plan::Connection));
    assert_eq!(planned("MESH STATUS", Reach::Mesh), Ok(Plan::Mesh));
}

#[test]
fn keys_of_several_ranges_are_split_at_the_plain_door_alone() {
    let (requests, merge) = many("MGET a b a {a}c");
    assert_ne!(range_of("a"), range_of("b"));
    let replies = requests
        .iter()
        .map(|request| Reply::Array(request.words[1..].iter().map(|key| Reply::Bulk(key.clone())).collect()))
        .collect();
    assert_eq!(merge.finish(replies), Reply::Array(words("a b a {a}c").into_iter().map(Reply::Bulk).collect()));
    assert_eq!(planned("MGET a b", Reach::Node(&[])), Err(errors::cross_slot()));
    assert!(matches!(planned("MGET {a}1 {a}2", Reach::Node(&[])), Ok(Plan::One(_))));
}

#[test]
fn values_stay_with_their_keys_when_split() {
    let (requests, _) = many("MSET a 1 b 2 a 3");
    let mut all: Vec<Vec<Bytes>> = requests.into_iter().map(|request| request.words).collect();
    all.sort_by_key(|words| words.len());
    assert_eq!(all, vec![words("MSET b 2"), words("MSET a 1 a 3")]);
    assert_eq!(planned("MSET a 1 b", Reach::Mesh), Err(errors::wrong_number("mset")));
}

#[test]
fn what_was_partly_done_is_not_called_undone() {
    let (_, merge) = many("DEL a b");
    assert_eq!(merge.clone().finish(vec![Reply::Integer(1), Reply::Integer(1)]), Reply::Integer(2));
    assert_eq!(merge.clone().finish(vec![errors::try_again(), errors::try_again()]), errors::try_again());
    let Reply::Error(text) = merge.clone().finish(vec![Reply::Integer(1), errors::try_again()]) else {
        panic!("an error")
    };
    assert!(text.starts_with("UNCERTAIN "), "{text}");
    assert_eq!(merge.finish(vec![errors::try_again(), errors::uncertain()]), errors::uncertain());
    // A read may be asked again, whatever came of its parts.
    let (_, merge) = many("MGET a b");
    assert_eq!(merge.finish(vec![Reply::Array(vec![Reply::Null]), errors::try_again()]), errors::try_again());
}

#[test]
fn commands_without_keys_concern_all_ranges_or_those_of_the_node() {
    let (requests, merge) = many("DBSIZE");
    assert_eq!(requests.len(), RANGES);
    assert_eq!(merge.finish(vec![Reply::Integer(2); RANGES]), Reply::Integer(2 * RANGES as i64));
    let own = [RangeId(3), RangeId(9)];
    let Ok(Plan::Many(requests, merge)) = planned("DBSIZE", Reach::Node(&own)) else { panic!("several ranges") };
    assert_eq!(requests.iter().map(|request| request.range).collect::<Vec<_>>(), own);
    // One that has just moved is counted by whoever heads it now.
    assert_eq!(merge.finish(vec![Reply::Integer(2), errors::moved(Slot(1), "a:1")]), Reply::Integer(2));
    let Ok(Plan::Many(requests, merge)) = planned("FLUSHALL", Reach::Node(&[])) else { panic!("several ranges") };
    assert_eq!((requests.len(), merge.finish(vec![])), (0, Reply::ok()));
    assert_eq!(planned("FLUSHALL NOW", Reach::Mesh), Err(errors::syntax()));
}

/// A step of a scan, as a session makes it.
fn scan_step(ranges: &[Keyspace], text: &str, reach: Reach<'_>) -> (String, Vec<Reply>) {
    let Ok(Plan::Many(requests, merge)) = planned(text, reach) else { panic!("{text} is split") };
    let answer =
        |request: &Request| execute(&ranges[usize::from(request.range.0)], Now::default(), &request.words).reply;
    let Reply::Array(reply) = merge.finish(requests.iter().map(answer).collect()) else { panic!("cursor and keys") };
    let [Reply::Bulk(cursor), Reply::Array(keys)] = &reply[..] else { panic!("{reply:?}") };
    (String::from_utf8_lossy(cursor).into_owned(), keys.clone())
}

fn filled(keys: &BTreeSet<u16>) -> Vec<Keyspace> {
    let mut ranges = vec![Keyspace::new(); RANGES];
    for number in keys {
        let key = Bytes::from(number.to_string());
        let range = RangeId::of_key(&key, RANGES);
        ranges[usize::from(range.0)].apply(&Change::Put(key, Value { data: Bytes::new(), expires_ms: None }));
    }
    ranges
}

proptest! {
    #[test]
    fn a_scan_gives_every_key_once(
        keys in btree_set(0u16..2000, 0..300),
        count in 1usize..200,
        own in btree_set(0u16..RANGES as u16, 0..RANGES),
        is_cluster in any::<bool>(),
    ) {
        let ranges = filled(&keys);
        let own: Vec<RangeId> = own.into_iter().map(RangeId).collect();
        let reach = if is_cluster { Reach::Node(&own) } else { Reach::Mesh };
        let (mut cursor, mut found, mut steps) = ("0".to_owned(), Vec::new(), 0);
        loop {
            let step;
            (cursor, step) = scan_step(&ranges, &format!("SCAN {cursor} COUNT {count}"), reach);
            prop_assert!(step.len() < 2 * count, "a step gives about as many as are wanted");
            prop_assert!(cursor.parse::<u64>().expect("a number") < 1 << 53, "a number of JavaScript");
            found.extend(step);
            steps += 1;
            prop_assert!(steps <= keys.len() * 2 + RANGES);
            if cursor == "0" {
                break;
            }
        }
        let is_ours = |key: &&u16| !is_cluster || own.contains(&range_of(&key.to_string()));
        let mut wanted: Vec<String> = keys.iter().filter(is_ours).map(|key| format!("{:?}", Reply::text(key.to_string()))).collect();
        let mut found: Vec<String> = found.iter().map(|key| format!("{key:?}")).collect();
        wanted.sort();
        found.sort();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn no_words_are_too_strange(words in vec(vec(any::<u8>(), 0..12).prop_map(Bytes::from), 1..6), name in 0usize..TABLE.len()) {
        let mut words = words;
        words[0] = Bytes::from_static(TABLE[name].name.as_bytes());
        let (mut state, view) = (ConnectionState::new(1, false), view());
        let Ok(spec) = admit(&state, &words) else { return Ok(()) };
        match plan(spec, words.clone(), RANGES, Reach::Mesh) {
            Ok(Plan::Connection) => drop(run(&mut state, &view, spec, &words)),
            Ok(Plan::One(request)) => drop(execute(&Keyspace::new(), Now::default(), &request.words)),
            _ => {}
        }
    }
}

#[test]
fn a_scan_goes_on_where_a_range_could_not_answer() {
    let ranges = filled(&(0..500).collect());
    let (requests, merge) = many("SCAN 0 COUNT 1000");
    let step = |request: &Request| execute(&ranges[usize::from(request.range.0)], Now::default(), &request.words).reply;
    let mut replies: Vec<Reply> = requests.iter().map(step).collect();
    replies[5] = errors::try_again();
    let Reply::Array(reply) = merge.clone().finish(replies) else { panic!("cursor and keys") };
    assert_eq!(reply[0], Reply::text((5u64 << crate::keyspace::PLACE_BITS).to_string()));
    assert_eq!(merge.finish(vec![errors::try_again(); requests.len()]), errors::try_again());
    assert_eq!(scan_step(&ranges, "SCAN 9007199254740991", Reach::Mesh), ("0".into(), vec![]));
}

#[test]
fn a_read_that_meets_a_key_whose_time_has_come_deletes_it() {
    let mut keyspace = Keyspace::new();
    let key = Bytes::from_static(b"k");
    keyspace.apply(&Change::Put(key.clone(), Value { data: Bytes::from_static(b"1"), expires_ms: Some(10) }));
    let now = Now { wall_ms: 10, ..Now::default() };
    let gone = Executed { reply: Reply::Null, changes: vec![Change::Delete(key.clone())] };
    assert_eq!(execute(&keyspace, now, &words("GET k")), gone);
    assert_eq!(execute(&keyspace, now, &words("SET k 2 XX")), gone);
    let changes = |text: &str| execute(&keyspace, now, &words(text)).changes;
    assert_eq!(changes("DEL k k"), vec![Change::Delete(key.clone())]);
    assert_eq!(
        changes("SET k 2"),
        vec![Change::Put(key.clone(), Value { data: Bytes::from_static(b"2"), expires_ms: None })]
    );
    assert_eq!(changes("INCR k"), vec![Change::Put(key, Value { data: Bytes::from_static(b"1"), expires_ms: None })]);
    assert_eq!(execute(&keyspace, Now::default(), &words("GET k")).changes, vec![]);
}

#[test]
fn what_changes_nothing_is_no_write() {
    let keyspace = Keyspace::new();
    for text in
        ["DEL a", "PERSIST a", "EXPIRE a 10", "SET a 1 XX", "GETDEL a", "GETEX a PERSIST", "FLUSHALL", "SET a 1 PXAT 1"]
    {
        assert_eq!(execute(&keyspace, Now { wall_ms: 5, ..Now::default() }, &words(text)).changes, vec![], "{text}");
    }
}

#[test]
fn what_is_kept_does_not_hold_the_buffer_it_came_in() {
    let buffer = Bytes::from(vec![b'x'; 1 << 16]);
    let request = [Bytes::from_static(b"SET"), buffer.slice(0..1), buffer.slice(1..2)];
    let done = execute(&Keyspace::new(), Now::default(), &request);
    drop(request);
    let [Change::Put(key, value)] = &done.changes[..] else { panic!("{done:?}") };
    assert!(!buffer.as_ptr_range().contains(&key.as_ptr()) && !buffer.as_ptr_range().contains(&value.data.as_ptr()));
}

fn candidate(number: u64, host: &str) -> Candidate {
    let address = |port: u16| if host.is_empty() { String::new() } else { format!("{host}:{port}") };
    Candidate {
        id: NodeId(number),
        incarnation: Incarnation(1),
        name: format!("n{number}"),
        addresses: Addresses {
            peer: address(16_234),
            client: address(6234),
            cluster: address(7234),
            console: String::new(),
        },
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    }
}

fn published(change: impl FnOnce(&mut Published, &mut Dictionary)) -> Option<Arc<Published>> {
    let settings = MeshSettings { ranges: 16, factor: 1, ..MeshSettings::default() };
    let mut dictionary = Dictionary::found(MeshId(5), settings, candidate(1, "[::1]"));
    let mut published = Published {
        dictionary: Arc::new(dictionary.clone()),
        term: Term(2),
        commander: Some(NodeId(1)),
        commanding: true,
        seats: Seats::default(),
    };
    change(&mut published, &mut dictionary);
    published.dictionary = Arc::new(dictionary);
    Some(Arc::new(published))
}

fn view() -> View {
    let me = Identity {
        node: NodeId(1),
        incarnation: Incarnation(1),
        name: "n1".into(),
        role: Role::Drone,
        addresses: candidate(1, "[::1]").addresses,
        process: 1,
        password: None,
        settings: Default::default(),
    };
    View { me: Arc::new(me), published: None, door: Door::Plain, now: Now::default(), clients: vec![], facts: None }
}

fn with_password(password: &str) -> View {
    let mut view = view();
    view.me = Arc::new(Identity { password: Some(password.into()), ..(*view.me).clone() });
    view
}

fn said(state: &mut ConnectionState, view: &View, text: &str) -> Reply {
    let words = words(text);
    match admit(state, &words) {
        Ok(spec) => run(state, view, spec, &words).reply,
        Err(error) => error,
    }
}

fn field(reply: &Reply, name: &str) -> Reply {
    let Reply::Map(fields) = reply else { panic!("{reply:?}") };
    let found = fields.iter().find(|(field, _)| *field == Reply::text(name));
    found.unwrap_or_else(|| panic!("no {name}")).1.clone()
}

#[test]
fn strangers_may_say_who_they_are_and_little_else() {
    let view = with_password("s3cret");
    let mut state = ConnectionState::new(1, true);
    for text in ["PING", "GET a", "CLIENT ID", "COMMAND", "MESH STATUS", "CLUSTER SLOTS"] {
        assert_eq!(said(&mut state, &view, text), errors::no_auth(), "{text}");
    }
    let Reply::Error(text) = said(&mut state, &view, "HELLO 3") else { panic!("an error") };
    assert!(text.starts_with("NOAUTH HELLO must be called"), "{text}");
    assert_eq!(state.protocol, Protocol::Resp2, "a HELLO that is refused changes nothing");
    for text in [
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH somebody s3cret",
        "HELLO 3 AUTH default wrong",
        "AUTH s3cre",
        "AUTH s3cret1",
    ] {
        assert_eq!(said(&mut state, &view, text), errors::wrong_pass(), "{text}");
    }
    assert!(!state.authenticated);
    assert_eq!(said(&mut state, &view, "AUTH s3cret"), Reply::ok());
    assert_eq!(said(&mut state, &view, "PING"), Reply::Simple("PONG".into()));
    assert_eq!(said(&mut state, &view, "RESET"), Reply::Simple("RESET".into()));
    assert_eq!(said(&mut state, &view, "PING"), errors::no_auth());
    let hello = said(&mut state, &view, "HELLO 3 AUTH default s3cret SETNAME me");
    assert_eq!(field(&hello, "proto"), Reply::Integer(3));
    assert_eq!((state.name.as_str(), state.protocol, state.authenticated), ("me", Protocol::Resp3, true));
    // Who was let in stays so when a later word is wrong.
    assert_eq!(said(&mut state, &view, "AUTH wrong"), errors::wrong_pass());
    assert!(state.authenticated);
}

#[test]
fn quit_closes_and_nothing_else_does() {
    let mut state = ConnectionState::new(1, true);
    for (text, close) in [("QUIT", true), ("QUIT now", true), ("RESET", false), ("HELLO 9", false)] {
        let words = words(text);
        assert_eq!(run(&mut state, &view(), lookup(&words[0]).expect(text), &words).close, close, "{text}");
    }
}

#[test]
fn hello_answers_in_every_state() {
    let hello = |published| {
        let view = View { published, ..view() };
        said(&mut ConnectionState::new(1, false), &view, "HELLO")
    };
    let reply = hello(None);
    assert_eq!(field(&reply, "state"), Reply::text("joining"));
    assert_eq!((field(&reply, "mesh"), field(&reply, "commander")), (Reply::Null, Reply::Null));
    assert_eq!((field(&reply, "term"), field(&reply, "drones")), (Reply::Integer(0), Reply::Integer(0)));

    let stand = |standing| {
        move |_: &mut Published, dictionary: &mut Dictionary| {
            dictionary.roster.get_mut(&NodeId(1)).expect("the founder").standing = standing;
        }
    };
    let state = |reply: &Reply| field(reply, "state");
    assert_eq!(state(&hello(published(stand(Standing::Up)))), Reply::text("serving"));
    assert_eq!(state(&hello(published(stand(Standing::Draining)))), Reply::text("draining"));
    assert_eq!(state(&hello(published(stand(Standing::Joining)))), Reply::text("joining"));

    let reply = hello(published(|published, _| published.commander = None));
    assert_eq!((state(&reply), field(&reply, "commander")), (Reply::text("no commander"), Reply::Null));
    let reply = hello(published(|_, _| {}));
    assert_eq!(field(&reply, "commander"), Reply::text("[::1]:6234"));
    assert_eq!(field(&reply, "mesh"), Reply::text(format!("{:032x}", 5)));
    assert_eq!((field(&reply, "term"), field(&reply, "dictionary")), (Reply::Integer(2), Reply::Integer(1)));

    let reply = hello(published(|_, dictionary| {
        dictionary.roster.clear();
        dictionary.gone.insert(NodeId(1), Gone { incarnation: Incarnation(1), version: Version(1) });
    }));
    assert_eq!((state(&reply), field(&reply, "commander")), (Reply::text("gone"), Reply::Null));
}

#[test]
fn map_replies_name_only_who_can_be_reached() {
    let give = |dictionary: &mut Dictionary, place: usize, holders: Vec<Holder>| {
        let chain = Chain { holders, ..(*dictionary.chains[place]).clone() };
        dictionary.chains[place] = Arc::new(chain);
    };
    let holder = |node, state| Holder { node: NodeId(node), incarnation: Incarnation(1), state };
    let view = View {
        published: published(|_, dictionary| {
            for (number, host) in [(2, ""), (3, "ten")] {
                let member = dictionary.roster[&NodeId(1)].clone();
                let standing = if number == 3 { Standing::Suspect } else { Standing::Up };
                let member = crate::messages::ownership::Member { node: candidate(number, host), standing, ..member };
                dictionary.roster.insert(NodeId(number), member);
            }
            give(dictionary, 1, vec![]);
            give(dictionary, 2, vec![holder(1, HolderState::Loading)]);
            give(dictionary, 3, vec![holder(2, HolderState::Serving)]);
            give(dictionary, 4, vec![holder(3, HolderState::Leaving), holder(1, HolderState::Serving)]);
            give(dictionary, 5, vec![holder(9, HolderState::Serving)]);
        }),
        ..view()
    };
    let mut state = ConnectionState::new(1, false);
    let Reply::Array(runs) = said(&mut state, &view, "CLUSTER SLOTS") else { panic!("runs") };
    let run = |reply: &Reply| {
        let Reply::Array(run) = reply else { panic!("{reply:?}") };
        let Reply::Array(node) = &run[2] else { panic!("{run:?}") };
        (run[0].clone(), run[1].clone(), node[0].clone(), node[1].clone())
    };
    let number = Reply::Integer;
    assert_eq!(
        runs.iter().map(run).collect::<Vec<_>>(),
        vec![
            (number(0), number(1023), Reply::text("::1"), number(7234)),
            (number(4096), number(5119), Reply::text("ten"), number(7234)),
            (number(6144), number(16_383), Reply::text("::1"), number(7234)),
        ]
    );
    let Reply::Verbatim(nodes) = said(&mut state, &view, "CLUSTER NODES") else { panic!("text") };
    assert_eq!(
        nodes,
        format!(
            "{0} ::1:7234@16234 myself,master - 0 0 1 connected 0-1023 6144-16383\n\
             {1} ten:7234@16234 master,fail? - 0 0 1 disconnected 4096-5119\n",
            cluster::node_hex(MeshId(5), NodeId(1)),
            cluster::node_hex(MeshId(5), NodeId(3)),
        )
    );
    let Reply::Verbatim(info) = said(&mut state, &view, "CLUSTER INFO") else { panic!("text") };
    assert!(info.contains("cluster_state:ok\r\n") && info.contains("cluster_slots_fail:2048\r\n"), "{info}");

    let address =
        |slot| cluster::head_address(view.published.as_ref().expect("set above"), Slot(slot)).map(str::to_owned);
    assert_eq!((address(0), address(1024), address(4096)), (Some("[::1]:7234".into()), None, Some("ten:7234".into())));
}

#[test]
fn the_mesh_is_well_while_every_slot_is_served_or_soon_will_be() {
    let lose = |dictionary: &mut Dictionary| {
        dictionary.chains[0] = Arc::new(Chain { holders: vec![], ..(*dictionary.chains[0]).clone() });
    };
    let is_ok = |published| {
        let view = View { published, ..view() };
        let Reply::Verbatim(text) = said(&mut ConnectionState::new(1, false), &view, "CLUSTER INFO") else {
            panic!("text")
        };
        text.starts_with("cluster_state:ok")
    };
    assert!(!is_ok(None));
    assert!(is_ok(published(|_, _| {})));
    assert!(is_ok(published(|published, _| published.commander = None)), "every slot has a head");
    assert!(is_ok(published(|_, dictionary| lose(dictionary))), "the commander decides");
    assert!(!is_ok(published(|published, dictionary| {
        published.commander = None;
        lose(dictionary);
    })));
    assert!(!is_ok(published(|_, dictionary| {
        dictionary.settings.on_total_loss = OnTotalLoss::Wait;
        lose(dictionary);
    })));
}

#[test]
fn before_a_mesh_is_known_maps_say_so() {
    let mut state = ConnectionState::new(1, false);
    for text in ["CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES"] {
        assert_eq!(said(&mut state, &view(), text), errors::joining(), "{text}");
    }
    let Reply::Verbatim(info) = said(&mut state, &view(), "INFO persistence") else { panic!("text") };
    assert!(info.contains("loading:1\r\n"), "{info}");
}

#[test]
fn few_commands_need_more_than_is_at_hand() {
    let needing: Vec<&str> = TABLE
        .iter()
        .flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands))
        .filter(|spec| needs(spec) != Needs::default())
        .map(|spec| spec.name)
        .collect();
    assert_eq!(needing, vec!["client|info", "client|list", "info"]);
}
