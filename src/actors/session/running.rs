//! What becomes of a command: answered from what the connection knows, or sent to the ranges it concerns.

use std::sync::Arc;

use actix::{AsyncContext, Context};
use bytes::Bytes;

use super::shelf::is_kept;
use super::{Later, Session};
use crate::actors::clients::Client;
use crate::actors::hold::Hold;
use crate::actors::node::Node;
use crate::actors::post::deliver;
use crate::actors::{orders, telling};
use crate::commands::view::{ConnectionState, Door, View, headed};
use crate::commands::{Plan, Reach, Route, Spec, Work, admit, connection, plan};
use crate::machines::election::Published;
use crate::messages::client::Reply;
use crate::resp::{self, Limits, Protocol};
use crate::types::{RangeId, Version};

/// The connection as the commands see it.
#[derive(Clone)]
pub struct Speaker {
    state: ConnectionState,
    door: Door,
    /// What was agreed when this batch began.
    published: Option<Arc<Published>>,
    /// The ranges that this node headed at that version; for the cluster door.
    headed: (Version, Vec<RangeId>),
    /// The last command.
    command: &'static str,
}

impl Speaker {
    /// A new connection.
    pub fn new(node: &Node, client: &Client) -> Self {
        let state = ConnectionState::new(client.id, node.settings.client.password.is_set());
        Self { state, door: client.door, published: None, headed: (Version(0), Vec::new()), command: "" }
    }

    /// A batch begins.
    pub fn begin(&mut self, node: &Node) {
        self.published = node.adopted();
    }

    /// A batch has been read.
    pub fn note(&self, client: &Client, wall_ms: u64) {
        client.is_active(wall_ms, &self.state, self.command);
    }

    /// In which protocol it is answered.
    pub fn protocol(&self) -> Protocol {
        self.state.protocol
    }

    /// What it may send.
    pub fn limits(&self) -> Limits {
        if self.state.authenticated { Limits::CLIENT } else { Limits::STRANGER }
    }

    /// Whether what another node heads is passed on.
    pub fn passes_on(&self) -> bool {
        self.door == Door::Plain
    }

    fn view(&self, node: &Node, spec: &Spec) -> View {
        let needs = connection::needs(spec);
        View {
            me: node.identity.clone(),
            published: self.published.clone(),
            door: self.door,
            now: node.now(),
            clients: if needs.clients { node.clients.list() } else { Vec::new() },
            facts: needs.facts.then(|| Arc::new(telling::facts(node))),
        }
    }

    fn ranges(&self, node: &Node) -> usize {
        let agreed = self.published.as_ref().map(|published| published.dictionary.chains.len());
        agreed.unwrap_or_else(|| usize::from(node.settings.mesh.ranges))
    }

    /// What this node heads, counted anew when the dictionary has changed.
    fn count_headed(&mut self, node: &Node) {
        let Some(published) = &self.published else { return };
        let version = published.dictionary.version;
        if self.headed.0 != version {
            self.headed = (version, headed(published, node.me.id, node.me.incarnation));
        }
    }
}

impl Session {
    /// Carries out a command as far as this connection can, or notes what others must do.
    pub(super) fn on_command(&mut self, words: Vec<Bytes>, context: &mut Context<Self>) {
        let spec = match admit(&self.speaker.state, &words) {
            Ok(spec) => spec,
            Err(reply) => return self.batch.ready(self.speaker.protocol(), reply),
        };
        self.speaker.command = spec.name;
        match spec.work {
            Work::Data(route, _) => self.on_data(spec, route, words),
            Work::Mesh => self.on_mesh(&words, context),
            Work::Connection(_) | Work::Subcommands => self.on_connection(spec, &words, context),
        }
    }

    fn on_connection(&mut self, spec: &'static Spec, words: &[Bytes], context: &mut Context<Self>) {
        if is_kept(spec.name, words.len()) {
            return self.on_kept(spec, words, context);
        }
        let view = self.speaker.view(&self.node, spec);
        let ran = connection::run(&mut self.speaker.state, &view, spec, words);
        self.batch.ready(self.speaker.protocol(), ran.reply);
        self.closing |= ran.close;
        self.parser.set_limits(self.speaker.limits());
    }

    /// A large reply, encoded once for all. A map of the slots waits while the head of some has just been lost: clients ask
    /// for it at that very moment, and would be sent to the lost one again.
    fn on_kept(&mut self, spec: &'static Spec, words: &[Bytes], context: &mut Context<Self>) {
        let protocol = self.speaker.protocol();
        let is_map = spec.name.starts_with("cluster|");
        if is_map && let Some(hold) = Hold::of(&self.node) {
            let place = self.batch.later(protocol);
            let (session, node, words) = (context.address(), self.node.clone(), words.to_vec());
            let mut speaker = self.speaker.clone();
            actix_rt::spawn(async move {
                hold.over(&node).await;
                speaker.begin(&node);
                let view = speaker.view(&node, spec);
                let reply = connection::run(&mut speaker.state, &view, spec, &words).reply;
                deliver(&session, Later { place, reply });
            });
            return;
        }
        let Self { speaker, node, shelf, .. } = self;
        let key = (spec.name, speaker.door, protocol);
        let published = speaker.published.clone();
        let bytes = shelf.borrow_mut().reply(key, published.as_ref(), || {
            let view = speaker.view(node, spec);
            let ran = connection::run(&mut speaker.state, &view, spec, words);
            resp::encode_flat(&ran.reply, protocol)
        });
        self.batch.encoded(bytes);
    }

    fn on_data(&mut self, spec: &'static Spec, route: Route, words: Vec<Bytes>) {
        let ranges = self.speaker.ranges(&self.node);
        if self.speaker.door == Door::Cluster && matches!(route, Route::Every(_) | Route::Scan) {
            self.speaker.count_headed(&self.node);
        }
        let reach = match self.speaker.door {
            Door::Plain => Reach::Mesh,
            Door::Cluster => Reach::Node(&self.speaker.headed.1),
        };
        let protocol = self.speaker.protocol();
        match plan(spec, words, ranges, reach) {
            Ok(Plan::One(request)) => self.batch.one(protocol, request),
            Ok(Plan::Many(requests, merge)) => self.batch.many(protocol, requests, merge),
            Ok(Plan::Connection | Plan::Mesh) => unreachable!("what concerns no range was seen to before"),
            Err(reply) => self.batch.ready(protocol, reply),
        }
    }

    /// Operators' commands: most are told from what is known here, orders wait for the commander.
    fn on_mesh(&mut self, words: &[Bytes], context: &mut Context<Self>) {
        let protocol = self.speaker.protocol();
        match orders::mesh(&self.node, words) {
            orders::Answer::Now(reply) => self.batch.ready(protocol, reply),
            orders::Answer::Later(answer) => {
                let place = self.batch.later(protocol);
                let session = context.address();
                actix_rt::spawn(async move {
                    let reply: Reply = answer.await;
                    deliver(&session, Later { place, reply });
                });
            }
        }
    }
}
