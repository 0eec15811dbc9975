//! The network between the nodes of a ring: connections that are delayed, broken, held up and slowed down as a seed says.
//!
//! Each direction of a connection has a carrier, which takes what was written, lets some time pass, and hands it on. Where bytes do
//! not pass, they wait; after a while the connection breaks, as the operating system breaks one that nobody acknowledges.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::io::streams::{Listener, Pipe, Stream};
use crate::sim::clock::Time;
use crate::sim::network::{Host, between};
use crate::sim::trace::{Trace, fingerprint};

/// So many bytes are under way in one direction before the writer has to wait.
const ROOM: usize = 32 << 10;

/// How long bytes are under way.
const DELAY: (Duration, Duration) = (Duration::from_micros(100), Duration::from_micros(1500));

/// The same to and from a slow place.
const SLOW: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(150));

/// What is not acknowledged for so long breaks its connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// The kinds of happenings in the digest.
#[derive(Clone, Copy, Debug)]
pub enum Happens {
    /// Bytes arrive.
    Bytes,
    /// A client learns something.
    Learnt,
    /// A node publishes what it knows to be agreed.
    Published,
    /// A process begins or ends, or is harmed.
    Process,
}

/// The network, and the one record of what happens in a world.
pub struct Network {
    began: Instant,
    state: Mutex<State>,
    /// Told when bytes may pass again somewhere.
    passable: Notify,
}

struct State {
    random: ChaCha8Rng,
    doors: BTreeMap<SocketAddr, (Host, UnboundedSender<(Stream, SocketAddr)>)>,
    /// From whom to whom nothing passes.
    cut: BTreeSet<(Host, Host)>,
    slow: BTreeSet<Host>,
    lines: BTreeMap<u64, Line>,
    last: u64,
    trace: Trace,
}

/// A connection.
struct Line {
    ends: (Host, Host),
    carriers: [AbortHandle; 2],
}

impl Network {
    /// One in which all is well.
    pub fn new(seed: u64) -> Arc<Self> {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            doors: BTreeMap::new(),
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            lines: BTreeMap::new(),
            last: 0,
            trace: Trace::default(),
        };
        Arc::new(Self { began: Instant::now(), state: Mutex::new(state), passable: Notify::new() })
    }

    /// The true time.
    pub fn now(&self) -> Time {
        Time(self.began.elapsed().as_nanos() as u64)
    }

    /// Folds a happening into the digest.
    pub fn fold(&self, happens: Happens, who: u64, what: u64) {
        let now = self.now();
        self.lock().trace.fold(now, happens as u8, who, what);
    }

    /// The digest of all that has happened, and how much that was.
    pub fn digest(&self) -> ([u8; 32], u64) {
        let state = self.lock();
        (state.trace.digest(), state.trace.events())
    }

    /// A door of a place.
    pub fn listen(&self, host: Host, at: SocketAddr) -> Listener {
        let (sender, callers) = unbounded_channel();
        self.lock().doors.insert(at, (host, sender));
        Listener::MadeUp(callers)
    }

    /// A connection to whoever listens there.
    pub async fn connect(self: Arc<Self>, from: Host, to: SocketAddr) -> io::Result<Stream> {
        let Some(host) = self.lock().doors.get(&to).map(|(host, _)| *host) else { return Err(refused()) };
        for way in [(from, host), (host, from)] {
            sleep(self.delay(way)).await; // not a guess: the way takes so long
            self.passes(way).await;
        }
        let Some((_, door)) = self.lock().doors.get(&to).cloned() else { return Err(refused()) };
        let from_address = SocketAddr::from(([127, 0, 0, 1], 40_000 + from.0 as u16));
        let (ours, theirs) = self.line((from, host), from_address, to);
        door.send((theirs, from_address)).map_err(|_| refused())?;
        Ok(ours)
    }

    fn line(self: &Arc<Self>, ends: (Host, Host), from: SocketAddr, to: SocketAddr) -> (Stream, Stream) {
        let (near_writer, near_out) = duplex(ROOM);
        let (far_in, far_reader) = duplex(ROOM);
        let (far_writer, far_out) = duplex(ROOM);
        let (near_in, near_reader) = duplex(ROOM);
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let forth = self.clone().carry(number, ends, near_out, far_in);
        let back = self.clone().carry(number, (ends.1, ends.0), far_out, near_in);
        let carriers = [tokio::spawn(forth).abort_handle(), tokio::spawn(back).abort_handle()];
        state.lines.insert(number, Line { ends, carriers });
        let near = Pipe { reader: near_reader, writer: near_writer, local: from };
        let far = Pipe { reader: far_reader, writer: far_writer, local: to };
        (Stream::Pipe(near), Stream::Pipe(far))
    }

    async fn carry(self: Arc<Self>, line: u64, way: (Host, Host), mut from: DuplexStream, mut to: DuplexStream) {
        let mut bytes = vec![0; ROOM];
        loop {
            let count = from.read(&mut bytes).await.unwrap_or(0);
            sleep(self.delay(way)).await; // not a guess: the way takes so long
            if timeout(PATIENCE, self.passes(way)).await.is_err() {
                return self.break_lines(|number, _| number == line);
            }
            self.fold(Happens::Bytes, line << 8 | way.0.0 as u64, fingerprint(&bytes[..count]));
            if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }

    fn delay(&self, (from, to): (Host, Host)) -> Duration {
        let mut state = self.lock();
        let is_slow = state.slow.contains(&from) || state.slow.contains(&to);
        between(&mut state.random, if is_slow { SLOW } else { DELAY })
    }

    async fn passes(&self, way: (Host, Host)) {
        loop {
            let passable = self.passable.notified();
            if !self.lock().cut.contains(&way) {
                return;
            }
            passable.await;
        }
    }

    /// Nothing passes from one to the other any more.
    pub fn cut(&self, from: Host, to: Host) {
        self.lock().cut.insert((from, to));
    }

    /// Everything passes again, at its usual pace.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.slow.clear();
        drop(state);
        self.passable.notify_waiters();
    }

    /// All that goes to and from there takes long.
    pub fn slow_down(&self, host: Host) {
        self.lock().slow.insert(host);
    }

    /// Breaks some of the connections of a place, each with this chance in four.
    pub fn break_some(&self, host: Host, quarters: u32) {
        let chosen: BTreeSet<u64> = {
            let State { lines, random, .. } = &mut *self.lock();
            let of_host = lines.iter().filter(|(_, line)| line.ends.0 == host || line.ends.1 == host);
            of_host.map(|(number, _)| *number).filter(|_| random.gen_ratio(quarters, 4)).collect()
        };
        self.break_lines(|number, _| chosen.contains(&number));
    }

    /// A process is over: nobody listens there, and what it had written goes on its way.
    pub fn close_doors(&self, host: Host) {
        self.lock().doors.retain(|_, (at, _)| *at != host);
    }

    fn break_lines(&self, is_chosen: impl Fn(u64, &Line) -> bool) {
        self.lock().lines.retain(|number, line| {
            let chosen = is_chosen(*number, line);
            if chosen {
                line.carriers.iter().for_each(AbortHandle::abort);
            }
            !chosen && line.carriers.iter().any(|carrier| !carrier.is_finished())
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}
