//! Starts the actors, each on its thread, watches over them, and ends the process: in order when told to, at once when
//! something it relies on does not hold.
//!
//! Threads: this one (signals, console); one for the control plane (election, heartbeat, ownership, control lanes), which never
//! waits for data; one for the disk; and the workers, each with a store, a door and its share of the sessions and of the
//! peers' data lanes. An actor that holds a machine is not started anew when it ends by an error: what it knew is gone, and
//! the mesh has a rule for nodes that start anew. So the process ends, and what runs it starts it again.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use actix_rt::time::{sleep, timeout};
use tokio::sync::oneshot;

use crate::actors::console::Console;
use crate::actors::door::Door;
use crate::actors::election::Election;
use crate::actors::exchange::Exchange;
use crate::actors::gateway::{self, Gateway};
use crate::actors::heartbeat::{Begin, Heartbeat};
use crate::actors::introductions::introduce;
use crate::actors::joining::Joining;
use crate::actors::node::{Crew, Node};
use crate::actors::ownership::{Ordering, Ownership};
use crate::actors::post::deliver;
use crate::actors::reception::Reception;
use crate::actors::store::Store;
use crate::actors::surroundings::{Surroundings, Thread};
use crate::io::journal::Journal;
use crate::io::streams::Listener;
use crate::machines::dictionary::Dictionary;
use crate::machines::{self, door, election, store};
use crate::messages::ownership::Order;
use crate::messages::peer::Lane;
use crate::settings::{OnTerm, Settings};
use crate::types::MeshId;

/// How long a commander may take to hand over before it ends all the same.
const HANDING_OVER: Duration = Duration::from_millis(400);

/// Between two looks at how the mesh is.
const LOOK: Duration = Duration::from_millis(20);

/// How long a node that ends waits until nobody waits for it.
const RESTING: Duration = Duration::from_secs(4);

/// How long a node that could not give away all it holds tries to be off the roster all the same.
const DROPPING: Duration = Duration::from_secs(1);

/// How long clients may take to read what they are still told.
const PARTING: Duration = Duration::from_millis(100);

/// End this process.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct End {
    /// Why.
    pub reason: String,
    /// How.
    pub ending: Ending,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    InOrder,
    /// It has left the mesh. What starts here next is a new node.
    Left,
    /// Something it relied on does not hold.
    ByError,
    /// Its life is over for the mesh: it begins another one at once, with empty memory, as if it had been started again.
    BeginAgain,
}

impl Ending {
    /// As the system of actors is told.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// As the system of actors was told.
    pub fn of_code(code: i32) -> Self {
        [Self::InOrder, Self::Left, Self::BeginAgain]
            .into_iter()
            .find(|ending| ending.code() == code)
            .unwrap_or(Self::ByError)
    }
}

/// The joining machine has come to an end.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum Joined {
    /// This node founds a mesh.
    Founder,
    /// It was admitted to this one.
    Member(MeshId),
}

/// What was had before any actor started.
pub struct Premises {
    /// The settings.
    pub settings: Settings,
    /// Where the node is.
    pub surroundings: Surroundings,
    /// The opened data directory.
    pub journal: Journal,
    /// The four doors.
    pub doors: Listeners,
}

/// Listeners, bound before anything else is done, so that a port in use changes nothing.
pub struct Listeners {
    /// The plain door.
    pub plain: Listener,
    /// The cluster door.
    pub cluster: Listener,
    /// The peer door.
    pub peer: Listener,
    /// The console.
    pub console: Listener,
}

/// The root of the tree.
pub struct Supervisor {
    premises: Option<Premises>,
    surroundings: Surroundings,
    /// Until this node belongs to a mesh.
    journal: Option<Journal>,
    control: Option<Thread>,
    node: Option<Arc<Node>>,
    ending: bool,
}

impl Supervisor {
    /// With what it needs to start the others.
    pub fn new(premises: Premises) -> Self {
        let surroundings = premises.surroundings.clone();
        Self { premises: Some(premises), surroundings, journal: None, control: None, node: None, ending: false }
    }

    fn start_all(&mut self, context: &mut Context<Self>) {
        let Premises { settings, surroundings, journal, doors } = self.premises.take().expect("started once");
        let (id, incarnation) = (journal.identity().node, journal.identity().incarnation);
        let me = settings.candidate(id, incarnation);
        let workers = settings.workers();
        tracing::info!(
            node = %me.name, id = %id, incarnation = incarnation.0,
            client = %me.addresses.client, cluster = %me.addresses.cluster, peer = %me.addresses.peer,
            console = %me.addresses.console, data_dir = %settings.node.data_dir.display(), workers,
            "started"
        );
        let control = surroundings.thread();
        let threads: Vec<Thread> = (0..workers).map(|_| surroundings.thread()).collect();
        let node = Arc::new(Node::new(settings, surroundings, me, workers, context.address()));
        enlist(&node, &control, threads);
        start_doors(&node, &control, doors);
        #[cfg(test)]
        node.surroundings.began(&node);
        let mesh = journal.mesh();
        (self.journal, self.control, self.node) = (Some(journal), Some(control), Some(node.clone()));
        match mesh {
            Some(mesh) => self.take_part(mesh),
            None => self.join(context),
        }
        context.spawn(see_clients_off(node.clone()).into_actor(self));
        context.spawn(hear_signals(node).into_actor(self));
    }

    /// Asks who has a mesh.
    fn join(&self, context: &mut Context<Self>) {
        let (node, control) = (self.node().clone(), self.control.clone().expect("started"));
        let supervisor = context.address();
        control.start(move |_| {
            let mesh = &node.settings.mesh;
            let now = node.now();
            let machine = machines::joining::Joining::new(mesh.join.clone(), mesh.found, node.me.clone(), now);
            Joining::new(node, machine, supervisor)
        });
    }

    /// This node belongs to a mesh: consensus begins where the journal ends.
    fn take_part(&mut self, mesh: MeshId) {
        let journal = self.journal.take().expect("a node joins one mesh, once");
        let recovered = match journal.recover() {
            Ok(recovered) => recovered,
            Err(error) => return self.end(&error.to_string(), Ending::ByError),
        };
        let node = self.node().clone();
        node.set_mesh(mesh);
        tracing::info!(%mesh, term = recovered.hard.term.0, "takes part in the mesh");
        let config = election::Config {
            me: node.me.id,
            role: node.me.role,
            timing: node.settings.timing(),
            voters: node.settings.election.voters,
            seed: node.surroundings.seed(),
        };
        let sharing = node.clone();
        let control = self.control.clone().expect("started");
        let election = control.start(move |context| {
            let machine = election::Election::new(config, recovered, sharing.now());
            Election::new(sharing, machine, journal, context.address())
        });
        node.set_election(election);
        control.spawn(introduce(node));
    }

    /// The first write of a mesh: its dictionary, with this node alone on the roster.
    fn found(&mut self) {
        let node = self.node().clone();
        let mesh = MeshId(u128::from_be_bytes(node.surroundings.random()));
        let dictionary = Dictionary::found(mesh, node.settings.mesh_settings(), node.me.clone());
        let journal = self.journal.as_mut().expect("a node founds one mesh, once");
        let first = election::founding(&dictionary);
        if let Err(error) = journal.write(&[first]).and_then(|()| journal.set_mesh(mesh)) {
            return self.end(&error.to_string(), Ending::ByError);
        }
        tracing::info!(%mesh, "founded a mesh");
        self.take_part(mesh);
    }

    fn node(&self) -> &Arc<Node> {
        self.node.as_ref().expect("started")
    }

    fn end(&mut self, reason: &str, ending: Ending) {
        if std::mem::replace(&mut self.ending, true) {
            return;
        }
        self.surroundings.end(reason, ending);
    }
}

/// Starts the actors that hold machines, and lets them begin when each can reach the others.
fn enlist(node: &Arc<Node>, control: &Thread, threads: Vec<Thread>) {
    let (id, incarnation, workers) = (node.me.id, node.me.incarnation, node.workers);
    let park = node.settings.client.park;
    let share = || node.clone();
    let shared = share();
    let seed = node.surroundings.seed();
    let heartbeat =
        control.start(move |_| Heartbeat::new(shared, machines::heartbeat::Heartbeat::new(id, incarnation, seed)));
    let shared = share();
    let seed = node.surroundings.seed();
    let budget = node.settings.placement.budget;
    let ownership = control.start(move |_| {
        let machine = machines::ownership::Ownership::new(shared.me.clone(), seed);
        Ownership::new(shared, machine.within((budget > 0).then_some(budget as u64)))
    });
    let shared = share();
    let exchange = control.start(move |_| Exchange::new(shared));
    let moving = budget.div_ceil(threads.len()) as u64;
    let limits = store::Limits { moving: (moving > 0).then_some(moving), ..store::Limits::default() };
    let mut stores = Vec::new();
    let mut doors = Vec::new();
    for (worker, thread) in threads.iter().enumerate() {
        let shared = share();
        stores.push(thread.start(move |_| {
            let config = store::Config { me: id, incarnation, worker, workers, park };
            let machine = store::Store::with_limits(config, limits);
            Store::new(shared, worker, machine)
        }));
        let shared = share();
        doors
            .push(thread.start(move |_| {
                Door::new(shared, worker, door::Door::new(door::Config { me: id, incarnation, park }))
            }));
    }
    let crew = Crew { heartbeat, ownership, exchange, stores, doors, threads };
    node.enlist(crew);
    let crew = node.crew();
    deliver(&crew.heartbeat, Begin);
    deliver(&crew.ownership, Begin);
    crew.stores.iter().for_each(|store| deliver(store, Begin));
    crew.doors.iter().for_each(|door| deliver(door, Begin));
}

fn start_doors(node: &Arc<Node>, control: &Thread, doors: Listeners) {
    let Listeners { plain, cluster, peer, console } = doors;
    let shared = node.clone();
    control.start(move |_| Reception::new(shared, peer));
    Gateway::start_all(node, gateway::Doors { plain, cluster });
    Console::new(node.clone(), console).start();
}

/// A node that was told to leave and holds nothing any more closes its doors, a moment before it is off the roster: until then
/// it tells clients that know an older map where to ask, and passes on what they say.
async fn see_clients_off(node: Arc<Node>) {
    loop {
        let changed = node.changed();
        if node.is_drained() {
            sleep(node.timing().failure_timeout).await; // not a guess: so long clients are told where to ask
            if node.is_drained() {
                return node.close_doors();
            }
        }
        changed.await;
    }
}

/// SIGTERM and SIGINT end this process in order; the second time at once.
async fn hear_signals(node: Arc<Node>) {
    let Ok(mut signals) = node.surroundings.signals() else {
        return tracing::error!("signals cannot be heard; SIGKILL alone will end this process");
    };
    let name = signals.next().await;
    tracing::info!("{name}: ending in order");
    let ending = tokio::select! {
        biased;
        _ = signals.next() => Ending::InOrder,
        ending = part(&node) => ending,
    };
    node.end(name, ending);
}

/// Leaves the mesh, if that is wished for and others can take what this node holds; else hands over what it does for the
/// mesh, for as long as it is away, and sees its clients off.
async fn part(node: &Arc<Node>) -> Ending {
    let wished = node.settings.node.on_term == OnTerm::Leave && node.mesh().is_some();
    if wished && leave(node).await {
        return Ending::Left;
    }
    step_down(node).await;
    if !wished {
        rest(node).await;
    }
    node.close_doors();
    sleep(PARTING).await; // not a guess: what is under way may be answered so long
    if wished && drop_out(node).await { Ending::Left } else { Ending::InOrder }
}

/// Lets the mesh do without this node before it ends, so that nobody waits for it then.
async fn rest(node: &Node) {
    if node.published().is_none_or(|published| published.dictionary.roster.len() < 2) {
        return;
    }
    let resting = order(node, Order::Rest { node: node.me.id, incarnation: node.me.incarnation });
    let span = (node.settings.node.grace / 2).min(RESTING);
    tokio::select! {
        rested = timeout(span, resting) => match rested {
            // Not a guess: so long clients that know an older map are told where to ask.
            Ok(Ok(())) => sleep(node.timing().failure_timeout.min(span)).await,
            Ok(Err(why)) => tracing::warn!("ends while others wait for it: {why}"),
            Err(_) => tracing::warn!("ends while others wait for it: they had not done without it in {span:?}"),
        },
        () = forsaken(node) => tracing::info!("nobody commands, or nobody is there: the whole mesh seems to end"),
    }
}

/// Waits until nobody has been reached, or nobody has commanded, for as long as a hand-over may take.
async fn forsaken(node: &Node) {
    let is_forsaken = || {
        let commander = node.adopted().and_then(|adopted| adopted.commander);
        commander.is_none() || node.switchboard.standing(Lane::Control).is_empty()
    };
    loop {
        let looks = HANDING_OVER.as_millis() / LOOK.as_millis();
        let mut seen = 0;
        while is_forsaken() && seen < looks {
            sleep(LOOK).await; // not a guess: between two looks
            seen += 1;
        }
        if seen == looks {
            return;
        }
        sleep(LOOK).await; // not a guess: between two looks
    }
}

async fn step_down(node: &Node) {
    let rules = || node.published().is_some_and(|published| published.commanding);
    let others = node.published().is_some_and(|published| published.dictionary.roster.len() > 1);
    let Some(election) = node.election().filter(|_| rules() && others) else { return };
    deliver(election, election::Input::StepDown { to: None });
    let handed_over = async {
        while rules() {
            sleep(Duration::from_millis(5)).await; // not a guess: between two looks
        }
    };
    if timeout(HANDING_OVER, handed_over).await.is_err() {
        tracing::warn!("nobody took over the command in {HANDING_OVER:?}");
    }
}

/// Gives away all that this node holds while its clients go on, as far as the grace period goes. Whether it is off the
/// roster.
async fn leave(node: &Arc<Node>) -> bool {
    node.leave();
    // What is left of the grace period is for ending without it.
    let grace = node.settings.node.grace * 3 / 4;
    let drained = async {
        while let Err(why) = order(node, Order::Drain { node: node.me.id }).await {
            // Without a commander nobody has said no.
            if node.adopted().is_some_and(|adopted| adopted.commander.is_some()) {
                return Err(why);
            }
        }
        loop {
            let changed = node.changed();
            if node.is_off_the_roster() {
                return Ok(());
            }
            changed.await;
        }
    };
    match timeout(grace, drained).await {
        Ok(Ok(())) => return true,
        Ok(Err(why)) => tracing::warn!("keeps what it holds until it ends: {why}"),
        Err(_) => tracing::warn!(
            "{} of its ranges could not be given away in {grace:?} (node.grace); their other copies are what is left of them",
            node.ranges_held()
        ),
    }
    false
}

/// Off the roster as one whose process has ended, which it soon has. Whether that could be done.
async fn drop_out(node: &Node) -> bool {
    let dropped = order(node, Order::Drop { node: node.me.id });
    match timeout(DROPPING, dropped).await {
        Ok(Ok(())) => return true,
        Ok(Err(why)) => tracing::warn!("stays on the roster: {why}"),
        Err(_) => tracing::warn!("stays on the roster: nobody has answered in {DROPPING:?}"),
    }
    false
}

/// Brings an order to the commander.
async fn order(node: &Node, order: Order) -> Result<(), String> {
    let (answer, answered) = oneshot::channel();
    deliver(&node.crew().ownership, Ordering { order, answer });
    answered.await.map_err(|_| "this node is ending".to_owned())?.map(drop)
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.start_all(context);
    }
}

impl Handler<End> for Supervisor {
    type Result = ();

    /// Who leaves holds nothing any more, but clients may still talk through it to others.
    fn handle(&mut self, end: End, context: &mut Context<Self>) {
        match &self.node {
            Some(node) if end.ending == Ending::Left && !node.is_closing() => {
                node.close_doors();
                let parted = sleep(PARTING).into_actor(self); // not a guess: what is under way may be answered so long
                context.spawn(parted.map(move |(), supervisor, _| supervisor.end(&end.reason, end.ending)));
            }
            _ => self.end(&end.reason, end.ending),
        }
    }
}

impl Handler<Joined> for Supervisor {
    type Result = ();

    fn handle(&mut self, joined: Joined, _context: &mut Context<Self>) {
        match joined {
            Joined::Founder => self.found(),
            Joined::Member(mesh) => {
                let journal = self.journal.as_mut().expect("a node joins one mesh, once");
                match journal.set_mesh(mesh) {
                    Ok(()) => self.take_part(mesh),
                    Err(error) => self.end(&error.to_string(), Ending::ByError),
                }
            }
        }
    }
}
