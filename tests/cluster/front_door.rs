//! The first five minutes: HELLO, a key set here and read there, map replies, MOVED, pipelining.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::mesh::{Mesh, Plan, until};

#[test]
fn any_node_takes_any_key_and_names_the_commander() {
    let mesh = Mesh::start(3);
    for key in 0..64 {
        let (name, value) = (format!("key:{key}"), format!("value {key}"));
        assert_eq!(mesh.ask(key % 3, &["SET", &name, &value]).expect("a reply"), Reply::Simple("OK".into()));
        assert_eq!(mesh.ask((key + 1) % 3, &["GET", &name]).expect("a reply"), Reply::Bulk(value));
    }
    let (commander, term) = mesh.commander(&[0, 1, 2]);
    assert!(commander < 3 && term > 0);

    // Inline, as a person with nc would ask.
    let mut nc = TcpStream::connect(&mesh.nodes[2].client).expect("a door");
    nc.set_read_timeout(Some(Duration::from_secs(3))).expect("a time-out");
    nc.write_all(b"HELLO\r\nQUIT\r\n").expect("written");
    let mut text = String::new();
    nc.read_to_string(&mut text).expect("the door closes after QUIT");
    assert!(text.contains(&mesh.nodes[commander].client), "HELLO names the commander: {text}");

    // Many keys of many ranges in one command, and the whole mesh counted.
    assert_eq!(mesh.ask(0, &["MSET", "a", "1", "b", "2", "c", "3"]).expect("a reply"), Reply::Simple("OK".into()));
    assert_eq!(
        mesh.ask(1, &["MGET", "a", "nothing", "c"]).expect("a reply"),
        Reply::Array(vec![Reply::Bulk("1".into()), Reply::Null, Reply::Bulk("3".into())])
    );
    assert_eq!(mesh.ask(2, &["DBSIZE"]).expect("a reply"), Reply::Integer(67));
    assert_eq!(mesh.ask(2, &["DEL", "a", "b", "nothing"]).expect("a reply"), Reply::Integer(2));

    // A scan through one door sees every key of the mesh once.
    let mut client = mesh.client(1);
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let Reply::Array(reply) = client.ask(&["SCAN", &cursor, "COUNT", "100"]).expect("a reply") else {
            panic!("SCAN answers an array")
        };
        let Reply::Array(keys) = &reply[1] else { panic!("with keys") };
        seen.extend(keys.iter().filter_map(Reply::text));
        cursor = reply[0].text().expect("a cursor");
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 65);
    assert_eq!(mesh.ask(0, &["FLUSHALL"]).expect("a reply"), Reply::Simple("OK".into()));
    assert_eq!(mesh.ask(1, &["DBSIZE"]).expect("a reply"), Reply::Integer(0));
}

#[test]
fn cluster_door_moves_and_pipelines_keep_their_order() {
    let mesh = Mesh::start(3);
    mesh.until_spread(0, Duration::from_secs(30));
    // The cluster door answers for what its node heads, and names the right door for the rest.
    let (mut answered, mut moved) = (0, 0);
    let mut door = Client::connect(&mesh.nodes[0].cluster, Duration::from_secs(3)).expect("a door");
    for key in 0..60 {
        let name = format!("key:{key}");
        match door.ask(&["SET", &name, "x"]).expect("a reply") {
            Reply::Simple(_) => answered += 1,
            Reply::Error(text) => {
                let address =
                    text.strip_prefix("MOVED ").and_then(|rest| rest.split(' ').nth(1)).expect("MOVED slot host:port");
                let mut right = Client::connect(address, Duration::from_secs(3)).expect("the door that was named");
                assert_eq!(right.ask(&["SET", &name, "x"]).expect("a reply"), Reply::Simple("OK".into()));
                moved += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(answered > 5 && moved > 20, "{answered} answered, {moved} moved");

    // A thousand commands before the first reply is read, across all three nodes: replies keep their order.
    let mut client = mesh.client(1);
    for number in 0..1000 {
        client.send(&["SET", &format!("p:{number}"), &number.to_string()]).expect("sent");
        client.send(&["GET", &format!("p:{number}")]).expect("sent");
    }
    for number in 0..1000 {
        assert_eq!(client.reply().expect("a reply"), Reply::Simple("OK".into()));
        assert_eq!(client.reply().expect("a reply"), Reply::Bulk(number.to_string()));
    }
}

#[test]
fn password_and_protected_mode() {
    let mesh = Mesh::of(Plan::of(1, 1).with("KEYVAL__CLIENT__PASSWORD", "open sesame"));
    let mut client = mesh.client(0);
    let Reply::Error(text) = client.ask(&["GET", "a"]).expect("a reply") else { panic!("refused") };
    assert!(text.starts_with("NOAUTH"), "{text}");
    let Reply::Error(text) = client.ask(&["AUTH", "wrong"]).expect("a reply") else { panic!("refused") };
    assert!(text.starts_with("WRONGPASS"), "{text}");
    assert_eq!(client.ask(&["AUTH", "open sesame"]).expect("a reply"), Reply::Simple("OK".into()));
    until("a single node commands and serves", Duration::from_secs(5), || {
        client.ask(&["SET", "a", "b"]).is_ok_and(|reply| reply == Reply::Simple("OK".into()))
    });
}

#[test]
fn clients_that_knock_from_the_first_moment_are_heard() {
    let mut mesh = Mesh::start(1);
    let address = mesh.nodes[0].client.clone();
    for _ in 0..40 {
        mesh.kill(0);
        std::thread::scope(|scope| {
            let knocking = scope.spawn(|| knock(&address));
            mesh.restart(0);
            assert_eq!(knocking.join().expect("it knocks"), Ok(Reply::Simple("PONG".into())));
        });
    }
}

/// Connects without a pause until a door opens: what the first client there is told.
fn knock(address: &str) -> Result<Reply, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Ok(mut client) = Client::connect(address, Duration::from_secs(5)) {
            return client.ask(&["PING"]).map_err(|error| error.to_string());
        }
        std::thread::yield_now();
    }
    Err("nobody opened".into())
}
