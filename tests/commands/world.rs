//! A mesh in a variable: three nodes in a dictionary, all ranges in this process, one client.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keyval::commands::connection::run;
use keyval::commands::view::{ClientInfo, ConnectionState, Door, Facts, Identity, View, headed};
use keyval::commands::{Plan, Reach, admit, errors, execute, plan};
use keyval::keyspace::Keyspace;
use keyval::machines::dictionary::Dictionary;
use keyval::machines::election::Published;
use keyval::messages::chain::Change;
use keyval::messages::client::{Reply, Request};
use keyval::messages::election::Seats;
use keyval::messages::ownership::{
    Addresses, Candidate, Chain, Holder, HolderState, Member, MeshSettings, Role, Standing,
};
use keyval::resp::{Protocol, decode, encode_flat};
use keyval::types::{Incarnation, MeshId, NodeId, Now, Slot, Term, Version};

use crate::speaker::Speaker;

/// Few, so that scans cross them often.
const RANGES: u16 = 16;

pub struct World {
    ranges: Vec<Keyspace>,
    state: ConnectionState,
    view: View,
}

fn candidate(number: u64) -> Candidate {
    let address = |port: u64| format!("10.0.0.{number}:{port}");
    Candidate {
        id: NodeId(number),
        incarnation: Incarnation(1),
        name: format!("n{number}"),
        addresses: Addresses {
            peer: address(16_234),
            client: address(6234),
            cluster: address(7234),
            console: address(8234),
        },
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    }
}

/// Nodes 1 to 3; each heads a third of the ranges.
fn dictionary() -> Dictionary {
    let settings = MeshSettings { ranges: RANGES, factor: 1, ..MeshSettings::default() };
    let mut dictionary = Dictionary::found(MeshId(0xabc << 32), settings, candidate(1));
    for number in 2..=3 {
        let member = Member::new(number as u16, candidate(number), Standing::Up);
        dictionary.roster.insert(NodeId(number), member);
    }
    for (place, chain) in dictionary.chains.iter_mut().enumerate() {
        let node = NodeId(1 + place as u64 / 6);
        let holder = Holder { node, incarnation: Incarnation(1), state: HolderState::Serving };
        *chain = Arc::new(Chain { holders: vec![holder], ..(**chain).clone() });
    }
    dictionary.version = Version(7);
    dictionary
}

impl World {
    pub fn new() -> Self {
        let published = Published {
            dictionary: Arc::new(dictionary()),
            term: Term(4),
            commander: Some(NodeId(2)),
            commanding: false,
            seats: Seats::default(),
        };
        let settings = [("client.park", "1500ms"), ("mesh.secret", "s3cret"), ("replication.factor", "1")];
        let me = Identity {
            node: NodeId(1),
            incarnation: Incarnation(1),
            name: "n1".into(),
            role: Role::Drone,
            addresses: candidate(1).addresses,
            process: 4711,
            password: None,
            settings: settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        };
        let view = View {
            me: Arc::new(me),
            published: Some(Arc::new(published)),
            door: Door::Plain,
            now: Now { wall_ms: 1_790_000_000_000, ..Now::default() },
            clients: Vec::new(),
            facts: None,
        };
        Self { ranges: vec![Keyspace::new(); RANGES.into()], state: ConnectionState::new(3, false), view }
    }

    /// Has the world's clock show what this machine's does.
    pub fn set_clock(&mut self) {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
        self.view.now.wall_ms = since.as_millis() as u64;
    }

    fn carry_out(&mut self, request: &Request) -> Reply {
        // At the cluster door of this node, what another node heads is answered like this.
        let published = self.view.published.as_ref().expect("this mesh is known");
        let own = headed(published, NodeId(1), Incarnation(1)).contains(&request.range);
        if self.view.door == Door::Cluster && !own {
            let slot = request.words.get(1).map_or(Slot(0), |key| Slot::of_key(key));
            return errors::moved(slot, "10.0.0.2:7234");
        }
        let keyspace = &mut self.ranges[usize::from(request.range.0)];
        let done = execute(keyspace, self.view.now, &request.words);
        for change in &done.changes {
            keyspace.apply(change);
        }
        let only_deletes = || done.changes.iter().all(|change| matches!(change, Change::Delete(_)));
        assert!(
            request.write || only_deletes(),
            "{request:?} is a read, and reads delete what is over and nothing else"
        );
        done.reply
    }

    fn answer(&mut self, words: &[Bytes]) -> Result<Reply, Reply> {
        let spec = admit(&self.state, words)?;
        let published = self.view.published.clone().expect("this mesh is known");
        let own = headed(&published, NodeId(1), Incarnation(1));
        let reach = if self.view.door == Door::Plain { Reach::Mesh } else { Reach::Node(&own) };
        Ok(match plan(spec, words.to_vec(), RANGES.into(), reach)? {
            Plan::Connection => {
                self.look(spec.name);
                run(&mut self.state, &self.view, spec, words).reply
            }
            Plan::Mesh => Reply::Simple("told by others".into()),
            Plan::One(request) => self.carry_out(&request),
            Plan::Many(requests, merge) => {
                let replies = requests.iter().map(|request| self.carry_out(request)).collect();
                merge.finish(replies)
            }
        })
    }

    fn look(&mut self, command: &str) {
        let since_ms = self.view.now.wall_ms - 5000;
        let client = ClientInfo {
            state: self.state.clone(),
            address: "10.0.0.9:5555".into(),
            door_address: "10.0.0.1:6234".into(),
            since_ms,
            active_ms: self.view.now.wall_ms,
            command: command.into(),
            ..ClientInfo::default()
        };
        self.view.clients = vec![client];
        self.view.facts = Some(Arc::new(Facts {
            uptime_s: 5,
            rss_bytes: 12 << 20,
            used_bytes: self.ranges.iter().map(|range| range.bytes() as u64).sum(),
            keys: self.ranges.iter().map(|range| range.len() as u64).sum(),
            expiring: self.ranges.iter().map(|range| range.expiring() as u64).sum(),
            errors: BTreeMap::from([("ERR".into(), 2)]),
            per_command: BTreeMap::from([("get".into(), (4, 10))]),
            ..Facts::default()
        }));
    }
}

impl Speaker for World {
    fn call(&mut self, words: &[Bytes]) -> Reply {
        let reply = self.answer(words).unwrap_or_else(|error| error);
        // Through the bytes, for the reply in RESP2 is another than that in RESP3.
        let protocol: Protocol = self.state.protocol;
        let mut bytes = bytes::BytesMut::from(&encode_flat(&reply, protocol)[..]);
        decode(&mut bytes).expect("what was encoded").expect("all of it")
    }

    fn advance(&mut self, ms: u64) -> bool {
        self.view.now.wall_ms += ms;
        true
    }

    fn door(&mut self, name: &str) -> bool {
        self.view.door = if name == "cluster" { Door::Cluster } else { Door::Plain };
        true
    }
}
