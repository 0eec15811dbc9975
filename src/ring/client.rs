//! A client of a ring: a connection to a door, over which the simulator's clients work (`sim::client`).

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::book::Book;
use super::network::Network;
use crate::io::streams::Stream;
use crate::messages::client::Reply;
use crate::resp::{self, Protocol};
use crate::sim::client::{Client, Habits};
use crate::sim::network::{Host, between};
use crate::sim::world::Told;

/// Clients' hosts are numbered from here.
const CLIENTS: usize = 1_000;

/// Few registers, so that clients meet.
const HABITS: Habits = Habits {
    keys: 12,
    writes: 50,
    others: 25,
    objects: 30,
    long: 4,
    batches: 10,
    think: (Duration::from_millis(5), Duration::from_millis(60)),
    ..Habits::PLAIN
};

/// How long a client waits before it goes to another door.
const ELSEWHERE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// One connection.
pub struct Connection {
    stream: Stream,
    input: BytesMut,
}

impl Connection {
    /// To a door.
    pub async fn to(network: &Arc<Network>, name: usize, door: SocketAddr) -> Option<Self> {
        let connecting = network.clone().connect(Host(CLIENTS + name), door);
        let stream = timeout(HABITS.patience, connecting).await.ok()?.ok()?;
        Some(Self { stream, input: BytesMut::new() })
    }

    /// Asks for all at once, and waits for the answers. Unless each is a reply, the connection is of no use any more.
    pub async fn ask(&mut self, all: Vec<Vec<Bytes>>, patience: Duration) -> Vec<Told> {
        let (count, mut told) = (all.len(), Vec::new());
        let lost = timeout(patience, self.call(all, &mut told)).await.is_ok();
        told.resize(count, if lost { Told::Lost } else { Told::Nothing });
        told
    }

    /// Ends when all is answered, or nothing more will be.
    async fn call(&mut self, all: Vec<Vec<Bytes>>, told: &mut Vec<Told>) {
        let (count, mut output) = (all.len(), BytesMut::new());
        for words in all {
            let command = Reply::Array(words.into_iter().map(Reply::Bulk).collect());
            resp::encode(&command, Protocol::Resp2, &mut output);
        }
        if self.stream.write_all_buf(&mut output).await.is_err() {
            return;
        }
        while told.len() < count {
            match resp::decode(&mut self.input).expect("a node speaks the protocol") {
                Some(reply) => told.push(Told::Reply(reply)),
                None if self.stream.read_buf(&mut self.input).await.is_ok_and(|count| count > 0) => {}
                None => return,
            }
        }
    }
}

/// Works at these doors until the book is closed.
pub async fn work(book: Rc<Book>, name: usize, doors: Vec<SocketAddr>, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut client = Client::new(name as u64 + 1, Host(CLIENTS + name), HABITS);
    let mut connection = None;
    while book.is_open() {
        let Some(mut open) = connection.take() else {
            connection = Connection::to(&book.network, name, doors[random.gen_range(0..doors.len())]).await;
            sleep(between(&mut random, ELSEWHERE)).await; // not a guess: a client's pause between two doors
            continue;
        };
        let all = book.choose(&mut client, &mut random);
        let told = open.ask(all, HABITS.patience).await;
        told.iter().enumerate().for_each(|(place, told)| book.enter(&mut client, name, place, told));
        if told.iter().all(|told| matches!(told, Told::Reply(_))) && random.gen_ratio(49, 50) {
            connection = Some(open);
        }
        sleep(client.think(&mut random)).await; // not a guess: a client thinks
    }
}
