//! A place in a ring: a disk, a clock, addresses, and the process that lives there now, if one does.
//!
//! A process is a [`LocalSet`] with all actors of one node in it. To drop it is to kill the node: no actor of it acts again. Not to
//! poll it is to pause it. What outlives it is the disk, and what it had written to the network.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::Actor;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::disk::Disk;
use super::network::Network;
use crate::actors::harm::PLANTED;
use crate::actors::node::Node;
use crate::actors::supervisor::{Ending, Listeners, Premises, Supervisor};
use crate::actors::surroundings::{MadeUp, Surroundings};
use crate::io::journal::Journal;
use crate::io::streams::Stream;
use crate::messages::peer::PROTOCOL;
use crate::settings::Settings;
use crate::sim::clock::Clock;
use crate::sim::network::{Host, between};
use crate::types::{NodeId, Now};

/// How long a disk takes to make a write stable.
const SYNC: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(6));

thread_local! {
    /// Whether processes of a ring run on this thread; if so, what the last panic said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_RING: Cell<bool> = const { Cell::new(false) };
}

/// Why a process is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// It ended as the supervisor wanted: the reason, and how.
    Ended(String, Ending),
    /// An actor of it panicked: the process is gone in that instant.
    Panicked(String),
    /// It was killed.
    Killed,
}

/// What the surroundings of one life are.
struct Life {
    host: Host,
    network: Arc<Network>,
    clock: Clock,
    mailbox: usize,
    versions: (u16, u16),
    random: Mutex<ChaCha8Rng>,
    told: Arc<Notify>,
    node: Mutex<Option<Arc<Node>>>,
    over: Mutex<Option<Over>>,
}

impl MadeUp for Life {
    fn now(&self) -> Now {
        self.clock.read(self.network.now())
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.random.lock().expect("one thread").fill_bytes(bytes);
    }

    fn connect(&self, to: SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>> {
        Box::pin(self.network.clone().connect(self.host, to))
    }

    fn sync_takes(&self) -> Duration {
        between(&mut self.random.lock().expect("one thread"), SYNC)
    }

    fn mailbox(&self) -> usize {
        self.mailbox
    }

    fn versions(&self) -> (u16, u16) {
        self.versions
    }

    fn told_to_end(&self) -> Arc<Notify> {
        self.told.clone()
    }

    fn began(&self, node: &Arc<Node>) {
        *self.node.lock().expect("one thread") = Some(node.clone());
    }

    fn ends(&self, reason: &str, ending: Ending) {
        self.over.lock().expect("one thread").get_or_insert(Over::Ended(reason.into(), ending));
    }
}

/// A node at work, with all its actors.
struct Process {
    life: Arc<Life>,
    actors: Option<LocalSet>,
    paused: bool,
    waker: Option<Waker>,
}

/// Polls the actors of a process until it is over, and has `look` look at the node after each time.
struct Running<L>(Rc<RefCell<Process>>, L);

impl<L: FnMut(&Arc<Node>) + Unpin> Future for Running<L> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self(process, look) = self.get_mut();
        let mut state = process.borrow_mut();
        state.waker = Some(context.waker().clone());
        if state.paused {
            return Poll::Pending;
        }
        let Some(actors) = state.actors.as_mut() else { return Poll::Ready(()) };
        let _ = Pin::new(actors).poll(context);
        let life = state.life.clone();
        if let Some(panic) = PANIC.take() {
            *life.over.lock().expect("one thread") = Some(Over::Panicked(panic));
        }
        let is_over = life.over.lock().expect("one thread").clone();
        if let Some(node) = life.node.lock().expect("one thread").as_ref().filter(|_| is_over.is_none()) {
            look(node);
        }
        drop(state);
        match is_over {
            None => Poll::Pending,
            Some(over) => {
                if matches!(over, Over::Panicked(_)) {
                    // What other actors wrote after that instant must not leave.
                    life.network.break_some(life.host, 4);
                }
                finish(process);
                Poll::Ready(())
            }
        }
    }
}

/// Drops all actors of a process.
fn finish(process: &RefCell<Process>) {
    let (actors, life) = {
        let mut state = process.borrow_mut();
        (state.actors.take(), state.life.clone())
    };
    life.network.close_doors(life.host);
    drop(actors);
    *life.node.lock().expect("one thread") = None;
}

/// Where a node lives.
pub struct Place {
    /// Where in the network.
    pub host: Host,
    /// What its operator wants.
    pub settings: Settings,
    /// What is kept.
    pub disk: Disk,
    /// Which versions of the peer protocol the next process speaks.
    pub versions: (u16, u16),
    clock: Clock,
    mailbox: usize,
    network: Arc<Network>,
    random: ChaCha8Rng,
    process: Option<Rc<RefCell<Process>>>,
}

impl Place {
    /// One at which no process has been yet.
    pub fn new(host: Host, settings: Settings, mailbox: usize, network: &Arc<Network>, seed: u64) -> Self {
        note_panics();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let shown = crate::types::Instant(random.gen_range(1_000_000_000..900_000_000_000));
        let clock = Clock::new(network.now(), shown, random.gen_range(-20_000..=20_000));
        let (disk, network) = (Disk::default(), network.clone());
        Self { host, settings, disk, versions: PROTOCOL, clock, mailbox, network, random, process: None }
    }

    /// Starts a process, as whatever runs one does after it has ended.
    ///
    /// # Errors
    /// When the journal cannot be believed.
    pub fn start(&mut self, look: impl FnMut(&Arc<Node>) + Unpin + 'static) -> Result<(), String> {
        let wall_ms = self.clock.read(self.network.now()).wall_ms;
        let new = NodeId(self.random.gen_range(1..u64::MAX));
        let journal = Journal::open_made_up(self.disk.clone(), new, wall_ms).map_err(|error| error.to_string())?;
        let door = |at| self.network.listen(self.host, at);
        let doors = Listeners {
            plain: door(self.settings.client.listen),
            cluster: door(self.settings.cluster.listen),
            peer: door(self.settings.peer.listen),
            console: door(self.settings.console.listen),
        };
        let life = Arc::new(Life {
            host: self.host,
            network: self.network.clone(),
            clock: self.clock,
            mailbox: self.mailbox,
            versions: self.versions,
            random: Mutex::new(ChaCha8Rng::seed_from_u64(self.random.r#gen())),
            told: Arc::default(),
            node: Mutex::default(),
            over: Mutex::default(),
        });
        let premises = Premises {
            settings: self.settings.clone(),
            surroundings: Surroundings::MadeUp(life.clone()),
            journal,
            doors,
        };
        let actors = LocalSet::new();
        actors.spawn_local(async move { drop(Supervisor::new(premises).start()) });
        let process = Process { life, actors: Some(actors), paused: false, waker: None };
        let process = Rc::new(RefCell::new(process));
        tokio::task::spawn_local(Running(process.clone(), look));
        self.process = Some(process);
        Ok(())
    }

    /// The node, while its process lives.
    pub fn node(&self) -> Option<Arc<Node>> {
        let process = self.process.as_ref()?.borrow();
        process.life.node.lock().expect("one thread").clone()
    }

    /// Why the last process is over, if it is. None while it lives, and before the first one.
    pub fn over(&self) -> Option<Over> {
        let process = self.process.as_ref()?.borrow();
        process.life.over.lock().expect("one thread").clone()
    }

    /// Kills the process: no actor of it acts again.
    pub fn kill(&mut self) {
        let Some(process) = &self.process else { return };
        process.borrow().life.over.lock().expect("one thread").get_or_insert(Over::Killed);
        finish(process);
        self.wake();
    }

    /// Lets the process run no further, or run on.
    pub fn pause(&mut self, paused: bool) {
        if let Some(process) = &self.process {
            process.borrow_mut().paused = paused;
            self.wake();
        }
    }

    /// Tells it to end in order.
    pub fn tell_to_end(&self) {
        if let Some(process) = &self.process {
            process.borrow().life.told.notify_one();
        }
    }

    /// Its data directory is lost: the next process is another node.
    pub fn lose_disk(&mut self) {
        self.disk = Disk::default();
    }

    fn wake(&self) {
        let waker = self.process.as_ref().and_then(|process| process.borrow().waker.clone());
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The runtime swallows what a panicking task says; a process of a ring ends by it.
fn note_panics() {
    static ONCE: Once = Once::new();
    IS_RING.set(true);
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_RING.get() {
                PANIC.with_borrow_mut(|said| _ = said.get_or_insert_with(|| panic.to_string()));
            }
            if !IS_RING.get() || !panic.to_string().contains(PLANTED) {
                before(panic);
            }
        }));
    });
}
