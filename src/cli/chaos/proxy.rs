//! What stands on the peer links of a mesh when bad ones are wanted: one door for each node, at which all others call it.
//!
//! A caller says who it is in the first frame of the handshake, so each connection has two known ends, and each direction of
//! each pair can be treated on its own. A cut direction holds what is said, as a network does that loses packets: the sender
//! fills its buffers, and what was held arrives when the cut is mended, unless the connection has been given up by then. A
//! slow one delivers late, in order. A broken connection ends for both. All chance is drawn from one seed; what real
//! processes make of it is their own affair.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::messages::peer::{Greeting, MAGIC};
use crate::types::NodeId;
use crate::wire::frame::{self, Frames, HANDSHAKE_LIMIT};
use bytes::BytesMut;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What is read at once, and how many such pieces are held in one direction, about as much as a system's buffers.
const PIECE: usize = 64 << 10;
const HELD: usize = 16;

/// How one direction of one pair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing arrives.
    pub cut: bool,
    /// Everything arrives this much later at most.
    pub delay: Duration,
}

/// Between whom it is how, and who is who.
#[derive(Clone, Debug, Default)]
struct Rules {
    places: BTreeMap<NodeId, usize>,
    /// By the places of who speaks and who hears.
    weather: BTreeMap<(usize, usize), Weather>,
    /// How often the connections of a pair have been broken, lower place first.
    broken: BTreeMap<(usize, usize), u64>,
}

impl Rules {
    fn weather(&self, from: Option<usize>, to: Option<usize>) -> Weather {
        from.zip(to).and_then(|pair| self.weather.get(&pair)).copied().unwrap_or_default()
    }

    fn broken(&self, one: Option<usize>, other: Option<usize>) -> u64 {
        one.zip(other).and_then(|(one, other)| self.broken.get(&sorted(one, other))).copied().unwrap_or_default()
    }
}

/// The doors of one mesh, all kept by one thread.
pub struct Proxy {
    rules: watch::Sender<Rules>,
    doors: Option<mpsc::UnboundedSender<Door>>,
    keeper: Option<JoinHandle<()>>,
}

struct Door {
    listener: TcpListener,
    place: usize,
    target: String,
}

impl Proxy {
    /// Without any door yet.
    pub fn new(seed: u64) -> Self {
        let (rules, seen) = watch::channel(Rules::default());
        let (doors, opened) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let keeper = thread::spawn(move || runtime.block_on(keep(seed, opened, seen)));
        Self { rules, doors: Some(doors), keeper: Some(keeper) }
    }

    /// Opens the door of the node at this place, whose own peer door is `target`. Returns its address.
    pub fn open(&self, place: usize, target: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("an address").to_string();
        let door = Door { listener, place, target: target.to_owned() };
        self.doors.as_ref().expect("open until dropped").send(door).expect("the keeper lives as long as this");
        address
    }

    /// The node at this place is called so. Before that, nothing happens to what it says.
    pub fn name(&self, place: usize, node: NodeId) {
        self.rules.send_modify(|rules| {
            rules.places.insert(node, place);
        });
    }

    /// From now on it is so for what `from` says to `to`.
    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        self.rules.send_modify(|rules| {
            rules.weather.insert((from, to), weather);
        });
    }

    /// Every connection between the two ends now.
    pub fn break_links(&self, one: usize, other: usize) {
        self.rules.send_modify(|rules| *rules.broken.entry(sorted(one, other)).or_default() += 1);
    }

    /// The sun shines everywhere.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| rules.weather.clear());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.doors = None;
        let _ = self.keeper.take().map(JoinHandle::join);
    }
}

/// Keeps all doors until no more can come.
async fn keep(seed: u64, mut doors: mpsc::UnboundedReceiver<Door>, rules: watch::Receiver<Rules>) {
    while let Some(Door { listener, place, target }) = doors.recv().await {
        let rules = rules.clone();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener that does not block");
        let mut number = seed ^ (place as u64) << 32;
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                number += 1;
                tokio::spawn(connect(caller, target.clone(), place, rules.clone(), number));
            }
        });
    }
}

/// One connection, from the caller's first word to its end.
async fn connect(
    mut caller: TcpStream,
    target: String,
    place: usize,
    rules: watch::Receiver<Rules>,
    seed: u64,
) -> io::Result<()> {
    let (node, greeting) = greeted(&mut caller).await?;
    let called = TcpStream::connect(target).await?;
    caller.set_nodelay(true)?;
    called.set_nodelay(true)?;
    let ends = Ends { node, place };
    let ((from_caller, to_caller), (from_called, to_called)) = (caller.into_split(), called.into_split());
    let chance = |salt| ChaCha8Rng::seed_from_u64(seed << 1 | salt);
    tokio::select! {
        ended = carry(from_caller, to_called, greeting, (ends, Way::There), rules.clone(), chance(0)) => ended,
        ended = carry(from_called, to_caller, BytesMut::new(), (ends, Way::Back), rules.clone(), chance(1)) => ended,
        () = is_broken(ends, rules) => Ok(()),
    }
}

/// Who calls, as far as it says so, and all it has said up to then.
async fn greeted(caller: &mut TcpStream) -> io::Result<(Option<NodeId>, BytesMut)> {
    let mut said = BytesMut::new();
    loop {
        if caller.read_buf(&mut said).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(mut rest) = said.get(MAGIC.len()..).map(BytesMut::from) else { continue };
        match Frames::new(HANDSHAKE_LIMIT).next(&mut rest) {
            Ok(None) => {}
            Ok(Some(first)) => {
                let greeting = frame::value::<Greeting>(&first).ok();
                return Ok((greeting.map(|greeting| greeting.node), said));
            }
            // Somebody else's words: they are not for us to judge.
            Err(_) => return Ok((None, said)),
        }
    }
}

/// Who called whom.
#[derive(Clone, Copy)]
struct Ends {
    node: Option<NodeId>,
    place: usize,
}

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

impl Ends {
    fn caller(self, rules: &Rules) -> Option<usize> {
        self.node.and_then(|node| rules.places.get(&node)).copied()
    }

    fn weather(self, way: Way, rules: &Rules) -> Weather {
        match way {
            Way::There => rules.weather(self.caller(rules), Some(self.place)),
            Way::Back => rules.weather(Some(self.place), self.caller(rules)),
        }
    }
}

async fn is_broken(ends: Ends, mut rules: watch::Receiver<Rules>) {
    let count = |rules: &Rules| rules.broken(ends.caller(rules), Some(ends.place));
    let before = count(&rules.borrow());
    // Who is named meanwhile has been broken as often as it has: only a later break counts.
    let mut named = ends.caller(&rules.borrow()).is_some();
    let mut before = before;
    while rules.changed().await.is_ok() {
        let rules = rules.borrow();
        if !named {
            named = ends.caller(&rules).is_some();
            before = count(&rules);
        }
        if count(&rules) != before {
            return;
        }
    }
}

/// One direction, until its reader or its writer ends, and what was said before the end has been delivered.
async fn carry(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    first: BytesMut,
    (ends, way): (Ends, Way),
    rules: watch::Receiver<Rules>,
    mut chance: ChaCha8Rng,
) -> io::Result<()> {
    let (hold, mut held) = mpsc::channel::<(Instant, BytesMut)>(HELD);
    let mut seen = rules.clone();
    let reading = async move {
        let mut piece = first;
        loop {
            if !piece.is_empty() {
                let delay = ends.weather(way, &rules.borrow()).delay;
                let late = if delay.is_zero() { delay } else { delay.mul_f64(chance.gen_range(0.2..=1.0)) };
                if hold.send((Instant::now() + late, std::mem::take(&mut piece))).await.is_err() {
                    return;
                }
            }
            piece.reserve(PIECE);
            match reader.read_buf(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let writing = async move {
        while let Some((due, mut piece)) = held.recv().await {
            sleep_until(due).await; // not a guess: the delay itself
            clear(ends, way, &mut seen).await;
            writer.write_all_buf(&mut piece).await?;
        }
        // The end is said no earlier than anything before it.
        clear(ends, way, &mut seen).await;
        Ok(())
    };
    let ((), written) = tokio::join!(reading, writing);
    written
}

/// Waits while this direction is cut.
async fn clear(ends: Ends, way: Way, rules: &mut watch::Receiver<Rules>) {
    let _ = rules.wait_for(|rules| !ends.weather(way, rules).cut).await;
}

fn sorted(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}
