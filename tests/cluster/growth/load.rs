//! A steady load, whatever the mesh makes of it: so many writes a second and as many reads, pipelined to the doors that the map
//! names, by clients that follow MOVED as cluster-aware clients do. Each operation is due at an instant; its latency counts from
//! then, so a mesh that stops is not spared by clients that wait for it.
//!
//! Each key has one writer and never two writes under way, and each write is a number above all before. So every read can be
//! judged at once: it must be no less than what was acknowledged, or read by anybody, before it was asked, and no more than what
//! has been asked for when it is answered.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use keyval::cli::chaos::route::{Manners, Route};
use keyval::messages::client::Reply;
use keyval::resp;
use keyval::types::Slot;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::LocalSet;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_micros(500);

/// After MOVED a client fetches the map anew, but not more often than this.
const REFRESH: Duration = Duration::from_millis(250);

/// Writes under way at a time for each client while keys are filled in.
const FILLING: usize = 1_000;

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many keys there are.
    pub keys: u32,
    /// Writes a second; and as many reads.
    pub rate: u32,
    /// How long values are.
    pub value_bytes: usize,
    /// Clients, each with a thread, and a connection to each door.
    pub clients: usize,
}

/// What is known of one key.
#[derive(Default)]
struct Key {
    asked: AtomicU64,
    acknowledged: AtomicU64,
    read: AtomicU64,
}

struct Shared {
    plan: Plan,
    keys: Vec<Key>,
    latencies: Mutex<Vec<u32>>,
    wrong: Mutex<Vec<String>>,
    moved: AtomicUsize,
    over: AtomicBool,
    pace: AtomicBool,
    filled: AtomicUsize,
}

/// How clients fared for a while.
#[derive(Clone, Debug)]
pub struct Window {
    /// Operations answered.
    pub answered: usize,
    /// Half of them within this.
    pub p50: Duration,
    /// All but one in a hundred within this.
    pub p99: Duration,
    /// All within this.
    pub longest: Duration,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, p50, p99, longest } = self;
        write!(f, "{answered} answered, half within {p50:?}, 99 of 100 within {p99:?}, all within {longest:?}")
    }
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Writes all keys once, as fast as that goes, and waits until it is done. The load itself begins with [`Load::begin`].
    pub fn fill(doors: &[String], plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            plan,
            keys: (0..plan.keys).map(|_| Key::default()).collect(),
            latencies: Mutex::default(),
            wrong: Mutex::default(),
            moved: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            pace: AtomicBool::new(false),
            filled: AtomicUsize::new(0),
        });
        let client = |number: usize| {
            let (shared, doors) = (Arc::clone(&shared), doors.to_vec());
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                LocalSet::new().block_on(&runtime, Client::new(number, shared, doors).work());
            })
        };
        let load = Self { clients: (0..plan.clients).map(client).collect(), shared: Arc::clone(&shared) };
        crate::mesh::until("all keys are written", Duration::from_secs(300), || {
            assert!(load.clients.iter().all(|client| !client.is_finished()), "a client panicked");
            load.shared.filled.load(Ordering::Relaxed) == plan.clients
        });
        load
    }

    /// From now on operations are due at the rate.
    pub fn begin(&self) {
        self.shared.pace.store(true, Ordering::Relaxed);
    }

    /// What was before counts no more.
    pub fn forget(&self) {
        self.shared.latencies.lock().expect("nobody panics with it").clear();
    }

    /// How clients fared since the last call.
    pub fn window(&self) -> Window {
        let mut all = std::mem::take(&mut *self.shared.latencies.lock().expect("nobody panics with it"));
        assert!(!all.is_empty(), "nothing was answered at all");
        all.sort_unstable();
        let at = |share: f64| Duration::from_micros(u64::from(all[((all.len() - 1) as f64 * share) as usize]));
        Window { answered: all.len(), p50: at(0.5), p99: at(0.99), longest: at(1.0) }
    }

    /// What was refused, lost or answered wrongly since the last call.
    pub fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.wrong.lock().expect("nobody panics with it"))
    }

    /// How often a door has named another.
    pub fn moved(&self) -> usize {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// Ends, after all that was asked is answered.
    pub fn end(self) -> Vec<String> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("a client does not panic"));
        std::mem::take(&mut *self.shared.wrong.lock().expect("nobody panics with it"))
    }
}

/// One operation under way.
struct Deed {
    key: u32,
    /// The value that is written; none to read.
    value: Option<u64>,
    /// A read must not be below this.
    floor: u64,
    due: Instant,
}

/// A connection to one door.
struct Line {
    stream: OwnedWriteHalf,
    output: BytesMut,
    under_way: VecDeque<Deed>,
}

struct Client {
    number: usize,
    shared: Arc<Shared>,
    route: Arc<Route>,
    state: Rc<RefCell<State>>,
    random: ChaCha8Rng,
    refreshed: Instant,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<String, Rc<RefCell<Line>>>,
    /// To be asked (again) at whatever door the map names.
    waiting: VecDeque<Deed>,
    busy: Vec<bool>,
    under_way: usize,
    latencies: Vec<u32>,
    /// A door has named another: most of the map may have changed.
    is_outdated: bool,
}

impl Client {
    fn new(number: usize, shared: Arc<Shared>, doors: Vec<String>) -> Self {
        let manners = Manners { password: None, patience: Duration::from_secs(3) };
        let busy = vec![false; shared.plan.keys as usize];
        let state = Rc::new(RefCell::new(State { busy, ..State::default() }));
        let random = ChaCha8Rng::seed_from_u64(number as u64);
        Self { number, shared, route: Arc::new(Route::new(doors, manners)), state, random, refreshed: Instant::now() }
    }

    async fn work(mut self) {
        self.route.refresh(0, None);
        for key in (self.number as u32..self.shared.plan.keys).step_by(self.shared.plan.clients) {
            while self.state.borrow().under_way >= FILLING {
                self.turn().await;
            }
            self.ask(key, true, Instant::now());
        }
        while self.state.borrow().under_way > 0 {
            self.turn().await;
        }
        self.state.borrow_mut().latencies.clear();
        self.shared.filled.fetch_add(1, Ordering::Relaxed);
        while !self.shared.pace.load(Ordering::Relaxed) && !self.shared.over.load(Ordering::Relaxed) {
            tokio::time::sleep(TICK).await; // not a guess: between two looks
        }
        self.go_on_at_the_rate().await;
        while self.state.borrow().under_way > 0 {
            self.turn().await;
        }
    }

    async fn go_on_at_the_rate(&mut self) {
        let Plan { keys, rate, clients, .. } = self.shared.plan;
        let each = Duration::from_secs(1) * clients as u32 / (2 * rate);
        let mut due = Instant::now();
        while !self.shared.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            while due <= now {
                let writes = self.random.gen_ratio(1, 2);
                let key = self.random.gen_range(0..keys);
                // Each key has one writer.
                let own = key - key % clients as u32 + self.number as u32;
                self.ask(if writes && own < keys { own } else { key }, writes && own < keys, due);
                due += each;
            }
            self.turn().await;
        }
    }

    fn ask(&mut self, key: u32, writes: bool, due: Instant) {
        let known = &self.shared.keys[key as usize];
        let mut state = self.state.borrow_mut();
        let writes = writes && !state.busy[key as usize];
        state.busy[key as usize] |= writes;
        let value = writes.then(|| known.asked.fetch_add(1, Ordering::SeqCst) + 1);
        let floor = known.acknowledged.load(Ordering::SeqCst).max(known.read.load(Ordering::SeqCst));
        state.under_way += 1;
        state.waiting.push_back(Deed { key, value, floor, due });
    }

    /// Sends what waits, and lets replies come in.
    async fn turn(&mut self) {
        if self.state.borrow().is_outdated && self.refreshed.elapsed() >= REFRESH {
            self.state.borrow_mut().is_outdated = false;
            self.refreshed = Instant::now();
            let (route, edition) = (Arc::clone(&self.route), self.route.door(0).0);
            // What it costs to read a map is not what the mesh makes others wait.
            drop(tokio::task::spawn_blocking(move || route.refresh(edition, None)));
        }
        self.dispatch().await;
        let lines: Vec<_> = self.state.borrow().lines.values().cloned().collect();
        for line in lines {
            let mut line = line.borrow_mut();
            while !line.output.is_empty() {
                let Line { stream, output, .. } = &mut *line;
                match stream.try_write(output) {
                    Ok(count) => drop(output.split_to(count)),
                    // Full, or broken: whoever reads from it will notice.
                    Err(_) => break,
                }
            }
        }
        let latencies = std::mem::take(&mut self.state.borrow_mut().latencies);
        self.shared.latencies.lock().expect("nobody panics with it").extend(latencies);
        tokio::time::sleep(TICK).await; // not a guess: between two looks
    }

    async fn dispatch(&mut self) {
        let waiting = self.state.borrow().waiting.len();
        for _ in 0..waiting {
            let Some(deed) = self.state.borrow_mut().waiting.pop_front() else { return };
            let name = format!("key:{:08}", deed.key);
            let (edition, door) = self.route.door(Slot::of_key(name.as_bytes()).0);
            let line = match &door {
                Some(door) => self.line(door).await,
                None => None,
            };
            let Some(line) = line else {
                self.route.refresh(edition, door.as_deref());
                self.state.borrow_mut().waiting.push_back(deed);
                continue;
            };
            let mut line = line.borrow_mut();
            write_command(&mut line.output, &name, deed.value, self.shared.plan.value_bytes);
            line.under_way.push_back(deed);
        }
    }

    /// The connection to a door, made if there is none.
    async fn line(&self, door: &str) -> Option<Rc<RefCell<Line>>> {
        if let Some(line) = self.state.borrow().lines.get(door) {
            return Some(Rc::clone(line));
        }
        let stream = TcpStream::connect(door).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (input, stream) = stream.into_split();
        let line = Rc::new(RefCell::new(Line { stream, output: BytesMut::new(), under_way: VecDeque::new() }));
        self.state.borrow_mut().lines.insert(door.to_owned(), Rc::clone(&line));
        let ear = Ear {
            shared: Arc::clone(&self.shared),
            route: Arc::clone(&self.route),
            state: Rc::clone(&self.state),
            line: Rc::clone(&line),
            door: door.to_owned(),
        };
        tokio::task::spawn_local(ear.listen(input));
        Some(line)
    }
}

fn write_command(output: &mut BytesMut, name: &str, value: Option<u64>, value_bytes: usize) {
    let text = match value {
        Some(value) => {
            format!("*3\r\n$3\r\nSET\r\n${}\r\n{name}\r\n${value_bytes}\r\n{value:<value_bytes$}\r\n", name.len())
        }
        None => format!("*2\r\n$3\r\nGET\r\n${}\r\n{name}\r\n", name.len()),
    };
    output.extend_from_slice(text.as_bytes());
}

impl State {
    fn end(&mut self, deed: &Deed) {
        self.under_way -= 1;
        if deed.value.is_some() {
            self.busy[deed.key as usize] = false;
        }
    }
}

/// Hears what one door answers.
struct Ear {
    shared: Arc<Shared>,
    route: Arc<Route>,
    state: Rc<RefCell<State>>,
    line: Rc<RefCell<Line>>,
    door: String,
}

impl Ear {
    async fn listen(self, stream: OwnedReadHalf) {
        let mut input = BytesMut::with_capacity(1 << 16);
        let why = loop {
            if let Err(error) = stream.readable().await {
                break error.to_string();
            }
            match stream.try_read_buf(&mut input) {
                Ok(0) => break "closed the connection".to_owned(),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => break error.to_string(),
            }
            while let Some(reply) = resp::decode(&mut input).expect("a reply") {
                let deed = self.line.borrow_mut().under_way.pop_front().expect("a reply to something");
                self.hear(deed, &reply);
            }
        };
        self.state.borrow_mut().lines.remove(&self.door);
        let lost = std::mem::take(&mut self.line.borrow_mut().under_way);
        for deed in lost {
            self.complain(&deed, &format!("lost: {why}"));
            self.state.borrow_mut().end(&deed);
        }
        let (edition, _) = self.route.door(0);
        self.route.refresh(edition, Some(&self.door));
    }

    fn hear(&self, deed: Deed, reply: &Reply) {
        let known = &self.shared.keys[deed.key as usize];
        match (reply, deed.value) {
            (Reply::Simple(_), Some(value)) => drop(known.acknowledged.fetch_max(value, Ordering::SeqCst)),
            (Reply::Bulk(bytes), None) => {
                let read: u64 = String::from_utf8_lossy(bytes).trim_end().parse().unwrap_or(0);
                let asked = known.asked.load(Ordering::SeqCst);
                known.read.fetch_max(read, Ordering::SeqCst);
                if !(deed.floor..=asked).contains(&read) {
                    self.complain(&deed, &format!("answered {read}, not {} to {asked}", deed.floor));
                }
            }
            (Reply::Error(text), _) if text.starts_with("MOVED ") => {
                self.shared.moved.fetch_add(1, Ordering::Relaxed);
                let mut words = text.split(' ').skip(1);
                let slot = words.next().and_then(|slot| slot.parse().ok()).expect("MOVED slot door");
                self.route.moved(slot, words.next().expect("MOVED slot door"));
                let mut state = self.state.borrow_mut();
                state.is_outdated = true;
                return state.waiting.push_back(deed);
            }
            (reply, _) => self.complain(&deed, &format!("answered {reply:?}")),
        }
        let mut state = self.state.borrow_mut();
        state.latencies.push(deed.due.elapsed().as_micros() as u32);
        state.end(&deed);
    }

    fn complain(&self, deed: &Deed, what: &str) {
        let command = deed.value.map_or("GET".to_owned(), |value| format!("SET {value}"));
        let text = format!("{command} key:{:08} at {}: {what}", deed.key, self.door);
        self.shared.wrong.lock().expect("nobody panics with it").push(text);
    }
}
