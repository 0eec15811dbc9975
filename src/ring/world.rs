//! A ring: some places, their network, clients at work, and what a seed does to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::book::Book;
use super::client::{Connection, work};
use super::network::{Happens, Network};
use super::place::{Over, Place};
use crate::actors::harm::PLANTED;
use crate::actors::supervisor::Ending;
use crate::machines::election::Published;
use crate::messages::client::Reply;
use crate::messages::ownership::{Chain, Holder};
use crate::settings::{OnTerm, Settings};
use crate::sim::clock::Time;
use crate::sim::network::{Host, between};
use crate::sim::world::Told;

/// Between two looks at all places.
const LOOK: Duration = Duration::from_millis(20);

/// How long what runs a process takes to start it again.
const RESTART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1500));

/// Everything must be well again so soon after the last harm: two nodes that did not reach each other are not put into one chain
/// for 120 failure_timeouts, a minute here.
pub const WELL_WITHIN: Duration = Duration::from_secs(80);

/// The keys by which it is seen that every range takes writes.
const PROBES: usize = 40;

/// Ranges of the mesh: the fewest that may be.
const RANGES: u16 = 16;

/// What kind of mesh it is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many places.
    pub places: usize,
    /// How many copies of each range.
    pub copies: u8,
    /// How many workers each node has.
    pub workers: usize,
    /// How many messages wait for an actor.
    pub mailbox: usize,
    /// How many clients work.
    pub clients: usize,
    /// What a node does that is told to end.
    pub on_term: OnTerm,
}

impl Plan {
    /// The usual one.
    pub const USUAL: Self =
        Self { places: 3, copies: 2, workers: 2, mailbox: 4096, clients: 6, on_term: OnTerm::Restart };

    /// As a seed wants it.
    pub fn draw(random: &mut ChaCha8Rng) -> Self {
        Self {
            places: random.gen_range(3..=5),
            copies: random.gen_range(2..=3),
            workers: random.gen_range(1..=3),
            mailbox: if random.gen_ratio(1, 3) { random.gen_range(8..64) } else { 4096 },
            clients: random.gen_range(4..=8),
            on_term: if random.gen_ratio(1, 3) { OnTerm::Leave } else { OnTerm::Restart },
        }
    }
}

/// All of it.
pub struct World {
    /// What kind of mesh.
    pub plan: Plan,
    /// The network.
    pub network: Arc<Network>,
    /// What is seen.
    pub book: Rc<Book>,
    /// Where nodes live.
    pub places: Vec<Place>,
    /// Chance.
    pub random: ChaCha8Rng,
    /// When each process that is over starts again.
    again: Vec<Option<Time>>,
    /// Why processes have ended.
    pub endings: Vec<(Host, Over)>,
    /// Whether a place's process may end by an error: something was done to it.
    pub harmed: Vec<bool>,
}

/// Lets a ring run on this thread until `story` is told. A clock that stands still while anybody has something to do.
pub fn play<T>(seed: u64, plan: impl FnOnce(&mut ChaCha8Rng) -> Plan, story: impl AsyncFnOnce(&mut World) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads can always be had");
    LocalSet::new().block_on(&runtime, async move {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let plan = plan(&mut random);
        let mut world = World::new(plan, random);
        let told = story(&mut world).await;
        world.places.iter_mut().for_each(Place::kill);
        told
    })
}

impl World {
    fn new(plan: Plan, mut random: ChaCha8Rng) -> Self {
        let network = Network::new(random.r#gen());
        let book = Rc::new(Book::new(network.clone(), usize::from(RANGES)));
        let place = |index| Place::new(Host(index), settings(plan, index), plan.mailbox, &network, random.r#gen());
        let places: Vec<Place> = (0..plan.places).map(place).collect();
        let (again, harmed) = (vec![Some(Time(0)); plan.places], vec![false; plan.places]);
        Self { plan, network, book, places, random, again, endings: Vec::new(), harmed }
    }

    /// Time goes on, and what is over starts again.
    ///
    /// # Errors
    /// When a rule is broken, or a process ends that nobody has harmed.
    pub async fn pass(&mut self, span: Duration) -> Result<(), String> {
        let until = self.book.now() + span;
        while self.book.now() < until {
            sleep(LOOK).await; // between looks
            self.look()?;
        }
        Ok(())
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not within the span, or as [`World::pass`].
    pub async fn until(&mut self, what: &str, span: Duration, is: impl Fn(&Self) -> bool) -> Result<(), String> {
        let until = self.book.now() + span;
        while !is(self) {
            if self.book.now() > until {
                return Err(format!("{}: not within {span:?}: {what}", self.book.now()));
            }
            self.pass(LOOK).await?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        self.book.is_good()?;
        let now = self.book.now();
        for index in 0..self.places.len() {
            match self.again[index] {
                Some(at) if at <= now => {
                    self.again[index] = None;
                    self.network.fold(Happens::Process, index as u64, 1);
                    let book = self.book.clone();
                    let started = self.places[index].start(move |node| book.look(node));
                    match started {
                        // What runs it tries again.
                        Err(_) if self.places[index].disk.refuses() => self.again[index] = Some(now + RESTART.1),
                        started => started?,
                    }
                }
                Some(_) => {}
                None => {
                    if let Some(over) = self.places[index].over() {
                        self.on_over(index, over)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn on_over(&mut self, index: usize, over: Over) -> Result<(), String> {
        self.network.fold(Happens::Process, index as u64, 0);
        self.again[index] = Some(self.book.now() + between(&mut self.random, RESTART));
        let harmed = std::mem::take(&mut self.harmed[index]);
        match &over {
            Over::Panicked(why) if !why.contains(PLANTED) => {
                return Err(format!("{}: place {index} panicked: {why}", self.book.now()));
            }
            Over::Ended(why, Ending::ByError) if !harmed => {
                return Err(format!("{}: place {index} ended by itself: {why}", self.book.now()));
            }
            Over::Ended(_, Ending::Left) => self.places[index].lose_disk(),
            _ => {}
        }
        self.endings.push((Host(index), over));
        Ok(())
    }

    /// Whether all processes live, and each knows of the others, of a commander, and of enough serving holders.
    pub fn is_whole(&self) -> bool {
        self.lack().is_none()
    }

    /// What is missing for that.
    fn lack(&self) -> Option<String> {
        self.places.iter().enumerate().find_map(|(index, place)| {
            let Some(node) = place.node() else { return Some(format!("place {index} does not run")) };
            let Some(published) = node.published() else { return Some(format!("place {index} knows of no mesh")) };
            self.lack_as_known(&published).map(|lack| format!("as place {index} knows, {lack}"))
        })
    }

    fn lack_as_known(&self, published: &Published) -> Option<String> {
        let Published { dictionary, commander, commanding, .. } = published;
        let listed = |place: &Place| {
            let members = || dictionary.roster.values();
            members().any(|member| member.node.name == place.settings.node.name)
        };
        let living = |chain: &Chain| {
            let lives = |holder: &&Holder| {
                let member = dictionary.roster.get(&holder.node);
                holder.state.serves() && member.is_some_and(|member| member.node.incarnation == holder.incarnation)
            };
            chain.holders.iter().filter(lives).count()
        };
        let thin = || dictionary.ranges().find(|(_, chain)| living(chain) != usize::from(self.plan.copies));
        match () {
            () if commander.is_none() && !commanding => Some("nobody commands".into()),
            () if !self.places.iter().all(listed) => Some("somebody is not listed".into()),
            () => thin().map(|(range, chain)| format!("range {range} has too few or too many copies: {chain:?}")),
        }
    }

    /// Clients begin to work.
    pub fn employ(&mut self) {
        for name in 0..self.plan.clients {
            // Some clients speak with the cluster doors, and hear MOVED.
            let cluster = name % 4 == 3;
            let door = |place: &Place| {
                if cluster { place.settings.cluster.listen } else { place.settings.client.listen }
            };
            let doors = self.places.iter().map(door).collect();
            spawn_local(work(self.book.clone(), name, doors, self.random.r#gen()));
        }
    }

    /// All harm ends: every node takes writes to every range, and all copies are the same.
    ///
    /// # Errors
    /// When that is not so in time, or as [`World::pass`].
    pub async fn recover(&mut self) -> Result<(), String> {
        self.network.mend();
        for place in &mut self.places {
            place.pause(false);
            place.disk.refuse(false);
        }
        let whole = self.until("the mesh is whole", WELL_WITHIN, Self::is_whole).await;
        whole.map_err(|why| format!("{why}: {}", self.lack().unwrap_or_default()))?;
        for index in 0..self.places.len() {
            self.takes_writes(index).await?;
        }
        self.book.close();
        // Longer than any client waits.
        self.pass(Duration::from_secs(5)).await?;
        let now = self.book.now();
        let same = async {
            while !self.copies_are_same(0).await {
                sleep(LOOK * 10).await; // between looks
            }
        };
        timeout(WELL_WITHIN, same).await.map_err(|_| format!("{now}: copies differ"))?;
        self.book.judge()
    }

    async fn takes_writes(&mut self, index: usize) -> Result<(), String> {
        let until = self.book.now() + WELL_WITHIN;
        let mut left = PROBES;
        while left > 0 {
            if self.book.now() > until {
                return Err(format!("{}: place {index} does not take a write to probe:{left}", self.book.now()));
            }
            let words = ["SET".into(), format!("probe:{left}"), "1".into()];
            match self.ask(index, &words).await {
                Told::Reply(Reply::Simple(_)) => left -= 1,
                _ => self.pass(LOOK).await?,
            }
        }
        Ok(())
    }

    async fn copies_are_same(&self, index: usize) -> bool {
        let told = self.ask(index, &["MESH".into(), "VERIFY".into()]).await;
        matches!(told, Told::Reply(Reply::Bulk(text)) if text.starts_with(br#"{"version":"#) && is_well(&text))
    }

    /// Asks at the plain door of a place.
    pub async fn ask(&self, index: usize, words: &[String]) -> Told {
        let door = self.places[index].settings.client.listen;
        let Some(mut connection) = Connection::to(&self.network, 500, door).await else { return Told::Lost };
        let words = words.iter().map(|word| Bytes::from(word.clone())).collect();
        connection.ask(vec![words], Duration::from_secs(4)).await.remove(0)
    }
}

fn is_well(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(text).is_ok_and(|it| it["well"] == serde_json::Value::Bool(true))
}

fn settings(plan: Plan, index: usize) -> Settings {
    let at = |index: usize, port| SocketAddr::from((Ipv4Addr::new(127, 0, 1, index as u8 + 1), port));
    let mut settings = Settings::default();
    settings.node.name = format!("n{}", index + 1);
    settings.node.workers = Some(plan.workers);
    settings.node.on_term = plan.on_term;
    settings.node.grace = Duration::from_secs(2);
    settings.client.listen = at(index, 6234);
    settings.cluster.listen = at(index, 7234);
    settings.console.listen = at(index, 8234);
    settings.peer.listen = at(index, 16234);
    settings.mesh.ranges = RANGES;
    settings.mesh.found = index == 0;
    settings.mesh.join = (0..plan.places).filter(|it| *it != index).map(|it| at(it, 16234).to_string()).collect();
    settings.replication.factor = plan.copies;
    settings
}
