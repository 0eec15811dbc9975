//! Bad input: what a stranger, a broken client or a wrong start is told, and that nobody else notices.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::mesh::{Mesh, Node, until};

/// Runs a command that must end by itself, and returns its code and what it said.
fn ends_by_itself(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("killed");
            panic!("it did not end by itself");
        }
        std::thread::sleep(Duration::from_millis(20)); // between looks
    };
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    (status.code(), said)
}

fn spare(mesh: &Mesh) -> Node {
    let mut node = mesh.nodes[0].clone();
    let base = crate::mesh::next_port() + 40;
    node.name = "spare".to_owned();
    node.client = format!("127.0.0.1:{base}");
    node.cluster = format!("127.0.0.1:{}", base + 1000);
    node.console = format!("127.0.0.1:{}", base + 2000);
    node.peer = format!("127.0.0.1:{}", base + 10_000);
    node.announced.clone_from(&node.peer);
    node.data_dir = mesh.folder().join("spare");
    node
}

#[test]
fn malformed_input_closes_one_connection_and_harms_no_other() {
    let mesh = Mesh::start(3);
    let mut bystander = mesh.client(0);
    let broken: [(&[u8], &str); 5] = [
        (b"*1\r\n$-5\r\n", "Protocol error"),
        (b"*2147483647\r\n", "Protocol error"),
        (b"*1\r\n$9999999999\r\n", "Protocol error"),
        (b"*1\r\n+OK\r\n", "Protocol error"),
        (b"SET \"unbalanced\r\n", "Protocol error"),
    ];
    for (bytes, expected) in broken {
        let mut client = mesh.client(0);
        client.raw(bytes).expect("written");
        let Reply::Error(text) = client.reply().expect("a typed error before the end") else { panic!("an error") };
        assert!(text.contains(expected), "{text}");
        assert!(client.reply().is_err(), "the connection is closed");
        assert_eq!(bystander.ask(&["PING"]).expect("a reply"), Reply::Simple("PONG".into()));
    }
    // A peer's door: garbage, a frame that claims 4 GiB, and silence.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"KVL1\xff\xff\xff\xff", b"KVL1\0\0\0\x04\xff\xff\xff\xff"] {
        let mut stream = TcpStream::connect(&mesh.nodes[0].peer).expect("a door");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        stream.write_all(bytes).expect("written");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.is_empty(), "a stranger is told why");
        assert_eq!(bystander.ask(&["SET", "a", "b"]).expect("a reply"), Reply::Simple("OK".into()));
    }
    mesh.until_well(0, 3, Duration::from_secs(10));
}

#[test]
fn a_wrong_start_says_why_and_touches_nothing() {
    let mut mesh = Mesh::start(3);
    let join: Vec<String> = mesh.nodes.iter().map(|node| node.peer.clone()).collect();
    let join = join.join(",");

    // A directory in use.
    let mut node = spare(&mesh);
    node.data_dir = mesh.nodes[0].data_dir.clone();
    let (code, said) = ends_by_itself(mesh.command(&node, &join));
    assert!(code != Some(0) && said.contains("in use"), "{said}");

    // One identity twice: a copied directory, started while the original lives.
    mesh.kill(1);
    let copy = mesh.folder().join("copy");
    copy_folder(&mesh.nodes[1].data_dir, &copy);
    let before = mesh.incarnation(0, 1);
    mesh.restart(1);
    until("the original is back", Duration::from_secs(20), || mesh.incarnation(0, 1) > before && mesh.is_well(0));
    let mut node = spare(&mesh);
    node.data_dir = copy;
    let (code, said) = ends_by_itself(mesh.command(&node, &join));
    assert!(code != Some(0) && said.contains("NodeIdInUse"), "{said}");

    // A damaged directory.
    let mut node = spare(&mesh);
    node.data_dir = mesh.folder().join("damaged");
    fs::create_dir_all(&node.data_dir).expect("a folder");
    fs::write(node.data_dir.join("node.redb"), vec![0x5a; 65_536]).expect("written");
    let (code, said) = ends_by_itself(mesh.command(&node, &join));
    assert!(code != Some(0) && said.contains("damaged"), "{said}");
    assert_eq!(fs::read(node.data_dir.join("node.redb")).expect("still there"), vec![0x5a; 65_536]);

    // Settings that make no sense.
    for (key, value, named) in [
        ("KEYVAL__FAILURE_TIMEOUT", "10ms", "failure_timeout"),
        ("KEYVAL__REPLICATION__MIN_COPIES", "7", "replication.min_copies"),
        ("KEYVAL__CLIENT__NO_SUCH_KEY", "1", "no_such_key"),
        ("KEYVAL__NODE__ROLE", "queen", "node.role"),
    ] {
        let node = spare(&mesh);
        let mut command = mesh.command(&node, &join);
        command.env(key, value);
        let (code, said) = ends_by_itself(command);
        assert!(code != Some(0) && said.contains(named), "{key}={value}: {said}");
    }
    // Ranges move to the one that came back meanwhile, which may take some seconds; nobody else is there.
    mesh.until_well(0, 3, Duration::from_secs(20));
}

#[test]
fn a_directory_of_another_mesh_is_refused() {
    // A node that once belonged to a mesh of its own, pointed at this one.
    let mesh = Mesh::start(2);
    let node = spare(&mesh);
    let mut alone = mesh.command(&node, "").stderr(Stdio::null()).spawn().expect("a node starts");
    until("a mesh of its own", Duration::from_secs(10), || {
        Client::connect(&node.client, Duration::from_secs(1))
            .and_then(|mut client| client.ask(&["SET", "a", "b"]))
            .is_ok_and(|reply| reply == Reply::Simple("OK".into()))
    });
    let own =
        Client::connect(&node.client, Duration::from_secs(1)).and_then(|mut c| c.ask(&["HELLO"])).expect("a reply");
    alone.kill().expect("killed");
    alone.wait().expect("ended");
    let log = mesh.folder().join("other-mesh.log");
    let mut again = mesh
        .command(&node, &mesh.nodes[0].peer)
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("a node starts");
    // It says that the address it was given belongs to another mesh, and ends.
    until("it ends", Duration::from_secs(20), || again.try_wait().expect("a child of ours").is_some());
    assert!(fs::read_to_string(&log).is_ok_and(|text| text.contains("WrongMesh")), "it says why");
    assert_eq!(mesh.roster_size(0), Some(2));
    // Its own mesh is as it was.
    let mut alone = mesh.command(&node, "").stderr(Stdio::null()).spawn().expect("a node starts");
    until("it is back in its own mesh", Duration::from_secs(10), || {
        Client::connect(&node.client, Duration::from_secs(1))
            .and_then(|mut client| client.ask(&["HELLO"]))
            .is_ok_and(|hello| hello.field("mesh") == own.field("mesh"))
    });
    alone.kill().expect("killed");
    alone.wait().expect("ended");
}

#[test]
fn an_unreachable_address_to_join_is_said_and_harms_nothing() {
    let mesh = Mesh::start(1);
    let node = spare(&mesh);
    let log = mesh.folder().join("lonely.log");
    let mut lonely = mesh
        .command(&node, "127.0.0.1:31999")
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("a node starts");
    until("it says whom it cannot reach", Duration::from_secs(10), || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("127.0.0.1:31999"))
    });
    let mut client = Client::connect(&node.client, Duration::from_secs(3)).expect("its doors listen");
    let hello = client.ask(&["HELLO"]).expect("HELLO answers in any state");
    assert_eq!(hello.field("state").and_then(|state| state.text()).as_deref(), Some("joining"));
    lonely.kill().expect("killed");
    lonely.wait().expect("ended");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}
