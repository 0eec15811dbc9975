//! What all actors of a node share: who it is, what is agreed, whom it can reach, and whom to ask.
//!
//! Nothing here decides. What is agreed is written by the election's and the heartbeat's postmen and read by everybody, so that
//! no client's command ever asks the control plane.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use actix::Addr;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::actors::clients::Clients;
use crate::actors::connection::Party;
use crate::actors::door::Door;
use crate::actors::election::Election;
use crate::actors::exchange::Exchange;
use crate::actors::gateway::{Close, Gateway};
use crate::actors::heartbeat::Heartbeat;
use crate::actors::hold::Lost;
use crate::actors::outbox::Unsaid;
use crate::actors::ownership::Ownership;
use crate::actors::post::offer;
use crate::actors::store::Store;
use crate::actors::supervisor::{End, Ending, Supervisor};
use crate::actors::surroundings::{Surroundings, Thread};
use crate::actors::switchboard::Switchboard;
use crate::commands::view::Identity;
use crate::machines::chronicle::Chronicle;
use crate::machines::election::Published;
use crate::machines::heartbeat::Adoption;
use crate::machines::{election, heartbeat, ownership};
use crate::messages::events::{Event, EventKind};
use crate::messages::heartbeat::Progress;
use crate::messages::ownership::Candidate;
use crate::messages::peer::{PeerMessage, PeerRefusal};
use crate::settings::{OnTerm, Settings};
use crate::types::{Incarnation, Instant, MeshId, NodeId, Now, Timing, Version};
use crate::wire::handshake::Known;

/// The actors that others speak to.
#[derive(Debug)]
pub struct Crew {
    /// Beacons and leases.
    pub heartbeat: Addr<Heartbeat>,
    /// The commander's plans, and this node's part in them.
    pub ownership: Addr<Ownership>,
    /// Keeps the links.
    pub exchange: Addr<Exchange>,
    /// One a worker.
    pub stores: Vec<Addr<Store>>,
    /// One a worker.
    pub doors: Vec<Addr<Door>>,
    /// The threads of the workers.
    pub threads: Vec<Thread>,
}

/// What the keyspaces of a worker take.
#[derive(Debug, Default)]
pub struct Tally {
    /// Keys in the ranges that this node heads.
    pub keys: AtomicU64,
    /// Those of them that have an end.
    pub expiring: AtomicU64,
    /// Bytes of all that is held, about.
    pub bytes: AtomicU64,
    /// Keys sent whole to joiners.
    pub entries_streamed: AtomicU64,
    /// Bytes of keys and values among them.
    pub bytes_streamed: AtomicU64,
    /// Writes sent to members that had missed them.
    pub writes_repaired: AtomicU64,
    /// Streamings of whole copies begun.
    pub streamings: AtomicU64,
    /// Writes sent as commands.
    pub recipes_sent: AtomicU64,
    /// Commands of others that would have made something else here.
    pub recipes_refused: AtomicU64,
}

/// A node, as all its actors know it.
pub struct Node {
    /// What its operator wants.
    pub settings: Settings,
    /// Where it is.
    pub surroundings: Surroundings,
    /// As it presents itself.
    pub me: Candidate,
    /// Threads with a store and a door each.
    pub workers: usize,
    /// When this process began.
    pub started: Instant,
    /// By which connection others are reached.
    pub switchboard: Switchboard,
    /// What happened.
    pub chronicle: Mutex<Chronicle>,
    /// Told after each event, for those who watch.
    pub happened: Notify,
    /// Who is connected.
    pub clients: Clients,
    /// What each worker's keyspaces take.
    pub tallies: Vec<Tally>,
    /// Peers that have just been lost.
    pub lost: Lost,
    /// What does not change while this process lives, as commands tell it.
    pub identity: Arc<Identity>,
    supervisor: Addr<Supervisor>,
    crew: OnceLock<Crew>,
    election: OnceLock<Addr<Election>>,
    gateways: OnceLock<Vec<Addr<Gateway>>>,
    closing: AtomicBool,
    leaving: AtomicBool,
    /// The mesh agreed that this node is to leave.
    drains: AtomicBool,
    ailing: Mutex<Vec<String>>,
    /// How far the moves of ranges have come.
    progress: Mutex<Option<Progress>>,
    mesh: OnceLock<MeshId>,
    /// What is agreed, as far as this node knows.
    published: RwLock<Option<Arc<Published>>>,
    /// What stores and doors go by.
    adopted: RwLock<Option<Arc<Published>>>,
    /// Told after each change of `published` and `adopted`.
    changed: Notify,
    /// Since when each peer has answered that another process has our id.
    doubted: Mutex<Option<Instant>>,
}

impl Node {
    /// One that knows nothing of any mesh yet.
    pub fn new(
        settings: Settings,
        surroundings: Surroundings,
        me: Candidate,
        workers: usize,
        supervisor: Addr<Supervisor>,
    ) -> Self {
        let identity = Arc::new(identity(&settings, &me));
        Self {
            started: surroundings.now().instant,
            settings,
            surroundings,
            clients: Clients::default(),
            tallies: (0..workers).map(|_| Tally::default()).collect(),
            lost: Lost::default(),
            identity,
            me,
            workers,
            switchboard: Switchboard::default(),
            chronicle: Mutex::new(Chronicle::default()),
            happened: Notify::new(),
            supervisor,
            crew: OnceLock::new(),
            election: OnceLock::new(),
            gateways: OnceLock::new(),
            closing: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            ailing: Mutex::default(),
            progress: Mutex::default(),
            mesh: OnceLock::new(),
            published: RwLock::new(None),
            adopted: RwLock::new(None),
            changed: Notify::new(),
            doubted: Mutex::new(None),
        }
    }

    /// This instant, as this node sees it.
    pub fn now(&self) -> Now {
        self.surroundings.now()
    }

    /// The actors know each other from here on.
    pub fn enlist(&self, crew: Crew) {
        assert!(self.crew.set(crew).is_ok(), "enlisted twice");
    }

    /// The actors that others speak to.
    pub fn crew(&self) -> &Crew {
        self.crew.get().expect("no actor acts before all know each other")
    }

    /// The election actor starts when the mesh is known.
    pub fn set_election(&self, election: Addr<Election>) {
        assert!(self.election.set(election).is_ok(), "elected twice");
    }

    /// Consensus, once this node belongs to a mesh.
    pub fn election(&self) -> Option<&Addr<Election>> {
        self.election.get()
    }

    /// This does not work in this process now.
    pub fn ails(&self, ailing: Vec<String>) {
        *self.ailing.lock().unwrap_or_else(PoisonError::into_inner) = ailing;
    }

    /// What does not work in this process; empty when all is well.
    pub fn ailing(&self) -> Vec<String> {
        self.ailing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far the moves of ranges have come; none when there are none, or nothing is known of any.
    pub fn show_progress(&self, progress: Option<Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// As shown last.
    pub fn progress(&self) -> Option<Progress> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who accepts clients, one a worker.
    pub fn set_gateways(&self, gateways: Vec<Addr<Gateway>>) {
        assert!(self.gateways.set(gateways).is_ok(), "opened twice");
    }

    /// Who accepts clients, one a worker.
    pub fn gateways(&self) -> &[Addr<Gateway>] {
        self.gateways.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// No client is accepted any more, and those that are there are told what is known, and goodbye.
    pub fn close_doors(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.gateways().iter().for_each(|gateway| gateway.do_send(Close));
    }

    /// Whether the clients' doors are closed for good.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// This node is about to leave the roster. That its life is over then is no news, and no error.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Says something to a node of the roster; what it says to itself does not leave it.
    ///
    /// # Errors
    /// When nobody takes it: then no byte of it will leave.
    pub fn say(&self, to: NodeId, message: PeerMessage) -> Result<(), Unsaid> {
        if to == self.me.id { self.hear_myself(message) } else { self.switchboard.say(to, message) }
    }

    fn hear_myself(&self, message: PeerMessage) -> Result<(), Unsaid> {
        let (from, incarnation, crew) = (self.me.id, self.me.incarnation, self.crew());
        let taken = match message {
            PeerMessage::Election(message) => {
                self.election().is_some_and(|election| offer(election, election::Input::Peer { from, message }))
            }
            PeerMessage::Heartbeat(message) => {
                offer(&crew.heartbeat, heartbeat::Input::Peer { from, incarnation, message })
            }
            PeerMessage::Ownership(message) => {
                offer(&crew.ownership, ownership::Input::Peer { from, incarnation, message })
            }
            PeerMessage::Chain(_) | PeerMessage::Relay(_) => unreachable!("a node forwards nothing to itself"),
        };
        if taken { Ok(()) } else { Err(Unsaid::Full) }
    }

    /// This node belongs to a mesh now.
    pub fn set_mesh(&self, mesh: MeshId) {
        assert_eq!(*self.mesh.get_or_init(|| mesh), mesh, "a node belongs to one mesh");
    }

    /// The mesh, once it is known.
    pub fn mesh(&self) -> Option<MeshId> {
        self.mesh.get().copied()
    }

    /// This is agreed now.
    pub fn publish(&self, published: &Arc<Published>) {
        if let Some(member) = published.dictionary.member(self.me.id) {
            self.drains.store(member.drains, Ordering::SeqCst);
        }
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Some(published.clone());
        self.changed.notify_waiters();
    }

    /// What is agreed, as far as this node knows.
    pub fn published(&self) -> Option<Arc<Published>> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores and doors go by this now.
    pub fn adopt(&self, adoption: &Adoption) {
        *self.adopted.write().unwrap_or_else(PoisonError::into_inner) = Some(adoption.published.clone());
        self.changed.notify_waiters();
    }

    /// What people and clients are told: what stores and doors go by, which may hold news of a commander that peers
    /// brought and the log has not.
    pub fn adopted(&self) -> Option<Arc<Published>> {
        let adopted = self.adopted.read().unwrap_or_else(PoisonError::into_inner).clone();
        adopted.or_else(|| self.published())
    }

    /// The next change of what is agreed, or of what is gone by, from this call on.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The mesh's times, or this node's own while no mesh is known.
    pub fn timing(&self) -> Timing {
        match self.published() {
            Some(published) => published.dictionary.settings.timing,
            None => self.settings.mesh_settings().timing,
        }
    }

    /// How long bytes to a peer may stay unacknowledged before their connection is broken.
    pub fn patience(&self) -> Duration {
        (self.timing().failure_timeout * 4).max(Duration::from_secs(1))
    }

    /// What the handshake goes by.
    pub fn known(&self) -> Known {
        let published = self.published();
        let dictionary = published.as_ref().map(|published| &published.dictionary);
        Known {
            versions: self.surroundings.versions(),
            mesh: self.mesh(),
            node: self.me.id,
            incarnation: self.me.incarnation,
            secret: self.settings.mesh.secret.bytes().to_vec(),
            version: dictionary.map_or(Version(0), |dictionary| dictionary.version),
            roster: dictionary.map(|dictionary| {
                dictionary.roster.iter().map(|(id, member)| (*id, member.node.incarnation)).collect()
            }),
            gone: dictionary.map(|dictionary| dictionary.gone.keys().copied().collect()).unwrap_or_default(),
            living: self.living(),
        }
    }

    /// Who has been heard over a control connection within the last failure_timeout.
    fn living(&self) -> BTreeMap<NodeId, Incarnation> {
        let since = self.now().instant - self.timing().failure_timeout;
        self.switchboard.heard_since(since)
    }

    /// Waits until the roster says that this life of a node is over: another has begun, or the node was removed.
    pub async fn outlived(self: Arc<Self>, party: Party) {
        loop {
            let changed = self.changed();
            if self.is_outlived(party) {
                return;
            }
            changed.await;
        }
    }

    fn is_outlived(&self, party: Party) -> bool {
        let Some(published) = self.published() else { return false };
        let dictionary = &published.dictionary;
        match dictionary.roster.get(&party.node) {
            Some(member) => member.node.incarnation > party.incarnation,
            None => dictionary.gone.contains_key(&party.node),
        }
    }

    /// A node's name, for people.
    pub fn name_of(&self, id: NodeId) -> String {
        let published = self.published();
        let member = published.as_ref().and_then(|published| published.dictionary.roster.get(&id));
        member.map_or_else(|| id.to_string(), |member| member.node.name.clone())
    }

    /// Remembers an event for people, and says it in the log.
    pub fn note(&self, event: Event) {
        match event.kind {
            EventKind::RangesLost | EventKind::NodeLost | EventKind::NodeSuspect | EventKind::CommanderLost => {
                tracing::warn!(term = event.term.0, version = event.version.0, "{}", event.text);
            }
            _ => tracing::info!(term = event.term.0, version = event.version.0, "{}", event.text),
        }
        self.chronicle.lock().unwrap_or_else(PoisonError::into_inner).record(self.now(), event);
        self.happened.notify_waiters();
    }

    /// A peer will not speak with us. Some reasons end this process: it is not of the mesh any more, or not the only one
    /// of its name.
    pub fn on_refusal(&self, peer: NodeId, refusal: &PeerRefusal) {
        match refusal {
            PeerRefusal::NotOnRoster { version, removed: true } => {
                let ours = self.published().map_or(Version(0), |published| published.dictionary.version);
                if *version >= ours {
                    self.end_removed(refusal.to_string());
                }
            }
            PeerRefusal::WrongMesh { mine: Some(mine) } if self.mesh().is_some_and(|mesh| mesh != *mine) => {
                // One peer of another mesh at an address of ours is its own mistake: the others are still there.
                tracing::error!(peer = %self.name_of(peer), "{refusal}");
            }
            PeerRefusal::NodeIdInUse => self.on_double(refusal),
            _ => {}
        }
    }

    /// Right after a quick restart a peer may still hear our former life. Only one that is said to live on for long is a
    /// double.
    fn on_double(&self, refusal: &PeerRefusal) {
        let now = self.now().instant;
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = self.timing().failure_timeout * 4;
        match *doubted {
            // Old doubts, settled since.
            Some(since) if now.since(since) > patience * 2 => *doubted = Some(now),
            Some(since) if now.since(since) > patience => self.end_by_error(refusal.to_string()),
            Some(_) => {}
            None => *doubted = Some(now),
        }
    }

    /// Whether the mesh has removed this node, as far as it knows.
    pub fn is_off_the_roster(&self) -> bool {
        self.published().is_some_and(|published| published.dictionary.gone.contains_key(&self.me.id))
    }

    /// Whether this node was told to leave, and holds nothing any more.
    pub fn is_drained(&self) -> bool {
        let Some(published) = self.published() else { return false };
        let Candidate { id, incarnation, .. } = &self.me;
        published.dictionary.drains(*id) && !published.dictionary.lists(*id, *incarnation)
    }

    /// How many ranges the roster gives this node.
    pub fn ranges_held(&self) -> usize {
        self.published().map_or(0, |published| published.dictionary.tally(self.me.id).held)
    }

    /// Ends this process: it is off the roster, which is no error where it, or an operator, wanted it to leave, nor where it is to
    /// leave whenever it ends.
    pub fn end_removed(&self, reason: impl Into<String>) {
        let leaves = self.settings.node.on_term == OnTerm::Leave;
        if leaves || self.is_leaving() || self.drains.load(Ordering::SeqCst) {
            self.end("it is off the roster, and holds nothing any more", Ending::Left);
        } else {
            self.end_by_error(reason);
        }
    }

    /// Ends this process, or this life of it. A node that leaves begins no other life: it ends once it is off the roster.
    pub fn end(&self, reason: impl Into<String>, ending: Ending) {
        if ending == Ending::BeginAgain && self.is_leaving() {
            return;
        }
        self.supervisor.do_send(End { reason: reason.into(), ending });
    }

    /// Ends this process: something it relied on does not hold.
    pub fn end_by_error(&self, reason: impl Into<String>) {
        self.end(reason, Ending::ByError);
    }
}

fn identity(settings: &Settings, me: &Candidate) -> Identity {
    Identity {
        node: me.id,
        incarnation: me.incarnation,
        name: me.name.clone(),
        role: me.role,
        addresses: me.addresses.clone(),
        process: std::process::id(),
        password: settings.client.password.is_set().then(|| settings.client.password.0.clone()),
        settings: settings.entries().into_iter().map(|(key, value)| (key.to_string(), value)).collect(),
    }
}
