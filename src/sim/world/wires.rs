//! What processes say to each other: encoded as in production, carried by the network, heard after a handshake.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use rand::Rng;

use super::hosts::INTRODUCTION;
use super::{Deed, Event, Joiner, World};
use crate::machines::dictionary::Dictionary;
use crate::machines::{heartbeat, ownership};
use crate::messages::client::RelayMessage;
use crate::messages::election::ElectionMessage;
use crate::messages::ownership::JoinAnswer;
use crate::messages::peer::{Lane, PROTOCOL, PeerMessage, PeerRefusal};
use crate::sim::checker::Fact;
use crate::sim::network::{self, Greeting, Host, Kind, News, Side};
use crate::sim::node::{Mail, Node};
use crate::sim::trace::fingerprint;
use crate::types::{Incarnation, NodeId, Version};
use crate::wire::frame;
use crate::wire::handshake::{Called, Caller, Known, TIME_LIMIT};

/// Few frames are longer.
const USUAL_FRAME: usize = 256;

impl World {
    pub(super) fn send(&mut self, from: Host, to: NodeId, message: &PeerMessage) {
        if let PeerMessage::Election(message) = message {
            self.on_said(from, message);
        }
        self.watch_message(Deed::Says, (from, to), message);
        let lane = message.lane();
        let kind = match message {
            PeerMessage::Election(_) | PeerMessage::Heartbeat(_) | PeerMessage::Ownership(_) => Kind::Word,
            PeerMessage::Relay(RelayMessage::Carry { id, .. }) => Kind::Carry(*id),
            PeerMessage::Relay(RelayMessage::Carried { .. }) | PeerMessage::Chain(_) => Kind::InOrder,
        };
        let frame = (encoded(message), kind);
        match self.host_of(from, to) {
            Some(host) => {
                self.on_network_change(|network, context| network.send(from, (host, to), lane, frame, context))
            }
            None => self.on_network_change(|network, context| network.send_to_caller(from, to, lane, frame, context)),
        }
    }

    fn on_said(&mut self, from: Host, message: &ElectionMessage) {
        let place = &self.places[from.0];
        let Some(node) = &place.node else { return };
        let alone = node
            .published
            .as_ref()
            .is_some_and(|published| published.seats.voters == [node.me().0] && published.seats.outgoing.is_empty());
        let reached = place.disk.reached(message.term);
        let fact = Fact::Said { node: node.me().0, message, stable: place.disk.stable(), reached, alone };
        self.checkers.observe(self.queue.now(), &fact);
    }

    pub(super) fn send_back(&mut self, connection: u64, message: &PeerMessage) {
        let bytes = encoded(message);
        self.on_network_change(|network, context| network.send_back(connection, bytes, context));
    }

    /// Where a node is, by the roster that the speaker knows.
    fn host_of(&self, speaker: Host, node: NodeId) -> Option<Host> {
        let published = self.places[speaker.0].node.as_ref()?.published.as_ref()?;
        let member = published.dictionary.roster.get(&node)?;
        self.host(host_name(&member.node.addresses.peer))
    }

    pub(super) fn on_network(&mut self, event: network::Event) {
        if !matches!(event, network::Event::Dialled { .. }) {
            let nobody = |_, _, _| Greeting::Silent;
            return self.on_network_change(|network, context| network.on_event(event, nobody, context));
        }
        // A handshake looks at both nodes, and draws: the network is taken out of the world meanwhile.
        let mut network = std::mem::take(&mut self.network);
        let (mut later, mut news) = (Vec::new(), Vec::new());
        let mut random = self.random.clone();
        {
            let now = self.queue.now();
            let context = &mut network::Context { now, later: &mut later, news: &mut news, random: &mut random };
            network.on_event(event, |from, to, lane| self.greet(from, to, lane), context);
        }
        self.network = network;
        self.random = random;
        for (at, event) in later {
            self.queue.push(at, &mut self.random, Event::Network(event));
        }
        self.on_news(news);
    }

    pub(super) fn on_news(&mut self, news: Vec<News>) {
        for news in news {
            let host = match &news {
                News::Frame { to, .. } => *to,
                News::Up { host, .. }
                | News::Down { host, .. }
                | News::Called { host, .. }
                | News::HungUp { host, .. }
                | News::Unreached { host, .. }
                | News::NotSent { host, .. } => *host,
            };
            self.on_one_news(host, news);
        }
    }

    fn on_one_news(&mut self, host: Host, news: News) {
        let at = self.queue.now();
        let now = self.read(host);
        let mut out = std::mem::take(&mut self.spare);
        let place = &mut self.places[host.0];
        let Some(node) = &mut place.node else { return };
        match news {
            News::Frame { from, connection, lane, bytes, .. } => {
                self.trace.fold(at, b'F', (from.host.0 as u64) << 32 | host.0 as u64, fingerprint(&bytes));
                let message = decoded(bytes, lane);
                if self.trace.keeps_all() {
                    let name = |node| self.names.get(&node).map_or("?", String::as_str);
                    self.trace.heard(at, name(from.node), name(node.me().0), &message);
                }
                if lane == Lane::Control {
                    place.heard.insert(from.node, (from.life, at));
                }
                let watched = self.watched.is_some().then(|| message.clone());
                node.on_peer((from.node, from.life), connection, message, now, &mut out);
                if let Some(message) = watched {
                    self.watch_message(Deed::Hears, (host, from.node), &message);
                }
            }
            News::Up { peer, lane, .. } => {
                self.trace.fold(at, b'U', host.0 as u64, peer.0);
                let name = &place.name;
                self.trace.line(at, || format!("{name} has a link to {peer:?} for {lane:?}"));
                node.on_link(peer, lane, true, now, &mut out);
            }
            News::Down { peer, lane, .. } => {
                self.trace.fold(at, b'V', host.0 as u64, peer.0);
                let name = &place.name;
                self.trace.line(at, || format!("{name} lost its link to {peer:?} for {lane:?}"));
                node.on_link(peer, lane, false, now, &mut out);
            }
            News::Called { caller, lane, .. } => match lane {
                Lane::Control => drop(place.heard.insert(caller.node, (caller.life, at))),
                Lane::Data => node.on_call(caller.node, true, now, &mut out),
                Lane::Bulk => {}
            },
            News::HungUp { caller, lane, .. } => match lane {
                Lane::Control => drop(place.heard.remove(&caller.node)),
                Lane::Data => node.on_call(caller.node, false, now, &mut out),
                Lane::Bulk => {}
            },
            News::Unreached { peer, lane, after_break, refusal, .. } => {
                let name = &place.name;
                self.trace.line(at, || format!("{name} does not reach {peer:?} for {lane:?}: {refusal:?}"));
                if lane == Lane::Control && after_break {
                    node.hear(Mail::Heartbeat(heartbeat::Input::LinkBroken(peer)), now, &mut out);
                }
                if let Some(PeerRefusal::NotOnRoster { version, removed: true }) = refusal {
                    let ours = node.published.as_ref().map_or(Version(0), |it| it.dictionary.version);
                    if version >= ours {
                        out.push(crate::sim::node::Out::End("removed from the mesh".into()));
                    }
                }
            }
            News::NotSent { peer, carries, .. } => {
                for id in carries {
                    let input = crate::machines::door::Input::NotSent { peer, id };
                    node.hear(Mail::Door(input), now, &mut out);
                }
            }
        }
        self.carry_out(host, out);
        self.wind(host);
    }

    /// Plays a handshake between two places.
    fn greet(&mut self, from: Host, (to, node): (Host, NodeId), lane: Lane) -> Greeting {
        let (Some(caller), Some(called)) = (self.known(from), self.known(to)) else {
            return Greeting::Refused(None);
        };
        if self.places[to.0].is_paused() {
            return Greeting::Silent;
        }
        match self.shake(&caller, &called, Some(node), lane) {
            Ok(()) => Greeting::Welcome(side(from, &caller), side(to, &called)),
            Err(refusal) => Greeting::Refused(Some(refusal)),
        }
    }

    fn shake(&mut self, caller: &Known, called: &Known, to: Option<NodeId>, lane: Lane) -> Result<(), PeerRefusal> {
        let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
        let mut calling = Caller::new(caller, to, lane, self.random.r#gen(), &mut there);
        let mut listening = Called::new(self.random.r#gen());
        for _ in 0..4 {
            let heard = listening.hear(called, &mut there, &mut back);
            let told = calling.hear(caller, &mut back, &mut there).map_err(|refused| refused.why)?;
            heard.map_err(|refused| refused.why)?;
            if told.is_some() {
                return Ok(());
            }
        }
        Err(PeerRefusal::Unexpected)
    }

    fn known(&self, host: Host) -> Option<Known> {
        let place = &self.places[host.0];
        let process = place.node.as_ref()?;
        let (node, incarnation) = process.me();
        let dictionary = process.published.as_ref().map(|published| published.dictionary.clone());
        let recent = process.setup.settings.timing.failure_timeout;
        let is_recent = |heard: &crate::sim::clock::Time| self.now().since(*heard) <= recent;
        let living = place.heard.iter().filter(|(_, (_, heard))| is_recent(heard));
        Some(Known {
            versions: PROTOCOL,
            mesh: process.mesh(),
            node,
            incarnation,
            secret: Vec::new(),
            version: dictionary.as_ref().map_or(Version(0), |dictionary| dictionary.version),
            roster: dictionary.as_ref().map(|it| roster(it)),
            gone: dictionary.as_ref().map(|it| it.gone.keys().copied().collect()).unwrap_or_default(),
            living: living.map(|(node, (life, _))| (*node, *life)).collect(),
        })
    }

    /// The roster has changed for a node: its links follow.
    pub(super) fn on_roster(&mut self, host: Host, dictionary: &Dictionary) {
        let Some((me, _)) = self.places[host.0].node.as_ref().map(Node::me) else { return };
        let listed: BTreeMap<NodeId, Host> = dictionary
            .roster
            .values()
            .filter(|member| member.node.id != me)
            .filter_map(|member| Some((member.node.id, self.host(host_name(&member.node.addresses.peer))?)))
            .collect();
        self.on_network_change(|network, context| {
            for (node, other) in &listed {
                network.want(host, *other, *node, Lane::Control, context);
                network.want(host, *other, *node, Lane::Data, context);
            }
            network.keep_links(host, |node| listed.contains_key(&node), context);
            let is_over = |node: NodeId, life: Incarnation| match dictionary.roster.get(&node) {
                Some(member) => member.node.incarnation > life,
                None => dictionary.gone.contains_key(&node),
            };
            network.close(host, is_over, context);
        });
    }

    /// A process asks at an address whether it may join. A name of several places stands for all of them.
    pub(super) fn on_ask_to_join(&mut self, host: Host, address: String) {
        let process = self.places[host.0].process;
        let name = host_name(&address).to_string();
        let asked: Vec<Host> = match name.as_str() {
            "all" => self.hosts().filter(|other| *other != host).collect(),
            name => self.host(name).into_iter().collect(),
        };
        let trip = 4 * self.network.weather.draw(&mut self.random);
        if asked.is_empty() {
            let answer = Err(format!("nobody is called {name}"));
            self.later(trip, Event::JoinTold(host, process, address.clone(), answer));
        }
        for asked in asked {
            let address = self.places[asked.0].peer_address();
            if self.network.is_cut(host, asked) || self.network.is_cut(asked, host) {
                let answer = Err("timed out".to_string());
                self.later(TIME_LIMIT, Event::JoinTold(host, process, address, answer));
            } else {
                self.later(trip, Event::JoinAsked(host, process, address, asked));
            }
        }
    }

    pub(super) fn on_join_asked(&mut self, host: Host, process: u64, address: String, asked: Host) {
        let Some(caller) = self.known(host).filter(|_| self.places[host.0].process == process) else { return };
        let answer = match self.known(asked) {
            None => Err("connection refused".to_string()),
            Some(called) => match self.shake(&caller, &called, None, Lane::Control) {
                Err(PeerRefusal::NotOnRoster { removed: true, .. }) => {
                    Ok(JoinAnswer::Refused("removed from the mesh".into()))
                }
                Err(refusal) => Err(refusal.to_string()),
                Ok(()) if called.mesh.is_none() => Ok(self.without_mesh(asked)),
                Ok(()) => return self.ask_owner(host, process, address, asked),
            },
        };
        self.tell_joiner((host, process), asked, address, answer);
    }

    fn without_mesh(&self, asked: Host) -> JoinAnswer {
        let spec = &self.places[asked.0].spec;
        let node = self.places[asked.0].node.as_ref().map(|node| node.me().0);
        match node.filter(|_| spec.found || spec.join.is_empty()) {
            Some(node) => JoinAnswer::Founding { node },
            None => JoinAnswer::NoMesh,
        }
    }

    fn ask_owner(&mut self, host: Host, process: u64, address: String, asked: Host) {
        let Some(candidate) = self.places[host.0].node.as_ref().map(|node| node.setup.candidate.clone()) else {
            return;
        };
        let connection = self.next();
        let joiner = Joiner { host, process, address, asked: (asked, self.places[asked.0].process) };
        self.joiners.insert(connection, joiner);
        self.later(2 * TIME_LIMIT, Event::JoinUnanswered(connection));
        self.tell(asked, Mail::Ownership(ownership::Input::Joining { connection, candidate }));
    }

    pub(super) fn on_join_answer(&mut self, connection: u64, answer: JoinAnswer) {
        let Some(Joiner { host, process, address, asked }) = self.joiners.remove(&connection) else { return };
        self.tell_joiner((host, process), asked.0, address, Ok(answer));
    }

    pub(super) fn on_join_unanswered(&mut self, connection: u64) {
        let Some(Joiner { host, process, address, .. }) = self.joiners.remove(&connection) else { return };
        self.later(Duration::ZERO, Event::JoinTold(host, process, address, Err("no answer".into())));
    }

    /// Who was removed, before the log reached it or while all whom it knew were replaced, is called by nobody: while it
    /// knows of no commander it asks at the addresses it was started with, and learns so.
    pub(super) fn on_introduce(&mut self, host: Host, process: u64, pause: Duration) {
        let Some(node) = self.process(host, process) else { return };
        if node.published.as_ref().is_some_and(|published| published.commander.is_some()) {
            return self.later(INTRODUCTION, Event::Introduce(host, process, INTRODUCTION));
        }
        for address in self.places[host.0].spec.join.clone() {
            let reached = |other: &Host| !self.network.is_cut(host, *other) && !self.network.is_cut(*other, host);
            let Some(other) = self.host(host_name(&address)).filter(reached) else { continue };
            let (Some(caller), Some(called)) = (self.known(host), self.known(other)) else { continue };
            if self.places[other.0].is_paused() {
                continue;
            }
            if let Err(PeerRefusal::NotOnRoster { removed: true, .. }) =
                self.shake(&caller, &called, None, Lane::Control)
            {
                return self.on_end(host, "removed from the mesh".into());
            }
        }
        self.later(pause, Event::Introduce(host, process, (pause * 2).min(Duration::from_secs(30))));
    }

    fn tell_joiner(
        &mut self,
        (host, process): (Host, u64),
        asked: Host,
        address: String,
        answer: Result<JoinAnswer, String>,
    ) {
        let (span, answer) = match self.network.is_cut(asked, host) {
            true => (TIME_LIMIT, Err("timed out".into())),
            false => (self.network.weather.draw(&mut self.random), answer),
        };
        let name = self.places[host.0].name.clone();
        self.trace.line(self.queue.now(), || format!("{name} asked at {address} to join: {answer:?}"));
        self.later(span, Event::JoinTold(host, process, address, answer));
    }

    /// Cuts one direction between two places.
    pub fn cut(&mut self, from: Host, to: Host) {
        self.fold(b'X', from, to.0 as u64);
        self.tell_of_two(from, to, "is cut off from");
        self.on_network_change(|network, context| network.cut(from, to, context));
    }

    /// Resets all connections between two places.
    pub fn snap(&mut self, one: Host, other: Host) {
        self.fold(b'B', one, other.0 as u64);
        self.on_network_change(|network, context| network.reset(one, other, context));
    }

    /// Heals one direction between two places.
    pub fn heal(&mut self, from: Host, to: Host) {
        self.fold(b'H', from, to.0 as u64);
        self.tell_of_two(from, to, "reaches again");
        self.on_network_change(|network, context| network.heal(from, to, context));
    }

    /// Heals all cuts.
    pub fn heal_all(&mut self) {
        self.fold(b'H', Host(0), u64::MAX);
        self.trace.tell(self.queue.now(), None, || "all links are healed".into());
        self.on_network_change(|network, context| {
            network.heal_all(context);
            network.let_all_go(context);
        });
    }

    /// What a lane carries one way between two places waits, until it is let go.
    pub fn hold(&mut self, from: Host, to: Host, lane: Lane) {
        self.fold(b'L', from, (to.0 as u64) << 8 | lane as u64);
        self.tell_of_two(from, to, "waits with what it says to");
        self.network.hold(from, to, lane);
    }

    /// What is held one way between two places goes on.
    pub fn let_go(&mut self, from: Host, to: Host) {
        self.fold(b'G', from, to.0 as u64);
        self.tell_of_two(from, to, "is heard again by");
        self.on_network_change(|network, context| network.let_go(from, to, context));
    }

    /// All connections between two places are reset.
    pub fn reset(&mut self, one: Host, other: Host) {
        self.fold(b'R', one, other.0 as u64);
        self.tell_of_two(one, other, "loses its connections with");
        self.on_network_change(|network, context| network.reset(one, other, context));
    }

    fn tell_of_two(&mut self, from: Host, to: Host, text: &str) {
        let (from, to) = (&self.places[from.0].name, &self.places[to.0].name);
        self.trace.tell(self.queue.now(), Some(from), || format!("{text} {to}"));
    }
}

fn encoded(message: &PeerMessage) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(USUAL_FRAME);
    frame::push_message(message, &mut buffer).expect("no message is longer than its lane allows");
    buffer
}

fn decoded(mut buffer: BytesMut, lane: Lane) -> PeerMessage {
    let frame = frame::Frames::of(lane).next(&mut buffer).expect("a frame is well formed").expect("a frame is whole");
    frame::message(&frame, lane).expect("what was encoded can be decoded")
}

fn side(host: Host, known: &Known) -> Side {
    Side { host, node: known.node, life: known.incarnation }
}

fn roster(dictionary: &Dictionary) -> BTreeMap<NodeId, Incarnation> {
    dictionary.roster.iter().map(|(id, member)| (*id, member.node.incarnation)).collect()
}

/// The name in `name:port`.
fn host_name(address: &str) -> &str {
    address.split(':').next().unwrap_or(address)
}
